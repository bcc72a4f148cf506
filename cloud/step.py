"""One step of the model: the parts of many turns in one packed forward, and what is decided of those read to their end.

Knows turns, pages and the target; knows nothing of who waits, of threads or of streams.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from cactus_core.errors import CactusError
from cloud.ballot import Outcome
from cloud.decide import decide_all
from cloud.pages import PagePool, commit_paths
from cloud.scheduler import Share
from cloud.target import TargetModel
from cloud.turn import Turn

_log = logging.getLogger(__name__)

_Ending: TypeAlias = tuple[Share[Turn], Tensor]  # what is read to its end, and its rows of logits


def run_step(target: TargetModel, pool: PagePool, shares: Sequence[Share[Turn]]) -> Iterator[list[tuple[Turn, Outcome | CactusError]]]:
    """Reads the shares, whose positions are reserved, and keeps what stands: text that was read, and decided drafts.

    Yields the turns that were read to their end, each with its outcome or, where it could not be decided, an error of its own: first
    those, maybe none, that this step alone read; then those that took several steps, if any, so that nobody is told later for the
    sake of what may take as long to decide as a small step takes. To be exhausted before the next step.
    """
    parts = [share.work.part(share.num_tokens) for share in shares]
    logits = target.forward(parts)
    read_whole: list[_Ending] = []
    in_parts: list[_Ending] = []
    for share, rows in zip(shares, torch.split(logits, [part.num_logits for part in parts]), strict=True):
        turn = share.work
        if share.num_tokens == turn.num_unread:
            (in_parts if turn.is_in_parts else read_whole).append((share, turn.all_rows(rows)))
        else:
            turn.put_by(share.num_tokens, rows)
            turn.session.table.publish(turn.session.text, turn.session.tenant)
    num_rows = sum(len(rows) for _, rows in read_whole)
    yield _settled(pool, read_whole, logits if num_rows == len(logits) else None)
    if in_parts:
        yield _settled(pool, in_parts)


def _settled(pool: PagePool, ending: Sequence[_Ending], together: Tensor | None = None) -> list[tuple[Turn, Outcome | CactusError]]:
    """Decides and commits. `together` are all of their rows, where they lie so already, as they nearly always do."""
    if not ending:
        return []
    turns, rows = [share.work for share, _ in ending], [own for _, own in ending]
    outcomes = _decided(turns, rows, torch.cat(rows) if together is None else together)
    paths = [
        (share.work.session.table, share.work.path(share.num_tokens, outcome.nodes))
        for (share, _), outcome in zip(ending, outcomes, strict=True)
        if isinstance(outcome, Outcome)
    ]
    commit_paths(pool, paths)
    return list(zip(turns, outcomes, strict=True))


def _decided(turns: Sequence[Turn], rows: Sequence[Tensor], together: Tensor) -> list[Outcome | CactusError]:
    """What stands of each turn's drafts, given its `rows` of logits. Should deciding together fail, each is decided by itself:
    whose fault it is fails alone.
    """
    try:
        return [*decide_all(together, [turn.ballot() for turn in turns])]
    except Exception as error:  # noqa: BLE001  # an error of ours: what was asked for was checked when it came
        _log.exception("%d sessions could not be decided together", len(turns))
        if len(turns) == 1:
            return [CactusError(f"the verifier failed: {error!r}; send the request again")]
    return [outcome for turn, own in zip(turns, rows, strict=True) for outcome in _decided([turn], [own], own)]
