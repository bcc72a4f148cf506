"""The console command. Turns whatever a person can act on into one line and an exit status; never a traceback."""

from __future__ import annotations

import signal
import sys
from types import FrameType

from cactus_core.errors import CactusError

_EXTRA_OF = {
    "ray": "cluster", "torch": "cloud", "transformers": "cloud", "grpc_health": "cloud", "grpc_reflection": "cloud",
    "matplotlib": "bench", "scipy": "bench", "pydantic": "cluster", "simpy": "cluster", "yaml": "cluster",
}  # fmt: skip


def main() -> None:
    # A terminated command ends as an interrupted one does: everything it started is stopped on the way out.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        from cluster.cli import app

        app()
    except CactusError as error:
        sys.exit(f"cactus: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    except ModuleNotFoundError as error:
        missing = (error.name or "").split(".")[0]
        if missing in ("cactus_core", "edge", "cloud", "cluster", "benchmarks"):
            raise
        extra = _EXTRA_OF.get(missing, "edge")
        sys.exit(f"cactus: {missing} is not installed, and this verb needs it; run: pip install 'cactus-serving[{extra}]'")


def _interrupt(signal_number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
