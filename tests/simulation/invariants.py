"""Which checker checks which invariant of the semantics: I are safety, L liveness.

A test keeps both sides complete: every invariant has a checker, every checker has a place.
"""

from __future__ import annotations

from .checkers import (
    Absorbing,
    Bounded,
    CancelIsFinal,
    Chunks,
    CompletedMeansConfirmed,
    Credit,
    DeadFences,
    EndsInOneStep,
    Entitled,
    FencesGrow,
    Generations,
    GraceHolds,
    HealthyKeepsLease,
    Identified,
    MailPosted,
    OneAnswer,
    OneHolder,
    OneResult,
    OneTaskPerKey,
    OnlyClosedConflictsLeave,
    OnlyTheGoneAreForgotten,
    OnlyTheHolder,
    OnlyTheRecalledChange,
    OnlyTheSettledLeave,
    RejectedStaysRejected,
    RestartLetsGo,
    TimersNotEarly,
    TreeRules,
)
from .claiming import (
    CalledBackByRight,
    CirclesAreBroken,
    ClaimedOnce,
    EndsForAReason,
    EndsWithAttempt,
    FencesOfNames,
    GrantIsTrue,
    HeldAlone,
    InTurn,
    OnlyItsOwnerReleases,
    WaitsEnd,
)
from .contexts import (
    BasisStands,
    DecisionsSeen,
    OnlyTheIdleLeave,
    Revisions,
    WatchersMissNothing,
    WritersAreTold,
    WrittenOnce,
)
from .costs import BudgetsHold, CheckpointsGoOn, CheckpointsGrow, CountedOnce, TakenForAReason, WordsHeard
from .court import Checker
from .fees import Frugal, SharedOut
from .flapping import TakenTooOften
from .liveness import (
    EverythingEnds,
    MailArrives,
    ModelIsLedger,
    QueuesMove,
    ReplayIsLive,
    TimersFire,
    TreesEnd,
)
from .patching import PatchesCollide
from .quarrels import ConflictsClose, ContestedRight, MergedRight, NotedRight, RaisedOnce, ResolvedIsWritten
from .refused import RefusalsBounded, RefusalsKept
from .rulings import (
    Apart,
    Certain,
    ComparedByAnother,
    CountedRight,
    DisputedStays,
    Independent,
    InLedgerOrder,
    NotEarly,
    NothingEntersTheFrozen,
    OneResolution,
    PartiesTold,
    StepsInTime,
)
from .told import (
    AdmittedIsThere,
    CancelAnswer,
    CreatedIsThere,
    CreatedOnce,
    Kept,
    MailInOrder,
    OffersCarryAll,
    Outside,
    RightWord,
    ToldIsTrue,
    WatchedInOrder,
)

__all__ = ["BESIDE", "INVARIANTS"]

INVARIANTS: dict[str, tuple[type[Checker], ...]] = {
    "I1": (OneTaskPerKey, CreatedOnce),
    "I2": (CreatedIsThere,),
    "I3": (AdmittedIsThere,),
    "I4": (FencesGrow,),
    "I5": (OneHolder,),
    "I6": (OneResult,),
    "I7": (DeadFences,),
    "I8": (RejectedStaysRejected,),
    "I9": (Absorbing, Generations),
    "I10": (CompletedMeansConfirmed,),
    "I11": (CancelIsFinal, CancelAnswer),
    "I12": (OnlyTheHolder,),
    "I13": (CheckpointsGrow, CheckpointsGoOn),
    "I14": (FencesOfNames,),
    "I15": (HeldAlone,),
    "I16": (Credit,),
    "I17": (BudgetsHold, CountedOnce),
    "I18": (TreeRules,),
    "I19": (GraceHolds,),
    "I20": (Chunks, Outside),
    "I21": (Revisions,),
    "I22": (OneAnswer, OffersCarryAll),
    "I23": (DisputedStays,),
    "I24": (OneResolution,),
    "I25": (NothingEntersTheFrozen,),
    "I26": (Independent,),
    "I27": (PartiesTold,),
    "I28": (ReplayIsLive, ModelIsLedger),
    "I29": (MailInOrder, MailPosted),
    "I30": (Outside,),
    "L1": (EverythingEnds,),
    "L2": (QueuesMove,),
    "L3": (TimersFire,),
    "L4": (TimersFire,),
    "L5": (StepsInTime, ConflictsClose),
    "L6": (TimersFire,),
    "L7": (WaitsEnd, CirclesAreBroken),
    "L8": (RightWord,),
    "L9": (MailArrives,),
    "L10": (Bounded, EndsInOneStep),
}

BESIDE: dict[str, tuple[type[Checker], ...]] = {
    "append before answer; every notice says what the ledger says": (ToldIsTrue,),
    "refusals are data": (Kept, RefusalsKept, RefusalsBounded),
    "no timer fires early": (TimersNotEarly, NotEarly),
    "a write that loses is a conflict only where it is one, and its key waits": (ContestedRight,),
    "what is decided about a key is its next revision, and what was overruled is not accepted by silence": (
        ResolvedIsWritten,
    ),
    "what nobody is asked to merge has the changes of both": (MergedRight,),
    "results that patch the same are held against each other, and a conflict names what collides": (PatchesCollide,),
    "what is noted beside what happens is so": (NotedRight,),
    "who takes an agent from another again and again gets no further, and the agent no offers": (TakenTooOften,),
    "who says twice that something contradicts something says it of one conflict": (RaisedOnce,),
    "answers are made apart from each other, and compared in the order they came": (Apart, InLedgerOrder),
    "whoever compares answers is none of those who give them": (ComparedByAnother,),
    "what a group or a rung comes to follows from its ballot": (Certain, CountedRight),
    "those who decide may use what is left of the limits, and a ladder that has used its own asks nobody more": (
        SharedOut,
        Frugal,
    ),
    "who beats keeps its lease": (HealthyKeepsLease,),
    "only the entitled decide": (Entitled,),
    "nobody is let in as somebody else": (Identified,),
    "a restarted agent lets go": (RestartLetsGo,),
    "who is forgotten is gone, and nothing is open for it": (OnlyTheGoneAreForgotten,),
    "only what is settled and needed by nobody leaves memory, and comes back before it changes": (
        OnlyTheSettledLeave,
        OnlyTheRecalledChange,
    ),
    "a conflict leaves memory when it is over, nothing it is about is there and everybody has heard": (
        OnlyClosedConflictsLeave,
    ),
    "one number is one claim": (ClaimedOnce,),
    "a task's claims live and end with its attempt": (EndsWithAttempt,),
    "nobody in line is overtaken": (InTurn,),
    "a claim ends for a reason, and by those who may end it": (OnlyItsOwnerReleases, EndsForAReason),
    "only what may be called back is, for somebody who gets it": (CalledBackByRight,),
    "a grant is what the ledger says": (GrantIsTrue,),
    "every attempt hears every word, and none is taken away without a reason": (WordsHeard, TakenForAReason),
    "sub-tasks end with their parent": (TreesEnd,),
    "watched events come once, in order": (WatchedInOrder,),
    "a context is written once, by who may and has seen it, and all are told what is so": (
        DecisionsSeen,
        WrittenOnce,
        WritersAreTold,
        WatchersMissNothing,
    ),
    "a context leaves memory when nothing goes on in it, and is back before something does": (OnlyTheIdleLeave,),
    "no result on a decision that has moved is taken unseen": (BasisStands,),
}
"""Properties beyond the two lists."""
