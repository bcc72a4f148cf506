"""Where callers and the loop meet, without either: which turns there are after which hints."""

import math
import time

import pytest

from cactus_core.acceptance import Acceptance
from cactus_core.coupled import empty_tree
from cactus_core.errors import InvalidInput, Unavailable
from cactus_core.session import Hint, Request
from cloud.pages import PageTable
from cloud.residency import Residency
from cloud.session import Session
from cloud.stream import Stream
from cloud.tally import Tally
from cloud.waiting import Waiting
from tests.cloud.small_pools import small_pool
from tests.cloud.trees import nodes, tree


class Loop:
    """The loop's side, one look at a time."""

    def __init__(self):
        self.waiting, self.residency, self.pool = Waiting(), Residency(Tally()), small_pool(8)
        self.waiting.is_running = True

    def stream(self, *, decode_alone=False, rule="coupled"):
        session = Session(Request((5, 6), 20, 1, "", decode_alone=decode_alone, acceptance=Acceptance(rule)), "", PageTable(self.pool))
        self.waiting.open(session)
        stream = Stream.of(session, print, 100, time.monotonic())
        with self.waiting.lock:
            self.waiting.add_stream(stream)
        return session, stream

    def turn_of(self, session):
        """What waits of it now. Another that always waits keeps the look from waiting itself."""
        busy, _ = self.stream(decode_alone=True)
        turns = self.waiting.next(self.residency)
        self.waiting.close(busy)
        return turns.get(session)


@pytest.fixture
def loop():
    return Loop()


def test_a_stream_is_held_until_it_is_drafted_for(loop):
    session, _ = loop.stream()
    assert loop.turn_of(session) is None
    loop.waiting.hint(session, Hint(0, tree(2, (1, 2))))
    assert nodes(loop.turn_of(session).drafts) == [(1,), (1, 2)]


@pytest.mark.parametrize(("rule", "decode_alone"), [("coupled", True), ("nearest+block", False), ("nearest+block", True)])
def test_a_stream_that_waits_for_nobody_has_a_turn_at_once_and_never_an_optional_one(loop, rule, decode_alone):
    session, _ = loop.stream(decode_alone=decode_alone, rule=rule)
    turn = loop.turn_of(session)
    assert turn.num_drafted == 0
    assert not turn.is_optional


def test_a_newer_hint_takes_the_place_of_a_queued_turns_drafts_and_keeps_its_arrival(loop):
    session, _ = loop.stream()
    loop.waiting.hint(session, Hint(0, tree(2, (1,))))
    first = loop.turn_of(session)
    loop.waiting.hint(session, Hint(1, tree(2, (3, 4))))
    second = loop.turn_of(session)
    assert (nodes(second.drafts), second.round, second.arrived) == ([(3,), (3, 4)], 1, first.arrived)


def test_a_turn_that_was_read_in_part_keeps_its_drafts_until_it_starts_over(loop):
    session, _ = loop.stream()
    loop.waiting.hint(session, Hint(0, tree(2, (1,))))
    turn = loop.turn_of(session)
    turn.rows.append(object())
    loop.waiting.hint(session, Hint(1, tree(2, (3,))))
    assert loop.turn_of(session) is turn
    turn.start_over()
    assert nodes(loop.turn_of(session).drafts) == [(3,)]


def test_a_hint_that_drafts_no_more_of_it_takes_a_queued_turn_back(loop):
    session, _ = loop.stream()
    session.text.append(9)
    loop.waiting.hint(session, Hint(0, tree(2, (9, 1))))
    assert nodes(loop.turn_of(session).drafts) == [(1,)]
    loop.waiting.hint(session, Hint(1, tree(2, (8, 1))))
    assert loop.turn_of(session) is None


def test_a_token_in_the_gap_is_optional_while_the_edge_drafts_and_one_that_is_asked_for_is_not(loop):
    session, stream = loop.stream()
    session.text.append(9)
    loop.waiting.hint(session, Hint(0, empty_tree(2), 0.0))
    assert loop.turn_of(session).is_optional
    loop.waiting.hint(session, Hint(1, empty_tree(3), 0.0))
    assert not loop.turn_of(session).is_optional
    loop.waiting.hint(session, Hint(2, empty_tree(2), 0.0))
    stream.hints._heard -= 2.0  # it has sent nothing for two seconds
    assert not loop.turn_of(session).is_optional


def test_a_decided_text_goes_on_with_what_is_left_of_the_newest_tree(loop):
    session, stream = loop.stream()
    loop.waiting.hint(session, Hint(0, tree(2, (1,))))
    turn = loop.turn_of(session)
    loop.waiting.hint(session, Hint(1, tree(2, (1, 3, 4))))  # during the step
    session.text += [1, 3]
    loop.waiting.settled([turn])
    turn = loop.turn_of(session)
    assert (nodes(turn.drafts), turn.round) == ([(4,)], 1)
    session.text += [5]
    loop.waiting.settled([turn])
    assert loop.turn_of(session) is None
    assert stream.due == math.inf


def test_the_look_waits_for_the_first_that_is_due_and_looks_no_more_often(loop, monkeypatch):
    held, _ = loop.stream()
    session, _ = loop.stream()
    loop.waiting.hint(session, Hint(0, empty_tree(2), 0.2))
    loop.waiting._closing.clear()
    session.text.append(9)
    looks = []
    take_up = loop.waiting._take_up
    monkeypatch.setattr(loop.waiting, "_take_up", lambda: (looks.append(1), take_up()))
    turns = loop.waiting.next(loop.residency)
    assert [*turns] == [session]
    assert held not in turns
    assert len(looks) <= 4


def test_closed_streams_leave_nothing_and_late_hints_find_nothing(loop):
    session, stream = loop.stream()
    other, _ = loop.stream()
    loop.waiting.hint(session, Hint(0, tree(2, (1,))))
    loop.waiting.close(session)
    assert loop.turn_of(other) is None
    assert stream.end.cancelled()
    loop.waiting.hint(session, Hint(1, tree(2, (1,))))
    loop.waiting.hint(other, Hint(0, tree(2, (1,))))
    loop.waiting.close(other)
    assert loop.turn_of(session) is None
    loop.waiting.next(loop.residency)
    assert not loop.waiting.turns
    assert not loop.waiting.streams
    assert not loop.waiting._due
    assert not loop.residency._sessions


def test_a_hint_out_of_place_is_refused_whenever_it_comes(loop):
    session, _ = loop.stream()
    for base in (1, 3):
        with pytest.raises(InvalidInput, match="goes from 2 to 2"):
            loop.waiting.hint(session, Hint(0, empty_tree(base)))


def test_what_is_held_fails_too_when_all_does(loop):
    _, held = loop.stream()
    session, queued = loop.stream()
    loop.waiting.hint(session, Hint(0, tree(2, (1,))))
    loop.waiting.next(loop.residency)
    loop.waiting.fail_all(Unavailable("over"))
    for stream in (held, queued):
        with pytest.raises(Unavailable, match="over"):
            stream.end.result(timeout=0)
