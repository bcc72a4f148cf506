"""The page at `/`: a prompt, its text as it comes beside what the cloud alone would write, and what speculation did.

Its files lie in `page/` and are sent as they are, with a policy that lets it load and ask nothing but this server.
Knows files and headers; knows nothing of what the page shows.
"""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI, Response

_FOLDER = Path(__file__).parent / "page"
_KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


def add_playground(app: FastAPI) -> None:
    """Routes for the page and each of its files."""
    for path in sorted(_FOLDER.iterdir()):
        _add(app, "/" if path.name == "index.html" else f"/playground/{path.name}", path.read_bytes(), _KINDS[path.suffix])


def _add(app: FastAPI, route: str, content: bytes, kind: str) -> None:
    @app.get(route, response_class=Response, include_in_schema=False)
    async def file() -> Response:
        return Response(content, media_type=kind, headers=_HEADERS)
