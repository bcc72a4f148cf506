"""One step of the model: the parts of many turns in one packed forward, and what is decided of those read to their end.

Knows turns, pages and the target; knows nothing of who waits, of threads or of streams.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

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


def run_step(target: TargetModel, pool: PagePool, shares: Sequence[Share[Turn]]) -> list[tuple[Turn, Outcome | CactusError]]:
    """Reads the shares, whose positions are reserved, and keeps what stands: text that was read, and decided drafts.

    Returns the turns that were read to their end, each with its outcome or, where it could not be decided, an error of its own.
    """
    parts = [share.work.part(share.num_tokens) for share in shares]
    logits = target.forward(parts)
    rows = torch.split(logits, [part.num_logits for part in parts])
    is_last = [share.num_tokens == share.work.num_unread for share in shares]
    ending = [share for share, last in zip(shares, is_last, strict=True) if last]
    own = [share.work.all_rows(of_share) for share, of_share, last in zip(shares, rows, is_last, strict=True) if last]
    in_parts = any(part.num_logits and not last for part, last in zip(parts, is_last, strict=True)) or any(s.work.rows for s in ending)
    together = torch.cat(own or [logits]) if in_parts else logits  # nearly always all rows are wanted now, as they lie
    outcomes = _decided([share.work for share in ending], own, together)
    for share, of_share, last in zip(shares, rows, is_last, strict=True):
        if not last:
            share.work.put_by(share.num_tokens, of_share)
            share.work.session.table.publish(share.work.session.text, share.work.session.tenant)
    paths = [
        (share.work.session.table, share.work.path(share.num_tokens, outcome.nodes))
        for share, outcome in zip(ending, outcomes, strict=True)
        if isinstance(outcome, Outcome)
    ]
    commit_paths(pool, paths)
    return list(zip((share.work for share in ending), outcomes, strict=True))


def _decided(turns: Sequence[Turn], rows: Sequence[Tensor], together: Tensor) -> list[Outcome | CactusError]:
    """What stands of each turn's drafts, given its `rows` of logits. Should deciding together fail, each is decided by itself:
    whose fault it is fails alone.
    """
    if not turns:
        return []
    try:
        return [*decide_all(together, [turn.ballot() for turn in turns])]
    except Exception as error:  # noqa: BLE001  # an error of ours: what was asked for was checked when it came
        _log.exception("%d sessions could not be decided together", len(turns))
        if len(turns) == 1:
            return [CactusError(f"the verifier failed: {error!r}; send the request again")]
    return [outcome for turn, own in zip(turns, rows, strict=True) for outcome in _decided([turn], [own], own)]
