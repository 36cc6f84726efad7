"""Wrong coordinators: what one has lost, or holds otherwise, when it was killed and started again.

What changes the state is the same code whether it runs or starts, so that a bug there is found without a restart. Each
row does to the state that a start has found what an implementation does that keeps too little of it.
"""

from __future__ import annotations

from .row import COORDINATOR, STEPS, Wrong, one

__all__ = ["ROWS"]

_FOUND = "        self.live.restored_lsn = self.ledger.lsn\n"
"""Where a start has folded the records, and nobody is heard yet."""
_CLAIMS = "for claim in list(self.ledger.claims.claims.values()):"
_TASKS = "for task in self.ledger.tasks.values():"
_MAIL = "for mailbox in self.ledger.mailboxes.values():"
_VALUES = "for entry in [entry for context in self.ledger.contexts.values() for entry in context.entries.values()]:"
_OPEN = "for conflict in self.ledger.open_conflicts.values():"


def _lost(name: str, says: str, case: str, *lines: str) -> Wrong:
    """Return a coordinator that runs these lines with each start, and the case that finds it."""
    after = "".join(f"        {line}\n" for line in lines) + _FOUND
    return Wrong(name, COORDINATOR, says, one(STEPS, _FOUND, after), broken=("DURABLE-5",), areas=(case,))


_LINE = "who_has_and_who_waits_is_the_same_after_a_crash"
_CALLED = "who_was_called_back_is_so_after_a_crash"
_NUMBERS = "numbers_of_claims_are_known_after_a_crash"
_ATTEMPTS_CLAIMS = "claims_of_an_attempt_are_its_own_after_a_crash"
_NEXT = "the_next_attempt_is_told_what_was_before_a_crash"
_REPEAT = "a_repeat_is_one_after_a_crash"
_STOP = "who_is_to_stop_is_so_after_a_crash"
_FIRST = "who_comes_back_first_keeps_the_task_after_a_crash"
_TREE = "a_tree_is_one_after_a_crash"
_HANDED = "a_task_goes_to_whom_it_was_handed_after_a_crash"
_BUDGET = "what_was_used_and_given_away_counts_after_a_crash"
_MAILBOX = "a_mailbox_goes_on_after_a_crash"
_AGENTS = "agents_are_known_after_a_crash"
_CONTEXT = "a_contexts_past_is_known_after_a_crash"
_WAITS = "what_a_result_waits_for_is_known_after_a_crash"
_DISPUTED = "what_is_disputed_is_so_after_a_crash"
_DECIDED = "what_was_decided_is_so_after_a_crash"
_GROUP = "a_group_counts_the_answers_from_before_a_crash"
_APPEAL = "an_appeal_counts_once_over_a_crash"
_CHOSEN = "a_write_that_is_chosen_after_a_crash_is_there"
_QUESTION = "a_question_is_asked_again_after_a_crash"
_PATCH = "a_patch_collides_with_one_from_before_a_crash"
_BASIS = "what_a_groups_result_relies_on_is_known_after_a_crash"
_FULL = "a_full_context_is_full_after_a_crash"

