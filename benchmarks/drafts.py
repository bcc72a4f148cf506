"""Drafted paths to try rules on: the demo pair's along its target's own texts, and a synthetic pair's.

Knows models and how blocks become paths; knows nothing of rules. Every rule is tried on the same drafts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch

from benchmarks.prompts import PROMPTS
from cactus_core.block import Block
from cactus_core.coins import Floats, SeededCoins, Site
from cactus_core.demo_pair import demo_model
from cactus_core.lattice import LatticeLaws, quantise
from cactus_core.paths import DraftedPaths
from cactus_core.sampling import SamplingParams
from cloud.blocks import drafted_paths
from cloud.laws import TargetLaws
from cloud.pages import PageTable, commit_paths
from cloud.segment import Segment, chain
from cloud.target import TargetModel
from cloud.tree import DraftTree
from edge.drafting.onnx_drafter import OnnxDrafter

_NUM_PAGES = 400
_TEXT_TOKENS = 104  # each text goes on from its prompt for so long
_SYNTHETIC_VOCABULARY = 200


@dataclass(frozen=True, slots=True)
class Contexts:
    """Places in texts that the target wrote at `temperature`: what a round starts from."""

    temperature: float
    texts: tuple[tuple[int, ...], ...]
    bases: tuple[tuple[int, ...], ...]

    @property
    def num_contexts(self) -> int:
        return sum(len(bases) for bases in self.bases)


@cache
def demo_target() -> TargetModel:
    torch.set_num_threads(1)
    return TargetModel.load(demo_model("target"))


@cache
def demo_draft_model() -> TargetModel:
    """The draft as a verifier would run it: trees of it can be grown a depth at a time."""
    return TargetModel.load(demo_model("draft"))


@cache
def demo_drafter(support_size: int, bits: int = 14) -> OnnxDrafter:
    return OnnxDrafter.load(demo_model("draft"), support_size=support_size, bits=bits)


def demo_contexts(temperature: float, num_texts: int, per_text: int, *, first_text: int = 0) -> Contexts:
    """`per_text` places, evenly spaced, in each of `num_texts` texts, from the `first_text`-th on; no text is alike."""
    target = demo_target()
    numbers = range(first_text, first_text + num_texts)
    prompts = [target.tokenizer(PROMPTS[number % len(PROMPTS)]).input_ids for number in numbers]
    texts = _written(target, prompts, SamplingParams(temperature), numbers)
    bases = [
        tuple(np.linspace(len(prompt) + 2, len(text) - 1, per_text).astype(int).tolist())
        for prompt, text in zip(prompts, texts, strict=True)
    ]
    return Contexts(temperature, tuple(map(tuple, texts)), tuple(bases))


def _written(target: TargetModel, prompts: list[list[int]], params: SamplingParams, seeds: range) -> list[list[int]]:
    """Each prompt and what the target writes after it, all at once, a token a step."""
    pool = target.new_pool(_NUM_PAGES)
    tables = [PageTable(pool) for _ in prompts]
    texts, unread = [list(prompt) for prompt in prompts], prompts
    for step in range(_TEXT_TOKENS):
        logits = target.forward([chain(table, new, num_logits=1) for table, new in zip(tables, unread, strict=True)])
        commit_paths(pool, [(table, [*range(len(new))]) for table, new in zip(tables, unread, strict=True)])
        coins = SeededCoins(np.array(seeds), np.full(len(texts), step))
        drawn = TargetLaws(logits, [params] * len(texts)).draw(np.arange(len(texts)), coins.uniform(Site.OFF_SUPPORT, 0))
        unread = [[int(token)] for token in drawn]
        for text, (token,) in zip(texts, unread, strict=True):
            text.append(token)
    return texts


def demo_blocks(contexts: Contexts, num_rows: int, length: int, support_size: int) -> Iterator[tuple[Block, DraftedPaths]]:
    """A block of the demo draft at each context, and the paths to decide on (of one session)."""
    target, drafter, params = demo_target(), demo_drafter(support_size), SamplingParams(contexts.temperature)
    pool = target.new_pool(_NUM_PAGES)
    for number, (text, bases) in enumerate(zip(contexts.texts, contexts.bases, strict=True)):
        table = PageTable(pool)
        for base in bases:
            block = drafter.draft(text[:base], num_rows=num_rows, length=length, params=params, seed=number)
            tree = DraftTree.of(block)
            yield block, _paths(target, table, text[:base], block, tree, params)
        table.release()


def _paths(
    target: TargetModel, table: PageTable, text: tuple[int, ...], block: Block, tree: DraftTree, params: SamplingParams
) -> DraftedPaths:
    unread = np.array(text[table.num_committed :])
    tokens = np.concatenate([unread, tree.tokens])
    parents = np.concatenate([np.arange(-1, len(unread) - 1), tree.parents + len(unread)])
    logits = target.forward([Segment(table, tokens, parents, num_logits=1 + len(tree.tokens))])
    commit_paths(table.pool, [(table, [*range(len(unread))])])
    laws = TargetLaws(logits, [params] * len(logits))
    return drafted_paths(laws, [block], [tree], np.zeros(1, dtype=np.int64))


def stacked(sessions: list[DraftedPaths]) -> DraftedPaths:
    """Many sessions in one, padded to the widest."""
    num_laws, size = (max(paths.draft_probs.shape[axis] for paths in sessions) for axis in (1, 2))
    draft, target = np.zeros((2, len(sessions), num_laws, size))
    off = np.zeros((len(sessions), num_laws))
    for b, paths in enumerate(sessions):
        n, s = paths.draft_probs.shape[1:]
        draft[b, :n, :s], target[b, :n, :s], off[b, :n] = paths.draft_probs[0], paths.target_probs[0], paths.target_off[0]
    joined = (np.concatenate([getattr(paths, name) for paths in sessions]) for name in ("proposed", "law_of", "num_rows", "lengths"))
    proposed, law_of, num_rows, lengths = joined
    return DraftedPaths(proposed, law_of, draft, target, off, num_rows, lengths)


def first_rows(paths: DraftedPaths, num_rows: int) -> DraftedPaths:
    """The same drafts with fewer paths: the first ones."""
    proposed, law_of = paths.proposed[:, :num_rows], paths.law_of[:, :num_rows]
    return replace(paths, proposed=proposed, law_of=law_of, num_rows=np.minimum(paths.num_rows, num_rows))


def synthetic_paths(num_sessions: int, num_rows: int, length: int, rng: np.random.Generator, noise: float = 0.9) -> DraftedPaths:
    """A pair without a model: at each prefix a target law of random logits, and the draft's logits beside it, `noise` away."""
    return stacked([_synthetic(num_rows, length, rng, noise) for _ in range(num_sessions)])


