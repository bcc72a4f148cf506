"""Texts that the engine writes on by itself, with hints or without: the same text, one at a time or cut and resumed."""

import threading
import time

import pytest

from cactus_core.coupled import empty_tree
from cactus_core.errors import CactusError, InvalidInput, Unavailable
from cactus_core.sampling import SamplingParams
from cactus_core.session import Finish, Hint
from cloud import noise
from cloud.engine import Engine
from cloud.step_cost import measure_free_tokens
from tests.cloud.test_engine import COUPLED, GREEDY, complete, no_tree, plain, random_tree, request_for, written
from tests.cloud.test_sharing import decoded, started


@pytest.fixture
def engine(qwen3):
    engine = started(qwen3)
    yield engine
    engine.stop()


def test_a_text_goes_on_by_itself_when_the_wait_is_over(engine, qwen3):
    request = request_for(qwen3, [5, 6], acceptance=COUPLED)
    alone, _ = written(engine, request, no_tree)
    session, told = engine.open(request), []
    end = engine.stream(session, told.append)
    engine.hint(session, Hint(7, empty_tree(2), 0.001))
    end.result(timeout=60)
    assert session.text[2:] == alone
    assert {decision.round for decision in told} == {7}
    engine.close(session)


def test_while_a_tree_is_waited_for_the_noise_of_what_comes_next_is_made(engine, qwen3, monkeypatch):
    monkeypatch.setattr(noise, "_ahead", {})
    session, told = engine.open(request_for(qwen3, [5, 6], acceptance=COUPLED)), threading.Event()
    end = engine.stream(session, lambda _: told.set())
    engine.hint(session, Hint(1, random_tree(session.text), 1e6))
    assert told.wait(timeout=60)
    wanted = {(session.request.seed, len(session.text) + ahead, qwen3.target.vocab_size) for ahead in range(8)}
    for _ in range(600):
        if noise._ahead.keys() >= wanted:
            break
        time.sleep(0.1)
    assert noise._ahead.keys() == wanted
    assert not end.done()
    engine.close(session)


def test_a_stream_whose_edge_is_silent_is_held_while_others_go_on(engine, qwen3):
    held, told = engine.open(request_for(qwen3, [5, 6], acceptance=COUPLED)), []
    end = engine.stream(held, told.append)
    complete(engine, request_for(qwen3, [5, 6]), plain)
    assert not told
    assert not end.done()
    engine.close(held)


def test_decode_alone_waits_for_nobody_until_a_hint_says_so(engine, qwen3):
    request = request_for(qwen3, [5, 6], acceptance=COUPLED, decode_alone=True)
    text, decisions = written(engine, request)
    assert text == written(engine, request_for(qwen3, [5, 6], acceptance=COUPLED), no_tree)[0]
    assert {decision.round for decision in decisions} == {0}
    session, first, told = engine.open(request), threading.Event(), []

    def deliver(decision):
        told.append(decision)
        if not first.is_set():
            engine.hint(session, Hint(1, random_tree(session.text), 1e6))
            first.set()

    engine.stream(session, deliver)
    assert first.wait(timeout=60)
    while len(told) < 2:  # the tree's own decision
        complete(engine, request_for(qwen3, [9], max_tokens=1), plain)
    number = len(told)
    complete(engine, request_for(qwen3, [9], max_tokens=4), plain)
    assert len(told) == number
    engine.close(session)


@pytest.mark.parametrize(("num_free", "num_together"), [(0.0, 2), (9.0, 5)], ids=["no room", "room"])
def test_a_token_in_the_gap_is_decoded_beside_others_drafts_only_where_it_costs_nothing(qwen3, num_free, num_together):
    engine = Engine(qwen3.target, num_pages=64, num_free_tokens=num_free)
    engine._waiting.is_running = True  # both wait before the first step
    drafting = engine.open(request_for(qwen3, [5, 6], acceptance=COUPLED, committed=(9,)))
    drafted = engine.open(request_for(qwen3, [3, 4]))
    told = threading.Event()
    engine.stream(drafting, lambda _: told.set())
    engine.hint(drafting, Hint(0, empty_tree(2), 0.0))  # from before what was committed: late
    read = []
    engine.submit(drafted, 0, plain([3, 4])).add_done_callback(lambda _: read.append(engine.figures.num_read))
    engine.start()
    assert told.wait(timeout=60)
    assert read == [num_together]
    for session in (drafting, drafted):
        engine.close(session)
    engine.stop()


@pytest.mark.parametrize("sampling", [GREEDY, SamplingParams(frequency_penalty=0.8)], ids=["greedy", "penalised"])
def test_a_text_resumed_from_any_token_on_is_the_same(engine, qwen3, sampling):
    whole, _ = written(engine, request_for(qwen3, [5, 6], acceptance=COUPLED, sampling=sampling, max_tokens=12), no_tree)
    for cut in range(len(whole)):
        request = request_for(qwen3, [5, 6], acceptance=COUPLED, sampling=sampling, max_tokens=12, committed=tuple(whole[:cut]))
        text, decisions = written(engine, request, random_tree)
        assert text == whole
        assert decisions[0].base == 2 + cut


