"""Checks of a draft beside an endpoint: do their vocabularies agree, how fast is it here, how far would it come true, is it worth it.

Knows a draft, an endpoint and the planner; knows nothing of how either is run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from statistics import median

from cactus_core.acceptance import Acceptance
from cactus_core.errors import CactusError
from cactus_core.rules import COUPLED
from cactus_core.sampling import SamplingParams
from cluster.doctor.endpoint import Reached
from cluster.doctor.finding import Finding, bad, good, note
from cluster.link_profile import LinkProfile
from cluster.planning.acceptance_curve import AcceptanceCurve
from cluster.planning.configuration import OFF, Setting, Way, ways
from cluster.planning.device_profile import DeviceProfile
from cluster.planning.drafted_along import DraftedAlong, WrittenText
from cluster.planning.verifier_profile import VerifierProfile
from edge.completer import Completer, Drafting
from edge.completion import Completion
from edge.drafting.drafter import Drafter
from edge.link import Endpoint
from edge.rounds import Round
from edge.tokenizer import Tokenizer
from edge.tuning.plan import DEEPEST, FOR_EACH, TreePlan

SAMPLE = "def read_lines(path):\n    with open(path) as file:\n        for line in file:\n            if not line.strip():\n"
_NUM_TOKENS, _NUM_DRAFTED_FOR = 96, 32
_TEMPERATURE, _SEED = 0.7, 1
_TREE = 16  # nodes of the trees that a step is timed with
_WORTH_IT = 1.05  # as the tuner judges
_BARELY = 1.5  # tokens a tree, with the target's own
_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Heard:
    """What the endpoint wrote for us, and its steps' seconds by how many tokens they read."""

    text: WrittenText
    step_s: dict[int, float]


def check_vocabulary(tokenizer: Tokenizer, drafter: Drafter, reached: Reached) -> list[Finding]:
    served = reached.served
    if tokenizer.fingerprint != served.fingerprint:
        says = f"the draft's tokenizer is {tokenizer.fingerprint}, and {served.model}'s is {served.fingerprint}"
        return [bad("vocabulary", says, "draft with a model of the target's own family, exported from its own checkpoint")]
    found = [good("vocabulary", f"{tokenizer.vocab_size} tokens, the same on both sides ({served.fingerprint})")]
    if drafter.vocab_size != served.vocab_size:
        found.append(good("padding", f"the draft pads them to {drafter.vocab_size}, the target to {served.vocab_size}: no harm"))
    return found


async def heard_from(address: str, tokenizer: Tokenizer, drafter: Drafter) -> Heard:
    """Two short texts: one by the cloud alone, which drafts are then held against, one with a tree a step. Raises `CactusError`."""
    async with Endpoint(address) as endpoint:
        alone = await _completed(Completer(endpoint, tokenizer, None), _NUM_TOKENS)
        drafting = Drafting(tree=TreePlan(_TREE, DEEPEST, FOR_EACH))
        drafted = await _completed(Completer(endpoint, tokenizer, drafter, drafting), _NUM_DRAFTED_FOR)
    prompt = tokenizer.encode(SAMPLE)
    tokens = (*prompt, *(token.id for token in alone.tokens))
    plain_s = _typical_s(alone.rounds)
    with_tree_s = _typical_s([done for done in drafted.rounds if done.num_drafted])
    text = WrittenText(tokens, len(prompt), SamplingParams(_TEMPERATURE), _SEED)
    return Heard(text, {1: plain_s, 1 + _TREE: max(with_tree_s, plain_s)})


async def _completed(completer: Completer, num_tokens: int) -> Completion:
    completion = Completion(SAMPLE)
    sampling, acceptance = SamplingParams(_TEMPERATURE), Acceptance(COUPLED)
    async for _ in completer.generate(completion, max_tokens=num_tokens, sampling=sampling, seed=_SEED, acceptance=acceptance):
        pass
    return completion


def _typical_s(rounds: Sequence[Round]) -> float:
    """The first reads the prompt."""
    return median([done.verify_s for done in rounds[1:]] or [done.verify_s for done in rounds] or [0.0])


def drafted_here(drafter: Drafter, tokenizer: Tokenizer, text: WrittenText | None) -> DraftedAlong:
    """How long trees take here and, along a `text` that the target wrote, how far they come true."""
    along = DraftedAlong()
    if text is None:
        sample = tokenizer.encode(SAMPLE * 3)
        text = WrittenText(sample, 4, SamplingParams(_TEMPERATURE), _SEED)
    along.add(drafter, text)
    return along


def check_speed(along: DraftedAlong) -> Finding:
    said = ", ".join(f"{size} nodes {seconds * 1e3:.1f} ms" for size, seconds in along.draft_s.items())
    return good("drafting", f"{said}, by the size of a tree")


def check_worth(along: DraftedAlong, heard: Heard, reached: Reached) -> list[Finding]:
    """Acceptance along the target's text, and what the planner makes of everything that was measured."""
    if len(heard.text.tokens) - heard.text.num_prompt < _NUM_DRAFTED_FOR or not along.reach or not along.draft_s:
        return [note("acceptance", "the target's text ended too soon to tell", "try again; another prompt may be longer")]
    curve = AcceptanceCurve("measured", along.reach)
    sizes = {size: curve.tokens_per_tree(size) for size in curve.sizes}
    said = ", ".join(f"{size} nodes {tokens:.2f}" for size, tokens in sizes.items())
    said += f": tokens a round, along {len(heard.text.tokens) - heard.text.num_prompt} tokens at temperature {_TEMPERATURE:g}"
    weak = "this draft guesses too little: try one distilled on the target, or a larger one"
    found = [note("acceptance", said, weak) if max(sizes.values()) < _BARELY else good("acceptance", said)]
    if find_spec("simpy") is None:
        return [*found, note("speed-up", "simpy is not installed", "pip install 'cactus-serving[cluster]'")]
    link = LinkProfile("measured", round_trip_s=reached.round_trip_s, up_bits_per_s=reached.up_bits_per_s or math.inf)
    verifier = VerifierProfile("measured", heard.step_s)
    return [*found, _speed_up(Setting(DeviceProfile("measured", along.draft_s, along.draft_spread), link, verifier, curve))]


def _speed_up(setting: Setting) -> Finding:
    from cluster.planning.simulation import simulated

    def pace(way: Way) -> float:
        return simulated(setting, way, 1, seconds=_SECONDS).tokens_per_s

    alone = pace(OFF)
    paces = {way: pace(way) / alone for way in ways(setting.acceptance) if way != OFF}
    best = max(paces, key=lambda way: paces[way])
    said = f"{paces[best]:.2f} times the cloud alone ({alone:.1f} tokens a second), by {best}"
    if paces[best] < _WORTH_IT:
        return note(
            "speed-up", said, "the tuner will leave drafting off here: a faster draft, a nearer verifier or a slower target change that"
        )
    return good("speed-up", f"{said} nodes; see `cactus plan` for many clients")


def unreachable(error: CactusError) -> Finding:
    return bad("pair", str(error), "mend that first, then ask again")
