"""Serves the built dashboard: its page for every address of a view, and the files that the page loads."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import mimetypes
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

DIST = Path(__file__).with_name("dist")
"""Where `dashboard/build.py` puts the build; wheels and images contain it."""

ASSETS = "/assets/"
PAGES = frozenset({"/", "/login", "/setup", "/reset-password", "/accept-invitation"})
VIEWS = "/p/"
PREVIEW = "/preview"
"""The document of the frame in which an HTML part that is not saved is shown."""

NONCE = "__CSP_NONCE__"
_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'nonce-{nonce}'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'"
)
_EVERYWHERE = {"x-content-type-options": "nosniff", "cross-origin-resource-policy": "same-origin"}
_PAGE = _EVERYWHERE | {
    "cache-control": "no-store",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}
_ASSET = _EVERYWHERE | {"cache-control": "public, max-age=31536000, immutable", "vary": "accept-encoding"}

_NOT_BUILT = b"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="refresh" content="3">
<title>Sluice: the dashboard is not built yet</title>
<h1>The dashboard is not built yet</h1>
<p>From a checkout, <code>make up</code> builds it beside the start, which takes about half a minute the first time, and
<code>make dashboard</code> shows why a build fails. Everything else works meanwhile: the API is described in
<a href="/openapi.json">/openapi.json</a>.</p>
<p>This page reloads itself every three seconds.</p>
"""

# Its script puts the HTML in place that the page around it sends. Scripts of that HTML do not run, it loads nothing,
# and the sandbox gives it no origin, no forms and no windows.
_PREVIEW_SCRIPT = """addEventListener("message", (event) => {
  if (event.source !== parent || typeof event.data?.html !== "string") return;
  const shown = new DOMParser().parseFromString(event.data.html, "text/html");
  shown.querySelectorAll("script, meta, base, link, iframe, object, embed").forEach((element) => element.remove());
  for (const element of shown.querySelectorAll("*"))
    for (const { name } of [...element.attributes]) if (name.startsWith("on")) element.removeAttribute(name);
  document.documentElement.replaceWith(document.adoptNode(shown.documentElement));
});
addEventListener("click", (event) => event.preventDefault(), true);"""
_PREVIEW_HASH = base64.b64encode(hashlib.sha256(_PREVIEW_SCRIPT.encode()).digest()).decode()
_PREVIEW_PAGE = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><title>Preview</title>'
    f"<body><script>{_PREVIEW_SCRIPT}</script></body></html>"
)
_PREVIEW_POLICY = (
    f"sandbox allow-scripts; default-src 'none'; script-src 'sha256-{_PREVIEW_HASH}'; style-src 'unsafe-inline';"
    " img-src data:; form-action 'none'; base-uri 'none'; frame-ancestors 'self'"
)


@dataclass(frozen=True, slots=True)
class _Asset:
    content: bytes
    gzipped: bytes | None
    media_type: str


@dataclass(frozen=True, slots=True)
class _Build:
    """One build in memory, about a megabyte. ``stamp``: changes with the files."""

    stamp: tuple[int, int]
    page: str
    assets: Mapping[str, _Asset]


class Dashboard:
    """The ASGI application of the dashboard in ``directory``, which a build may replace at any time."""

    def __init__(self, directory: Path = DIST) -> None:
        self._directory = directory
        self._build: _Build | None = None
        self._assets: dict[str, _Asset] = {}  # with those of earlier builds: open tabs still load them
        self._reading = asyncio.Lock()

    @staticmethod
    def serves(path: str) -> bool:
        """Is it an address of the dashboard? All others belong to the APIs."""
        return path in PAGES or path == PREVIEW or path.startswith((VIEWS, ASSETS))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        request = Request(scope)
        if request.method != "GET":
            response = Response(status_code=405, headers={"allow": "GET, HEAD"})
        elif request.url.path.startswith(ASSETS):
            response = await self._show_asset(request)
        elif request.url.path == PREVIEW:
            headers = _PAGE | {"content-security-policy": _PREVIEW_POLICY}
            response = Response(_PREVIEW_PAGE, 200, headers, "text/html")
        else:
            response = await self._show_page()
        await response(scope, receive, send)

    async def _show_page(self) -> Response:
        build = await self._current()
        if build is None:
            policy = {"content-security-policy": "default-src 'none'; frame-ancestors 'none'", "retry-after": "3"}
            return Response(_NOT_BUILT, 503, _PAGE | policy, "text/html")
        nonce = secrets.token_urlsafe(16)
        policy = {"content-security-policy": _SECURITY_POLICY.format(nonce=nonce)}
        return Response(build.page.replace(NONCE, nonce), 200, _PAGE | policy, "text/html")

    async def _show_asset(self, request: Request) -> Response:
        name = request.url.path.removeprefix(ASSETS)
        if name not in self._assets:
            await self._current()
        asset = self._assets.get(name)
        if asset is None:
            return Response("Not found\n", 404, _EVERYWHERE | {"cache-control": "no-store"}, "text/plain")
        if asset.gzipped is not None and "gzip" in request.headers.get("accept-encoding", ""):
            return Response(asset.gzipped, 200, _ASSET | {"content-encoding": "gzip"}, asset.media_type)
        return Response(asset.content, 200, _ASSET, asset.media_type)

    async def _current(self) -> _Build | None:
        """The build on the disk, read when it has changed."""
        async with self._reading:
            stamp = await asyncio.to_thread(_stamp, self._directory)
            if stamp is None:
                return self._build  # between the removal of a build and the next one, what was read last
            if self._build is None or self._build.stamp != stamp:
                self._build = await asyncio.to_thread(_read, self._directory, stamp)
                self._assets |= self._build.assets
            return self._build


def _stamp(directory: Path) -> tuple[int, int] | None:
    try:
        found = (directory / "index.html").stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _read(directory: Path, stamp: tuple[int, int]) -> _Build:
    paths = [path for path in (directory / "assets").iterdir() if path.suffix != ".gz"]
    assets = {path.name: _asset(path) for path in paths}
    return _Build(stamp, (directory / "index.html").read_text(encoding="utf-8"), assets)


def _asset(path: Path) -> _Asset:
    gzipped = path.with_name(f"{path.name}.gz")
    media_type = "text/javascript" if path.suffix == ".js" else mimetypes.guess_type(path.name)[0]
    return _Asset(
        path.read_bytes(),
        gzipped.read_bytes() if gzipped.exists() else None,
        media_type or "application/octet-stream",
    )