def _synthetic(num_rows: int, length: int, rng: np.random.Generator, noise: float) -> DraftedPaths:
    law_of, tokens = np.zeros((2, num_rows, length), dtype=np.int64)
    known: dict[tuple[int, ...], int] = {}
    drafts: list[LatticeLaws] = []
    targets = []
    for depth in range(length):
        for row in range(num_rows):
            prefix = tuple(tokens[row, :depth].tolist())
            if prefix not in known:
                known[prefix] = len(drafts)
                logits = 2.0 * rng.standard_normal(_SYNTHETIC_VOCABULARY)
                drafts.append(
                    quantise(softmax(logits + noise * rng.standard_normal(_SYNTHETIC_VOCABULARY))[None], _SYNTHETIC_VOCABULARY, 16)
                )
                targets.append(softmax(logits))
            law_of[row, depth] = known[prefix]
            tokens[row, depth] = rng.choice(len(drafts[known[prefix]].ids[0]), p=drafts[known[prefix]].probs[0])
    size = max(law.ids.shape[1] for law in drafts)
    draft, target = np.zeros((2, 1, len(drafts), size))
    for n, (law, whole) in enumerate(zip(drafts, targets, strict=True)):
        draft[0, n, : law.ids.shape[1]], target[0, n, : law.ids.shape[1]] = law.probs[0], whole[law.ids[0]]
    target[draft == 0] = 0.0
    one = np.array([1])
    return DraftedPaths(tokens[None], law_of[None], draft, target, np.maximum(1.0 - target.sum(-1), 0.0), one * num_rows, one * length)


def softmax(logits: Floats) -> Floats:
    weights = np.exp(logits - logits.max())
    return np.asarray(weights / weights.sum())
