"""What has passed through a gateway since it started, counted where it passes.

Knows numbers; knows nothing of who reads them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Traffic:
    """Streams that were opened, decisions that came back, bytes of edges' frames, and times that a text went on at another replica."""

    num_streams: int = 0
    num_decisions: int = 0
    num_bytes_up: int = 0
    num_bytes_down: int = 0
    num_failovers: int = 0
