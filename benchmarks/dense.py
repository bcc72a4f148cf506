"""What a verifier does that holds both models' laws over the whole vocabulary: the baselines of `benchmarks/decision_cost.py`.

Two programs as others decide one path a row, token by token, each written here anew, with what they are given and leave out the
same: probabilities `[rows, L, V]` of both models in, no temperature, no softmax, no bonus law. Knows tensors; knows nothing of sessions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

VOCABULARY = 151_936
_SHARPNESS, _DISAGREEMENT = 5.0, 0.8  # of the logits: an overlap of about 0.7


@dataclass(frozen=True, slots=True, eq=False)
class DenseRows:
    """`drafted` `[rows, L]`, `draft` and `target` `[rows, L, V]` float32, and room of their shape."""

    drafted: Tensor
    draft: Tensor
    target: Tensor
    room: Tensor

    @classmethod
    def random(cls, num_rows: int, length: int, seed: int) -> DenseRows:
        generator = torch.Generator().manual_seed(seed)
        target, draft = torch.empty(num_rows, length, VOCABULARY), torch.empty(num_rows, length, VOCABULARY)
        target.normal_(0.0, _SHARPNESS, generator=generator)
        draft.normal_(0.0, _DISAGREEMENT, generator=generator).add_(target)
        for logits in (target, draft):
            for row in logits:
                row.copy_(row.softmax(-1))
        drafted = torch.stack([torch.multinomial(row, 1, generator=generator)[:, 0] for row in draft])
        return cls(drafted, draft, target, torch.empty_like(target))


def as_vllm(rows: DenseRows, generator: torch.Generator) -> Tensor:
    """As vLLM's rejection sampler: what would replace a token is drawn at every position, by noise that a row's positions share.

    Returns `[rows, L]`: the tokens that stand and the one that replaces the first that does not; -1 after it.
    """
    num_rows, length = rows.drafted.shape
    noise = torch.empty(num_rows, 1, VOCABULARY).exponential_(generator=generator)
    residual = torch.sub(rows.target, rows.draft, out=rows.room).clamp_(min=0.0)
    recovered = residual.div_(noise).argmax(-1)
    stands = torch.rand(num_rows, length, generator=generator) <= _ratio(rows)
    num_accepted = stands.long().cumprod(-1).sum(-1, keepdim=True)
    place = torch.arange(length)
    return torch.where(place < num_accepted, rows.drafted, torch.where(place == num_accepted, recovered, -1))


def as_transformers(rows: DenseRows, generator: torch.Generator) -> Tensor:
    """As assisted generation in transformers: one sequence after the other, and only the residual that is needed is made.

    After a row that stands whole it draws from the target's last law, in the bonus law's place. Returns `[rows]`: the next tokens.
    """
    stands = torch.rand(rows.drafted.shape, generator=generator) <= _ratio(rows)
    following = []
    for row, num_accepted in enumerate(stands.long().cumprod(-1).sum(-1).tolist()):
        place = min(num_accepted, rows.drafted.shape[1] - 1)
        law = rows.target[row, place]
        if num_accepted == place:
            law = torch.clamp(law - rows.draft[row, place], min=0.0)
            law /= law.sum()
        following.append(torch.multinomial(law, 1, generator=generator))
    return torch.cat(following)


def _ratio(rows: DenseRows) -> Tensor:
    at = rows.drafted[..., None]
    return (rows.target.gather(-1, at) / rows.draft.gather(-1, at))[..., 0]
