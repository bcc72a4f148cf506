"""The house stands as drawn: cluster -> {cloud, edge} -> cactus_core, no circle, nothing heavy where it hurts."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("cactus_core", "edge", "cloud", "cluster", "benchmarks")
MAY_IMPORT = {
    "cactus_core": {"cactus_core"},
    "edge": {"edge", "cactus_core"},
    "cloud": {"cloud", "cactus_core"},
    "cluster": {"cluster", "cloud", "edge", "cactus_core"},
    "benchmarks": set(PACKAGES),
}
NEVER = {
    "edge": {"torch", "transformers", "ray"},
    "cloud": {"onnxruntime", "onnx", "ray"},
}
# What importing every module of a package, all in one process, must leave unloaded.
UNLOADED = {
    "cactus_core": {"torch", "transformers", "ray", "onnxruntime", "edge", "cloud", "cluster"},
    "edge": {"torch", "transformers", "ray", "cloud", "cluster"},
    "cluster.cli": {"torch", "transformers", "ray", "onnxruntime"},
}
MAX_LINES = 400


def is_generated(path: Path) -> bool:
    return "_pb2" in path.name


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))}
WRITTEN = [name for name, path in FILES.items() if not is_generated(path)]


def imports(module: str, *, lazy: bool) -> set[str]:
    """The dotted names that `module` imports; with `lazy` those inside functions too."""
    path = FILES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    names = set()
    for node in statements(ast.parse(path.read_text("utf8")), lazy=lazy):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            # `from package import module` imports both.
            names |= {base} | {f"{base}.{alias.name}" for alias in node.names if f"{base}.{alias.name}" in FILES}
    return names


def statements(node: ast.AST, *, lazy: bool) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        yield child
        if lazy or not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield from statements(child, lazy=lazy)


def roots(names: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("package", PACKAGES)
def test_package_has_modules(package):
    assert any(roots({name}) == {package} for name in FILES)


@pytest.mark.parametrize("module", FILES)
def test_imports_point_one_way(module):
    package = module.partition(".")[0]
    imported = roots(imports(module, lazy=True))
    wrong = (imported & set(PACKAGES)) - MAY_IMPORT[package] | imported & NEVER.get(package, set())
    assert not wrong, f"{module} must not import {sorted(wrong)}"


@pytest.mark.parametrize("module", [name for name in FILES if roots({name}) == {"cactus_core"}])
def test_core_needs_numpy_alone(module):
    allowed = {"cactus_core", "numpy"} | sys.stdlib_module_names
    if module.startswith("cactus_core.wire"):
        allowed |= {"google"}
    if module.endswith("_pb2_grpc"):
        allowed |= {"grpc"}
    assert roots(imports(module, lazy=True)) <= allowed


@pytest.mark.parametrize("module", [name for name, path in FILES.items() if path.name == "__init__.py"])
def test_init_is_light(module):
    assert roots(imports(module, lazy=False)) <= sys.stdlib_module_names


def test_modules_form_no_circle():
    graph = {module: imports(module, lazy=False) & set(FILES) - {module} for module in FILES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as circle:
        pytest.fail(" -> ".join(circle.args[1]))


@pytest.mark.parametrize("module", WRITTEN)
def test_file_can_be_read_in_one_sitting(module):
    num_lines = len(FILES[module].read_text("utf8").splitlines())
    assert num_lines <= MAX_LINES, f"{module} has {num_lines} lines: split it by noun"


IMPORT_EACH = """
import importlib, json, sys
modules, unwanted = json.loads(sys.argv[1])
for module in modules:
    importlib.import_module(module)
    loaded = sorted(name for name in unwanted if name in sys.modules)
    if loaded:
        sys.exit(f"importing {module} loads {', '.join(loaded)}")
"""


@pytest.mark.parametrize("part", UNLOADED)
def test_import_leaves_the_heavy_ones_unloaded(part):
    modules = [name for name in FILES if name == part or name.startswith(f"{part}.")]
    assert modules
    arguments = json.dumps([modules, sorted(UNLOADED[part])])
    done = subprocess.run([sys.executable, "-c", IMPORT_EACH, arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
