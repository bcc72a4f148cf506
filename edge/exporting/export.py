"""From a checkpoint to the folder that a drafter loads: draft.onnx with tokenizer.json beside it.

Knows files; knows nothing of the graph's inside, nor of how it is run.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import onnx

from cactus_core.errors import InvalidInput
from edge.exporting.checkpoint import Checkpoint, locate
from edge.exporting.draft_shape import CHAT_TEMPLATE, MODEL, TOKENIZER, TOKENIZER_CONFIG, WEIGHTS
from edge.exporting.onnx_graph import Dtype, build_graph
from edge.tokenizer import Tokenizer

DEFAULT_MAX_POSITIONS = 2048
# protobuf refuses a file of 2 GiB; well below it, weights move to a file of their own.
_LARGEST_IN_ONE_FILE = 3 << 29


def export(source: str | Path, destination: Path, *, dtype: Dtype = "float16", max_positions: int | None = None) -> Path:
    """Writes the draft of `source`, a checkpoint's folder or hub name, into the folder `destination`, and returns that.

    `max_positions` is the longest text that the draft will hold; None means what the model was made for, at most 2048.
    draft.onnx appears last and whole: an export that is cut short leaves no draft behind. Raises what `locate`,
    `Checkpoint.open` and `build_graph` raise, and `InvalidInput` for a bad `max_positions` or a missing tokenizer.json.
    """
    folder = locate(source)
    checkpoint = Checkpoint.open(folder)
    made_for = checkpoint.config.max_positions
    if max_positions is None:
        max_positions = min(made_for, DEFAULT_MAX_POSITIONS)
    if not 0 < max_positions <= made_for:
        raise InvalidInput(f"max_positions must be between 1 and {made_for}, which is what {folder} was made for, not {max_positions}")
    if not (folder / TOKENIZER).is_file():
        raise InvalidInput(f"{folder} has no {TOKENIZER}; save the checkpoint's fast tokenizer there")
    num_tokens = Tokenizer.load(folder).vocab_size
    model = build_graph(checkpoint, dtype=dtype, max_positions=max_positions, num_tokens=num_tokens)
    destination.mkdir(parents=True, exist_ok=True)
    for name in (TOKENIZER, TOKENIZER_CONFIG, CHAT_TEMPLATE):
        if (folder / name).is_file() and folder.resolve() != destination.resolve():
            shutil.copyfile(folder / name, destination / name)
    _write(model, destination)
    return destination


def _write(model: onnx.ModelProto, destination: Path) -> None:
    num_bytes = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    with tempfile.TemporaryDirectory(dir=destination) as scratch:
        external = num_bytes > _LARGEST_IN_ONE_FILE
        onnx.save_model(model, Path(scratch) / MODEL, save_as_external_data=external, location=WEIGHTS if external else None)
        if external:
            (Path(scratch) / WEIGHTS).replace(destination / WEIGHTS)
        (Path(scratch) / MODEL).replace(destination / MODEL)
