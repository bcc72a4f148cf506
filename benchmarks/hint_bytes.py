"""Claim: a drafted token costs at most 8 bytes up in coupled trees of 16 nodes and more, and at most 60 in blocks of paths at temperature
0.7 with laws that keep 0.95 of the dense overlap; padding frames to few sizes costs what it is measured to cost.

Bytes are counted at the socket, framing included, over a link that is emulated and perfect; what a stream takes without any drafts is not
taken off. A block's paths share their beginnings, and a shared law is sent once. The overlap is the mean of sum min(p, q) at the places of
texts that the target wrote, p being the lattice law that is sent or, dense, the draft's whole law.
Refuted by: an `up_bytes_per_drafted_token` above 8 or 60; a `share_of_dense_overlap` below 0.95 at the same support.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.drafters import demo_drafter
from benchmarks.drafts import demo_contexts, demo_draft_model, demo_target
from benchmarks.link_process import RemoteLink
from benchmarks.link_systems import Question, ThroughClient
from cactus_core.acceptance import Acceptance
from cactus_core.coins import Floats
from cactus_core.demo_pair import demo_model
from cactus_core.sampling import SamplingParams
from cloud.laws import TargetLaws
from cloud.pages import PageTable
from cloud.segment import chain
from cloud.target import TargetModel
from cluster.figures import Case, Figures
from edge.drafting.onnx_drafter import OnnxDrafter
from edge.link import Endpoint
from edge.tuning.plan import DEEPEST, FOR_EACH, RowsPlan, TreePlan

_TREES = (16, 24, 48)
_SUPPORTS = (32, 64, 128)
_TEMPERATURE = 0.7
_NUM_PAGES = 64


def num_units(*, quick: bool) -> int:
    return len(_trees(quick=quick)) + len(_supports(quick=quick))


def _trees(*, quick: bool) -> tuple[tuple[int, bool], ...]:
    """Nodes, and whether frames are padded."""
    return ((24, False),) if quick else tuple((num_nodes, padded) for padded in (False, True) for num_nodes in _TREES)


def _supports(*, quick: bool) -> tuple[int, ...]:
    return _SUPPORTS[:1] if quick else _SUPPORTS


async def measure(figures: Figures, link: RemoteLink, *, quick: bool, advance: Callable[[], None]) -> None:
    link.set_profile("perfect")
    num_texts = 1 if quick else 4
    for num_nodes, padded in _trees(quick=quick):
        tree = TreePlan(num_nodes, DEEPEST, FOR_EACH)
        case: Case = {"family": "coupled", "nodes": num_nodes, "padded": padded, "temperature": 1.0, "pair": "demo"}
        await _count(figures, link, case, ThroughClient(demo_drafter(), tree=tree), num_texts, 1.0, padded=padded)
        advance()
    for support_size in _supports(quick=quick):
        drafter = OnnxDrafter.load(demo_model("draft"), support_size=support_size)
        case = {"family": "rows", "S": support_size, "K": 4, "L": 6, "padded": False, "temperature": _TEMPERATURE, "pair": "demo"}
        system = ThroughClient(drafter, rows=RowsPlan(4, 6), acceptance=Acceptance())
        await _count(figures, link, case, system, num_texts, _TEMPERATURE, padded=False)
        sent, dense = _overlaps(drafter, 2 if quick else 10)
        figures.add(case, "overlap", sent, "probability")
        figures.add(case, "share_of_dense_overlap", sent / dense, "share")
        advance()


async def _count(
    figures: Figures, link: RemoteLink, case: Case, system: ThroughClient, num_texts: int, temperature: float, *, padded: bool
) -> None:
    async with Endpoint(link.address, padded=padded) as endpoint:
        await endpoint.describe()
        link.traffic()
        samples = [await system.sample(endpoint, Question(number, 96, temperature)) for number in range(num_texts)]
        traffic = link.traffic()
    num_drafted, num_tokens = sum(sample.num_drafted for sample in samples), sum(sample.num_tokens for sample in samples)
    figures.add(case, "up_bytes_per_drafted_token", traffic.up_bytes / num_drafted, "bytes")
    figures.add(case, "up_bytes_per_token", traffic.up_bytes / num_tokens, "bytes")
    figures.add(case, "down_bytes_per_token", traffic.down_bytes / num_tokens, "bytes")
    figures.add(case, "tokens_per_round", num_tokens / sum(sample.num_rounds for sample in samples), "tokens")


def _overlaps(drafter: OnnxDrafter, num_texts: int) -> tuple[float, float]:
    """Between the target's law and the law that is sent, and between the target's and the draft's whole law, at places of its texts."""
    contexts = demo_contexts(_TEMPERATURE, num_texts, 12)
    params = SamplingParams(_TEMPERATURE)
    sent, dense = [], []
    for number, (text, bases) in enumerate(zip(contexts.texts, contexts.bases, strict=True)):
        own, target = (_laws(model, text, params) for model in (demo_draft_model(), demo_target()))
        for base in bases:
            laws = drafter.draft(text[:base], num_rows=1, length=1, params=params, seed=number).laws
            sent.append(float(np.minimum(laws.probs[0], target[base - 1, laws.ids[0]]).sum()))
            dense.append(float(np.minimum(own[base - 1], target[base - 1]).sum()))
    return float(np.mean(sent)), float(np.mean(dense))


def _laws(model: TargetModel, text: Sequence[int], params: SamplingParams) -> Floats:
    """The model's laws `[len(text), V]` after each token of the text."""
    table = PageTable(model.new_pool(_NUM_PAGES))
    laws = TargetLaws(model.forward([chain(table, list(text))]), [params] * len(text))
    return np.asarray(laws.at(np.arange(len(text)), np.tile(np.arange(laws.vocab_size), (len(text), 1))).numpy())
