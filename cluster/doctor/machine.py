"""Checks of this machine: packages against what Cactus asks for, execution providers, GPU, cores, memory, Ray.

Knows the machine; knows nothing of endpoints or drafts.
"""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec

from packaging.requirements import Requirement

from cluster.doctor.finding import Finding, bad, good, note

_DISTRIBUTION = "cactus-serving"
_EXTRAS = ("edge", "cloud", "cluster")
_FEW_CORES = 2
_LITTLE_MEMORY = 2 << 30  # bytes


def check_machine() -> Iterator[Finding]:
    """Everything that can be told without starting anything."""
    yield good("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    yield from check_packages()
    yield from _providers()
    yield from _accelerator()
    yield from _cores()
    yield from _memory()


def check_packages() -> Iterator[Finding]:
    """Each extra's packages against the bounds that the installed distribution states."""
    try:
        stated = [Requirement(line) for line in requires(_DISTRIBUTION) or ()]
    except PackageNotFoundError:
        yield bad("packages", f"{_DISTRIBUTION} is not installed", "install it: pip install 'cactus-serving[cluster]'")
        return
    for extra in ("", *_EXTRAS):
        wanted = [each for each in stated if _belongs(each, extra) and each.name != _DISTRIBUTION]
        missing = [each.name for each in wanted if not _version(each.name)]
        wrong = [f"{each.name} {_version(each.name)}, not {each.specifier}" for each in wanted if _version(each.name) and not _fits(each)]
        name = f"packages, {extra or 'core'}"
        install = f"pip install --upgrade '{_DISTRIBUTION}{f'[{extra}]' if extra else ''}'"
        if wrong:
            yield bad(name, "; ".join(wrong), install)
        elif missing:
            yield note(name, f"not installed: {', '.join(missing)}", f"for what needs it: {install}")
        else:
            yield good(name, f"{len(wanted)} within their bounds")


def check_ray() -> Finding:
    """Starts a Ray of its own, and ends it: seconds."""
    if find_spec("ray") is None:
        return note("ray", "not installed", "for `cactus up` and `cactus demo`: pip install 'cactus-serving[cluster]'")
    import ray

    if ray.is_initialized():
        return good("ray", f"{ray.__version__} runs in this process")
    try:
        with tempfile.TemporaryDirectory(prefix="cactus-", ignore_cleanup_errors=True) as scratch:
            ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level="ERROR", num_cpus=1, _temp_dir=scratch)
            try:
                nodes = len(ray.nodes())
            finally:
                ray.shutdown()
    except Exception as error:  # noqa: BLE001  # whatever keeps Ray from starting is what is asked for
        reason = str(error).strip().split("\n")[0]
        return bad("ray", f"{ray.__version__} did not start: {reason}", "see Ray's log under /tmp/ray; `cactus simulate` works without it")
    return good("ray", f"{ray.__version__} starts ({nodes} node), and ends")


def _belongs(requirement: Requirement, extra: str) -> bool:
    if requirement.marker is None:
        return not extra
    return bool(extra) and requirement.marker.evaluate({"extra": extra}) and not requirement.marker.evaluate({"extra": ""})


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _fits(requirement: Requirement) -> bool:
    return requirement.specifier.contains(_version(requirement.name), prereleases=True)


def _providers() -> Iterator[Finding]:
    if find_spec("onnxruntime") is None:
        yield bad("onnx", "ONNX Runtime is not installed: nothing can draft here", "pip install 'cactus-serving[edge]'")
        return
    import onnxruntime as ort

    found = [name.removesuffix("ExecutionProvider") for name in ort.get_available_providers()]
    yield good("onnx", f"ONNX Runtime {ort.__version__} with {', '.join(found)}")


def _accelerator() -> Iterator[Finding]:
    if find_spec("torch") is None:
        yield note("gpu", "PyTorch is not installed: no verifier runs here", "for a verifier: pip install 'cactus-serving[cloud]'")
        return
    import torch

    if not torch.cuda.is_available():
        what = "PyTorch sees no GPU: a verifier runs on the processor"
        yield note("gpu", what, "fine for the demo pair and for drafting; for real targets serve from a machine with a GPU")
        return
    for number in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(number)
        yield good("gpu", f"{properties.name}, {properties.total_memory / 2**30:.0f} GB")


def _cores() -> Iterator[Finding]:
    count = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    if count < _FEW_CORES:
        yield note("cores", f"{count}", "drafting and what comes from the link share it: expect less than the planner says")
    else:
        yield good("cores", f"{count}")


def _memory() -> Iterator[Finding]:
    if "SC_PHYS_PAGES" not in os.sysconf_names:
        return
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    said = f"{total / 2**30:.1f} GB"
    if total < _LITTLE_MEMORY:
        yield note("memory", said, "a small draft fits; a verifier of the demo pair needs 2 GB")
    else:
        yield good("memory", said)
