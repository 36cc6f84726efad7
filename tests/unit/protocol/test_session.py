"""The peer's side of its session: handshake, outbox, mailbox cursor."""

from __future__ import annotations

import itertools

import pytest

from a2a.errors import LocalProtocolError, RemoteProtocolError, TooLarge
from a2a.protocol.codec import BadFrame, ErrorCode, Frame
from a2a.protocol.messages import (
    A2ACall,
    A2AEvent,
    A2AFault,
    Bye,
    ContextOp,
    ContextWrite,
    Credit,
    Error,
    HeldStill,
    Hello,
    Limits,
    MailboxAck,
    Message,
    Ok,
    Ping,
    Pong,
    TaskAnswer,
    TaskDelegate,
    TaskGet,
    TaskHeartbeat,
    TaskList,
    TaskRevoke,
    Unknown,
    Welcome,
)
from a2a.protocol.session import (
    UNDER_WAY_MAX,
    Event,
    Identity,
    Left,
    Notice,
    PeerSession,
    Reply,
    TurnedAway,
    Welcomed,
)


def make(held: list[HeldStill] | None = None, credit: Credit | None = None) -> PeerSession:
    numbers = itertools.count(1)
    identity = Identity("worker", "i1", 7, token="t")
    return PeerSession(identity, lambda: f"f{next(numbers)}", credit=credit or Credit(2), held=lambda: held or [])


def patient() -> PeerSession:
    """Return a session that has what is `unavailable` said again later."""
    numbers = itertools.count(1)
    return PeerSession(
        Identity("worker", "i1", 7, token="t"),
        lambda: f"f{next(numbers)}",
        puts_off=lambda request, message, error: error.code == "unavailable",
    )


def refuse(session: PeerSession, request: str, code: str = "unavailable") -> list[Event]:
    return session.receive(Frame("e", Error(code, "the archive cannot be read", retryable=True), re=request))


def welcome(next_mseq: int = 1, secret: str | None = None) -> Welcome:
    return Welcome("1.0", "main", 1, "fsync", Limits(1_000, 100, 1, 1, 1, 1, 1, 1), next_mseq, secret=secret)


def greet(session: PeerSession, next_mseq: int = 1, secret: str | None = None) -> Hello:
    session.connected()
    [frame] = session.outgoing()
    assert isinstance(frame.message, Hello)
    [event] = session.receive(Frame("w", welcome(next_mseq, secret), re=frame.id))
    assert isinstance(event, Welcomed)
    return frame.message


def sent(session: PeerSession) -> list[Message]:
    return [frame.message for frame in session.outgoing()]


def test_the_first_frame_is_a_hello_with_papers_and_credit() -> None:
    session = make([HeldStill("t-1", 5, 2)])
    hello = greet(session)
    assert (hello.agent_id, hello.instance_id, hello.incarnation, hello.token) == ("worker", "i1", 7, "t")
    assert hello.credit == Credit(2)
    assert hello.held == [HeldStill("t-1", 5, 2)]
    assert hello.resume is None, "a first hello has no cursor to resume from"
    assert session.is_open


@pytest.mark.parametrize("version", ["1.1", "2.0", "0.9", "", "x"])
def test_a_welcome_in_a_version_that_was_not_offered_is_none(version: str) -> None:
    session = make()
    session.connected()
    [hello] = session.outgoing()
    answer = welcome()
    answer.version = version
    with pytest.raises(RemoteProtocolError, match="not one of 1.0 to 1.0"):
        session.receive(Frame("w", answer, re=hello.id))
    assert not session.is_open


def test_a_secret_that_is_issued_is_shown_from_then_on() -> None:
    session = make()
    greet(session, secret="s3cret")
    session.disconnected()
    assert greet(session).secret == "s3cret"


def test_a_request_waits_for_the_welcome_and_is_sent_once() -> None:
    session = make()
    request = session.request(TaskGet("t-1"))
    session.connected()
    [hello] = session.outgoing()
    session.receive(Frame("w", welcome(), re=hello.id))
    assert [frame.id for frame in session.outgoing()] == [request]
    assert session.outgoing() == []


def test_a_request_says_for_how_long_its_owner_does_without_the_reply() -> None:
    session = make()
    greet(session)
    session.request(TaskGet("t-1"))
    session.request(TaskGet("t-2"), slack_ms=250)
    assert [frame.slack_ms for frame in session.outgoing()] == [None, 250]


