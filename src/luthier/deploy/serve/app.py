"""The ASGI application: which path asks what, and what becomes of a request from its headers to its response.

It goes by the `Answers` contract alone, whatever answers behind it. Pure ASGI: a framework's request and
response objects would cost more than all else that is done for a short text.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from luthier.deploy.serve import inputs, openapi, page, protocol
from luthier.deploy.serve.base import Answer, Answers, Refused
from luthier.deploy.serve.guard import Guard, Receive, headers_of, read_body, request_id
from luthier.deploy.serve.http import Date, Response, Send, answer, described, refusal, send_response
from luthier.deploy.serve.metrics import CONTENT_TYPE, Metrics

log = logging.getLogger("luthier.serve")
access = logging.getLogger("luthier.access")

PATIENCE = 0.05
"""Seconds of an answer after which it is looked whether the client is still there."""
LARGE = 256 * 1024
"""Bytes of a body from which on it is parsed beside the event loop."""
GONE = 499
"""The status under which a request counts whose client left; nobody is told it."""


@dataclass(slots=True)
class Exchange:
    """One request on its way to its response.

    Attributes:
        scope: ASGI's.
        receive: ASGI's.
        headers: By lower-case name.
        id: The request's.
        endpoint: Its name in the metrics.
    """

    scope: dict[str, Any]
    receive: Receive
    headers: dict[bytes, bytes]
    id: str = "-"
    endpoint: str = "other"


class Left(Exception):
    """The client is no longer there."""


Handler = Callable[[Exchange], Awaitable[Response]]


class App:
    """Serves some `Answers`.

    Args:
        answers: Whatever answers; it is made ready and closed by whoever made it.
        guard: Who may ask, and how much.
        metrics: Counts requests and is what ``/metrics`` shows.
        timeout: Seconds after which a request that was not answered is given up.
        log_access: Whether each request becomes a line of the logger ``luthier.access``: no input, no header
            but the request's id.
    """

    def __init__(
        self,
        answers: Answers,
        *,
        guard: Guard | None = None,
        metrics: Metrics | None = None,
        timeout: float = 30.0,
        log_access: bool = False,
    ) -> None:
        self.answers = answers
        self.guard = guard or Guard()
        self.metrics = metrics or Metrics()
        self.timeout = timeout
        self._log_access = log_access
        self._date = Date()
        self._open = 0
        self.metrics.add(lambda: {"open_requests": self._open, "ready": self.answers.state == "ready"})
        self._routes: dict[str, tuple[str, str, bool, Handler]] = {
            "/predict": ("predict", "POST", True, self._predict),
            "/metrics": ("metrics", "GET", True, self._metrics),
            "/docs": ("docs", "GET", False, self._docs),
            "/openapi.json": ("openapi", "GET", True, self._openapi),
            "/v2": ("server", "GET", True, self._server),
            "/v2/health/live": ("live", "GET", False, self._live),
            "/v2/health/ready": ("ready", "GET", False, self._ready),
        }

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "http":
            self._open += 1
            try:
                await self._exchange(scope, receive, send)
            finally:
                self._open -= 1

    async def _exchange(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        start = time.perf_counter()
        exchange = Exchange(scope, receive, {})
        try:
            response = await self._respond(exchange)
        except Left:
            self._count(exchange, GONE, start)
            return
        await send_response(send, response, exchange.id, self._date.now(), head=scope["method"] == "HEAD")
        self._count(exchange, response.status, start)

    async def _respond(self, exchange: Exchange) -> Response:
        scope = exchange.scope
        plain = scope["path"].startswith("/v2")
        try:
            exchange.headers = headers_of(scope)
            exchange.id = request_id(exchange.headers)
            self.guard.check_place(exchange.headers, scope["http_version"])
            handler = self._route(exchange)
            return await handler(exchange)
        except Refused as refused:
            self.metrics.errors.labels(refused.code).inc()
            return refusal(refused, exchange.id, plain=plain)
        except Left:
            raise
        except Exception:
            # The client is told that it failed, and nothing of how.
            log.exception("request %s failed", exchange.id)
            self.metrics.errors.labels("failed").inc()
            return refusal(Refused(500, "failed", "The request failed."), exchange.id, plain=plain)

    def _route(self, exchange: Exchange) -> Handler:
        path, method = exchange.scope["path"], exchange.scope["method"]
        found = self._routes.get(path) or self._model_route(path)
        if found is None:
            raise Refused(404, "no_path", "There is nothing at this path. What there is, /docs tells.")
        exchange.endpoint, wanted, secret, handler = found
        if secret:
            self.guard.check_token(exchange.headers)
        if method != wanted and not (method == "HEAD" and wanted == "GET"):
            return _not_allowed(wanted)
        return handler

    def _model_route(self, path: str) -> tuple[str, str, bool, Handler] | None:
        """``/v2/models/NAME[/versions/VERSION][/ready|/infer]``."""
        parts = path.split("/")
        if parts[:3] != ["", "v2", "models"] or not 4 <= len(parts) <= 7:
            return None
        name, rest, version = parts[3], parts[4:], None
        if rest[:1] == ["versions"] and len(rest) > 1:
            version, rest = rest[1], rest[2:]
        if len(rest) > 1 or rest not in ([], ["ready"], ["infer"]):
            return None

        async def handle(exchange: Exchange) -> Response:
            about = self.answers.metadata
            if name != self.answers.name or (version is not None and version not in about["versions"]):
                raise Refused(404, "no_model", "There is no such model or version here.")
            if rest == ["infer"]:
                return await self._infer(exchange, version)
            if rest == ["ready"]:
                return self._state(name=name)
            return answer(protocol.model(about, version))

        if rest == ["infer"]:
            return "infer", "POST", True, handle
        return ("ready", "GET", False, handle) if rest else ("model", "GET", True, handle)

    # -- answering -------------------------------------------------------------------------------------------

    async def _predict(self, exchange: Exchange) -> Response:
        self._demand_ready()
        body = await read_body(exchange.receive, exchange.headers, self.guard.bounds)
        kind, expects = exchange.headers.get(b"content-type", b""), self._expects()
        if len(body) > LARGE:
            asked = await asyncio.to_thread(inputs.read, body, kind, expects, self.guard.bounds)
        else:
            asked = inputs.read(body, kind, expects, self.guard.bounds)
        found = await self._ask(exchange, asked.inputs, asked.version, asked.timeout)
        refused = [one for one in found if isinstance(one, Refused)]
        for one in refused:
            self.metrics.errors.labels(one.code).inc()
        if len(refused) == len(found):
            return refusal(refused[0], exchange.id)
        said = next(one for one in found if isinstance(one, Answer))
        predictions = [
            {"error": described(one)} if isinstance(one, Refused) else {"id": one.id, **one.value}
            for one in found
        ]
        return answer({"model": self.answers.name, "version": said.version, "predictions": predictions})

    async def _infer(self, exchange: Exchange, version: str | None) -> Response:
        self._demand_ready()
        body = await read_body(exchange.receive, exchange.headers, self.guard.bounds)
        head, expects = exchange.headers.get(protocol.HEAD), self._expects()
        if len(body) > LARGE:
            call = await asyncio.to_thread(protocol.read, body, head, expects, self.guard.bounds)
        else:
            call = protocol.read(body, head, expects, self.guard.bounds)
        found = await self._ask(exchange, call.inputs, version, None)
        return answer(protocol.written(call, found, self.answers.metadata))

    async def _ask(
        self, exchange: Exchange, given: Sequence[Any], version: str | None, timeout: float | None
    ) -> list[Answer | Refused]:
        """An answer or a reason for each input, unless the client leaves first.

        Raises:
            Refused: The request as a whole.
            Left: The client is gone.
        """
        good = [one for one in given if not isinstance(one, Refused)]
        if not good:
            return list(given)
        deadline = time.monotonic() + min(self.timeout, timeout or self.timeout)
        asking = self.answers.answer(good, request=exchange.id, deadline=deadline, version=version)
        found = await _watched(asking, exchange.receive)
        if len(good) == len(given):
            return found
        left = iter(found)
        return [one if isinstance(one, Refused) else next(left) for one in given]

    def _expects(self) -> str:
        return str(self.answers.metadata.get("input", "text"))

    def _demand_ready(self) -> None:
        """Refuses before the body is read."""
        state = self.answers.state
        if state != "ready":
            said = {"loading": "The model is being loaded.", "draining": "The server is about to stop."}
            raise Refused(503, state, said.get(state, "The model could not be loaded."), 1.0)

    # -- telling ---------------------------------------------------------------------------------------------

    async def _live(self, exchange: Exchange) -> Response:
        return answer({"live": True})

    async def _ready(self, exchange: Exchange) -> Response:
        return self._state()

    def _state(self, **more: Any) -> Response:
        state = self.answers.state
        return answer({**more, "ready": state == "ready", "state": state}, 200 if state == "ready" else 503)

    async def _server(self, exchange: Exchange) -> Response:
        return answer(protocol.server())

    async def _metrics(self, exchange: Exchange) -> Response:
        text = await asyncio.to_thread(self.metrics.text)
        return Response(200, text, CONTENT_TYPE.encode())

    async def _openapi(self, exchange: Exchange) -> Response:
        token = self.guard.needs_token
        return answer(openapi.document(self.answers.metadata, self.guard.bounds, token=token))

    async def _docs(self, exchange: Exchange) -> Response:
        return Response(
            200,
            page.html(self._expects(), token=self.guard.needs_token),
            b"text/html; charset=utf-8",
            page.HEADERS,
        )

    def _count(self, exchange: Exchange, status: int, start: float) -> None:
        seconds = time.perf_counter() - start
        self.metrics.requests.labels(exchange.endpoint, str(status)).inc()
        self.metrics.seconds.labels(exchange.endpoint).observe(seconds)
        if self._log_access:
            access.info("%s %s %d %.1f ms", exchange.id, exchange.endpoint, status, 1000 * seconds)


def _not_allowed(wanted: str) -> Handler:
    async def handle(exchange: Exchange) -> Response:
        refused = Refused(405, "method", f"The method must be {wanted}.")
        plain = exchange.scope["path"].startswith("/v2")
        response = refusal(refused, exchange.id, plain=plain)
        return replace(response, headers=(*response.headers, (b"allow", wanted.encode())))

    return handle


async def _watched(asking: Awaitable[list[Answer | Refused]], receive: Receive) -> list[Answer | Refused]:
    """What is asked, given up once the client is gone.

    Most answers come so soon that looking would cost more than it could save.

    Raises:
        Left: The client is gone.
    """
    task = asyncio.current_task()
    assert task is not None
    looking: asyncio.Task[None] | None = None
    gone = False

    async def look() -> None:
        nonlocal gone
        while (await receive())["type"] != "http.disconnect":
            continue
        gone = True
        task.cancel()

    def start() -> None:
        nonlocal looking
        looking = asyncio.ensure_future(look())

    timer = asyncio.get_running_loop().call_later(PATIENCE, start)
    try:
        return await asking
    except asyncio.CancelledError:
        if not gone:
            raise
        task.uncancel()
        raise Left from None
    finally:
        timer.cancel()
        if looking is not None:
            looking.cancel()


async def _lifespan(receive: Receive, send: Send) -> None:
    """Nothing begins or ends with the application: whoever made the answers closes them."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
