"""The web service: what it answers at each address, and the headers of every answer."""

import asyncio
import ipaddress
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from data_augment.errors import InputError
from nlp_distill.serve.batcher import Batcher, Overloaded, Reply
from nlp_distill.serve.models import Served
from nlp_distill.serve.openapi import describe_api
from nlp_distill.serve.page import DOCS_POLICY, PAGE_POLICY, render_docs, render_page
from nlp_distill.serve.requests import Limits, read_texts

HEADERS = {
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


def make_app(
    models: Mapping[str, Served],
    limits: Limits | None = None,
    *,
    max_wait: float = 0.0,
    local_only: bool = True,
) -> ASGIApp:
    """The application, for any ASGI server in one process.

    Args:
        models: ``student``, and ``teacher`` where there is one, which read the same kind of texts.
        limits: of a request; the defaults where left out.
        max_wait: seconds that a request may wait for others when the models are idle.
        local_only: answer only requests that name this machine as their host, so that a web page whose name was
            made to point here cannot ask either.
    """
    limits = limits or Limits()
    is_pair = join_kinds(models)
    batcher = Batcher({name: model.answer for name, model in models.items()}, limits.max_batch, max_wait)
    described = {name: model.describe() for name, model in models.items()}
    api = describe_api(models, limits, is_pair)
    page = render_page(models, limits, is_pair)

    async def predict(request: Request) -> Response:
        texts = await read_texts(request, limits, is_pair)
        try:
            return JSONResponse(render_reply(await batcher.answer(texts)))
        except Overloaded as error:
            raise HTTPException(503, str(error), {"retry-after": "1"}) from None

    async def show_page(_: Request) -> Response:
        return HTMLResponse(page, headers={"content-security-policy": PAGE_POLICY})

    async def show_docs(request: Request) -> Response:
        docs = render_docs(api, str(request.base_url))
        return HTMLResponse(docs, headers={"content-security-policy": DOCS_POLICY})

    async def show_api(_: Request) -> Response:
        return JSONResponse(api)

    async def show_health(_: Request) -> Response:
        return JSONResponse({"status": "ok", "models": described, "waiting": batcher.waiting})

    @asynccontextmanager
    async def run_batcher(_: Starlette) -> AsyncIterator[None]:
        running = asyncio.create_task(batcher.run())
        try:
            yield
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running

    routes = [
        Route("/", show_page),
        Route("/predict", predict, methods=["POST"]),
        Route("/docs", show_docs),
        Route("/openapi.json", show_api),
        Route("/health", show_health),
    ]
    app = Starlette(
        routes=routes,
        lifespan=run_batcher,
        exception_handlers={HTTPException: show_refusal, Exception: show_failure},
    )
    app.router.redirect_slashes = False
    return guard(app, local_only)


def join_kinds(models: Mapping[str, Served]) -> bool | None:
    """Whether the models read pairs of texts; ``None`` where none of them says so.

    Raises:
        InputError: if one reads pairs and another single texts.
    """
    known = {model.is_pair for model in models.values()} - {None}
    if len(known) > 1:
        reads = ", ".join(f"{name} reads {model.describe()['reads']}" for name, model in models.items())
        raise InputError(f"{reads}; give models of one task")
    return known.pop() if known else None


def render_reply(reply: Reply) -> dict[str, Any]:
    """``{"student": {"answers": [...], "ms"}, "teacher": ..., "batch", "waited_ms"}``."""
    models = {
        name: {"answers": answers, "ms": round(1000 * reply.seconds[name], 3)}
        for name, answers in reply.answers.items()
    }
    return {**models, "batch": reply.batch, "waited_ms": round(1000 * reply.waited, 3)}


async def show_refusal(_: Request, error: Exception) -> Response:
    """What is wrong with a request, as JSON."""
    assert isinstance(error, HTTPException)
    message = error.detail
    if error.status_code == 404:
        message = "there is nothing at this address; see /docs"
    elif error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another method")
        message = f"this address answers to {allowed}; see /docs"
    return JSONResponse({"error": message}, error.status_code, error.headers)


async def show_failure(_: Request, error: Exception) -> Response:
    """That we failed, without the details, which the terminal shows."""
    return JSONResponse({"error": "the model failed on this request; see the service's terminal"}, 500)


def guard(app: ASGIApp, local_only: bool) -> ASGIApp:
    """``app`` with the headers of every answer, and without requests for other hosts."""

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name.lower() for name, _ in message["headers"]}
                missing = [
                    (name.encode(), value.encode())
                    for name, value in HEADERS.items()
                    if name.encode() not in given
                ]
                message = {**message, "headers": [*message["headers"], *missing]}
            await send(message)

        host = Request(scope).headers.get("host", "")
        if local_only and not names_this_machine(host):
            refusal = JSONResponse({"error": "this service answers to localhost and 127.0.0.1 only"}, 421)
            await refusal(scope, receive, send_with_headers)
            return
        await app(scope, receive, send_with_headers)

    return guarded


def names_this_machine(host: str) -> bool:
    """Whether a Host header is localhost or a loopback address: ``localhost:8000``, ``127.0.0.1``, ``[::1]:8000``."""
    name, colon, port = host.rpartition(":")
    name = (name if colon and port.isdigit() else host).lower()
    try:
        return name == "localhost" or ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False