def test_what_may_be_kept_back_is_hurried_by_something_to_answer() -> None:
    session = make()
    greet(session)
    impatient = session.request(TaskGet("t-1"))
    session.hurry()
    patient = session.request(TaskGet("t-2"), slack_ms=250)
    session.hurry()
    assert [frame.message for frame in session.outgoing()] == [TaskGet("t-1"), TaskGet("t-2"), Ping()]
    for request in (impatient, patient):
        session.receive(Frame("x", Error("not_found", ""), request))
    session.hurry()
    assert session.outgoing() == [], "nothing is waited for any more"


def test_a_payload_that_is_larger_than_the_coordinator_takes_is_not_sent() -> None:
    """Spec LIMIT-1. Sent it would end the connection, and be sent again on the next one."""
    session = make()
    early = session.request(TaskDelegate("k", {"skill": "s"}, b"x" * 101))
    fits = session.request(TaskDelegate("l", {"skill": "s"}, b"x" * 100))
    session.connected()
    [hello] = session.outgoing()
    _, reply = session.receive(Frame("w", welcome(), re=hello.id))
    assert isinstance(reply, Reply) and isinstance(reply.message, Error)
    assert (reply.re, reply.message.code) == (early, "too_large")
    assert [frame.id for frame in session.outgoing()] == [fits]
    with pytest.raises(TooLarge, match="at most 100 bytes, this has 101"):
        session.request(TaskDelegate("m", {"skill": "s"}, b"x" * 101))
    assert session.waiting == 1


def test_a_request_without_a_reply_is_repeated_with_the_same_id_after_a_new_handshake() -> None:
    session = make()
    greet(session)
    first, second = session.request(TaskGet("t-1")), session.request(TaskGet("t-2"))
    session.outgoing()
    assert session.receive(Frame("r", Ok(), re=first)) == [Reply(first, TaskGet("t-1"), Ok())]
    session.disconnected()
    greet(session)
    assert [frame.id for frame in session.outgoing()] == [second]


def test_a_second_reply_to_the_same_request_is_not_told() -> None:
    session = make()
    greet(session)
    request = session.request(TaskGet("t-1"))
    assert len(session.receive(Frame("r", Ok(), re=request))) == 1
    assert session.receive(Frame("r", Ok(), re=request)) == []


def test_a_request_that_was_forgotten_is_not_repeated() -> None:
    session = make()
    session.forget(session.request(TaskGet("t-1")))
    greet(session)
    assert session.outgoing() == []
    assert session.waiting == 0


def test_the_reply_to_a_request_that_was_forgotten_is_not_told() -> None:
    session = make()
    greet(session)
    request = session.request(TaskGet("t-1"))
    session.forget(request)
    error = Error(ErrorCode.NOT_FOUND, "no task t-1")
    assert session.receive(Frame("r", error, re=request)) == []
    assert session.receive(Frame("r", error, re="what was only told")) == [Notice(error, "what was only told")]
    session.forget(session.request(TaskGet("t-2")))
    greet(session)
    assert not session._forgotten, "its reply was lost with the connection"


def test_of_a_request_without_a_reply_is_known_whether_it_was_sent() -> None:
    session = make()
    early = session.request(TaskGet("t-1"))
    assert not session.was_sent(early)
    greet(session)
    assert session.was_sent(early), "the welcome has it sent"
    session.outgoing()
    unsent = session.request(TaskGet("t-2"))
    session.disconnected()
    late = session.request(TaskGet("t-3"))
    for _ in range(2):
        session.connected()
        session.disconnected()
        assert [session.was_sent(request) for request in (early, unsent, late)] == [True, False, False]
    greet(session)
    session.receive(Frame("r", Ok(), re=early))
    assert [session.was_sent(request) for request in (early, unsent, late)] == [False, True, True]


def test_what_waits_for_room_or_comes_behind_a_bye_was_not_sent() -> None:
    session = roomy()
    first, waiting = (session.request(big(0.75)) for _ in range(2))
    session.outgoing()
    assert [session.was_sent(request) for request in (first, waiting)] == [True, False]
    session.receive(Frame("b", Bye("drain")))
    behind = session.request(TaskGet("t-1"))
    session.disconnected()
    assert [session.was_sent(request) for request in (first, waiting, behind)] == [True, False, False]


