"""Metrics over HTTP: Prometheus asks at an address of its own, apart from the requests'.

Knows the library and sockets; knows nothing of what is measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.registry import Collector

from cactus_core.errors import InvalidInput, Unavailable


@contextmanager
def exposed(address: str | None, *collectors: Collector) -> Iterator[int]:
    """Serves what `collectors` tell at `http://address/metrics`, in threads of its own; gives the port. No address: nothing, and 0.

    Whoever reaches the address may read. Raises `InvalidInput` unless it is `host:port`, `Unavailable` when it cannot be had.
    """
    if address is None:
        yield 0
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) >= 1 << 16:
        raise InvalidInput(f"--metrics must be host:port, not {address!r}")
    registry = CollectorRegistry()
    for collector in collectors:
        registry.register(collector)
    try:
        server, thread = start_http_server(int(port), host.strip("[]"), registry)
    except OSError as error:
        raise Unavailable(f"cannot serve metrics on {address}: {error.strerror}; choose another with --metrics") from error
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
