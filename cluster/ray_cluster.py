"""A connection to Ray, and what comes of calls over it.

Knows Ray; knows nothing of what its actors are.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

# Before Ray reads them: a local demo sends no usage reports, and workers without a GPU keep their own view of devices.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import psutil
import ray
import ray.util
from ray.exceptions import RayActorError, RayTaskError

from cactus_core.errors import CactusError, Unavailable

_REACH_S = 5.0
_GRACE_S = 3.0  # for what Ray started to end by itself
_NAMESPACE = "cactus"  # where names of actors are those of one cluster, and no other program's


@contextmanager
def connected(address: str | None, num_cpus: int | None = None) -> Iterator[None]:
    """To the Ray cluster at `address`, or to one that is started here with so many `num_cpus` to give away, and ends with the context.

    Raises `Unavailable` when there is none to be had.
    """
    try:
        _init(address, num_cpus)
        yield
    finally:
        started = _of_raylets() if address is None else []
        ray.shutdown()
        _end(started)


def _init(address: str | None, num_cpus: int | None) -> None:
    on_terminate = signal.getsignal(signal.SIGTERM)
    try:
        _reach(address)
        ray.init(
            address=address or "local",
            namespace=_NAMESPACE,
            num_cpus=None if address else num_cpus,
            include_dashboard=False if address is None else None,
            log_to_driver=False,
            logging_level=logging.ERROR,
            configure_logging=True,
        )
    except (OSError, RuntimeError, ValueError) as error:
        line = str(error).split("\n")[0]
        hint = "; where it asks for a token, set RAY_AUTH_MODE=token" if address not in {None, "auto"} else ""
        raise Unavailable(f"no Ray cluster could be had at {address or 'this machine'}: {line}{hint}") from error
    except SystemExit:  # of Ray's own handler, while it starts: who terminates us is told what termination.py tells
        raise KeyboardInterrupt from None
    finally:
        signal.signal(signal.SIGTERM, on_terminate)  # Ray sets its own, which would end us before what we started


def _of_raylets() -> list[psutil.Process]:
    """What the raylets that we started have started: workers and agents."""
    found: list[psutil.Process] = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):  # gone meanwhile
            found += child.children(recursive=True) if child.name() == "raylet" else []
    return found


def _end(processes: Sequence[psutil.Process]) -> None:
    """Waits for those that end by themselves. An agent that its raylet's end meets while it starts asks for the cluster for minutes."""
    _, left = psutil.wait_procs(processes, timeout=_GRACE_S)
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, timeout=_GRACE_S)


def _reach(address: str | None) -> None:
    """Raises `OSError` where nothing listens: Ray would try for minutes."""
    host, _, port = (address or "").rpartition(":")
    if host and "://" not in host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), _REACH_S).close()


def ray_address() -> str:
    """Where other programs find the Ray cluster that we are connected to."""
    return str(ray.get_runtime_context().gcs_address)


def named(prefix: str = "") -> dict[str, Any]:
    """The actors of this cluster whose names begin so, by name."""
    found: dict[str, Any] = {}
    for name in sorted(ray.util.list_named_actors()):
        if name.startswith(prefix):
            try:
                found[name] = ray.get_actor(name)
            except ValueError:
                continue  # gone meanwhile
    return found


async def answers(*references: Any) -> list[Any]:
    """Of calls, in their order, without blocking the loop.

    Raises the first error of the tree that one of them raised, as it was raised there, and `Unavailable` where an actor is gone.
    """
    try:
        return list(await asyncio.gather(*references))
    except RayTaskError as error:
        if isinstance(error.cause, CactusError):
            raise error.cause from None
        raise
    except RayActorError as error:
        raise Unavailable(f"a part of the cluster died: {str(error).splitlines()[0]}; start it again with `cactus up`") from None
