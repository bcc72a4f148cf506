"""The step loop over a real model: the same text whatever is drafted, in whatever company, and nothing leaked."""

import math

import numpy as np
import pytest
import torch

from cactus_core.acceptance import Acceptance
from cactus_core.block import Block, empty_block
from cactus_core.coupled import CoupledTree, empty_tree
from cactus_core.errors import CactusError, InvalidInput, LimitExceeded, Mismatch, StaleBase, Unavailable
from cactus_core.fingerprint import fingerprint
from cactus_core.lattice import LatticeLaws
from cactus_core.sampling import SamplingParams
from cactus_core.session import Finish, Hint, Request
from cloud.decide import decide_all
from cloud.engine import Engine
from tests.core.drafts import random_block

GREEDY = SamplingParams(temperature=0.0)


@pytest.fixture
def engine(qwen3):
    engine = Engine(qwen3.target, num_pages=64, token_budget=48, num_free_tokens=16.0)
    engine.start()
    yield engine
    engine.stop()


def request_for(pair, prompt, max_tokens=24, **others):
    return Request(tuple(prompt), max_tokens, others.pop("seed", 5), fingerprint(pair.target.vocabulary), **others)


def emitted_of(drafts, decision):
    """The ids that a decision stands for, as an edge reads them."""
    final = [] if decision.final is None else [decision.final]
    if not decision.num_accepted:
        return final
    return drafts.tokens[decision.row, : decision.num_accepted].tolist() + final


def complete(engine, request, block_after):
    """The whole text's tokens, with the block that `block_after(text)` gives for each round, and the decisions."""
    session, text, decisions = engine.open(request), list(request.prompt), []
    try:
        while True:
            block = block_after(text)
            decision = engine.submit(session, len(decisions), block).result(timeout=60)
            text += emitted_of(block, decision)
            decisions.append(decision)
            if decision.finish is not None:
                assert session.ledger.entries == [nats for made in decisions for nats in made.divergence]
                return text[len(request.prompt) :], decisions
    finally:
        engine.close(session)


def written(engine, request, tree_after=None, *, wait_s=math.inf):
    """As `complete`, of a stream; each decision is answered with the tree that `tree_after(text)` gives, if there is one."""
    session, decisions, text = engine.open(request), [], [*request.prompt, *request.committed]

    def deliver(decision):
        text.extend([*decision.accepted, *([] if decision.final is None else [decision.final])])
        decisions.append(decision)
        if tree_after is not None:
            engine.hint(session, Hint(len(decisions), tree_after(text), wait_s))

    try:
        end = engine.stream(session, deliver)
        if tree_after is not None:
            engine.hint(session, Hint(0, tree_after([*text]), wait_s))
        assert end.result(timeout=60) is None
        assert text == session.text
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
        if any(ballot.request.seed == 13 for ballot in ballots):
            raise ZeroDivisionError
        return decide_all(logits, ballots)

    monkeypatch.setattr("cloud.step.decide_all", fragile)
    engine = Engine(qwen3.target, num_pages=64, num_free_tokens=16.0)
    sessions = [engine.open(request_for(qwen3, [3, 7], seed=seed)) for seed in (12, 13, 14)]
    engine._waiting.is_running = True  # all three wait before the first step
    futures = [engine.submit(session, 0, random_drafts([3, 7])) for session in sessions]
    engine.start()
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


def test_stopping_fails_what_waits_and_refuses_what_comes(qwen3):
    engine = Engine(qwen3.target, num_pages=8, num_free_tokens=16.0)
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


COUPLED = Acceptance("coupled")


def random_tree(text, *, num_nodes=12, vocab_size=61):
    """Any tree whose siblings differ; some of its guesses are right by chance, and more where the vocabulary is small."""
    rng = np.random.default_rng(len(text))
    known = sorted({(int(rng.integers(-1, 1 + node) if node else -1), int(rng.integers(vocab_size))) for node in range(num_nodes)})
    parents = np.array([min(parent, place - 1) for place, (parent, _) in enumerate(known)])
    tokens = np.array([token for _, token in known])
    _, first = np.unique(np.stack([parents, tokens]), axis=1, return_index=True)
    is_kept = np.isin(np.arange(len(known)), first)
    while (dropped := is_kept & (parents >= 0) & ~is_kept[parents]).any():
        is_kept &= ~dropped
    number = np.cumsum(is_kept) - 1
    return CoupledTree(len(text), tokens[is_kept], np.where(parents >= 0, number[parents], -1)[is_kept])


