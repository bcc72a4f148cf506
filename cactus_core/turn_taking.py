"""How threads of one interpreter take turns: for processes in which one computes and another talks.

Knows Python's lock; knows nothing of what is computed or said.
"""

from __future__ import annotations

import sys

_SECONDS = 0.0005


def take_short_turns() -> None:
    """For the whole process: a thread that computes lets others go on after half a millisecond of Python, where it would keep them
    waiting for 5. What comes over a link, or goes there, is not to wait for a model.
    """
    sys.setswitchinterval(_SECONDS)
