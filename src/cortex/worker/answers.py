"""What a process of a replica does with requests: each is predicted and answered, in one of several threads."""

import os
import threading
import traceback
from collections import deque
from queue import SimpleQueue
from time import perf_counter
from typing import Any, Final, NoReturn

from cortex.domain.batch import Page
from cortex.domain.errors import CortexError, InvalidRequest, PredictFailed
from cortex.domain.frame import Frame, encode
from cortex.predictor import LoadedPredictor, json_values
from cortex.predictor.request import Headers, read_payload, read_query
from cortex.predictor.response import JSON, NoAnswer, Response, make_response
from cortex.worker.link import Link
from cortex.worker.output import Output
from cortex.worker.raised import show

_MAX_PIECE_BYTES: Final = 8 * 1024 * 1024
"""A longer body is sent in several frames."""


class Answers:
    """Requests that wait here, and their answers.

    A request is in `unanswered` from when it is taken until its answer is sent, or lost with its operator. The page
    says which was begun last: what came after it may be given to another process when this one has died.
    """

    def __init__(
        self, predictor: LoadedPredictor, output: Output, link: Link, unanswered: set[int], page: "memoryview[int]"
    ) -> None:
        self._predictor = predictor
        self._output = output
        self._link = link
        self._unanswered = unanswered
        self._waiting: SimpleQueue[Frame | None] = SimpleQueue()
        self._unsent: deque[tuple[int, bytes]] = deque()
        self._hint = f"`cortex logs {os.environ.get('CORTEX_API_NAME', 'API')}`"
        self._names = frozenset(predictor.names)
        self._page = page
        self._beginning = threading.Lock()

    def take(self, request: Frame) -> None:
        """Have a request answered by the next thread that is free."""
        self._unanswered.add(request["id"])
        self._waiting.put(request)

    def end(self) -> None:
        """Let one thread end once all requests that were taken before are in predict."""
        self._waiting.put(None)

    def give(self) -> None:
        """Answer requests, one after the other, until `end`."""
        try:
            while (request := self._waiting.get()) is not None:
                self._begin(request["id"])
                self._answer(request)
        except BaseException:
            self._die()

    def _begin(self, number: int) -> None:
        """Write down that all requests up to this one may have been begun."""
        with self._beginning:  # threads may come here in another order than that of their requests
            self._page[Page.CURRENT] = max(self._page[Page.CURRENT], number + 1)

    def _answer(self, request: Frame) -> None:
        try:
            arguments = self._read(request)
        except InvalidRequest as error:
            self._send(request, _show(400, error), seconds=0.0)
            return
        began_at = perf_counter()
        try:
            returned = self._predictor.answer(*arguments)
            seconds = perf_counter() - began_at
            response = make_response(returned)
        except BaseException as raised:  # also what would end a thread, or a program: the next request is another's
            self._send(request, self._failed(raised), seconds=perf_counter() - began_at)
        else:
            self._send(request, response, seconds=seconds)
            self._post_predict(returned, arguments)
        self._output.flush()

    def _read(self, request: Frame) -> tuple[Any, Any, Any]:
        """Give payload, query_params and headers, those that the predictor names. Raises InvalidRequest."""
        names = self._names
        return (
            read_payload(request.get("data", b""), request.get("content_type")) if "payload" in names else None,
            read_query(request["query"]) if "query_params" in names else None,
            Headers(request["headers"]) if "headers" in names else None,
        )

    def _failed(self, raised: BaseException) -> Response:
        if isinstance(raised, NoAnswer):
            self._output.log(f"failed to answer a request: {raised}", "ERROR")
            message = f"what `predict` returned cannot be sent; why is in the API's log: {self._hint}"
        else:
            self._output.log(f"failed to answer a request\n{show(raised)}", "ERROR")
            message = f"`predict` raised {type(raised).__name__}; its traceback is in the API's log: {self._hint}"
        return _show(500, PredictFailed(message))

    def _post_predict(self, returned: Any, arguments: tuple[Any, Any, Any]) -> None:
        if self._predictor.post_predict is not None:
            try:
                self._predictor.post_predict(returned, *arguments)
            except BaseException as raised:  # the request has its answer
                self._output.log(f"post_predict failed\n{show(raised)}", "ERROR")

    def _send(self, request: Frame, response: Response, *, seconds: float) -> None:
        self._unsent.append((request["id"], _encode(request["id"], response, seconds)))
        with self._link.sending:
            if self._unsent:  # else whoever was sending before has sent it
                ready = [self._unsent.popleft() for _ in range(len(self._unsent))]
                self._link.send_or_lose(b"".join([data for _, data in ready]))
                self._unanswered.difference_update([identity for identity, _ in ready])

    def _die(self) -> NoReturn:
        """End the process: what is left without an answer is not to wait for one."""
        self._output.log(f"this process fails\n{traceback.format_exc()}", "ERROR")
        os._exit(1)


def _show(status: int, error: CortexError) -> Response:
    return Response(status, JSON, json_values.write({"kind": error.code, "message": str(error)}))


def _encode(identity: int, response: Response, seconds: float) -> bytes:
    """Give the frames of an answer."""
    frame = {
        "type": "response",
        "id": identity,
        "status": response.status,
        "headers": response.headers,
        "seconds": seconds,
        "more": False,
    }
    body = response.body
    if len(body) <= _MAX_PIECE_BYTES:
        return encode(frame, body)
    starts = range(0, len(body), _MAX_PIECE_BYTES)
    ends = [start + _MAX_PIECE_BYTES for start in starts]
    return b"".join(
        encode({**frame, "more": end < len(body)}, body[start:end]) for start, end in zip(starts, ends, strict=True)
    )
