"""The addresses of the service."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import mimetypes
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse
from fastapi_offline import FastAPIOffline
from starlette.requests import ClientDisconnect

from occ_lab import __version__
from occ_lab.data.boxes import fractions
from occ_lab.data.transforms import Seen
from occ_lab.reporting.gallery.gallery import AFTER, BEFORE, FOLDER
from occ_lab.reporting.gallery.maps import stored_map
from occ_lab.reporting.gallery.page import page
from occ_lab.serving.answers import Answer, Health, Map, Problem, Said
from occ_lab.serving.limits import COOKIE, Rate, TooLargeError, content_of
from occ_lab.serving.scorer import BusyError, Outcome, StoppedError
from occ_lab.serving.service import Service

log = logging.getLogger(__name__)

IMAGE = Path("image")  # the name of an image that is not kept
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'unsafe-inline'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; frame-ancestors 'none'",
}
OPEN = ("/health",)  # without a token, so that a supervisor needs none
CONTENT = {"schema": {"type": "string", "format": "binary"}}
PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": description}
    for status, description in {
        401: "The token is missing or wrong.",
        413: "The image has too many bytes.",
        422: "The bytes are no image that can be scored.",
        429: "Too many images a second; Retry-After says when to try again.",
        503: "Too many images wait, or the service ends.",
    }.items()
}


def make_app(service: Service) -> FastAPI:
    """The application of a service, which is started and stopped with it."""

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        await anyio.to_thread.run_sync(service.stop)

    app = FastAPIOffline(
        title="OCC Lab",
        version=__version__,
        summary=f"Scores images with the detector of {service.predictor.task}.",
        lifespan=life,
        redoc_url=None,
    )
    add_guard(app, service)
    add_scoring(app, service)
    add_state(app, service)
    add_page(app, service)
    return app


def add_guard(app: FastAPI, service: Service) -> None:
    """Check every request before anything else, and count its answer."""
    limits = service.plan.limits
    wrong = Rate(1 if limits.token else 0)  # guesses of a token, a second

    def refused(request: Request) -> Response | None:
        if limits.foreign(request):
            return problem(403, "the request comes from a page of another site")
        if request.url.path in OPEN or limits.knows(request):
            return None
        client = request.client.host if request.client else ""
        if wait := wrong.wait(client):
            return problem(429, "too many wrong tokens", wait)
        headers = {"WWW-Authenticate": "Bearer"}
        return JSONResponse({"detail": "the token is missing or wrong"}, 401, headers)

    async def guard(
        request: Request, following: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        response = refused(request)
        if response is None and limits.token and "token" in request.query_params:
            response = with_cookie(request, limits.token)
        if response is None:
            response = await following(request)
        route = getattr(request.scope.get("route"), "path", "other")
        service.counters.requests.labels(route, response.status_code).inc()
        response.headers.update(HEADERS)
        return response

    app.middleware("http")(guard)


def with_cookie(request: Request, token: str) -> Response:
    """Let a browser remember the token, and take it out of the address."""
    response = RedirectResponse(request.url.remove_query_params("token"), 303)
    response.set_cookie(COOKIE, token, httponly=True, samesite="strict")
    return response


def problem(status: int, detail: str, wait: float | None = None) -> JSONResponse:
    """An answer to a request that was not served; ``wait`` is in seconds."""
    headers = {} if wait is None else {"Retry-After": str(max(1, round(wait + 0.5)))}
    return JSONResponse({"detail": detail}, status, headers)


def add_scoring(app: FastAPI, service: Service) -> None:
    """``POST /score``."""
    limits = service.plan.limits
    rate = Rate(limits.rate)
    readers = anyio.CapacityLimiter(service.plan.readers)

    @app.post(
        "/score",
        tags=["Images"],
        summary="Score an image",
        response_model=Answer,
        responses=PROBLEMS,
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"application/octet-stream": CONTENT, "image/*": CONTENT},
            }
        },
    )
    async def score(request: Request, map: bool = True) -> Response | Answer:
        """The body of the request is the content of the file of the image."""
        if wait := rate.wait(request.client.host if request.client else ""):
            return problem(429, f"more than {limits.rate:g} images a second", wait)
        try:
            content = await content_of(request, limits.bytes)
            read = partial(anyio.to_thread.run_sync, limiter=readers)
            seen = await read(service.predictor.seen, content)
            outcome = await asyncio.wrap_future(service.score(IMAGE, seen))
            await read(service.keep, content, seen, outcome)
        except TooLargeError:
            return problem(413, f"an image may have {limits.megabytes:g} MB")
        except TimeoutError:
            return problem(408, "the image did not come in time")
        except ClientDisconnect:
            return problem(400, "the image ended too early")  # nobody reads it, but it is counted
        except BusyError:
            return problem(503, f"{service.plan.waiting} images wait", 1)
        except StoppedError:
            return problem(503, "the service ends")
        except (OSError, ValueError, SyntaxError, MemoryError) as error:
            return problem(422, str(error) or "the image cannot be read")
        return answer(service, seen, outcome, map)


def answer(service: Service, seen: Seen, outcome: Outcome, with_map: bool) -> Response | Answer:
    """The answer for a scored image."""
    scored, predictor = outcome.scored, service.predictor
    if scored.decision == "error":
        return problem(422, "the score of the image is not a finite number")
    threshold = None
    if predictor.calibration is not None and predictor.overkill is not None:
        threshold = predictor.calibration.threshold(predictor.overkill)
    return Answer(
        score=scored.score,
        p_value=scored.p_value,
        decision=scored.decision or None,  # type: ignore[arg-type]
        threshold=threshold,
        task=predictor.task,
        map=map_of(service, seen, outcome) if with_map else None,
    )


def map_of(service: Service, seen: Seen, outcome: Outcome) -> Map | None:
    """The map of the part of an image that the detector sees."""
    if outcome.heat is None:
        return None
    frame = service.predictor.detector.frame
    top, left, height, width = frame.box(*seen.size)
    stored = stored_map(outcome.heat[top : top + height, left : left + width])
    return Map(
        png=base64.b64encode(stored.png).decode(),
        low=stored.low,
        high=stored.high,
        shown=fractions(frame.shown(*seen.size), seen.size),
    )


def add_state(app: FastAPI, service: Service) -> None:
    """``GET /health`` and ``GET /metrics``."""

    @app.get("/health", tags=["Service"], summary="Whether the service works")
    async def health() -> Health:
        """It needs no token, so that a supervisor needs none."""
        if service.broken:
            raise HTTPException(503, service.broken)
        scored = service.counters.scored
        return Health(task=service.predictor.task, version=__version__, scored=scored)

    @app.get("/metrics", response_class=Response, tags=["Service"], summary="Figures")
    async def metrics() -> Response:
        """Counters, gauges and histograms in Prometheus' text format."""
        return Response(service.counters.text(), media_type="text/plain; version=0.0.4")