def no_tree(text):
    return empty_tree(len(text))


@pytest.mark.parametrize("sampling", [GREEDY, SamplingParams(), SamplingParams(temperature=0.7, top_k=20)], ids=["greedy", "warm", "top-k"])
def test_under_coupling_the_text_is_the_same_whatever_is_drafted(engine, qwen3, sampling):
    for seed in range(3):
        request = request_for(qwen3, [5, seed], seed=seed, sampling=sampling, acceptance=COUPLED)
        alone, _ = written(engine, request, no_tree)

        def right_guesses(text, alone=alone):
            guess = np.array(alone[len(text) - 2 :][:5] or [1])
            return CoupledTree(len(text), guess, np.arange(-1, len(guess) - 1))

        assert written(engine, request, random_tree)[0] == alone
        text, decisions = written(engine, request, right_guesses)
        assert text == alone
        assert len(decisions) == -(-len(alone) // 6)
        assert [decision.round for decision in decisions] == list(range(len(decisions)))


def test_drafts_of_the_other_family_are_refused(engine, qwen3):
    session = engine.open(request_for(qwen3, [5, 6], acceptance=COUPLED))
    with pytest.raises(InvalidInput, match="takes coupled trees"):
        engine.submit(session, 0, plain(session.text))
    engine.close(session)
    session = engine.open(request_for(qwen3, [5, 6]))
    with pytest.raises(InvalidInput, match="takes blocks"):
        engine.hint(session, Hint(0, no_tree(session.text)))
    engine.close(session)


def test_a_tokens_of_the_requests_own_end_the_text(engine, qwen3):
    reference = greedy_reference(qwen3, [5], 24)
    stop = reference[4]
    text, decisions = complete(engine, request_for(qwen3, [5], sampling=GREEDY, stop_ids=(stop,)), random_drafts)
    assert text == reference[: reference.index(stop) + 1]
    assert decisions[-1].finish is Finish.STOP


PENALISED = SamplingParams(
    temperature=0.0, repetition_penalty=1.4, frequency_penalty=0.6, presence_penalty=0.3, logit_bias=((7, 1.5), (9, -3.0))
)


@pytest.mark.parametrize("blocks", [plain, random_drafts, lambda t: known_path([7, 7, 8, 7], len(t))], ids=["alone", "drafted", "repeated"])
def test_penalties_make_the_same_text_whatever_is_drafted(engine, qwen3, blocks):
    """Against `transformers`' and OpenAI's formulas, written out."""
    prompt, text = [5, 6, 7], [5, 6, 7]
    for _ in range(24):
        logits = qwen3.logits(text)[-1].clone()
        for token in set(text):
            logits[token] = logits[token] / 1.4 if logits[token] > 0 else logits[token] * 1.4
        for token in set(text[3:]):
            logits[token] -= 0.3 + 0.6 * text[3:].count(token)
        logits[7] += 1.5
        logits[9] -= 3.0
        text.append(int(logits.argmax()))
        if text[-1] in qwen3.target.eos_token_ids:
            break
    assert complete(engine, request_for(qwen3, prompt, sampling=PENALISED), blocks)[0] == text[3:]


def test_the_likeliest_tokens_come_with_each_token_when_asked_for(engine, qwen3):
    request = request_for(qwen3, [4, 9], sampling=SamplingParams(temperature=0.5), num_top_logprobs=3)
    text, decisions = complete(engine, request, random_drafts)
    top = [likeliest for decision in decisions for likeliest in decision.top_logprobs]
    laws = torch.log_softmax(qwen3.logits([4, 9, *text])[1:-1] / 0.5, -1).topk(3)
    assert [[token for token, _ in likeliest] for likeliest in top] == laws.indices.tolist()
    assert np.allclose([[logprob for _, logprob in likeliest] for likeliest in top], laws.values, atol=1e-4)


def test_a_text_that_waits_through_several_steps_is_looked_for_once(qwen3):
    """Two prompts that share one step's budget: the second is in line while the first is read."""
    engine = Engine(qwen3.target, num_pages=64, token_budget=16, num_free_tokens=16.0)
    prompts = [[first] * 80 for first in (1, 2)]
    engine.start()
    try:
        sessions = [engine.open(request_for(qwen3, prompt, max_tokens=1)) for prompt in prompts]
        for answer in [engine.submit(session, 0, empty_block(80)) for session in sessions]:
            answer.result(timeout=60)
    finally:
        engine.stop()
    assert engine.tally.num_looked_up == 160
