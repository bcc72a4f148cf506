"""The verb link: an emulated network between two parts, as a part of its own. Imports its libraries when it runs."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from cluster.termination import run


def link(
    to: Annotated[str, typer.Option(help="host:port of what is reached through the link")],
    listen: Annotated[str, typer.Option(help="host:port where edges reach it; port 0 takes any")] = "127.0.0.1:7802",
    profile: Annotated[str, typer.Option(help="perfect, near, regional or far")] = "regional",
    seed: Annotated[int, typer.Option(help="of its jitter")] = 0,
) -> None:
    """Stand between an edge and a cluster as a network would, EMULATED: delay, jitter and bandwidth, until Ctrl-C."""
    from cactus_core.errors import Unavailable
    from cluster.emulated_link import EmulatedLink
    from cluster.link_profile import profile_named

    chosen = profile_named(profile)

    async def relay() -> None:
        try:
            async with EmulatedLink(to, chosen, listen=listen, seed=seed) as between:
                print(f"emulated link {chosen.name} ({chosen.description}) at {between.address} before {to}; Ctrl-C ends it", flush=True)
                try:
                    await asyncio.Event().wait()
                finally:
                    print(f"{between.up_bytes} bytes went up, {between.down_bytes} down", flush=True)
        except OSError as error:
            raise Unavailable(f"cannot listen on {listen}: {error.strerror}; choose another with --listen") from error

    run(relay())
