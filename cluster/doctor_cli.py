"""The verb `cactus doctor`. Imports its side when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cactus_core.errors import InvalidInput


def doctor(
    endpoint: Annotated[str | None, typer.Option(help="host:port of a gateway or a verifier to look at too")] = None,
    draft: Annotated[
        str | None,
        typer.Option(help="a draft to look at too, beside the endpoint's target where one is named: folder, checkpoint or hub name"),
    ] = None,
    profile: Annotated[Path | None, typer.Option(help="write the device profile of this machine with --draft into this .yaml file")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="leave out what takes seconds: starting a Ray")] = False,  # a flag
) -> None:
    """Say whether this machine, an endpoint and a draft are fit to work together, and what to do. Ends with 1 where something is not."""
    from rich.console import Console

    from cluster.doctor.examination import Examination

    if profile is not None and draft is None:
        raise InvalidInput("--profile measures how fast a draft runs here; name one with --draft")
    if profile is not None and not profile.resolve().parent.is_dir():
        raise InvalidInput(f"there is no folder {profile.resolve().parent} to write {profile.name} into; make it first")
    if not Examination(endpoint, draft, profile, quick).run(Console(highlight=False)):
        raise typer.Exit(1)
