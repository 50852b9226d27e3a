"""The Python clients of APIs that answer at once: what is sent, and what comes back."""

import asyncio
import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from stub_operator import Refusal, StubOperator, answer_with, begin_chunks, cut_off, send_chunk

from cortex.clients.async_client import AsyncClient
from cortex.clients.client import Client
from cortex.clients.operator_client import OperatorClient
from cortex.domain.errors import ApiOverloaded, CortexError, InvalidRequest, OperatorUnreachable


@pytest.fixture
def operator() -> Iterator[StubOperator]:
    with StubOperator() as stub:
        stub.realtime_api("iris")
        yield stub


@pytest.fixture
def client(operator: StubOperator) -> Iterator[Client]:
    with Client(OperatorClient(operator.address)) as client:
        yield client


@pytest.mark.parametrize(
    ("payload", "options", "body", "content_type"),
    [
        ({"a": [1, None]}, {}, b'{"a": [1, null]}', "application/json"),
        ("text", {}, b'"text"', "application/json"),
        ("text", {"content_type": "text/plain"}, b"text", "text/plain"),
        ("text", {"content_type": "application/json; charset=utf-8"}, b'"text"', "application/json; charset=utf-8"),
        (b"\x00", {}, b"\x00", "application/octet-stream"),
        (memoryview(b"\x01"), {"content_type": "image/png"}, b"\x01", "image/png"),
    ],
)
def test_a_payload_is_sent_as_what_the_predictor_is_to_get(
    operator: StubOperator, client: Client, payload: Any, options: dict[str, str], body: bytes, content_type: str
) -> None:
    operator.answers["POST /iris"] = answer_with(b"null", "application/json")

    assert client.predict("iris", payload, **options) is None
    assert (body, content_type) == (operator.requests[-1].body, operator.requests[-1].headers["Content-Type"])


@pytest.mark.parametrize(
    ("body", "content_type", "expected"),
    [
        (b'{"label": "setosa"}', "application/json", {"label": "setosa"}),
        ("gr\u00fcn".encode(), "text/plain; charset=utf-8", "gr\u00fcn"),
        (b"\x00\xff", "application/octet-stream", b"\x00\xff"),
        (b"", "", b""),
    ],
)
def test_an_answer_is_what_predict_returned(
    operator: StubOperator, client: Client, body: bytes, content_type: str, expected: object
) -> None:
    operator.answers["POST /iris"] = answer_with(body, content_type)

    assert expected == client.predict("iris", 1)


def test_params_and_headers_are_sent(operator: StubOperator, client: Client) -> None:
    operator.answers["POST /iris?a=1&b=%26+"] = answer_with(b"1", "application/json")

    assert 1 == client.predict("iris", 1, params={"a": "1", "b": "& "}, headers={"X-Own": "yes"})
    assert "yes" == operator.requests[-1].headers["X-Own"]


def test_a_refusal_is_raised_with_the_words_of_the_operator(operator: StubOperator, client: Client) -> None:
    operator.answers["POST /iris"] = Refusal(503, "api.overloaded", "too much\n\nhint: wait")
    with pytest.raises(ApiOverloaded) as refused:
        client.predict("iris", 1)

    assert ("too much", "wait") == (refused.value.message, refused.value.hint)


@pytest.mark.parametrize(
    ("body", "content_type", "text"),
    [(b'{"detail": 1}', "application/json", ': {"detail": 1}'), (b"\x00", "application/octet-stream", "")],
)
def test_what_a_predictor_refuses_by_itself_is_raised(
    operator: StubOperator, client: Client, body: bytes, content_type: str, text: str
) -> None:
    operator.answers["POST /iris"] = answer_with(body, content_type, 422)
    with pytest.raises(CortexError) as refused:
        client.predict("iris", 1)

    assert refused.value.message.startswith("`/iris` answered 422 ")
    assert refused.value.message.endswith(text)


def test_a_payload_that_nobody_can_read_is_not_sent(operator: StubOperator, client: Client) -> None:
    for payload in (object(), float("nan"), {1, 2}):
        with pytest.raises(InvalidRequest, match="neither bytes nor JSON"):
            client.predict("iris", payload)
    assert [] == [request for request in operator.requests if request.line.startswith("POST")]


def test_an_operator_that_goes_away_says_that_the_end_is_not_known(operator: StubOperator, client: Client) -> None:
    operator.answers["POST /iris"] = cut_off(b"1")

    with pytest.raises(OperatorUnreachable) as lost:
        client.predict("iris", 1)

    assert "is not known" in str(lost.value.hint)


def test_one_that_takes_too_long_is_given_up(operator: StubOperator, client: Client) -> None:
    operator.answers["POST /iris"] = lambda handler: handler.rfile.read(1)  # nothing comes until the client leaves

    with pytest.raises(OperatorUnreachable) as late:
        client.predict("iris", 1, timeout=0.05)

    assert "no answer came within 50ms" == late.value.message
    assert "the request is not taken back: `predict` may still run" == late.value.hint


def test_the_kind_of_the_api_decides_between_predict_and_submit(operator: StubOperator, client: Client) -> None:
    with pytest.raises(InvalidRequest, match="`iris` is a RealtimeAPI: it has no jobs"):
        client.submit("iris", items=[1], batch_size=1)
    operator.api("digits")
    with pytest.raises(InvalidRequest, match="`digits` is a BatchAPI: it takes jobs"):
        client.predict("digits", 1)


def test_a_log_is_given_line_by_line(operator: StubOperator, client: Client) -> None:
    operator.answers["GET /_cortex/apis/iris/logs"] = b"one\ntwo\n"
    operator.answers["POST /_cortex/apis/iris/refresh"] = {"message": "updating iris (RealtimeAPI)"}

    assert ["one", "two"] == list(client.stream_api_logs("iris"))
    assert "updating iris (RealtimeAPI)" == client.refresh("iris")


def test_the_same_with_an_event_loop(operator: StubOperator) -> None:
    operator.answers["POST /iris"] = answer_with(b'"setosa"', "application/json")
    operator.answers["POST /_cortex/apis/iris/refresh"] = {"message": "updating iris (RealtimeAPI)"}
    operator.answers["GET /_cortex/apis/iris/logs?follow=true"] = _without_end(b"one\ntwo\n")

    async def ask() -> list[Any]:
        async with AsyncClient(lambda: Client(OperatorClient(operator.address))) as client:
            found = [await client.predict("iris", {"a": 1}), await client.refresh("iris")]
            lines = client.stream_api_logs("iris", follow=True)
            found.append(await anext(lines))
            await lines.aclose()  # which ends the connection, or the stub would wait for ever
            return found

    assert ["setosa", "updating iris (RealtimeAPI)", "one"] == asyncio.run(ask())
    assert {"a": 1} == json.loads(next(each for each in operator.requests if each.line == "POST /iris").body)


def _without_end(chunk: bytes) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        begin_chunks(handler)
        send_chunk(handler, chunk)
        handler.rfile.read(1)  # until the client leaves

    return answer
