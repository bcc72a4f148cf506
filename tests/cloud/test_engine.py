"""The step loop over a real model: the same text whatever is drafted, in whatever company, and nothing leaked."""

import numpy as np
import pytest
import torch

from cactus_core.acceptance import Acceptance
from cactus_core.block import Block, empty_block
from cactus_core.errors import CactusError, InvalidInput, LimitExceeded, Mismatch, StaleBase, Unavailable
from cactus_core.fingerprint import fingerprint
from cactus_core.lattice import LatticeLaws
from cactus_core.sampling import SamplingParams
from cactus_core.session import Finish, Request
from cloud.decide import decide_all
from cloud.engine import Engine
from tests.core.drafts import random_block

GREEDY = SamplingParams(temperature=0.0)


@pytest.fixture
def engine(qwen3):
    engine = Engine(qwen3.target, num_pages=64, token_budget=48)
    engine.start()
    yield engine
    engine.stop()


def request_for(pair, prompt, max_tokens=24, **others):
    return Request(tuple(prompt), max_tokens, others.pop("seed", 5), fingerprint(pair.target.vocabulary), **others)


def complete(engine, request, block_after):
    """The whole text's tokens, with the block that `block_after(text)` gives for each round, and the decisions."""
    session, text, decisions = engine.open(request), list(request.prompt), []
    try:
        while True:
            block = block_after(text)
            decision = engine.submit(session, len(decisions), block).result(timeout=60)
            emitted = block.tokens[decision.row, : decision.num_accepted].tolist() if decision.num_accepted else []
            emitted += [] if decision.final is None else [decision.final]
            text += emitted
            decisions.append(decision)
            if decision.finish is not None:
                assert session.ledger.entries == [nats for made in decisions for nats in made.divergence]
                return text[len(request.prompt) :], decisions
    finally:
        engine.close(session)


def plain(text):
    return empty_block(len(text))


def random_drafts(text):
    return random_block(len(text), num_rows=3, length=4, vocab_size=61, support_size=20, base=len(text))


def known_path(tokens, base):
    """A block of one path whose laws are certain."""
    ids = np.array(tokens)[:, None]
    return Block(base, np.array([tokens]), np.arange(len(tokens))[None], LatticeLaws(ids, np.full_like(ids, 256), 8))


def greedy_reference(pair, prompt, count):
    text = list(prompt)
    for _ in range(count):
        text.append(int(pair.logits(text)[-1].argmax()))
        if text[-1] in pair.target.eos_token_ids:
            break
    return text[len(prompt) :]


@pytest.mark.parametrize("blocks", [plain, random_drafts], ids=["alone", "drafted"])
def test_greedy_text_is_the_models_own(engine, qwen3, blocks):
    for prompt in ([3], [4, 5, 6], list(range(2, 60))):
        text, _ = complete(engine, request_for(qwen3, prompt, sampling=GREEDY), blocks)
        assert text == greedy_reference(qwen3, prompt, 24)


