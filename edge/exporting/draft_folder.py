"""Where a draft lies, whatever it was named by.

    a folder with draft.onnx         that folder
    a folder with a checkpoint       a folder of the user's cache, where it is exported once
    a name on the Hugging Face hub   its snapshot, and then one of the two above

Knows files and names; knows nothing of graphs or of drafting.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from cactus_core.errors import InvalidInput, Unavailable
from edge.exporting.checkpoint import locate
from edge.exporting.draft_shape import FORMAT, MODEL


def draft_folder(source: str | Path) -> Path:
    """The folder that holds `source`'s draft.onnx and tokenizer.json; exports a checkpoint that was not exported yet.

    A path to draft.onnx itself stands for its folder. Raises what `locate` and `export` raise.
    """
    found = locate(source)
    if found.is_file():
        if found.name != MODEL:
            raise InvalidInput(f"{found} is not a {MODEL}; name the folder of a draft or of a checkpoint")
        return found.parent
    if (found / MODEL).is_file():
        return found
    if not (found / "config.json").is_file():
        raise InvalidInput(f"{found} has neither {MODEL} nor a checkpoint's config.json; run `cactus export` or name another folder")
    cached = _cache() / _fingerprint(found)
    if not (cached / MODEL).is_file():
        from edge.exporting.export import export  # onnx takes long to import and is needed here only

        try:
            export(found, cached)
        except OSError as error:
            raise Unavailable(f"the draft could not be written to {cached} ({error}); export it elsewhere with `cactus export`") from None
    return cached


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "cactus" / "drafts"


def _fingerprint(folder: Path) -> str:
    """Changes whenever a file that an export reads is replaced; does not read them, since they may be large."""
    files = sorted(path for pattern in ("*.json", "*.safetensors") for path in folder.glob(pattern))
    states = [f"{path.name} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in files]
    return hashlib.sha256("\n".join([FORMAT, str(folder.resolve()), *states]).encode()).hexdigest()[:24]
