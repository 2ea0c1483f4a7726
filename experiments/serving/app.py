"""The HTTP API: its paths, and what each status means."""

from __future__ import annotations

import hmac
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response

from experiments.serving import limits, schemas
from experiments.serving.guard import BUSY, App, Guard
from experiments.serving.live import Live, Reloading
from experiments.serving.metrics import resident_bytes
from experiments.serving.service import Refused
from tron_jax.console.messages import complain
from tron_jax.errors import UserError
from tron_jax.serving.batching import Full, Late

STATIC = Path(__file__).parent / "static"
FILES = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/docs": ("docs.html", "text/html; charset=utf-8"),
    "/static/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/static/docs.js": ("docs.js", "text/javascript; charset=utf-8"),
    "/static/icon.svg": ("icon.svg", "image/svg+xml"),
    "/static/style.css": ("style.css", "text/css; charset=utf-8"),
}
FAULTS = 10  # of a request that are told
PROBLEM: dict[str, Any] = {"model": schemas.Problem}
ASKING: dict[int | str, dict[str, Any]] = {
    422: {"model": schemas.Faults, "description": "A field is wrong."},
    503: PROBLEM | {"description": "The queue is full: ask again, see Retry-After."},
}


def make_app(live: Live, *, hosts: set[str], token: str | None) -> App:
    """Builds the guarded API.

    Args:
      live: what answers.
      hosts: names by which requests may call this machine.
      token: that lets a client reload; None = nobody may.
    """
    api = FastAPI(title="tron_jax", docs_url=None, redoc_url=None, openapi_url=None)
    _add_answers(api, live)
    _add_views(api, live)
    _add_reload(api, live, token)
    _add_errors(api)
    document = api.openapi()

    @api.get("/openapi.json", include_in_schema=False)
    async def openapi() -> Any:
        return JSONResponse(document)

    for path, (name, kind) in FILES.items():
        _add_file(api, path, (STATIC / name).read_bytes(), kind)
    paths = {*document["paths"], *FILES, "/openapi.json"}
    return Guard(api, hosts=hosts, paths=paths, metrics=live.metrics)


def _add_answers(api: FastAPI, live: Live) -> None:
    @api.post(
        "/recommend",
        response_model=schemas.Listed,
        responses=ASKING,
        summary="The best next items of a session",
    )
    async def recommend(asked: schemas.Asked) -> Any:
        (listed,) = await live.answer([asked], [("body",)])
        return JSONResponse(listed)

    @api.post(
        "/recommend/batch",
        response_model=schemas.Lists,
        responses=ASKING,
        summary="Those of several sessions, all or none",
    )
    async def recommend_batch(batch: schemas.Batch) -> Any:
        paths = [("body", "sessions", n) for n in range(len(batch.sessions))]
        return JSONResponse({"lists": await live.answer(batch.sessions, paths)})


def _add_views(api: FastAPI, live: Live) -> None:
    @api.get(
        "/health",
        response_model=schemas.Health,
        responses={503: PROBLEM | {"description": "It hangs: restart it."}},
        summary="Whether it serves",
    )
    async def health() -> Any:
        if live.hangs():
            return JSONResponse({"detail": "the model does not answer"}, 503)
        return JSONResponse({"status": "ok", "step": live.service.about["step"]})

    @api.get("/model", response_model=schemas.About, summary="The model, and its card")
    async def model() -> Any:
        service = live.service
        popular = service.popular[: limits.K]
        return JSONResponse(
            {
                "model": service.about["model"],
                "step": service.about["step"],
                "num_items": len(service.raw_ids),
                "may_be_recommended": len(service.popular),
                "most": service.engine.k,
                "max_clicks": service.engine.longest,
                "ids": "string" if service.has_text_ids else "int64",
                "popular": service.raw_ids.take(popular - 1).to_pylist(),
                "card": service.card,
            }
        )

    @api.get("/metrics", response_class=Response, summary="Figures for Prometheus")
    async def metrics() -> Response:
        gauges = {
            "queue_sessions": len(live.batcher),
            "model_step": live.service.about["step"],
            "resident_bytes": resident_bytes(),
        }
        kind = "text/plain; version=0.0.4; charset=utf-8"
        return Response(live.metrics.text(gauges), media_type=kind)


def _add_reload(api: FastAPI, live: Live, token: str | None) -> None:
    @api.post(
        "/reload",
        response_model=schemas.Reloaded,
        responses={
            401: PROBLEM | {"description": "Not the token (Authorization: Bearer …)."},
            403: PROBLEM | {"description": "The server has no token."},
            409: PROBLEM | {"description": "The old model serves on."},
        },
        summary="Loads --model and --only anew",
    )
    async def reload(request: Request) -> Any:
        if token is None:
            why = "this server was started without a token; see --reload_token_file"
            return JSONResponse({"detail": why}, 403)
        given = request.headers.get("authorization", "").encode("latin-1")
        if not hmac.compare_digest(given, f"Bearer {token}".encode()):
            headers = {"WWW-Authenticate": "Bearer"}
            return JSONResponse({"detail": "not the token"}, 401, headers)
        try:
            service = await live.reload()
        except Reloading:
            return JSONResponse({"detail": "a reload is under way"}, 409)
        except UserError as error:
            return JSONResponse({"detail": f"{error}; the old model serves on"}, 409)
        step, allowed = service.about["step"], len(service.popular)
        return JSONResponse({"step": step, "may_be_recommended": allowed})


def _add_errors(api: FastAPI) -> None:
    @api.exception_handler(RequestValidationError)
    async def wrong(request: Request, error: RequestValidationError) -> Response:
        faults = [
            {"loc": fault["loc"], "msg": fault["msg"].removeprefix("Value error, ")}
            for fault in error.errors()[:FAULTS]
        ]
        return JSONResponse({"detail": faults}, 422)

    @api.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> Response:
        fault = {"loc": error.where, "msg": error.why}
        return JSONResponse({"detail": [fault]}, 422)

    async def busy(request: Request, error: Exception) -> Response:
        headers = {name.decode(): value.decode() for name, value in BUSY}
        full = isinstance(error, Full)
        why = "the queue is full" if full else "waited too long"
        return JSONResponse({"detail": f"{why}; ask again later"}, 503, headers)

    for kind in (Full, Late, TimeoutError):
        api.add_exception_handler(kind, busy)

    @api.exception_handler(FloatingPointError)
    async def diverged(request: Request, error: FloatingPointError) -> Response:
        complain(f"error: {error}")
        return JSONResponse({"detail": str(error)}, 500)


def _add_file(api: FastAPI, path: str, content: bytes, kind: str) -> None:
    @api.get(path, include_in_schema=False)
    async def read() -> Response:
        return Response(content, media_type=kind)
