"""What a plan would have made of a text: how many steps of the cloud it takes.

Knows how far drafts come true from each position, and when trees arrive; knows nothing of seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# Of a tree's nodes, what is left below the first tokens that came true of it: measured on the demo pair, to a tenth.
_LEFT = 2


@dataclass(frozen=True, slots=True)
class Replayed:
    """Along `num_tokens` of a text `num_steps` of the cloud, of which `num_drafted` read a tree: one of which only a part was left counts
    as that part.
    """

    num_tokens: int
    num_steps: float
    num_drafted: float

    @property
    def tokens_per_step(self) -> float:
        return self.num_tokens / max(self.num_steps, 1.0)

    @property
    def drafted_per_step(self) -> float:
        return self.num_drafted / max(self.num_steps, 1.0)


def waiting(reach: Sequence[int], first: int = 0) -> Replayed:
    """Each step has a tree for where the text ends. `reach` `[T]` is how many tokens of a tree come true from each position; steps count
    from position `first` on.
    """
    place = num_steps = 0
    while place < len(reach):
        num_steps += place >= first
        place += 1 + reach[place]
    return Replayed(len(reach) - first, num_steps, num_steps)


def streaming(reach: Sequence[int], late: float, every: int, first: int = 0) -> Replayed:
    """The cloud decodes on: each step's tree was drafted `late` steps before, for where the text ended then, and so was the next
    ones', since there is another for each `every` steps only. Between two whole numbers of steps the truth is taken to lie on the line.
    """
    whole = int(late)
    sooner = _streaming(reach, whole, every, first)
    if late == whole:
        return sooner
    later, share = _streaming(reach, whole + 1, every, first), late - whole
    num_steps = (1.0 - share) * sooner.num_steps + share * later.num_steps
    return Replayed(sooner.num_tokens, num_steps, (1.0 - share) * sooner.num_drafted + share * later.num_drafted)


def _streaming(reach: Sequence[int], late: int, every: int, first: int) -> Replayed:
    ends = [0]  # of the text, before each step
    place, num_steps, num_drafted, num_tokens = 0, 0, 0.0, len(reach)
    while place < num_tokens:
        drafted_at = len(ends) - 1 - late
        length = since = 0
        if drafted_at >= 0:
            base = ends[drafted_at - drafted_at % every]
            length, since = reach[base], place - base
            if since <= length and place >= first:  # else what was emitted since contradicts the tree
                num_drafted += ((length - since + 1) / (length + 1)) ** _LEFT
        num_steps += place >= first
        place += 1 + length - since if since < length else 1
        ends.append(place)
    return Replayed(num_tokens - first, num_steps, num_drafted)
