"""Checks of an endpoint: can it be reached, does it serve, how far away is it, how many bytes a second come through.

Knows one channel and what goes over it; knows nothing of drafts. Bandwidth is estimated from few bytes: what is asked for is answered with
an error of its own, and costs the verifier no model time.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median

import grpc
import grpc.aio

from cactus_core.errors import CactusError
from cactus_core.session import Served
from cluster.doctor.finding import Finding, bad, good, note
from edge.link import Endpoint

_NUM_PINGS = 7
_HEALTH_METHOD, _SERVING = "/grpc.health.v1.Health/Check", b"\x08\x01"
_PROBE_BYTES = 128 << 10  # up, once
_TIMEOUT_S = 10.0
_SLOW_BITS_PER_S = 1e6
_FAR_S = 0.15


@dataclass(frozen=True, slots=True)
class Reached:
    """What is known of an endpoint that answers. `up_bits_per_s` is None where sending took no measurable time."""

    served: Served
    round_trip_s: float
    up_bits_per_s: float | None


async def check_endpoint(address: str) -> tuple[list[Finding], Reached | None]:
    """Findings, and what was measured where it answers."""
    try:
        async with Endpoint(address) as endpoint:
            served = await endpoint.describe()
            trips = []
            for _ in range(_NUM_PINGS):
                started = time.perf_counter()
                await endpoint.describe()
                trips.append(time.perf_counter() - started)
    except CactusError as error:
        return [bad("endpoint", str(error), "")], None  # which says what to do
    findings = [good("endpoint", f"{address} serves {served.model}: {served.vocab_size} tokens, texts of {served.max_positions}")]
    round_trip_s = median(trips)
    said = f"{round_trip_s * 1e3:.1f} ms, {min(trips) * 1e3:.1f} to {max(trips) * 1e3:.1f}"
    if round_trip_s > _FAR_S:
        findings.append(note("round trip", said, "drafts will seldom come in time; see break-even in `cactus plan`, or serve nearer"))
    else:
        findings.append(good("round trip", said))
    async with grpc.aio.insecure_channel(address) as channel:
        findings.append(await _health(channel))
        bits = await _up_bits_per_s(channel, min(trips))
    if bits is None:
        findings.append(good("bandwidth", f"{_PROBE_BYTES >> 10} KB up take no longer than nothing does"))
    elif bits < _SLOW_BITS_PER_S:
        findings.append(
            note("bandwidth", f"about {bits / 1e6:.2f} Mbit/s up", "keep to the rule coupled, whose trees are some 50 bytes each")
        )
    else:
        findings.append(good("bandwidth", f"about {bits / 1e6:.0f} Mbit/s up, by {_PROBE_BYTES >> 10} KB"))
    return findings, Reached(served, round_trip_s, bits)


async def _health(channel: grpc.aio.Channel) -> Finding:
    """By grpc.health.v1, whose messages are a byte or two: the edge has no package for them."""
    check = channel.unary_unary(_HEALTH_METHOD, bytes, bytes)
    try:
        answer = await check(b"", timeout=_TIMEOUT_S)
    except grpc.aio.AioRpcError as error:
        return note("health", f"not told ({error.code().name})", "point a load balancer at Describe, or update the endpoint")
    if answer != _SERVING:
        return bad("health", "it says that it does not serve", "wait until its model is loaded, or look at its log")
    return good("health", "serving")


async def _up_bits_per_s(channel: grpc.aio.Channel, empty_s: float) -> float | None:
    """By how much longer a Describe takes whose request has an unknown field of so many bytes, which the other side skips."""
    describe = channel.unary_unary("/cactus_core.wire.v1.Speculation/Describe", bytes, bytes)
    field = b"\xfa\x7f" + _varint(_PROBE_BYTES) + bytes(_PROBE_BYTES)  # field 2047, length-delimited
    try:
        await describe(b"", timeout=_TIMEOUT_S)
        started = time.perf_counter()
        await describe(field, timeout=_TIMEOUT_S)
    except grpc.aio.AioRpcError:
        return None
    longer = time.perf_counter() - started - empty_s
    return None if longer <= 0.1 * empty_s else _PROBE_BYTES * 8 / longer


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])
