"""The verb `cactus plan`. Imports its side when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cactus_core.errors import InvalidInput

_PLOTS = (".svg", ".png", ".pdf")


def plan(
    device: Annotated[
        str, typer.Option(help="what clients draft on: a name below, or a .yaml file of `cactus doctor --profile`")
    ] = "laptop",
    link: Annotated[str, typer.Option(help="perfect, near, regional or far, or a .yaml file")] = "regional",
    verifier: Annotated[str, typer.Option(help="a name below, or a .yaml file")] = "h100-qwen3-8b",
    acceptance: Annotated[str, typer.Option(help="how far drafts come true: a name below, or a .yaml file")] = "demo-t0.7",
    clients: Annotated[int, typer.Option(min=1, max=512, help="that are served at once")] = 32,
    p95_ms: Annotated[float, typer.Option(min=0.1, help="longest time a token that 95% may take, for the count of clients")] = 50.0,
    names: Annotated[bool, typer.Option("--names", help="list the profiles that come with Cactus, and end")] = False,  # a flag
    json_file: Annotated[Path | None, typer.Option("--json", help="also write the figures to this file")] = None,
    plot: Annotated[Path | None, typer.Option(help="also draw them into this file: .svg, .png or .pdf")] = None,
) -> None:
    """Say what a deployment would bring: clients a verifier carries, the best way to speculate, break-even round trips."""
    from rich.console import Console

    from cluster.link_profile import LinkProfile
    from cluster.planning import report
    from cluster.planning.acceptance_curve import AcceptanceCurve
    from cluster.planning.answers import answered
    from cluster.planning.configuration import Setting
    from cluster.planning.device_profile import DeviceProfile
    from cluster.planning.profile_files import names as names_of
    from cluster.planning.profile_files import profile
    from cluster.planning.verifier_profile import VerifierProfile

    if names:
        for flag, kind in (
            ("device", DeviceProfile),
            ("link", LinkProfile),
            ("verifier", VerifierProfile),
            ("acceptance", AcceptanceCurve),
        ):
            print(f"--{flag:10} {', '.join(names_of(kind))}")
        return
    for file in (json_file, plot):
        if file is not None and not file.resolve().parent.is_dir():
            raise InvalidInput(f"there is no folder {file.resolve().parent} to write {file.name} into; make it first")
    if plot is not None and plot.suffix not in _PLOTS:
        raise InvalidInput(f"a plot is a file that ends in {', '.join(_PLOTS)}, not {plot.name}")
    setting = Setting(
        profile(DeviceProfile, device), profile(LinkProfile, link), profile(VerifierProfile, verifier), profile(AcceptanceCurve, acceptance)
    )
    console = Console(highlight=False)
    with console.status("simulating ..."):
        answers = answered(setting, clients, p95_ms / 1e3)
    report.show(console, answers)
    if json_file is not None:
        report.figures(answers).write(json_file)
    if plot is not None:
        from cluster.planning.plots import draw

        with console.status("drawing ..."):
            draw(answers, plot)
        print(f"wrote {plot}")
