"""How each command line that a page shows is tried: here and now, as processes in a slow test, or not here, and then why.

The first rule that fits says it. Knows lines; knows nothing of how they are run.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto

from tests.docs.pages import Shown, commands


class How(Enum):
    NOW = auto()  # in this process, against the running system of conftest.py
    SLOW = auto()  # a process that ends, by itself
    SERVED = auto()  # a process that serves, or talks to one: test_processes.py has its place
    NOT_HERE = auto()


@dataclass(frozen=True, slots=True)
class Way:
    pattern: str
    how: How
    why: str = ""

    def fits(self, shown: Shown) -> bool:
        return re.search(self.pattern, shown.typed) is not None


WAYS = [
    Way(r"Qwen/|drafts/qwen3", How.NOT_HERE, "needs a model of the hub"),
    Way(
        r"10\.0\.0\.|gateway\.example|0\.0\.0\.0",
        How.NOT_HERE,
        "needs other machines; tests/cluster/access has them on this one",
    ),
    Way(
        r"--address auto|^cactus (status|drain|down)\b|^ray (start|stop)",
        How.NOT_HERE,
        "is about whatever Ray this machine has; tests/cluster/test_healing.py drains and ends one of its own",
    ),
    Way(r"^docker ", How.NOT_HERE, "needs Docker's daemon; tests/cluster/test_composed.py runs the same"),
    Way(r"^(ray|kubectl) ", How.NOT_HERE, "needs a cloud; tests/test_manifests.py reads the files"),
    Way(r"^cactus bench gpu", How.NOT_HERE, "needs a GPU"),
    Way(r"--docs docs", How.NOT_HERE, "takes up to fifteen minutes and renews the pages; what --quick does is tried"),
    Way(r"models/demo/train\.py", How.NOT_HERE, "takes hours; its files are in the repository"),
    Way(r"^make (test|test-all)$|^pytest", How.NOT_HERE, "is what runs this"),
    Way(r"^make (proto|docs)$|^ruff format", How.NOT_HERE, "writes into the checkout; tests/wire, test_site.py and `make test` see to it"),
    Way(r"^python examples/", How.NOT_HERE, "tests/edge/serving/test_python_client.py runs every example"),
    Way(r"^cactus (up|serve|verifier|gateway|link)\b", How.SERVED),
    Way(r"^make demo$", How.SERVED),
    Way(r"^cactus (demo|simulate|bench)\b", How.SLOW),
    Way(r"^cactus plan (?!--names)|^cactus doctor --endpoint", How.SLOW),
    Way(r"^cactus (generate|describe|doctor|plan|export|token)\b|^curl ", How.NOW),
]


def way_of(shown: Shown) -> Way:
    """Raises `LookupError` for a line that no rule fits: say there how it is to be tried."""
    for way in WAYS:
        if way.fits(shown):
            return way
    raise LookupError(f"no way to try {shown}")


def to_try(how: How) -> list[Shown]:
    """In the order of pages, what several pages show once for each."""
    return [shown for shown in commands() if way_of(shown).how is how]
