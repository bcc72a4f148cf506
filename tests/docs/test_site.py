"""The site builds without a warning, and what it makes of the repository is right."""

import os
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location

import pytest

from tests.docs.pages import PAGES, ROOT


def hook(name):
    spec = spec_from_file_location(name, ROOT / f"docs/hooks/{name}.py")
    module = sys.modules[name] = module_from_spec(spec)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


WIRE, REPOSITORY = hook("wire_reference"), hook("repository_pages")


def test_the_site_builds_and_its_links_hold(tmp_path):
    line = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(line, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "index.html").exists()
    assert "AsyncClient" in (tmp_path / "reference/python.html").read_text("utf8")
    assert "wait_ms" in (tmp_path / "reference/wire.html").read_text("utf8")


def test_every_page_is_of_the_site():
    uris = (ROOT / "mkdocs.yml").read_text("utf8")
    pages = [str(page.relative_to(ROOT)) for page in PAGES if page.name != "README.md" or page.parent.name == "demo"]
    assert [page for page in pages if f": {REPOSITORY.PAGES.get(page, page.removeprefix('docs/'))}\n" not in uris] == []


def test_the_wire_page_has_every_message_and_field_of_the_contract():
    from google.protobuf.descriptor import FieldDescriptor

    from cactus_core.wire.v1 import speculation_pb2

    _, blocks = WIRE.parsed(WIRE.PROTO.read_text("utf8"))
    told = {block.name: [(row.cells[0], row.cells[1]) for row in block.rows] for block in blocks if block.kind == "message"}
    messages = speculation_pb2.DESCRIPTOR.message_types_by_name

    def fields(message) -> list[FieldDescriptor]:
        return list(message.fields)

    assert told == {name: [(str(field.number), field.name) for field in fields(message)] for name, message in messages.items()}


def test_a_line_of_the_contract_that_is_not_understood_is_an_error():
    with pytest.raises(ValueError, match="no known form"):
        WIRE.page('syntax = "proto3";\nmessage M {\n  map<string, uint32> m = 1;\n}\n')


def test_a_comment_is_told_beside_what_it_stands_above():
    page = WIRE.page(
        'syntax = "proto3";\n// Of the text.\nmessage M {\n  // How\n  // long.\n  uint32 n = 1;\n  bytes b = 2;  // packed\n}\n'
    )
    assert "## M\n\n*message*\n\nOf the text." in page
    assert "| 1 | `n` | uint32 | How long. |" in page
    assert "| 2 | `b` | bytes | packed |" in page


def test_links_lead_to_the_site_or_nowhere():
    text = "[a](../SECURITY.md#who) [b](../cloud/step.py) [c](https://x.y/z) [d](link.md)"
    assert REPOSITORY.linked(text, "docs/load.md", "load.md") == "[a](security.md#who) b [c](https://x.y/z) [d](link.md)"
    assert REPOSITORY.linked("[a](docs/gpu.md)", "SECURITY.md", "security.md") == "[a](gpu.md)"
