"""Requests to realtime APIs: each becomes a call, and what `predict` answers goes back as it came."""

import asyncio
import re
from typing import Final

from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Receive, Scope, Send

from cortex.domain.errors import CortexError, PredictFailed
from cortex.operator.operator import Operator
from cortex.serving.calls import Answer, Incoming
from cortex.storage.ledger import Version
from cortex.web.body import Intake
from cortex.web.errors import show_error

_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding", b"connection"})
"""Headers that say how an answer is sent, which only the server knows."""

_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_NO_VALUE: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_WITHOUT_BODY: Final = frozenset({204, 304})


class RealtimeRoutes:
    """Serves the endpoints of realtime APIs, and of what splits traffic between them; the rest goes to `app`.

    It comes before the routes, because these would cost more than all else that the operator does for a request.
    A client that leaves does not end its call: the answer is dropped.
    """

    def __init__(self, app: ASGIApp, operator: Operator) -> None:
        self._app = app
        self._operator = operator
        self._intake = Intake(hint="put what is large where the predictor can read it, such as s3://, and send its URL")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        version = None
        if scope["type"] == "http" and scope["method"] == "POST":
            version = self._operator.deployments.served_at(scope["path"])
        if version is None:
            await self._app(scope, receive, send)
            return
        try:
            answer = await self._answer(version, scope, receive)
            headers = _headers(answer)
        except ClientDisconnect:  # before all of its request has come
            return
        except CortexError as error:
            response = await show_error(Request(scope), error)
            await response(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if answer.status in _WITHOUT_BODY else answer.body})

    async def _answer(self, version: Version, scope: Scope, receive: Receive) -> Answer:
        body = await self._intake.take(receive)
        try:
            headers = scope["headers"]
            content_type = None
            for name, value in headers:
                if name == b"content-type":
                    content_type = value.decode("latin-1")
            incoming = Incoming(query=scope["query_string"], headers=headers, content_type=content_type, body=body)
            waiting: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

            def answered(answer: Answer) -> None:
                if not waiting.done():  # the server has given up, as it does at its end
                    waiting.set_result(answer)

            self._operator.serving.call(version, incoming, answered)
            return await waiting
        finally:
            self._intake.give_back(body)


def _headers(answer: Answer) -> list[tuple[bytes, bytes]]:
    """Give the headers of an answer, with its length. Raises PredictFailed for those that the server cannot send."""
    headers = []
    for name, value in answer.headers:
        if _NAME.fullmatch(name) is None or _NO_VALUE.search(value) is not None:
            shown = name.decode(errors="replace")
            raise PredictFailed(f"`predict` returned a response with the header `{shown}`, which cannot be sent")
        if name.lower() not in _FRAMING:
            headers.append((name, value))
    if answer.status not in _WITHOUT_BODY:
        headers.append((b"content-length", b"%d" % len(answer.body)))
    return headers
