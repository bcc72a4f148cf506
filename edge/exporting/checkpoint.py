"""A Hugging Face checkpoint, read without torch.

Knows config.json, safetensors files and the hub's names; knows nothing of what a tensor is for.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401  # gives NumPy the bfloat16 that safetensors answers with; it comes with onnx
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from cactus_core.errors import InvalidInput, Unavailable, Unsupported
from edge.exporting.model_config import ModelConfig, parse_config

SINGLE, SHARDED = "model.safetensors", "model.safetensors.index.json"
_FETCHED = (
    "config.json",
    "model*.safetensors",
    SHARDED,
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "draft.onnx",
    "draft.onnx.data",
)
_FLOATS = ("float32", "float16", "bfloat16")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One folder's config, and which file holds each tensor.

    Tensors are read when asked for, so that a large model is never held twice.
    """

    folder: Path
    config: ModelConfig
    files: dict[str, Path]

    @classmethod
    def open(cls, folder: Path) -> Checkpoint:
        """The checkpoint in `folder`.

        Raises `InvalidInput` where it is incomplete or damaged, `Unsupported` where it cannot be exported.
        """
        config = parse_config(_read_json(folder / "config.json"))
        if (folder / SHARDED).is_file():
            weight_map = _read_json(folder / SHARDED).get("weight_map", {})
            files = {name: folder / file for name, file in weight_map.items()}
            if missing := sorted({path.name for path in files.values() if not path.is_file()}):
                raise InvalidInput(f"{folder} lacks {', '.join(missing)}, which {SHARDED} names; download the checkpoint again")
        elif (folder / SINGLE).is_file():
            with _opened(folder / SINGLE) as file:
                files = dict.fromkeys(file.keys(), folder / SINGLE)
        else:
            raise InvalidInput(f"{folder} has neither {SINGLE} nor {SHARDED}; save the checkpoint as safetensors")
        return cls(folder, config, files)

    def tensor(self, name: str, shape: tuple[int, ...]) -> NDArray[Any]:
        """The tensor as stored: float32, float16 or ml_dtypes' bfloat16.

        Raises `InvalidInput` unless it is there and of `shape`, `Unsupported` for another kind of number.
        """
        if name not in self.files:
            raise InvalidInput(f"{self.folder} has no tensor {name}, which its config.json asks for; download the checkpoint again")
        with _opened(self.files[name]) as file:
            array: NDArray[Any] = np.asarray(file.get_tensor(name))
        if array.shape != shape:
            raise InvalidInput(f"{name} in {self.files[name]} is {list(array.shape)}, but config.json makes it {list(shape)}")
        if array.dtype.name not in _FLOATS:
            raise Unsupported(f"{name} is stored as {array.dtype}; a draft is exported from {', '.join(_FLOATS)}")
        return array


def locate(source: str | Path) -> Path:
    """The local folder of `source`: itself when it is one, otherwise the hub's snapshot of that name.

    Raises `InvalidInput` when there is no such folder nor such a name, `Unavailable` when the hub cannot be reached.
    """
    folder = Path(source).expanduser()
    if folder.exists():
        return folder
    if isinstance(source, Path) or source.startswith((".", "/", "~")):
        raise InvalidInput(f"there is no {folder}; name a folder with draft.onnx or a checkpoint, or a model on the Hugging Face hub")
    # Imported here because a drafter with a local folder, the common case, should not wait for an HTTP client.
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

    try:
        return Path(snapshot_download(source, allow_patterns=list(_FETCHED)))
    except GatedRepoError:
        raise InvalidInput(f"{source} is gated on the Hugging Face hub; accept its terms there and log in with `hf auth login`") from None
    except (RepositoryNotFoundError, HFValidationError):
        raise InvalidInput(f"there is neither a folder nor a model on the Hugging Face hub named {source}; check the name") from None
    except OSError as error:  # the hub's HTTP errors and its LocalEntryNotFoundError are OSErrors
        reason = str(error).strip().split("\n")[0]
        raise Unavailable(
            f"{source} is no folder here and the Hugging Face hub did not give it ({reason}); connect, or name a folder"
        ) from None


def _opened(path: Path) -> Any:  # safe_open's class is not exported as a type
    try:
        return safe_open(path, framework="np")
    except SafetensorError as error:
        raise InvalidInput(f"{path} is not a readable safetensors file ({error}); download the checkpoint again") from None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf8"))
    except FileNotFoundError:
        raise InvalidInput(f"{path.parent} has no {path.name}; name the folder of a checkpoint saved by transformers") from None
    except ValueError:
        raise InvalidInput(f"{path} is not JSON; download the checkpoint again") from None
    if not isinstance(content, dict):
        raise InvalidInput(f"{path} is not a JSON object; download the checkpoint again")
    return content
