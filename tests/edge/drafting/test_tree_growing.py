"""Trees are what the contract of `Drafter` says, whatever was drafted before.

Real ONNX Runtime; transformers, a path at a time, is the judge.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cactus_core.coupled import CoupledTree
from cactus_core.errors import InvalidInput, LimitExceeded
from cactus_core.growing import TreeGrower
from cactus_core.gumbel import gumbel
from cactus_core.penalties import Penalties
from cactus_core.sampling import SamplingParams, probabilities
from edge.drafting import onnx_rows
from edge.drafting.onnx_drafter import OnnxDrafter
from tests.edge.conftest import MAX_POSITIONS, VOCAB_SIZE, Pair

PARAMS = SamplingParams(temperature=0.8)
TEXT = np.random.default_rng(5).integers(0, VOCAB_SIZE, 30)
Array = np.ndarray[Any, Any]


@pytest.fixture
def drafter(pair: Pair) -> OnnxDrafter:
    return OnnxDrafter.load(pair.exported)


@dataclass
class Runs:
    """The ids `[B, S]` of each run of the graph, and where each row began; the run of number `interrupt_after` fails at its end."""

    ids: list[Array] = field(default_factory=list)
    starts: list[Array] = field(default_factory=list)
    interrupt_after: int = -1

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        return [ids.shape for ids in self.ids]


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    seen, run = Runs(), onnx_rows._View.run

    def watched(view: Any, session: Any, ids: Array, start: int | Array) -> Any:
        seen.ids.append(ids.copy())
        seen.starts.append(np.broadcast_to(start, len(ids)).copy())
        logits = run(view, session, ids, start)
        if len(seen.ids) == seen.interrupt_after:
            raise KeyboardInterrupt
        return logits

    monkeypatch.setattr(onnx_rows._View, "run", watched)
    return seen


def path_to(tokens: Array, parents: Array, node: int) -> list[int]:
    path: list[int] = []
    while node >= 0:
        path.insert(0, int(tokens[node]))
        node = int(parents[node])
    return path


def reference(
    pair: Pair, text: Array, *, num_nodes: int, max_depth: int, params: SamplingParams, seed: int, num_prompt: int = 0
) -> CoupledTree:
    """A node at a time, each path through transformers from its first token on, every token of the vocabulary a candidate."""
    is_greedy = params.temperature == 0.0
    grower = TreeGrower(
        len(text),
        num_nodes=num_nodes,
        max_depth=max_depth,
        noise=None if is_greedy else partial(gumbel, seed),
        sharpness=1.6 * (params.temperature or 1.0),
    )
    law = SamplingParams() if is_greedy else params
    while (frontier := grower.frontier(1)).size:
        path = path_to(grower.tokens, grower.parents, int(frontier[0]))
        with torch.no_grad():
            logits = pair.model(torch.tensor([[*text, *path]])).logits[:, -1].numpy()
        edits = Penalties(params, text, num_prompt).after(np.array([path], dtype=np.int64).reshape(1, -1))
        probs = probabilities(edits.edited(logits), law)
        grower.expand(frontier, np.arange(VOCAB_SIZE)[None], with_what_followed(probs, text, path) if is_greedy else probs)
    return grower.finish()


def with_what_followed(probs: Array, text: Array, path: list[int]) -> Array:
    end = [*text.tolist(), *path]
    for n in (5, 4, 3, 2):
        followed = [text[i] for i in range(n, len(text)) if text[i - n : i].tolist() == end[-n:]]
        if followed:
            weight = 0.3 * len(followed) / (len(followed) + 1)
            seen = np.bincount(followed, minlength=VOCAB_SIZE) / len(followed)
            return (1 - weight) * probs + weight * seen
    return probs


def same(one: CoupledTree, other: CoupledTree) -> bool:
    return one.base == other.base and np.array_equal(one.tokens, other.tokens) and np.array_equal(one.parents, other.parents)


@pytest.mark.parametrize("sizes", [(1, 1), (1, 5), (5, 1), (12, 3), (40, 9)])
def test_a_tree_is_that_of_runs_one_by_one(pair: Pair, drafter: OnnxDrafter, sizes: tuple[int, int]) -> None:
    tree = drafter.draft_tree(TEXT.tolist(), num_nodes=sizes[0], max_depth=sizes[1], params=PARAMS, seed=4)
    assert len(tree.tokens) == sizes[0]
    assert same(tree, reference(pair, TEXT, num_nodes=sizes[0], max_depth=sizes[1], params=PARAMS, seed=4))


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(0.0),
        SamplingParams(0.0, top_k=1, top_p=0.1, min_p=0.9, repetition_penalty=1.3, logit_bias=((3, 6.0),)),
        SamplingParams(1.2, top_k=3),
        SamplingParams(1.1, top_p=0.7),
        SamplingParams(1.1, min_p=0.1, top_k=40),
        SamplingParams(0.9, presence_penalty=1.5, frequency_penalty=-0.7, repetition_penalty=1.4),
        SamplingParams(repetition_penalty=0.7, logit_bias=((3, 4.0), (40, -100.0), (VOCAB_SIZE + 3, 50.0))),
    ],
)
def test_the_laws_of_a_tree_are_shaped_as_the_request_says(pair: Pair, drafter: OnnxDrafter, params: SamplingParams) -> None:
    ask: dict[str, Any] = {"num_nodes": 24, "max_depth": 6, "seed": 4}
    tree = drafter.draft_tree(TEXT, **ask, params=params, num_prompt=11)
    assert same(tree, reference(pair, TEXT, **ask, params=params, num_prompt=11))
    plain = reference(pair, TEXT, **ask, params=SamplingParams(params.temperature))
    assert same(tree, plain) == (params == SamplingParams(0.0))


def test_a_greedy_tree_begins_with_the_likeliest_tokens_and_is_no_chain(drafter: OnnxDrafter) -> None:
    greedy = SamplingParams(0.0)
    tree = drafter.draft_tree(TEXT, num_nodes=16, max_depth=8, params=greedy, seed=1)
    assert tree.tokens[0] == drafter.draft(TEXT, num_rows=1, length=1, params=greedy, seed=1).tokens[0, 0]
    assert (np.bincount(tree.parents + 1) > 1).any()
    assert same(tree, drafter.draft_tree(TEXT, num_nodes=16, max_depth=8, params=greedy, seed=2))  # no noise, so no seed


def test_a_greedy_tree_remembers_what_the_text_repeats(pair: Pair, drafter: OnnxDrafter) -> None:
    text = np.concatenate([TEXT[:9]] * 3 + [TEXT[:3]])
    ask: dict[str, Any] = {"num_nodes": 24, "max_depth": 6, "seed": 1}
    tree = drafter.draft_tree(text, **ask, params=SamplingParams(0.0))
    assert same(tree, reference(pair, text, **ask, params=SamplingParams(0.0)))
    assert path_to(tree.tokens, tree.parents, 0) == [TEXT[3]]


def test_a_law_wider_than_the_candidates_keeps_its_likeliest(pair: Pair, drafter: OnnxDrafter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.drafting.tree_growing._WHOLE", 5)
    monkeypatch.setattr("edge.drafting.tree_growing._SUPPORT", 5)
    tree = drafter.draft_tree(TEXT, num_nodes=12, max_depth=4, params=SamplingParams(0.0), seed=1)
    root = tree.tokens[tree.parents < 0]
    with torch.no_grad():
        logits = pair.model(torch.from_numpy(TEXT)[None]).logits[0, -1].numpy()
    assert set(root.tolist()) <= set(np.argsort(-logits)[:5].tolist())


def test_nodes_of_several_depths_run_together(drafter: OnnxDrafter, runs: Runs) -> None:
    drafter.draft_tree(TEXT, num_nodes=40, max_depth=9, params=PARAMS, seed=4)
    assert runs.shapes[0] == (1, 30)
    assert any(len(np.unique(start)) > 1 for start in runs.starts)
    assert len(runs.shapes) < 20  # 41 nodes or more, a batch at a time


def test_the_same_call_twice_gives_the_same_tree_and_runs_nothing(drafter: OnnxDrafter, runs: Runs) -> None:
    drafter.draft_tree(TEXT[:20], num_nodes=12, max_depth=5, params=PARAMS, seed=8)
    first = drafter.draft_tree(TEXT, num_nodes=20, max_depth=6, params=PARAMS, seed=9)
    before = len(runs.ids)
    second = drafter.draft_tree(TEXT, num_nodes=20, max_depth=6, params=PARAMS, seed=9)
    assert same(first, second)
    assert len(runs.ids) == before


def deepest(tree: CoupledTree) -> list[int]:
    return path_to(tree.tokens, tree.parents, int(np.argmax(tree.depths)))


def test_what_was_run_in_the_tree_is_not_run_again_once_it_is_text(pair: Pair, drafter: OnnxDrafter, runs: Runs) -> None:
    tree = drafter.draft_tree(TEXT, num_nodes=24, max_depth=6, params=PARAMS, seed=4)
    accepted = deepest(tree)[:3]
    assert len(accepted) == 3
    text = np.array([*TEXT, *accepted, 1])  # three stand, one is the target's own
    before = len(runs.ids)
    after = drafter.draft_tree(text, num_nodes=24, max_depth=6, params=PARAMS, seed=4)
    np.testing.assert_array_equal(runs.ids[before], [[1]])
    assert runs.starts[before] == [33]
    assert same(after, reference(pair, text, num_nodes=24, max_depth=6, params=PARAMS, seed=4))


@settings(max_examples=15)
@given(st.data())
def test_no_history_of_texts_trees_and_blocks_changes_a_tree(pair: Pair, data: st.DataObject) -> None:
    drafter, text = OnnxDrafter.load(pair.exported), TEXT[:5]
    for _ in range(data.draw(st.integers(2, 5), label="calls")):
        if data.draw(st.integers(0, 3)) == 0:
            drafter.draft(text, num_rows=data.draw(st.integers(1, 10)), length=3, params=PARAMS, seed=1)
        ask: dict[str, Any] = {"num_nodes": data.draw(st.integers(1, 20)), "max_depth": data.draw(st.integers(1, 6)), "seed": 3}
        tree = drafter.draft_tree(text, **ask, params=PARAMS)
        assert same(tree, reference(pair, text, **ask, params=PARAMS))
        if data.draw(st.booleans(), label="thinks ahead"):
            drafter.think_ahead(data.draw(st.integers(0, 60), label="ahead"), lambda: False)
        followed = deepest(tree)[: data.draw(st.integers(0, 6), label="followed")]
        kept = text[: data.draw(st.integers(1, len(text)), label="kept")] if data.draw(st.booleans()) else text
        new = data.draw(st.lists(st.integers(0, VOCAB_SIZE - 1), max_size=3), label="new")
        text = np.concatenate([kept, np.array([*followed, *new], dtype=np.int64)])


PENALISED = SamplingParams(0.9, presence_penalty=1.5, frequency_penalty=-0.7, repetition_penalty=1.4, logit_bias=((3, 2.0),))


def ways_out(pair: Pair, tree: CoupledTree, num_ways: int, **ask: Any) -> list[list[int]]:
    """The likeliest paths that leave `tree` by their last token."""
    wide = reference(pair, TEXT, **{**ask, "num_nodes": ask["num_nodes"] + num_ways})
    paths = [path_to(wide.tokens, wide.parents, node) for node in range(len(wide.tokens))]
    inside = [[], *paths[: len(tree.tokens)]]
    return [path for path in paths[len(tree.tokens) :] if path[:-1] in inside]


@pytest.mark.parametrize("params", [PARAMS, SamplingParams(0.0), PENALISED, SamplingParams(1.1, top_p=0.7)], ids=repr)
def test_a_tree_that_was_thought_of_is_that_of_runs_one_by_one_and_runs_nothing(
    pair: Pair, drafter: OnnxDrafter, runs: Runs, params: SamplingParams
) -> None:
    ask: dict[str, Any] = {"num_nodes": 12, "max_depth": 5, "params": params, "seed": 4, "num_prompt": 11}
    for number in range(3):
        tree = drafter.draft_tree(TEXT, **ask)
        drafter.think_ahead(400, lambda: False)
        before = len(runs.ids)
        text = np.array([*TEXT, *ways_out(pair, tree, 12, **ask)[number]])
        after = drafter.draft_tree(text, **ask)
        assert len(runs.ids) == before
        assert same(after, reference(pair, text, **ask))


def test_a_tree_of_the_text_a_token_on_runs_only_what_the_last_one_did_not(pair: Pair, drafter: OnnxDrafter, runs: Runs) -> None:
    ask: dict[str, Any] = {"num_nodes": 24, "max_depth": 6, "params": PARAMS, "seed": 4}
    tree = drafter.draft_tree(TEXT, **ask)
    text, before = np.array([*TEXT, tree.tokens[0]]), len(runs.ids)
    after = drafter.draft_tree(text, **ask)
    assert same(after, reference(pair, text, **ask))
    num_known = sum(path_to(tree.tokens, tree.parents, node)[0] == tree.tokens[0] for node in range(24))
    assert sum(len(ids) for ids in runs.ids[before:]) <= 24 + 4 - num_known


def test_thinking_ahead_takes_no_more_than_it_may_and_ends_when_it_should(drafter: OnnxDrafter, runs: Runs) -> None:
    drafter.think_ahead(50, lambda: False)  # of nothing
    assert not runs.ids
    drafter.draft_tree(TEXT, num_nodes=12, max_depth=5, params=PARAMS, seed=4)
    before = len(runs.ids)
    drafter.think_ahead(20, lambda: False)
    assert 20 <= sum(len(ids) for ids in runs.ids[before:]) < 20 + 8
    before = len(runs.ids)
    drafter.think_ahead(400, lambda: len(runs.ids) >= before + 2)
    assert len(runs.ids) == before + 2


def test_what_takes_no_run_is_done_ahead(drafter: OnnxDrafter, runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    ask: dict[str, Any] = {"num_nodes": 12, "max_depth": 5, "params": PARAMS, "seed": 4}
    tree, made = drafter.draft_tree(TEXT, **ask), []
    before = len(runs.ids)
    drafter.think_ahead(0, lambda: False)
    assert len(runs.ids) == before
    monkeypatch.setattr("edge.drafting.known_noise.gumbel", lambda *place: made.append(place) or gumbel(*place))
    drafter.draft_tree([*TEXT, *deepest(tree), 7], **ask)
    assert not made
    drafter.think_ahead(0, lambda: True)
    assert not made


def test_a_tree_that_is_waited_for_is_as_large_and_takes_fewer_runs(drafter: OnnxDrafter, runs: Runs) -> None:
    ask: dict[str, Any] = {"num_nodes": 48, "max_depth": 9, "params": PARAMS, "seed": 4}
    drafter.draft_tree(TEXT[:20], **ask)
    num_runs = []
    for s_per_token in (1e-9, math.inf):
        before = len(runs.ids)
        tree = drafter.draft_tree(TEXT, **ask, s_per_token=s_per_token)
        num_runs.append(len(runs.ids) - before)
        drafter.draft_tree(TEXT[:20], **ask)
        assert len(tree.tokens) == 48
    assert num_runs[0] < num_runs[1]


def test_a_block_between_two_trees_changes_neither(pair: Pair, drafter: OnnxDrafter) -> None:
    ask: dict[str, Any] = {"num_nodes": 12, "max_depth": 5, "params": PARAMS, "seed": 4}
    tree = drafter.draft_tree(TEXT, **ask)
    drafter.draft(TEXT[::-1], num_rows=8, length=3, params=PARAMS, seed=1)
    drafter.think_ahead(50, lambda: False)
    assert same(drafter.draft_tree(TEXT, **ask), tree)


@pytest.mark.parametrize("change", [{"seed": 5}, {"params": SamplingParams(0.7)}, {"num_prompt": 3}, {"num_nodes": 200}], ids=repr)
def test_another_request_for_the_same_text_starts_afresh(pair: Pair, drafter: OnnxDrafter, change: dict[str, Any]) -> None:
    ask: dict[str, Any] = {"num_nodes": 12, "max_depth": 3, "params": PENALISED, "seed": 4, "num_prompt": 11}
    drafter.draft_tree(TEXT, **ask)
    drafter.think_ahead(50, lambda: False)
    assert same(drafter.draft_tree(TEXT, **{**ask, **change}), reference(pair, TEXT, **{**ask, **change}))


def test_thinking_ahead_ends_with_the_window(pair: Pair, drafter: OnnxDrafter) -> None:
    text = np.random.default_rng(1).integers(0, VOCAB_SIZE, MAX_POSITIONS - 4)
    ask: dict[str, Any] = {"num_nodes": 12, "params": SamplingParams(0.3), "seed": 1}
    tree = drafter.draft_tree(text, max_depth=4, **ask)
    drafter.think_ahead(400, lambda: False)
    text = np.array([*text, tree.tokens[0]])
    assert same(drafter.draft_tree(text, max_depth=3, **ask), reference(pair, text, max_depth=3, **ask))


def test_an_interrupted_thought_leaves_no_false_cache(pair: Pair, drafter: OnnxDrafter, runs: Runs) -> None:
    ask: dict[str, Any] = {"num_nodes": 20, "max_depth": 5, "params": PARAMS, "seed": 1}
    tree = drafter.draft_tree(TEXT, **ask)
    runs.interrupt_after = len(runs.ids) + 2
    with pytest.raises(KeyboardInterrupt):
        drafter.think_ahead(100, lambda: False)
    for text in (np.array([*TEXT, *deepest(tree)]), TEXT):
        assert same(drafter.draft_tree(text, **ask), reference(pair, text, **ask))


@pytest.mark.parametrize("interrupted_run", [1, 3], ids=["catching up", "growing"])
def test_an_interrupted_call_leaves_no_false_cache(pair: Pair, drafter: OnnxDrafter, runs: Runs, interrupted_run: int) -> None:
    ask: dict[str, Any] = {"num_nodes": 20, "max_depth": 5, "params": PARAMS, "seed": 1}
    tree = drafter.draft_tree(TEXT, **ask)
    text = np.array([*TEXT, *deepest(tree)])
    runs.interrupt_after = len(runs.ids) + interrupted_run
    with pytest.raises(KeyboardInterrupt):
        drafter.draft_tree(text[:33], **ask)
    for asked in (text, text[:33], TEXT):
        assert same(drafter.draft_tree(asked, **ask), reference(pair, asked, **ask))


def test_an_earlier_tree_and_the_text_stay_as_they_were(drafter: OnnxDrafter) -> None:
    text = TEXT.copy()
    tree = drafter.draft_tree(text, num_nodes=9, max_depth=4, params=PARAMS, seed=1)
    before = replace(tree, tokens=tree.tokens.copy(), parents=tree.parents.copy())
    drafter.draft_tree(text[:9], num_nodes=9, max_depth=4, params=PARAMS, seed=2)
    np.testing.assert_array_equal(text, TEXT)
    assert same(tree, before)


def test_other_seeds_grow_other_trees(drafter: OnnxDrafter) -> None:
    one, other = (drafter.draft_tree(TEXT, num_nodes=9, max_depth=4, params=PARAMS, seed=seed) for seed in (1, 2**64 - 1))
    assert not same(one, other)


def test_no_nodes_or_no_depth_is_the_empty_tree(drafter: OnnxDrafter, runs: Runs) -> None:
    for num_nodes, max_depth in ((0, 4), (4, 0)):
        tree = drafter.draft_tree(TEXT, num_nodes=num_nodes, max_depth=max_depth, params=PARAMS, seed=1)
        assert (tree.base, len(tree.tokens)) == (30, 0)
    assert not runs.ids


def test_fewer_tokens_than_nodes_are_all_drafted(drafter: OnnxDrafter) -> None:
    tree = drafter.draft_tree(TEXT, num_nodes=2 * VOCAB_SIZE, max_depth=1, params=SamplingParams(top_k=7), seed=1)
    assert len(tree.tokens) == 7


def test_the_window_can_be_filled_but_not_exceeded(pair: Pair, drafter: OnnxDrafter) -> None:
    text = np.random.default_rng(1).integers(0, VOCAB_SIZE, MAX_POSITIONS - 4)
    ask: dict[str, Any] = {"num_nodes": 12, "params": SamplingParams(0.3), "seed": 1}
    tree = drafter.draft_tree(text, max_depth=4, **ask)
    assert tree.depths.max() == 4
    assert same(tree, reference(pair, text, max_depth=4, **ask))
    with pytest.raises(LimitExceeded, match="380 tokens and 5 drafted ones exceed the draft's 384 positions"):
        drafter.draft_tree(text, max_depth=5, **ask)


@pytest.mark.parametrize(
    ("text", "num_nodes", "max_depth", "message"),
    [
        ([], 1, 1, "at least one token"),
        ([VOCAB_SIZE], 1, 1, "outside the draft's vocabulary"),
        ([1], -1, 1, "-1 rows or nodes"),
        ([1], 1, -1, "-1 tokens deep"),
    ],
)
def test_what_cannot_be_drafted_is_refused(drafter: OnnxDrafter, text: list[int], num_nodes: int, max_depth: int, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        drafter.draft_tree(text, num_nodes=num_nodes, max_depth=max_depth, params=PARAMS, seed=1)