def add_page(app: FastAPI, service: Service) -> None:
    """The page of all images, if images are recorded; otherwise the list of addresses."""
    album = service.album
    if album is None:

        @app.get("/", include_in_schema=False)
        async def documentation() -> Response:
            return RedirectResponse("docs")

        return

    @app.get("/", include_in_schema=False)
    async def gallery() -> HTMLResponse:
        return HTMLResponse(page(album.gallery.title))

    @app.get(f"/{FOLDER}/data.js", include_in_schema=False)
    def data() -> Response:
        text = json.dumps(album.content(), allow_nan=False, separators=(",", ":"))
        return Response(f"{BEFORE}{text}{AFTER}", media_type="text/javascript")

    @app.get("/rows", include_in_schema=False)
    def rows(after: int) -> JSONResponse:
        return JSONResponse(album.content(max(0, after)))

    @app.get(f"/{FOLDER}/thumbs/{{number}}.jpg", include_in_schema=False)
    def thumbnail(number: int) -> FileResponse:
        return file_of(album.gallery.folder / "thumbs" / f"{number}.jpg")

    @app.get(f"/{FOLDER}/maps/{{number}}.js", include_in_schema=False)
    def heat(number: int) -> FileResponse:
        return file_of(album.gallery.folder / "maps" / f"{number}.js")

    @app.get("/images/{number}", include_in_schema=False)
    def image(number: int) -> FileResponse:
        return file_of(album.source(number))

    @app.put("/verdicts", status_code=204, tags=["Page"], summary="Save a verdict")
    def put_verdict(said: Said) -> Response:
        """On an image of the page; all verdicts are in ``verdicts.csv``."""
        if not album.holds(said.path):
            raise HTTPException(404, "the page has no such image")
        row = None if said.verdict is None else said.model_dump()
        try:
            album.verdicts.put(said.path, row)
        except OSError as error:
            log.error("no verdict was saved: %s", error)
            raise HTTPException(507, f"verdicts.csv cannot be written: {error}") from error
        return Response(status_code=204)

    @app.get(
        "/verdicts.csv", response_class=FileResponse, tags=["Page"], summary="All verdicts so far"
    )
    def verdicts() -> FileResponse:
        """The file that ``occ-lab correct`` reads."""
        return file_of(album.verdicts.path)


def file_of(path: Path | None) -> FileResponse:
    """A file as an answer, or 404."""
    if path is None or not path.is_file():
        raise HTTPException(404, "there is no such file")
    return FileResponse(path, media_type=mimetypes.guess_type(path.name)[0])