def big(share: float) -> TaskAnswer:
    return TaskAnswer("t-1", 1, bytes(int(UNDER_WAY_MAX * share)))


def roomy() -> PeerSession:
    """Return a session with a coordinator that takes payloads of any size."""
    session = make()
    greet(session)
    assert session.welcome is not None
    session.welcome.limits.payload_max_bytes = 2 * UNDER_WAY_MAX
    return session


def test_no_more_is_under_way_than_there_is_room_for_and_its_order_stays() -> None:
    session = roomy()
    first, second, third, fourth = (session.request(big(share)) for share in (0.5, 0.5, 0.25, 0.0))
    assert [frame.id for frame in session.outgoing()] == [first, second]
    session.tell(TaskHeartbeat("t-1", 5))
    assert sent(session) == [TaskHeartbeat("t-1", 5)], "what may be lost is not held up"
    session.receive(Frame("r", Ok(), re=second))
    assert [frame.id for frame in session.outgoing()] == [third, fourth]
    larger = session.request(big(1.5))
    for request in (first, third):
        assert session.outgoing() == []
        session.receive(Frame("r", Ok(), re=request))
    assert [frame.id for frame in session.outgoing()] == [larger], "one alone may have more"
    assert session.waiting == 2


def test_a_new_connection_begins_with_what_there_is_room_for() -> None:
    session = make()
    greet(session)
    half = ContextOp("a", value=bytes(UNDER_WAY_MAX // 4)), ContextOp("b", patch=bytes(UNDER_WAY_MAX // 4))
    requests = [session.request(ContextWrite("c", str(number), list(half))) for number in range(5)]
    assert [frame.id for frame in session.outgoing()] == requests[:2], "a write counts with all its values"
    session.disconnected()
    greet(session)
    for expected in (requests[:2], requests[2:4], requests[4:]):
        frames = session.outgoing()
        assert [frame.id for frame in frames] == expected
        for frame in frames:
            session.receive(Frame("r", Ok(), re=frame.id))
    assert session.waiting == 0


def test_what_was_forgotten_takes_room_until_its_reply_and_none_where_it_was_not_sent() -> None:
    session = roomy()
    first, second, third = (session.request(big(0.75)) for _ in range(3))
    session.forget(first)
    session.forget(second)
    assert [frame.id for frame in session.outgoing()] == [first]
    session.receive(Frame("r", Ok(), re=first))
    assert [frame.id for frame in session.outgoing()] == [third]
    [reply] = session.receive(Frame("r", Ok(), re=third))
    assert isinstance(reply, Reply)
    assert session._under_way == 0


def test_what_was_forgotten_and_cannot_be_sent_takes_no_room() -> None:
    session = roomy()
    first, second = (session.request(big(0.75)) for _ in range(2))
    session.forget(first)
    [frame] = session.outgoing()
    assert session.unsendable(frame, ErrorCode.TOO_LARGE, "it has too much") == []
    assert [frame.id for frame in session.outgoing()] == [second]
    assert not session._forgotten


def test_what_is_put_off_waits_until_it_is_said_again_under_its_id() -> None:
    session = patient()
    greet(session)
    request, other = session.request(TaskGet("t-1")), session.request(TaskGet("t-2"))
    assert [frame.id for frame in session.outgoing()] == [request, other]
    assert refuse(session, request) == []
    assert session.outgoing() == [] and session.awaits(request) and session.waiting == 2
    session.say_again(request)
    session.say_again(request)
    session.say_again(other)
    assert [frame.id for frame in session.outgoing()] == [request], "once, and nothing that waits for its reply"
    [reply] = refuse(session, request, "not_found")
    assert isinstance(reply, Reply) and not session.awaits(request)
    session.say_again(request)
    assert session.outgoing() == []


def test_what_is_put_off_is_said_by_a_new_handshake_in_its_place_and_not_once_more() -> None:
    session = patient()
    greet(session)
    first, second = session.request(TaskGet("t-1")), session.request(TaskGet("t-2"))
    session.outgoing()
    assert refuse(session, first) == []
    session.receive(Frame("b", Bye("restart")))
    session.say_again(first)
    assert session.outgoing() == [], "nothing is said behind a goodbye"
    session.disconnected()
    greet(session)
    session.say_again(first)
    assert [frame.id for frame in session.outgoing()] == [first, second]


def test_what_is_put_off_takes_no_room_and_nothing_of_it_is_left_once_it_is_forgotten() -> None:
    session = PeerSession(Identity("worker", "i1", 7), map(str, itertools.count()).__next__, puts_off=lambda *_: True)
    greet(session)
    assert session.welcome is not None
    session.welcome.limits.payload_max_bytes = 2 * UNDER_WAY_MAX
    first, second = session.request(big(0.75)), session.request(big(0.75))
    session.outgoing()
    assert refuse(session, first) == []
    assert [frame.id for frame in session.outgoing()] == [second]
    session.forget(first)
    session.say_again(first)
    session.receive(Frame("r", Ok(), re=second))
    assert session.outgoing() == []
    assert (session.waiting, session._under_way, session._forgotten, session._put_off) == (0, 0, {}, set())


def test_only_what_gets_a_reply_goes_into_the_outbox() -> None:
    with pytest.raises(LocalProtocolError, match=r"task\.heartbeat gets no reply"):
        make().request(TaskHeartbeat("t-1", 1))


def test_volatile_messages_are_dropped_without_a_connection() -> None:
    session = make()
    assert session.tell(TaskHeartbeat("t-1", 1)) is None
    greet(session)
    assert session.tell(TaskHeartbeat("t-1", 1)) is not None
    assert [message.kind for message in sent(session)] == ["task.heartbeat"]


def test_what_was_to_be_told_over_a_lost_connection_is_not_told_over_the_next() -> None:
    session = make()
    greet(session)
    session.tell(TaskHeartbeat("t-1", 1))
    session.disconnected()
    greet(session)
    assert sent(session) == []


def test_a_stream_of_a2a_answers_its_call_and_goes_on() -> None:
    session = make()
    greet(session)
    call = A2ACall("SubscribeToTask")
    request = session.request(call)
    first, second, end = A2AEvent("t-1", 1, b"{}"), A2AEvent("t-1", 2, b"{}"), A2AFault(-32006, "x", "y")
    assert session.receive(Frame("1", first, re=request)) == [Reply(request, call, first)]
    assert session.receive(Frame("2", second, re=request)) == [Notice(second, request)]
    assert session.receive(Frame("3", end, re=request)) == [Notice(end, request)]


def test_mail_is_seen_once_and_acknowledged_once_for_all() -> None:
    session = make()
    greet(session)
    revoke = TaskRevoke("t-1", 1, "cancel")
    assert session.receive(Frame("m1", revoke, mseq=1)) == [Notice(revoke)]
    assert session.receive(Frame("m1", revoke, mseq=1)) == [], "a repeat"
    assert session.receive(Frame("m2", revoke, mseq=2)) == [Notice(revoke)]
    assert sent(session) == [MailboxAck(2)]
    assert sent(session) == []


def test_an_acknowledgement_waits_until_it_covers_enough_whatever_else_is_said() -> None:
    session = make(credit=Credit(1, 16))
    greet(session)
    revoke = TaskRevoke("t-1", 1, "cancel")
    assert not session.owes_ack
    session.receive(Frame("m1", revoke, mseq=1))
    assert session.owes_ack
    assert session.outgoing(is_ack_due=False) == []
    session.tell(Ping())
    assert [frame.message for frame in session.outgoing(is_ack_due=False)] == [Ping()]
    assert session.owes_ack
    session.receive(Frame("m2", revoke, mseq=2))
    [alone] = session.outgoing(is_ack_due=False)
    assert alone.message == MailboxAck(2), "it covers an eighth of the frames that may be under way"
    assert not session.owes_ack
    session.receive(Frame("m3", revoke, mseq=3))
    assert session.outgoing(is_ack_due=False) == []
    assert [frame.message for frame in session.outgoing()] == [MailboxAck(3)]


def test_a_gap_in_the_mailbox_ends_the_connection() -> None:
    session = make()
    greet(session)
    with pytest.raises(RemoteProtocolError, match="mailbox entry 1 comes next, the coordinator sent 2"):
        session.receive(Frame("m2", TaskRevoke("t-1", 1, "cancel"), mseq=2))


def test_the_mailbox_goes_on_where_the_welcome_says() -> None:
    session = make()
    greet(session)
    revoke = TaskRevoke("t-1", 1, "cancel")
    session.receive(Frame("m1", revoke, mseq=1))
    session.disconnected()
    hello = greet(session, next_mseq=2)
    assert hello.resume is not None and hello.resume.last_mseq == 1
    assert session.receive(Frame("m2", revoke, mseq=2)) == [Notice(revoke)]
    session.disconnected()
    greet(session, next_mseq=1)
    assert session.receive(Frame("m1", revoke, mseq=1)) == [Notice(revoke)], "the mailbox began anew"


@pytest.mark.parametrize("could_be_read", [True, False])
def test_being_turned_away_is_told_and_closes_the_session(could_be_read: bool) -> None:
    session = make()
    session.connected()
    [hello] = session.outgoing()
    error = Error("auth", "no")
    assert session.receive(Frame("e", error, re=hello.id if could_be_read else None)) == [TurnedAway(error)]
    assert not session.is_open
    assert session.receive(Frame("x", Ok(), re="y")) == []


@pytest.mark.parametrize("answer", [Ok(), Ping("n")])
def test_only_a_welcome_or_an_error_answers_a_hello(answer: Message) -> None:
    session = make()
    session.connected()
    [hello] = session.outgoing()
    with pytest.raises(RemoteProtocolError, match="answered by welcome or error"):
        session.receive(Frame("x", answer, re=hello.id))


def test_nothing_comes_before_the_answer_to_the_hello() -> None:
    session = make()
    session.connected()
    for early in (Frame("x", Ping(), re=None), Frame("x", Error("auth", "no"), re="y")):
        with pytest.raises(RemoteProtocolError, match="the first frame answers the hello"):
            session.receive(early)


def test_a_ping_is_answered_and_a_bye_is_told() -> None:
    session = make()
    greet(session)
    assert session.receive(Frame("p", Ping("n"))) == []
    [pong] = session.outgoing()
    assert (pong.message, pong.re) == (Pong("n"), "p"), "an answer says to what (spec RPC-2)"
    assert session.receive(Frame("b", Bye("taken_over"))) == [Left("taken_over")]
    assert not session.is_open


def test_an_unknown_kind_is_ignored_unless_it_must_be_understood() -> None:
    session = make()
    greet(session)
    assert session.receive(Frame("u", Unknown("task.dance", {}))) == []
    with pytest.raises(RemoteProtocolError, match=r"insists on task\.dance"):
        session.receive(Frame("u", Unknown("task.dance", {}), must=True))


def test_an_unknown_notice_of_the_mailbox_has_its_place_and_must_be_understood_where_it_says_so() -> None:
    session = make()
    greet(session)
    session.receive(Frame("m1", Unknown("task.dance", {}), mseq=1))
    assert sent(session) == [MailboxAck(1)]
    with pytest.raises(RemoteProtocolError, match=r"insists on task\.dance"):
        session.receive(Frame("m2", Unknown("task.dance", {}), mseq=2, must=True))
    assert sent(session) == []


def test_what_cannot_be_read_ends_the_connection() -> None:
    session = make()
    greet(session)
    with pytest.raises(RemoteProtocolError, match="cannot be read: empty"):
        session.receive(BadFrame(ErrorCode.MALFORMED, "empty", True))


def test_credit_that_changed_while_the_hello_was_on_its_way_is_told_behind_it() -> None:
    session = make(credit=Credit(2))
    session.connected()
    [hello] = session.outgoing()
    session.set_credit(Credit(5))
    session.receive(Frame("w", welcome(), re=hello.id))
    assert [frame.message for frame in session.outgoing()] == [Credit(5)]


def test_what_was_sent_once_was_sent_however_many_connections_end_behind_that() -> None:
    session = make()
    greet(session)
    request = session.request(TaskGet("t"))
    session.outgoing()
    session.disconnected()
    greet(session)
    session.disconnected()
    assert session.was_sent(request)


def test_credit_is_told_at_once_and_with_the_next_hello() -> None:
    session = make()
    greet(session)
    session.set_credit(Credit(5))
    assert sent(session) == [Credit(5)]
    session.disconnected()
    assert greet(session).credit == Credit(5)


def test_requests_leave_in_the_order_they_were_made() -> None:
    session = make()
    greet(session)
    ids = [session.request(TaskList(limit=number)) for number in range(1, 5)]
    assert [frame.id for frame in session.outgoing()] == ids
