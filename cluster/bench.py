"""The verb `cactus bench`: runs a benchmark by its name. Benchmarks are found by entry point, so that nothing here imports them."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Protocol, runtime_checkable

import typer

from cactus_core.errors import InvalidInput, Unsupported
from cluster.figures import Figures

_GROUP = "cactus.benchmarks"


@runtime_checkable
class OfAnyPair(Protocol):
    """A benchmark that also measures other pairs than the demo's."""

    def run_pair(self, target: str, draft: str, *, quick: bool) -> Figures:
        """As `Benchmark.run`, of the models in these folders."""


class Benchmark(Protocol):
    """What a module of the group offers."""

    def run(self, *, quick: bool) -> Figures:
        """Measures: within 50 s on two cores when `quick`, within half an hour otherwise."""

    def show(self, figures: Figures) -> None:
        """Prints what was found."""

    def document(self, figures: Figures, folder: Path) -> None:
        """Writes plots and tables into a folder of documents."""


def bench(
    name: Annotated[str, typer.Argument(help="abuse, acceptance, faults, gpu, link, load, plan, quality, serve, tuner or verifier")],
    quick: Annotated[bool, typer.Option("--quick", help="a look within a minute: wide intervals, fewer cases")] = False,  # noqa: FBT002  # a flag
    json_file: Annotated[Path | None, typer.Option("--json", help="write the figures to this file")] = None,
    target: Annotated[str | None, typer.Option(help="of quality: another target than the demo's; goes with --draft")] = None,
    draft: Annotated[str | None, typer.Option(help="of quality: the draft beside it")] = None,
    docs: Annotated[Path | None, typer.Option(help="draw plots, and renew the tables of the pages, in this folder")] = None,
) -> None:
    """Measure a claim against its baselines, in one run on this machine."""
    for folder in (docs, json_file.resolve().parent if json_file is not None else None):
        if folder is not None and not folder.is_dir():
            raise InvalidInput(f"there is no folder {folder} to write into; make it first")
    found = entry_points(group=_GROUP)
    if name not in found.names:
        raise Unsupported(f"no benchmark is called {name!r}; there are: {', '.join(sorted(found.names)) or 'none: install Cactus'}")
    benchmark: Benchmark = found[name].load()
    if target is None and draft is None:
        figures = benchmark.run(quick=quick)
    elif target is None or draft is None:
        raise InvalidInput("--target and --draft are a pair; give both or neither")
    elif not isinstance(benchmark, OfAnyPair):
        raise Unsupported(f"{name} measures the demo pair; --target and --draft are for quality")
    else:
        figures = benchmark.run_pair(target, draft, quick=quick)
    benchmark.show(figures)
    if json_file is not None:
        figures.write(json_file)
    if docs is not None:
        benchmark.document(figures, docs)
