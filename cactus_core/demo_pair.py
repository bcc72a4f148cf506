"""Where the demo pair lies: in a checkout, beside the packages."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from cactus_core.errors import InvalidInput

_FOLDER = Path(__file__).parent.parent / "models" / "demo"


def demo_model(role: Literal["target", "draft"]) -> str:
    """The folder of the demo target or draft. Raises `InvalidInput` where Cactus was installed without its checkout."""
    folder = _FOLDER / role
    if not folder.is_dir():
        flag = "--model" if role == "target" else "--draft"
        raise InvalidInput(f"the demo {role} comes with a checkout of Cactus, and {folder} is not there; name a model with {flag}")
    return str(folder)
