"""The target: a Hugging Face causal language model run over packed segments of many sessions, by its own code or, where that is faster on a
CPU, by ours, which is held against it.

Knows models, tokens and trees of nodes; knows nothing of sampling, acceptance or the network. What cannot be rolled
back or masked is refused: by cloud/checkpoint.py where the configuration tells, by a short trial here where it does not.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import transformers
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from cactus_core.errors import InvalidInput, LimitExceeded, Unsupported
from cactus_core.fingerprint import fingerprint
from cloud.attention import has_kernels, plan_attention
from cloud.checkpoint import WORKS, load_checkpoint
from cloud.dense_decoder import DenseDecoder
from cloud.dtype import DType
from cloud.packed_linear import pack_linears
from cloud.pages import PAGE_SIZE, PagePool, PageTable, reserve_all
from cloud.segment import Ints, Segment, chain
from cloud.transfer import sent

if TYPE_CHECKING:
    from cloud.captured import CapturedForwards  # needs Triton


# How far logits may lie from what else computes the same, of the largest: what float32 rounds, and what types of fewer bits do.
_ROUNDING, _COARSE_ROUNDING = 1e-3, 0.05


class TargetModel:
    """A causal language model that reads and writes a paged pool.

    `vocab_size` is the width of the logits, which may be padded beyond `vocabulary`. Not for several threads at once.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, model_id: str) -> None:
        """Takes over a model that was made with `cactus_paged`, tries it, and lays its weights out for a CPU. Raises `Unsupported` when
        it strays.
        """
        self._model: Any = model.eval()  # called as each model's own class would have it
        self._dense: DenseDecoder | None = None
        self._text_config = model.config.get_text_config()
        self.tokenizer = tokenizer
        self.model_id = model_id
        self.vocab_size: int = self._text_config.vocab_size
        self.max_positions: int = self._text_config.max_position_embeddings
        self.fingerprint = fingerprint(tokenizer.get_vocab())
        self.eos_token_ids = _eos_token_ids(model, tokenizer)
        self._captured: CapturedForwards | None = None
        found = self._try()
        room = (_ROUNDING if self.dtype == torch.float32 else _COARSE_ROUNDING) * found.abs().max()
        if self._lay_out() and not (self._try() - found).abs().max() <= room:  # none for NaN
            versions = f"transformers {transformers.__version__} and torch {torch.__version__}"
            raise Unsupported(f"Cactus does not know how {versions} compute {model_id}; install earlier ones")

    @classmethod
    def load(cls, name_or_path: str, *, device: str = "cpu", dtype: DType = DType.AUTO) -> TargetModel:
        """Loads a hub name or a local directory onto `device`; "auto" is the GPU when there is one.

        Raises `Unsupported` for a model that cannot be served and for one that is to be split over several processes,
        `InvalidInput` when there is none or it is not whole, `Unavailable` when the hub cannot be reached.
        """
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:  # set by torchrun, by which `transformers` splits a model
            raise Unsupported("tensor parallelism is not supported: a target runs on one device; start a replica for each GPU instead")
        place = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
        if dtype is DType.AUTO:
            dtype = DType.FLOAT32 if place.type == "cpu" else DType.BFLOAT16
        model, tokenizer = load_checkpoint(name_or_path, getattr(torch, dtype))
        path = Path(name_or_path)
        return cls(model.to(place), tokenizer, path.resolve().name if path.is_dir() else name_or_path)

    @property
    def device(self) -> torch.device:
        return torch.device(self._model.device)

    @property
    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = self._model.dtype
        return dtype

    @property
    def vocabulary(self) -> Mapping[str, int]:
        vocabulary: dict[str, int] = self.tokenizer.get_vocab()
        return vocabulary

    def new_pool(self, num_pages: int) -> PagePool:
        return PagePool(num_pages, **self._page_shape, dtype=self.dtype, device=self.device)

    @torch.inference_mode()
    def capture(self, pool: PagePool, token_budget: int) -> None:
        """Prepares steps of up to `token_budget` tokens over `pool` where that pays: on a GPU with Triton. Logits are then good until the
        next step.
        """
        if pool.keys.is_cuda and has_kernels(pool.keys.device, self._heads_per_kv_head):
            from cloud.captured import CapturedForwards

            self._captured = CapturedForwards(self._model, pool, self._heads_per_kv_head)
            self._captured.warm(token_budget)

    def spare_memory_bytes(self) -> int:
        """What keys and values may take when nobody says: half a GiB, on a GPU most of what the model leaves free."""
        if self.device.type != "cuda":
            return 1 << 29
        free_bytes, _ = torch.cuda.mem_get_info(self.device)
        return int(0.85 * free_bytes)

    def num_pages_in(self, memory_bytes: int) -> int:
        """How many pages a pool may have that takes no more than so much memory. Raises `InvalidInput` when that is none."""
        page_bytes = PagePool.page_bytes(**self._page_shape, dtype=self.dtype)
        spare_bytes = page_bytes // PAGE_SIZE
        if memory_bytes < (least := page_bytes + spare_bytes):
            raise InvalidInput(f"{memory_bytes} bytes hold no page of {self.model_id}: give its keys and values {least} or more")
        return (memory_bytes - spare_bytes) // page_bytes

    @property
    def _heads_per_kv_head(self) -> int:
        return int(self._text_config.num_attention_heads) // _num_kv_heads(self._text_config)

    @property
    def _page_shape(self) -> dict[str, int]:
        config = self._text_config
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return {"num_layers": config.num_hidden_layers, "num_kv_heads": _num_kv_heads(config), "head_dim": head_dim}

    @torch.inference_mode()
    def forward(self, segments: Sequence[Segment]) -> Tensor:
        """Logits `[M, V]` of the nodes that want them, segment after segment, in the model's dtype.

        Each segment has a table of its own, all of one pool. Reserves the nodes' positions, after those of the nodes
        that earlier steps wrote of the same tree, and writes their keys and values there. Commits nothing: that is the
        caller's, by `advance`, `commit`, `commit_paths` or `rollback`. Raises `LimitExceeded` when the pool or the model's
        positions run out and `InvalidInput` for a token that is none, both with nothing changed.
        """
        if not segments:
            return torch.empty(0, self.vocab_size, dtype=self.dtype, device=self.device)
        tables = [segment.table for segment in segments]
        pool = tables[0].pool
        if len({id(table) for table in tables}) < len(tables) or any(table.pool is not pool for table in tables):
            raise ValueError("a step takes one segment a table, and tables of one pool")
        if any(segment.num_before > segment.table.num_reserved - segment.table.num_committed for segment in segments):
            raise ValueError("a segment names nodes before it that no step has written")
        tokens = np.concatenate([segment.tokens for segment in segments])
        if tokens.min() < 0 or tokens.max() >= self.vocab_size:
            raise InvalidInput(f"token ids must be between 0 and {self.vocab_size - 1}")
        positions = np.concatenate([segment.depths + segment.table.num_committed for segment in segments])
        if positions.max() >= self.max_positions:
            raise LimitExceeded(f"the model has {self.max_positions} positions, and {positions.max() + 1} are asked for; shorten the text")
        reserve_all([(segment.table, segment.num_seen) for segment in segments])
        wanted = _wanted(segments)
        if self._captured is not None and self._captured.pool is pool:
            logits = self._captured.forward(tokens, positions, segments, wanted)
            if logits is not None:
                return logits
        plan = plan_attention(segments, heads_per_kv_head=self._heads_per_kv_head)
        inputs = sent(tokens, self.device), sent(positions, self.device)
        rows = None if wanted is None else sent(wanted, self.device)
        if self._dense is not None:
            return self._dense(*inputs, plan, rows)
        output = self._model(
            input_ids=inputs[0][None],
            position_ids=inputs[1][None],
            use_cache=False,
            plan=plan,
            logits_to_keep=0 if rows is None else rows,  # 0: all
        )
        found: Tensor = output.logits[0]
        return found

    def _lay_out(self) -> bool:
        """For a CPU; returns whether there was anything to lay out."""
        if DenseDecoder.takes(self._model):
            self._dense = DenseDecoder(self._model)
            return True
        return pack_linears(self._model) > 0

    def _try(self) -> Tensor:
        """The logits `[5, V]` of a chain and a tree. Looks whether the model kept to pages, masks, positions and the logits wanted."""
        pool = self.new_pool(2)
        # Not a number wherever the model has not written: it shows what was left out, and what was read that should not be.
        pool.keys.fill_(torch.nan)
        pool.values.fill_(torch.nan)
        tables = PageTable(pool), PageTable(pool)
        stem, twin, last = (self.vocab_size * share // 7 for share in (2, 4, 6))
        tree = np.array([stem, twin, twin, last]), np.array([-1, 0, 0, 1])  # neither twin may see the other
        logits = self.forward([chain(tables[0], [stem, twin, last], num_logits=2), Segment(tables[1], *tree, num_logits=3)])
        if logits.shape != (5, self.vocab_size):
            raise Unsupported(f"{self.model_id} does not give logits for chosen positions; {WORKS}")
        written = sent(tables[1].slots(0, 4), self.device)
        if not pool.keys[:, :, written].isfinite().all():
            raise Unsupported(f"{self.model_id} has layers whose memory cannot be paged; {WORKS}")
        # The chain's two nodes have the same texts as a twin and the last.
        alike = torch.stack([logits[[2, 3, 4]], logits[[0, 0, 1]]]).float()
        if not (alike[0] - alike[1]).abs().max() <= _COARSE_ROUNDING * alike.abs().max():  # none for NaN
            raise Unsupported(f"{self.model_id} does not keep to the tree it is given; {WORKS}")
        return logits


def _wanted(segments: Sequence[Segment]) -> Ints | None:
    """The nodes whose logits are wanted `[M]`; None for all."""
    sizes = np.array([len(segment.tokens) for segment in segments])
    wanted = np.array([segment.num_logits for segment in segments])
    if (sizes == wanted).all():
        return None
    ends = np.cumsum(sizes)
    return np.concatenate([np.arange(end - count, end) for end, count in zip(ends, wanted, strict=True)])


def _num_kv_heads(config: Any) -> int:
    return getattr(config, "num_key_value_heads", None) or int(config.num_attention_heads)


def _eos_token_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """What ends a text, by the first that says: the generation config (chat models name several), model, tokenizer."""
    generation, config = model.generation_config, model.config.get_text_config()
    for named in (getattr(generation, "eos_token_id", None), config.eos_token_id, tokenizer.eos_token_id):
        if named is not None:
            return frozenset([named] if isinstance(named, int) else named)
    return frozenset()