def test_a_right_guess_stands_whole_and_brings_a_bonus_token(engine, qwen3):
    prompt = [9, 8, 7]
    reference = greedy_reference(qwen3, prompt, 24)
    text, decisions = complete(
        engine,
        request_for(qwen3, prompt, sampling=GREEDY),
        lambda text: known_path(reference[len(text) - 3 :][:5] or [2], len(text)),
    )
    assert text == reference
    assert len(decisions) == -(-len(reference) // 6)


def test_sessions_in_one_step_do_not_disturb_each_other(engine, qwen3):
    requests = [request_for(qwen3, [3 + i, 7], seed=i) for i in range(6)]
    alone = [complete(engine, request, random_drafts)[0] for request in requests]
    sessions = [engine.open(request) for request in requests]
    texts = [list(request.prompt) for request in requests]
    finished = [False] * len(requests)
    for round_number in range(24):
        blocks = {i: random_drafts(texts[i]) for i in range(len(requests)) if not finished[i]}
        futures = {i: engine.submit(sessions[i], round_number, block) for i, block in blocks.items()}
        for i, future in futures.items():
            decision = future.result(timeout=60)
            texts[i] += blocks[i].tokens[decision.row, : decision.num_accepted].tolist() if decision.num_accepted else []
            texts[i] += [] if decision.final is None else [decision.final]
            finished[i] = decision.finish is not None
    for session in sessions:
        engine.close(session)
    assert [text[2:] for text in texts] == alone


def test_a_session_that_cannot_be_decided_fails_alone(qwen3, monkeypatch):
    def fragile(logits, ballots):
        if any(ballot.seed == 13 for ballot in ballots):
            raise ZeroDivisionError
        return decide_all(logits, ballots)

    monkeypatch.setattr("cloud.engine.decide_all", fragile)
    engine = Engine(qwen3.target, num_pages=64)
    sessions = [engine.open(request_for(qwen3, [3, 7], seed=seed)) for seed in (12, 13, 14)]
    engine._is_running = True  # all three wait before the first step
    futures = [engine.submit(session, 0, random_drafts([3, 7])) for session in sessions]
    engine._thread.start()
    try:
        assert futures[0].result(timeout=60).num_emitted >= 1
        assert futures[2].result(timeout=60).num_emitted >= 1
        with pytest.raises(CactusError, match="ZeroDivisionError"):
            futures[1].result(timeout=60)
        assert engine.submit(sessions[0], 1, plain(sessions[0].text)).result(timeout=60).num_emitted == 1
    finally:
        for session in sessions:
            engine.close(session)
        engine.stop()
    assert engine.num_free_pages == 64


def test_max_tokens_ends_inside_a_block(engine, qwen3):
    reference = greedy_reference(qwen3, [5], 24)
    text, [last] = complete(
        engine, request_for(qwen3, [5], max_tokens=3, sampling=GREEDY), lambda t: known_path(reference[len(t) - 1 :][:6], len(t))
    )
    assert (text, last.finish, last.final) == (reference[:3], Finish.LENGTH, None)


def test_an_end_of_text_token_ends_inside_a_block(engine, qwen3):
    end = min(qwen3.target.eos_token_ids)
    # With temperature so high that all tokens are alike, a certain draft of the end token stands soon.
    request = request_for(qwen3, [5], max_tokens=400, sampling=SamplingParams(temperature=100.0))
    text, decisions = complete(engine, request, lambda t: known_path([end, 3, 4], len(t)))
    assert (text.count(end), text[-1], decisions[-1].finish) == (1, end, Finish.STOP)


RELAXED = [Acceptance("nearest+block", "certified", 0.4, 2.0), Acceptance("quota+token", "priced", 0.5, 1.0)]


@pytest.mark.parametrize("acceptance", RELAXED, ids=lambda a: a.relaxation)
def test_a_budget_is_spent_and_never_exceeded(engine, qwen3, acceptance):
    for seed in range(4):
        request = request_for(qwen3, [5, seed], seed=seed, max_tokens=40, acceptance=acceptance)
        text, decisions = complete(engine, request, random_drafts)
        spent = sum(nats for decision in decisions for nats in decision.divergence)
        assert len(text) < 20 or 0.99 * acceptance.budget < spent
        assert spent <= acceptance.budget


def test_only_tokens_that_were_emitted_are_charged(engine, qwen3):
    """Of the same first block less is charged where the text may take less of it."""
    cuts = 0
    for seed in range(10):
        runs = []
        for max_tokens in (1, 2, 24):
            request = request_for(
                qwen3, [6, 6], seed=seed, max_tokens=max_tokens, acceptance=Acceptance(relaxation="certified", strength=0.5)
            )
            runs.append(complete(engine, request, random_drafts)[1][0].divergence)
        assert runs[0] == runs[2][:1]
        assert runs[1][:2] == runs[2][:2]
        cuts += len(runs[2]) > 2 and runs[2][1] > 0
    assert cuts > 1


def test_an_exact_request_costs_nothing(engine, qwen3):
    _, decisions = complete(engine, request_for(qwen3, [5, 6]), random_drafts)
    assert not any(nats for decision in decisions for nats in decision.divergence)


def test_a_round_sent_twice_is_decided_once(engine, qwen3):
    session = engine.open(request_for(qwen3, [5, 6]))
    first = engine.submit(session, 0, random_drafts([5, 6])).result(timeout=60)
    again = engine.submit(session, 0, random_drafts([5, 6])).result(timeout=60)
    assert again is first
    assert len(session.text) == 2 + first.num_emitted
    engine.close(session)


def test_a_block_that_does_not_follow_the_text_is_stale(engine, qwen3):
    session = engine.open(request_for(qwen3, [5, 6]))
    with pytest.raises(StaleBase, match="ends at 2"):
        engine.submit(session, 0, empty_block(7))
    engine.close(session)


def test_requests_that_cannot_be_served_are_refused(engine, qwen3):
    good = request_for(qwen3, [5])
    for change, error in (
        ({"fingerprint": "other"}, Mismatch),
        ({"model": "other"}, Mismatch),
        ({"prompt": (1000,)}, InvalidInput),
        ({"max_tokens": 5000}, LimitExceeded),
    ):
        fields = {name: getattr(good, name) for name in ("prompt", "max_tokens", "seed", "fingerprint", "model", "sampling")}
        with pytest.raises(error):
            engine.open(Request(**{**fields, **change}))


def test_a_request_larger_than_memory_fails_alone_and_gives_its_pages_back(qwen3):
    engine = Engine(qwen3.target, num_pages=4, token_budget=512)
    engine.start()
    small, large = engine.open(request_for(qwen3, [5])), engine.open(request_for(qwen3, [6] * 100))
    ends = engine.submit(small, 0, empty_block(1)), engine.submit(large, 0, empty_block(100))
    assert ends[0].result(timeout=60).num_emitted == 1
    with pytest.raises(LimitExceeded, match="memory is full"):
        ends[1].result(timeout=60)
    engine.close(small)
    engine.close(large)
    engine.stop()
    assert engine.num_free_pages == 4


def test_stopping_fails_what_waits_and_refuses_what_comes(qwen3):
    engine = Engine(qwen3.target, num_pages=8)
    engine.start()
    session = engine.open(request_for(qwen3, [5]))
    engine.stop()
    with pytest.raises(Unavailable, match="stopping"):
        engine.submit(session, 0, empty_block(1))


def test_a_decision_depends_on_the_seed_and_the_blocks_alone(engine, qwen3):
    first, second = (complete(engine, request_for(qwen3, [4, 4], seed=11), random_drafts)[0] for _ in range(2))
    other = complete(engine, request_for(qwen3, [4, 4], seed=12), random_drafts)[0]
    assert first == second != other


def test_logprobs_are_those_of_the_law_that_was_sampled_from(engine, qwen3):
    session = engine.open(request_for(qwen3, [4, 9], sampling=SamplingParams(temperature=0.5)))
    decision = engine.submit(session, 0, empty_block(2)).result(timeout=60)
    law = torch.log_softmax(qwen3.logits([4, 9])[-1] / 0.5, -1)
    assert decision.logprobs[0] == pytest.approx(law[decision.final].item(), abs=1e-4)
    engine.close(session)
