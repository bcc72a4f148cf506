"""What a client's large work may do to others, over a real model: they are told first, and need not wait for it."""

import time

import numpy as np

from cactus_core.sampling import SamplingParams
from cloud.decide import decide_all
from cloud.engine import Engine
from tests.cloud.test_engine import plain, request_for
from tests.core.drafts import random_block


def test_whoever_decodes_is_told_before_a_block_that_took_several_steps_is_decided(qwen3, monkeypatch):
    happened = []

    def noted(logits, ballots):
        happened.append([len(ballot.tree.tokens) for ballot in ballots])
        return decide_all(logits, ballots)

    monkeypatch.setattr("cloud.step.decide_all", noted)
    engine = Engine(qwen3.target, num_pages=64, token_budget=48, num_free_tokens=16.0)
    engine.start()
    try:
        small = engine.open(request_for(qwen3, [4, 1, 7], 120))
        large = engine.open(request_for(qwen3, [4, 1, 7], 100))
        drafts = random_block(2, num_rows=10, length=8, vocab_size=61, support_size=20, base=3)
        end = engine.stream(small, lambda _: happened.append("told"))
        engine.submit(large, 0, drafts).result(timeout=60)
        end.result(timeout=60)
    finally:
        engine.stop()
    [decided] = [place for place, of in enumerate(happened) if of != "told" and max(of) > 48]
    assert len(happened[decided]) == 1
    assert happened[decided - 2 : decided] == [[0], "told"]


def test_a_large_block_makes_way_for_whoever_is_about_to_come_back(qwen3):
    engine = Engine(qwen3.target, num_pages=64, token_budget=48, num_free_tokens=16.0, step_at_least_s=0.05)
    engine.start()
    try:
        endless = SamplingParams(logit_bias=tuple((token, -100.0) for token in qwen3.target.eos_token_ids))
        small, large = (engine.open(request_for(qwen3, [4, 1, 7], 200, sampling=endless)) for _ in range(2))
        drafts = random_block(2, num_rows=10, length=8, vocab_size=61, support_size=20, base=3)
        engine.submit(small, 0, plain(small.text)).result(timeout=60)
        answer, waits = engine.submit(large, 0, drafts), []
        for number in range(1, 8):
            time.sleep(0.01)  # as long each time, so that it is expected
            waits.append(engine.submit(small, number, plain(small.text)).result(timeout=60).queue_s)
        assert answer.result(timeout=60).num_emitted >= 1
    finally:
        engine.stop()
    # Without that each would find a step of fifty milliseconds begun.
    assert np.median(waits[2:]) < 0.03