def test_a_resumed_text_may_be_hinted_from_within_what_was_committed(engine, qwen3):
    whole, _ = written(engine, request_for(qwen3, [5, 6], acceptance=COUPLED, sampling=GREEDY), no_tree)
    request = request_for(qwen3, [5, 6], acceptance=COUPLED, sampling=GREEDY, committed=tuple(whole[:3]))
    session, told = engine.open(request), []
    engine.stream(session, told.append)
    with pytest.raises(InvalidInput, match="goes from 2 to 5"):
        engine.hint(session, Hint(0, empty_tree(6)))
    engine.hint(session, Hint(0, no_tree(whole[:2]), 0.0))
    while not told:
        complete(engine, request_for(qwen3, [9], max_tokens=1), plain)
    assert told[0].final == whole[3]
    engine.close(session)


def test_a_text_that_came_to_its_end_already_cannot_be_resumed(engine, qwen3):
    for committed, others in (((4, min(qwen3.target.eos_token_ids)), {}), ((4, 9), {"stop_ids": (9,)})):
        with pytest.raises(InvalidInput, match="is complete"):
            engine.open(request_for(qwen3, [5], committed=committed, **others))


def test_rounds_of_blocks_go_on_from_what_was_committed(engine, qwen3):
    whole, _ = complete(engine, request_for(qwen3, [5], sampling=GREEDY, max_tokens=8), plain)
    session = engine.open(request_for(qwen3, [5], sampling=GREEDY, max_tokens=8, committed=tuple(whole[:-1])))
    decision = engine.submit(session, 0, plain(session.text)).result(timeout=60)
    assert (decision.final, decision.finish is not None) == (whole[-1], True)
    engine.close(session)


def test_hints_after_the_texts_end_are_ignored(engine, qwen3):
    request = request_for(qwen3, [5, 6], acceptance=COUPLED, decode_alone=True, max_tokens=3)
    session = engine.open(request)
    engine.stream(session, lambda _: None).result(timeout=60)
    engine.hint(session, Hint(4, empty_tree(50)))
    assert session.last.finish is Finish.LENGTH
    engine.close(session)


def test_a_text_is_written_by_one_at_a_time(engine, qwen3):
    session = engine.open(request_for(qwen3, [5, 6], acceptance=COUPLED))
    engine.stream(session, lambda _: None)
    with pytest.raises(InvalidInput, match="already"):
        engine.stream(session, lambda _: None)
    engine.close(session)
    session = engine.open(request_for(qwen3, [5, 6], max_tokens=400))
    end = engine.stream(session, lambda _: None)
    with pytest.raises(InvalidInput, match=r"without blocks|is complete"):
        engine.submit(session, 0, plain([5, 6]))
    end.result(timeout=60)
    with pytest.raises(InvalidInput, match="is complete"):
        engine.stream(session, lambda _: None)
    engine.close(session)


def test_whoever_cannot_be_told_fails_alone(engine, qwen3, caplog):
    other, broken = (engine.open(request_for(qwen3, [5, 6])) for _ in range(2))
    tokens, _, well = decoded(engine, other)
    ill = engine.stream(broken, lambda _: 1 // 0)
    well.result(timeout=60)
    with pytest.raises(CactusError, match="could not be delivered"):
        ill.result(timeout=60)
    assert tokens == complete(engine, request_for(qwen3, [5, 6]), plain)[0]
    assert "could not be delivered" in caplog.text
    for session in (other, broken):
        engine.close(session)


def test_stopping_fails_what_is_held(qwen3):
    engine = started(qwen3)
    session = engine.open(request_for(qwen3, [5], acceptance=COUPLED))
    end = engine.stream(session, lambda _: None)
    engine.stop()
    with pytest.raises(Unavailable, match="stopping"):
        end.result(timeout=60)
    with pytest.raises(Unavailable, match="stopping"):
        engine.stream(session, lambda _: None)


def test_a_padded_step_says_that_it_is_emulated_and_is_as_long_as_that(qwen3, caplog):
    engine = started(qwen3, step_at_least_s=0.03)
    text, decisions = complete(engine, request_for(qwen3, [5, 6], max_tokens=4), plain)
    engine.stop()
    assert min(decision.verify_s for decision in decisions) >= 0.03
    assert engine.figures.busy_s >= 0.03 * len(text)
    assert "every step is padded to at least 30 ms: emulated" in caplog.text


def test_a_step_that_took_longer_is_not_padded(qwen3, monkeypatch):
    slept = []
    monkeypatch.setattr("cloud.loop.time.sleep", slept.append)
    engine = started(qwen3, step_at_least_s=1e-9)
    complete(engine, request_for(qwen3, [5, 6], max_tokens=4), plain)
    engine.stop()
    assert not slept


def test_what_a_padded_step_reads_beside_is_free(qwen3):
    assert measure_free_tokens(qwen3.target, 30.0) > 100.0


def test_a_padding_that_is_no_time_is_refused(qwen3):
    for seconds in (-1.0, float("nan"), float("inf")):
        with pytest.raises(InvalidInput, match="step_at_least_s"):
            Engine(qwen3.target, num_pages=4, step_at_least_s=seconds)
