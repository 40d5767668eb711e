"""The pages: the operators' page at `/ops`, with the demo its shop at `/`, and what they load.

Owns how files in `api/web` are served: from memory, compressed once, revalidated by ETag, under a content
policy that lets a page run its own scripts and talk to its own server, and nothing else. The pages are
clients of the API like any other. Is told what they must know of the settings. Never decides anything.
Installed by `api/app.py` after the API's own routes.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from hashlib import blake2b
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, NamedTuple, Protocol

from fastapi import FastAPI, Request
from starlette.responses import Response

import demo
from api import render
from api.dispatch import not_found

PAGES = {"/ops": "ops.html"}
DEMO_PAGES = {"/": "index.html"}

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    # Kept, but asked about each time: a new version shows at once, an old one costs a 304.
    "Cache-Control": "no-cache",
    "Vary": "Accept-Encoding",
}
_MEDIA_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


class WebSettings(Protocol):
    """What the pages must know. `dashboard_url`: Ray's, empty when there is none to link to."""

    @property
    def mode(self) -> str: ...
    @property
    def dashboard_url(self) -> str: ...
    @property
    def demo_on(self) -> bool: ...


class Asset(NamedTuple):
    """A file as it is served."""

    media_type: str
    etag: str
    content: bytes
    compressed: bytes


def install(app: FastAPI, settings: WebSettings) -> None:
    """Add the pages to the application. They are no part of the API's description."""
    assets = {name: _asset(file) for name, file in _files(files("api").joinpath("web"), "")}
    pages = PAGES | (DEMO_PAGES if settings.demo_on else {})
    config = {"mode": settings.mode, "dashboard_url": settings.dashboard_url, "demo": settings.demo_on}
    goods = {"products": demo.products() if settings.demo_on else []}

    async def page(request: Request) -> Response:
        return _serve(request, assets[pages[request.scope["path"]]])

    async def asset(request: Request, name: str) -> Response:
        found = assets.get(f"assets/{name}")
        if found is None:
            raise not_found()
        return _serve(request, found)

    async def demo_config() -> Response:
        return render.answer(config)

    async def demo_products() -> Response:
        return render.answer(goods)

    routes: dict[str, Callable[..., Any]] = {
        **dict.fromkeys(pages, page),
        "/assets/{name:path}": asset,
        "/demo/config.json": demo_config,
        "/demo/products.json": demo_products,
    }
    for path, endpoint in routes.items():
        app.add_api_route(path, endpoint, include_in_schema=False)


def _serve(request: Request, asset: Asset) -> Response:
    headers = {**_HEADERS, "ETag": asset.etag}
    if asset.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    if "gzip" in request.headers.get("accept-encoding", ""):
        headers["Content-Encoding"] = "gzip"
        return Response(asset.compressed, headers=headers, media_type=asset.media_type)
    return Response(asset.content, headers=headers, media_type=asset.media_type)


def _files(folder: Traversable, path: str) -> Iterator[tuple[str, Traversable]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _files(entry, f"{path}{entry.name}/")
        elif entry.name.rpartition(".")[2] in _MEDIA_TYPES:
            yield path + entry.name, entry


def _asset(file: Traversable) -> Asset:
    content = file.read_bytes()
    # Weak: the same tag stands for both encodings.
    etag = f'W/"{blake2b(content, digest_size=12).hexdigest()}"'
    media_type = _MEDIA_TYPES[file.name.rpartition(".")[2]]
    return Asset(media_type, etag, content, gzip.compress(content, mtime=0))
