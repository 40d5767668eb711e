"""What machines ask: is the process alive, is the shop ready, what are the figures, what does the API offer.

Owns nothing. Mounted by `api/app.py`.
"""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, Response

from api import render
from api.context import context_of
from api.docs_page import docs_page
from api.metrics import CONTENT_TYPE, HttpMetrics
from api.openapi import plain_operation
from cluster.engine_types import Busy

router = APIRouter(tags=["Machines"], default_response_class=Response)


@router.get("/healthz", **plain_operation({200: "The process answers."}))
async def healthz(request: Request) -> Response:
    """Whether this process answers; says nothing about those behind it."""
    settings = context_of(request).settings
    return render.answer({"status": "ok", "version": settings.version, "mode": settings.mode})


@router.get("/readyz", **plain_operation({200: "Ready to serve.", 503: "Not yet, or not now."}))
async def readyz(request: Request) -> Response:
    """Whether every shard answers."""
    try:
        state = await context_of(request).engine.ready()
    except Busy:
        state = {"ready": False}
    if state.get("ready"):
        return render.answer(state)
    return render.answer(state, 503, {**render.PRIVATE, "Retry-After": "1"})


@router.get("/metrics", **plain_operation({200: "Prometheus' text format."}, media_type="text/plain"))
async def metrics(request: Request) -> Response:
    """Requests and their times, by route and status."""
    figures: HttpMetrics = request.app.state.metrics
    return Response(figures.exposition(), media_type=CONTENT_TYPE)


@router.get("/docs", include_in_schema=False)
async def docs(request: Request) -> Response:
    """The API's description for people: one page that needs nothing from elsewhere."""
    return HTMLResponse(docs_page(request.app.openapi()))
