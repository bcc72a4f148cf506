"""The site is built of its pages without a warning, and every page is in its menu."""

import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent


def pages_in(entry):
    if isinstance(entry, str):
        return {entry}
    return {page for part in (entry if isinstance(entry, list) else entry.values()) for page in pages_in(part)}


def test_every_page_is_in_the_menu():
    menu = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf8"))["nav"]
    assert pages_in(menu) == {path.name for path in (ROOT / "docs").glob("*.md")}


def test_the_site_is_built(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "AsyncClient" in (tmp_path / "python/index.html").read_text("utf8")
    assert "DraftTree" in (tmp_path / "wire/index.html").read_text("utf8")
