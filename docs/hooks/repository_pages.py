"""Pages of the repository that are no part of docs/ join the site, and links between pages hold in both places.

Markdown in the repository links to files as they lie there. What the site has is linked to; of what it has not, the source, the
name is left and the link is not. Knows paths; knows nothing of what pages say.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
PAGES = {
    "SECURITY.md": "security.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "models/demo/README.md": "demo-pair.md",
}
_SOURCES = {uri: path for path, uri in PAGES.items()}
_LINK = re.compile(r"(?<!!)\[([^\]\n]+)\]\(([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    for path, uri in PAGES.items():
        files.append(File.generated(config, uri, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    uri = page.file.src_uri
    if page.file.generated_by is not None and uri not in _SOURCES:
        return markdown  # made for the site: its links are the site's
    return linked(markdown, _SOURCES.get(uri, f"docs/{uri}"), uri)


def linked(markdown: str, path: str, uri: str) -> str:
    """The page at `path` of the repository as it stands at `uri` of the site."""

    def link(found: re.Match[str]) -> str:
        name, target, anchor = found[1], found[2], found[3] or ""
        if re.match(r"[a-z]+:", target):
            return found[0]
        named = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
        there = PAGES.get(named, named.removeprefix("docs/") if named.startswith("docs/") else None)
        if there is None:
            return name
        return f"[{name}]({posixpath.relpath(there, posixpath.dirname(uri) or '.')}{anchor})"

    return _LINK.sub(link, markdown)
