"""What the gateway as a whole lets in, and how long it bears with a stream that does not move.

Knows counts and seconds; knows nothing of callers.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from cactus_core.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Admission:
    """`idle_s`: that a stream which waits for its edge, before its text's end or after it, may go without a frame. `first_frame_s`:
    that a stream may take to say what it wants. `slow_reader_s`: that the caller may take to take one frame.
    """

    num_streams: int = 8192
    opens_per_s: float = 500.0
    opens_burst: float = 8192.0
    max_prompt_bytes: int = 1 << 19
    idle_s: float = 120.0
    first_frame_s: float = 20.0
    slow_reader_s: float = 30.0

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
                raise InvalidInput(f"{each.name} must be a number above 0, not {value!r}")
