"""One engine for many: work in parts, pages that change hands, prompts in common, and nothing left behind."""

import gc
import threading
from pathlib import Path

import numpy as np
import pytest

from cactus_core.errors import LimitExceeded
from cactus_core.sampling import SamplingParams
from cloud.engine import Engine
from tests.cloud.test_engine import GREEDY, complete, greedy_reference, plain, random_drafts, request_for
from tests.core.drafts import random_block


def started(pair, **options):
    engine = Engine(pair.target, **{"num_pages": 64, "num_free_tokens": 16.0, **options})
    engine.start()
    return engine


def large_drafts(text):
    return random_block(len(text), num_rows=12, length=12, vocab_size=61, support_size=20, base=len(text))


def decoded(engine, session):
    """The tokens that the engine decodes by itself, and the step after which each came."""
    tokens, steps = [], []

    def deliver(decision):
        tokens.append(decision.final)
        steps.append(engine.figures.num_steps)

    return tokens, steps, engine.stream(session, deliver)


def test_a_block_read_in_parts_is_decided_as_one_read_whole(qwen3):
    texts = []
    for budget in (16, 24, 512):
        engine = started(qwen3, token_budget=budget)
        texts.append([complete(engine, request_for(qwen3, [7, seed], seed=seed), large_drafts)[0] for seed in range(4)])
        engine.stop()
    assert texts[0] == texts[1] == texts[2]


def test_the_engine_decodes_what_empty_blocks_would(qwen3):
    engine = started(qwen3)
    for sampling in (GREEDY, SamplingParams(temperature=0.8)):
        request = request_for(qwen3, [3, 4], sampling=sampling)
        session = engine.open(request)
        tokens, _, end = decoded(engine, session)
        assert end.result(timeout=60) is None
        assert tokens == complete(engine, request, plain)[0] == session.text[2:]
        engine.close(session)
    engine.stop()


def test_a_decode_gets_its_token_in_every_step_of_anothers_prompt(qwen3):
    engine = Engine(qwen3.target, num_pages=64, token_budget=64, num_free_tokens=16.0)
    engine._waiting.is_running = True  # both wait before the first step
    reader, writer = engine.open(request_for(qwen3, [2] * 400, max_tokens=1)), engine.open(request_for(qwen3, [3], max_tokens=12))
    read = engine.submit(reader, 0, plain(reader.text))
    _, steps, end = decoded(engine, writer)
    engine.start()
    end.result(timeout=60)
    read.result(timeout=60)
    assert steps == list(range(1, 1 + len(steps)))
    assert engine.figures.num_read == 400 + len(steps)
    engine.stop()


def test_a_prompt_in_common_is_read_once(qwen3):
    engine = started(qwen3)
    prompt = list(range(2, 58)) * 3
    texts, read = [], []
    for _ in range(2):
        before = engine.figures.num_read
        texts.append(complete(engine, request_for(qwen3, prompt, sampling=GREEDY), plain)[0])
        read.append(engine.figures.num_read - before)
    assert texts[0] == texts[1] == greedy_reference(qwen3, prompt, 24)
    assert read[0] - read[1] >= 160  # all whole pages of 168 tokens
    engine.stop()


@pytest.mark.parametrize("blocks", [plain, random_drafts], ids=["alone", "drafted"])
def test_texts_that_do_not_fit_together_are_all_written(qwen3, blocks):
    """Twelve texts of up to 7 pages in a memory of 10: pages change hands all the time."""
    engine = started(qwen3, num_pages=10)
    prompts = [[2 + i] * (30 + 5 * i) for i in range(12)]
    texts = [None] * len(prompts)

    def write(i):
        texts[i] = complete(engine, request_for(qwen3, prompts[i], sampling=GREEDY, max_tokens=20), blocks)[0]

    writers = [threading.Thread(target=write, args=(i,)) for i in range(len(prompts))]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(timeout=120)
    assert texts == [greedy_reference(qwen3, prompt, 20) for prompt in prompts]
    engine.stop()
    assert engine.num_free_pages == 10


def test_an_idle_session_gives_its_pages_and_comes_back(qwen3):
    engine = started(qwen3, num_pages=6)
    idle = engine.open(request_for(qwen3, [5] * 40, sampling=GREEDY))
    first = engine.submit(idle, 0, plain(idle.text)).result(timeout=60)
    assert complete(engine, request_for(qwen3, [6] * 70, sampling=GREEDY), plain)[0] == greedy_reference(qwen3, [6] * 70, 24)
    second = engine.submit(idle, 1, plain(idle.text)).result(timeout=60)
    assert [first.final, second.final] == greedy_reference(qwen3, [5] * 40, 2)
    engine.close(idle)
    engine.stop()


def test_a_request_longer_than_the_memory_is_refused_and_harms_nobody(qwen3):
    engine = started(qwen3, num_pages=4)
    with pytest.raises(LimitExceeded, match="exceed the 64 positions in the verifier's memory"):
        engine.open(request_for(qwen3, [6] * 50))
    assert complete(engine, request_for(qwen3, [6] * 40, sampling=GREEDY), plain)[0] == greedy_reference(qwen3, [6] * 40, 24)
    engine.stop()
    assert engine.num_free_pages == 4


def test_ten_thousand_tokens_of_prompts_at_once_are_all_read(qwen3):
    engine = started(qwen3, num_pages=400, token_budget=256)
    rng = np.random.default_rng(3)
    sessions = [engine.open(request_for(qwen3, rng.integers(2, 60, 400).tolist(), sampling=GREEDY)) for _ in range(25)]
    decisions = [engine.submit(session, 0, plain(session.text)) for session in sessions]
    finals = [decision.result(timeout=120).final for decision in decisions]
    assert finals == [int(qwen3.logits(list(session.request.prompt))[-1].argmax()) for session in sessions]
    for session in sessions:
        engine.close(session)
    engine.stop()
    assert engine.num_free_pages == 400


def resident_kb():
    return next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the process's memory from Linux's /proc")
def test_two_hundred_abandoned_sessions_leave_nothing(qwen3):
    engine = started(qwen3, num_pages=64)

    def abandon(count):
        for i in range(count):
            session = engine.open(request_for(qwen3, [2 + i % 50] * (5 + i % 60)))
            if i % 3 == 0:
                engine.stream(session, lambda decision: None)
            elif i % 3 == 1:
                engine.submit(session, 0, large_drafts(session.text))
            engine.close(session)
        complete(engine, request_for(qwen3, [5], max_tokens=2), plain)
        gc.collect()

    # Kernels are made for each size of step that comes for the first time, and chance decides which do: in the end none is new.
    grown_kb = []
    while not grown_kb or (grown_kb[-1] >= 4096 and len(grown_kb) < 6):
        before = resident_kb()
        abandon(200)
        assert engine.num_free_pages == 64
        grown_kb.append(resident_kb() - before)
    assert grown_kb[-1] < 4096, grown_kb
    engine.stop()
    assert not engine._waiting.turns
    assert not engine._waiting.streams
    assert not engine._residency._sessions
