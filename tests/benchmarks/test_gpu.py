"""The GPU's benchmark, as far as a machine without one can tell."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks import gpu, gpu_tables, gpu_targets, lockstep
from cactus_core.block import empty_block
from cactus_core.errors import StaleBase, Unavailable
from cluster.figures import Figures

DOCS = Path(__file__).parent.parent.parent / "docs"


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_without_a_gpu_it_says_so():
    with pytest.raises(Unavailable, match="needs a GPU"):
        gpu.run(quick=True)


def test_the_page_shows_the_figures_that_were_taken():
    figures = Figures("gpu", rows=json.loads((DOCS / "gpu.json").read_text("utf8"))["rows"])
    page = (DOCS / "gpu.md").read_text("utf8")
    for table in gpu_tables.tables(figures):
        assert f"<!-- {table.name} -->\n{table.markdown()}\n<!-- end -->" in page


def test_a_targets_next_token_is_the_one_after_it():
    shape = {"vocab_size": 500, "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    served = gpu_targets.shaped_as("small", device="cpu", dtype=torch.float32, num_key_value_heads=1, head_dim=32, **shape)
    with lockstep.running_engine(served.target, 8) as engine, lockstep.opened(engine, [served.request([3, 14], 6)]) as [session]:
        lockstep.decoded(engine, [session])
        assert session.text == [3, 14, 15, 16, 17, 18, 19, 20]


def test_steps_are_timed_beside_both_forwards(monkeypatch):
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    shape = {"vocab_size": 5000, "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    served = gpu_targets.shaped_as("small", device="cpu", dtype=torch.float32, num_key_value_heads=1, head_dim=32, **shape)
    figures = Figures("gpu")
    with lockstep.running_engine(served.target, 600) as engine:
        gpu.measure_steps(figures, served, engine, 2, num_pairs=2)
    for system in ("blocks", "plain"):
        for against in ("transformers", "captured"):
            assert figures.value("step_overhead", system=system, against=against) > 0


def test_a_lap_whose_block_is_refused_says_so_at_once():
    shape = {"vocab_size": 500, "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    served = gpu_targets.shaped_as("small", device="cpu", dtype=torch.float32, num_key_value_heads=1, head_dim=32, **shape)
    with lockstep.running_engine(served.target, 8) as engine, lockstep.opened(engine, [served.request([3, 14], 6)]) as sessions:
        with pytest.raises(StaleBase):
            lockstep.lap(engine, sessions, [empty_block(1)], 0)
        assert len(lockstep.lap(engine, sessions, [empty_block(2)], 0).decisions) == 1
