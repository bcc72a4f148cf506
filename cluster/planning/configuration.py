"""What is simulated: who drafts where, over which link, for which verifier, and how.

Knows profiles; knows nothing of time.
"""

from __future__ import annotations

from dataclasses import dataclass

from cactus_core.errors import InvalidInput
from cluster.link_profile import LinkProfile
from cluster.planning.acceptance_curve import AcceptanceCurve
from cluster.planning.device_profile import DeviceProfile
from cluster.planning.verifier_profile import VerifierProfile

MODES = ("off", "wait", "stream")


@dataclass(frozen=True, slots=True)
class Setting:
    """A deployment: equal clients, each on such a device behind such a link, and one verifier."""

    device: DeviceProfile
    link: LinkProfile
    verifier: VerifierProfile
    acceptance: AcceptanceCurve


@dataclass(frozen=True, slots=True)
class Way:
    """How clients speculate: `off`, `wait` (a tree a step) or `stream` (the cloud decodes on in the gaps), with trees of `num_nodes`."""

    mode: str
    num_nodes: int = 0

    def __post_init__(self) -> None:
        if self.mode not in MODES or (self.num_nodes == 0) != (self.mode == "off") or self.num_nodes < 0:
            raise InvalidInput(
                f"there is no way to speculate called {self.mode!r} with trees of {self.num_nodes}; modes: {', '.join(MODES)}"
            )

    def __str__(self) -> str:
        return f"{self.mode}, {self.num_nodes}" if self.num_nodes else self.mode


OFF = Way("off")


def ways(acceptance: AcceptanceCurve) -> list[Way]:
    """Off, and both others with each size of trees of which something is known."""
    return [OFF, *(Way(mode, size) for mode in MODES[1:] for size in acceptance.sizes)]
