"""What a link between an edge and the cloud is: how late bytes come, how fast they go, how often they get stuck.

Knows numbers; knows nothing of sockets or clocks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from cactus_core.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class LinkProfile:
    """A link of `round_trip_s`, half of it each way. "Up" is from the edge to the cloud; `math.inf` bits a second is no limit.

    Each way takes its half of the round trip, give or take up to `jitter_s`, evenly drawn. Loss shows on TCP as bytes that come
    late and hold up what follows on their connection: a packet is lost with `loss`, and then comes `retransmit_s` later (its
    second copy is never lost). Raises `InvalidInput` for what is out of range.
    """

    name: str
    round_trip_s: float = 0.0
    jitter_s: float = 0.0
    up_bits_per_s: float = math.inf
    down_bits_per_s: float = math.inf
    loss: float = 0.0
    retransmit_s: float = 0.2

    def __post_init__(self) -> None:
        # All written so that NaN is refused too.
        for what, seconds in (("round_trip_s", self.round_trip_s), ("retransmit_s", self.retransmit_s)):
            if not 0.0 <= seconds < math.inf:
                raise InvalidInput(f"{what} of a link must be 0 or more seconds, not {seconds}")
        if not 0.0 <= self.jitter_s <= self.one_way_s:
            raise InvalidInput(f"jitter_s of a link must be between 0 and half its round trip, {self.one_way_s} s, not {self.jitter_s}")
        for what, bits_per_s in (("up_bits_per_s", self.up_bits_per_s), ("down_bits_per_s", self.down_bits_per_s)):
            if not bits_per_s > 0.0:
                raise InvalidInput(f"{what} of a link must be above 0, not {bits_per_s}")
        if not 0.0 <= self.loss <= 1.0:
            raise InvalidInput(f"loss of a link must be a probability, not {self.loss}")

    @property
    def one_way_s(self) -> float:
        return self.round_trip_s / 2

    @property
    def description(self) -> str:
        """One line for a person: "40 ms round trip, 25/100 Mbps up/down"."""
        up, down = (bits_per_s / 1e6 for bits_per_s in (self.up_bits_per_s, self.down_bits_per_s))
        bandwidth = "no limit of bandwidth" if math.isinf(up) and math.isinf(down) else f"{up:g}/{down:g} Mbps up/down"
        return f"{self.round_trip_s * 1e3:g} ms round trip, {bandwidth}"


# Round trips and bandwidths are given by what is to be measured; the jitter is chosen, 5% of the way, and none of them loses packets.
PROFILES = {
    profile.name: profile
    for profile in (
        LinkProfile("perfect"),
        LinkProfile("near", round_trip_s=0.010, jitter_s=0.00025, up_bits_per_s=100e6, down_bits_per_s=300e6),
        LinkProfile("regional", round_trip_s=0.040, jitter_s=0.001, up_bits_per_s=25e6, down_bits_per_s=100e6),
        LinkProfile("far", round_trip_s=0.090, jitter_s=0.00225, up_bits_per_s=5e6, down_bits_per_s=30e6),
    )
}


def profile_named(name: str) -> LinkProfile:
    """One of `PROFILES`. Raises `InvalidInput`, with what there is, for another name."""
    try:
        return PROFILES[name]
    except KeyError:
        known = "; ".join(f"{profile.name} ({profile.description})" for profile in PROFILES.values())
        raise InvalidInput(f"there is no link profile {name!r}; choose one of: {known}") from None