ROWS: tuple[Wrong, ...] = (
    # Claims -----------------------------------------------------------------------------------------------------------
    _lost(
        "forgets-who-waits",
        "What stood in line for names is forgotten.",
        _LINE,
        _CLAIMS,
        "    if claim.is_waiting:",
        "        self.ledger.claims._leave(claim)",
    ),
    _lost(
        "forgets-the-priority-of-claims",
        "Claims in line have no priority any more.",
        _LINE,
        _CLAIMS,
        "    claim.priority = 0",
    ),
    _lost(
        "begins-the-time-of-claims-anew",
        "A claim has all of its `ttlMs` again.",
        _LINE,
        _CLAIMS,
        "    if claim.fence and claim.ttl_ms:",
        "        claim.until = now + claim.ttl_ms",
    ),
    _lost("lets-claims-last", "A claim has no end any more.", _LINE, _CLAIMS, "    claim.until = None"),
    _lost(
        "calls-back-anew",
        "Whoever was called back before is called back another time.",
        _CALLED,
        _CLAIMS,
        "    claim.recalled, claim.grace_at = '', 0",
    ),
    _lost(
        "forgets-who-gives-way",
        "A holder that would give way does not any more.",
        _LINE,
        _CLAIMS,
        "    claim.preemptible = False",
    ),
    _lost(
        "forgets-the-numbers-of-claims",
        "A number that was used is a new one.",
        _NUMBERS,
        "self.ledger.claims.numbers.clear()",
    ),
    _lost(
        "forgets-the-newest-number-of-claims",
        "A number below the newest may be used.",
        _NUMBERS,
        "for numbers in self.ledger.claims.numbers.values():",
        "    numbers.newest = 0",
        "    numbers.ended.clear()",
    ),
    _lost(
        "forgets-what-came-with-a-lease",
        "The resources of a task are free while it is worked on.",
        _ATTEMPTS_CLAIMS,
        _CLAIMS,
        "    if claim.claim_no == 0:",
        "        self.ledger.claims._leave(claim)",
    ),
    # Tasks ------------------------------------------------------------------------------------------------------------
    _lost(
        "forgets-what-went-wrong",
        "Failures and declines are counted from nothing.",
        _NEXT,
        _TASKS,
        "    task.failures = task.declines = 0",
    ),
    _lost("forgets-losses", "Leases that lapsed are counted from nothing.", _FIRST, _TASKS, "    task.losses = 0"),
    _lost("forgets-revivals", "Revivals are counted from nothing.", _FIRST, _TASKS, "    task.revivals = 0"),
    _lost(
        "begins-a-deadline-anew",
        "A task has all of its time again.",
        _NEXT,
        _TASKS,
        "    task.deadline_at = task.deadline_at and now + task.deadline_at - task.at",
    ),
    _lost("forgets-checkpoints", "The next attempt begins from nothing.", _NEXT, _TASKS, "    task.checkpoints = []"),
    _lost(
        "forgets-the-form-of-checkpoints",
        "The next attempt is not told how to read where the one before stood.",
        _NEXT,
        _TASKS,
        "    for checkpoint in task.checkpoints:",
        "        checkpoint.format = ''",
    ),
    _lost(
        "forgets-what-is-tried-anew",
        "A task does not name the one it tries anew.",
        _NEXT,
        _TASKS,
        "    task.redrive_of = None",
    ),
    _lost("forgets-words", "The next attempt hears no word of the delegator.", _NEXT, _TASKS, "    task.steers = []"),
    _lost("forgets-feedback", "Nobody knows why a result was sent back.", _NEXT, _TASKS, "    task.feedback = []"),
    _lost("forgets-evidence", "Reports without authority are gone.", _NEXT, _TASKS, "    task.evidence = []"),
    _lost(
        "forgets-how-attempts-ended",
        "Of earlier attempts it is not known what they said at their end.",
        _HANDED,
        _TASKS,
        "    for attempt in task.attempts.values():",
        "        attempt.detail, attempt.payload = '', None",
    ),
    _lost(
        "forgets-to-whom-a-task-was-handed",
        "A task that was handed on is anybody's.",
        _HANDED,
        _TASKS,
        "    task.handed_to = {}",
    ),
    _lost(
        "forgets-answers",
        "A question that was answered is open.",
        _REPEAT,
        _TASKS,
        "    for ask in task.asks:",
        "        ask.answer = ask.by = None",
    ),
    _lost(
        "takes-a-chunk-twice",
        "A chunk that came before may come again.",
        _REPEAT,
        _TASKS,
        "    for artifact in task.artifacts.values():",
        "        artifact.last_no = -1",
    ),
    _lost(
        "forgets-the-keys-of-words",
        "A word is not known by its key.",
        _REPEAT,
        _TASKS,
        "    for steer in task.steers:",
        "        steer.key = ''",
    ),
    _lost(
        "forgets-the-keys-of-what-ended",
        "The key of a task that has ended stands for nothing.",
        _REPEAT,
        "self.ledger.keys = {key: task for key, task in self.ledger.keys.items() if task in self.ledger.open_tasks}",
    ),
    _lost(
        "forgets-defaults",
        "A question has no default any more.",
        _QUESTION,
        _TASKS,
        "    for ask in task.asks:",
        "        ask.default = None",
    ),
    _lost(
        "gives-all-the-time-to-answer-again",
        "A question has all of its time again.",
        _QUESTION,
        _TASKS,
        "    for ask in task.asks:",
        "        ask.deadline_at = now + 600_000",
    ),
    _lost("forgets-refusals", "What was refused is not shown with the task.", _NEXT, _TASKS, "    task.refusals = []"),
    _lost("forgets-hand-offs", "Hand-offs are counted from nothing.", _HANDED, _TASKS, "    task.handoffs = 0"),
    _lost("forgets-reports", "A report that comes again is another one.", _REPEAT, _TASKS, "    task.outcomes = {}"),
    _lost("forgets-a-cancel", "A task that is to stop goes on as before.", _STOP, _TASKS, "    task.cancel = None"),
    _lost(
        "forgets-what-was-taken-away",
        "An attempt that was taken away has all of its lease again.",
        _STOP,
        _TASKS,
        "    if task.authority:",
        "        task.authority.evicted = ''",
    ),
    _lost(
        "withdraws-offers",
        "An offer that was out is not there any more.",
        _FIRST,
        _TASKS,
        "    self.ledger.drop_offer(task)",
    ),
    _lost(
        "forgets-what-was-used",
        "What a task has used is counted from nothing.",
        _BUDGET,
        _TASKS,
        "    task.spent = {}",
    ),
    _lost(
        "forgets-what-was-given-away",
        "What sub-tasks may use is not set aside.",
        _BUDGET,
        _TASKS,
        "    task.reserved = dict.fromkeys(task.reserved, 0)",
    ),
    _lost(
        "forgets-what-is-below",
        "A task has no sub-tasks any more.",
        _TREE,
        _TASKS,
        "    task.children = []",
    ),
    _lost(
        "forgets-what-goes-on-alone",
        "Every sub-task ends with its parent.",
        _TREE,
        _TASKS,
        "    task.on_parent_end = 'cancel'",
    ),
    # Agents and mail --------------------------------------------------------------------------------------------------
    _lost(
        "forgets-cards",
        "Of an agent's card its skills alone are there.",
        _AGENTS,
        "for agent in self.ledger.agents.values():",
        "    agent.card = {'skills': agent.card['skills']}",
    ),
    _lost(
        "forgets-labels",
        "An agent has no labels any more.",
        _AGENTS,
        "for agent in self.ledger.agents.values():",
        "    agent.labels = {}",
    ),
    _lost(
        "forgets-who-drains",
        "An agent that drains is ready.",
        _AGENTS,
        "for agent in self.ledger.agents.values():",
        "    agent.status = 'ready'",
    ),
    _lost(
        "forgets-which-process-is-newer",
        "An older process of an agent may take over.",
        _AGENTS,
        "for agent in self.ledger.agents.values():",
        "    agent.incarnation = 0",
    ),
    _lost(
        "forgets-who-came-in-a-name",
        "Hellos that were refused are not known.",
        _AGENTS,
        "self.ledger.impostures.clear()",
    ),
    _lost("forgets-who-holds-what", "An agent holds nothing any more.", _AGENTS, "self.ledger.holding.clear()"),
    _lost(
        "numbers-mail-anew",
        "What waits in a mailbox is numbered from one.",
        _MAILBOX,
        _MAIL,
        "    for number, entry in enumerate(mailbox.entries, 1):",
        "        entry.mseq = number",
        "    mailbox.next_mseq = len(mailbox.entries) + 1",
    ),
    _lost(
        "loses-the-newest-mail",
        "Of each mailbox the last entry is gone.",
        _MAILBOX,
        _MAIL,
        "    if mailbox.entries:",
        "        mailbox.next_mseq = mailbox.entries.pop().mseq",
    ),
    # Contexts ---------------------------------------------------------------------------------------------------------
    _lost(
        "forgets-older-revisions",
        "Of each key the newest revision alone is there.",
        _CONTEXT,
        _VALUES,
        "    del entry.revisions[:-1]",
    ),
    _lost(
        "forgets-what-was-deleted",
        "The revisions of a key that was deleted begin at one.",
        _CONTEXT,
        "for context in self.ledger.contexts.values():",
        "    context.entries = {key: entry for key, entry in context.entries.items() if not entry.newest.deleted}",
    ),
    _lost(
        "forgets-writes",
        "A write that comes again is another one.",
        _CONTEXT,
        "for context in self.ledger.contexts.values():",
        "    context.named = {}",
    ),
    _lost(
        "forgets-decisions",
        "A key that one marked as a decision is none.",
        _CONTEXT,
        _VALUES,
        "    entry.decision = False",
    ),
    _lost("forgets-guards", "A key that was guarded is not.", _CONTEXT, _VALUES, "    entry.guarded = False"),
    _lost(
        "forgets-what-moved",
        "A result on a decision that had moved looks like any other.",
        _WAITS,
        _TASKS,
        "    for found in task.results:",
        "        found.stale_basis = []",
    ),
    _lost(
        "forgets-what-a-result-relies-on",
        "What a result named as its basis is not looked at where it becomes its group's.",
        _BASIS,
        _TASKS,
        "    for found in task.results:",
        "        found.basis = []",
    ),
    _lost(
        "forgets-how-large-a-context-is",
        "What a context has is counted from nothing.",
        _FULL,
        "for context in self.ledger.contexts.values():",
        "    context.size = 0",
    ),
    _lost(
        "forgets-the-word-that-was-missed",
        "A result that missed a word looks like any other.",
        _WAITS,
        _TASKS,
        "    for found in task.results:",
        "        found.unseen_steer = False",
    ),
    # Conflicts --------------------------------------------------------------------------------------------------------
    _lost(
        "writes-what-is-contested",
        "A key may be written while a conflict about it is open.",
        _DISPUTED,
        "self.ledger.contested.clear()",
    ),
    _lost("forgets-positions", "What parties said is not known.", _DISPUTED, _OPEN, "    conflict.positions = {}"),
    _lost(
        "forgets-what-was-refused-about-a-conflict",
        "What was refused is not shown with the conflict.",
        _DISPUTED,
        _OPEN,
        "    conflict.refusals = []",
    ),
    _lost(
        "forgets-what-a-write-marked",
        "A write that is chosen marks its key as nothing.",
        _CHOSEN,
        _OPEN,
        "    if conflict.write:",
        "        conflict.write = conflict.write | {'decision': False}",
    ),
    _lost("forgets-raises", "Who raised a conflict is not known.", _DISPUTED, _OPEN, "    conflict.raises = []"),
    _lost("forgets-parties", "An open conflict has no parties.", _DISPUTED, _OPEN, "    conflict.parties = {}"),
    _lost(
        "forgets-topics",
        "What a conflict was about is not known.",
        _DECIDED,
        "self.ledger.conflicts_about.clear()",
    ),
    _lost("breaks-the-chain", "The next conflict follows none.", _DECIDED, "self.ledger.sealed = ''"),
    _lost("forgets-appeals", "Who appealed may do so again.", _APPEAL, _OPEN, "    conflict.appeal = None"),
    _lost("forgets-rungs", "An open conflict begins its ladder anew.", _APPEAL, _OPEN, "    conflict.stages = []"),
    _lost(
        "forgets-a-member",
        "The first answer of a group is none of its answers.",
        _GROUP,
        _TASKS,
        "    if task.group:",
        "        del task.group.electorate[0]",
    ),
    _lost(
        "forgets-patches",
        "A result is held against none that came before.",
        _PATCH,
        "self.ledger.patches = type(self.ledger.patches)()",
    ),
)
