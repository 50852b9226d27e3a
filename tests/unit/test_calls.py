"""Calls that are given up: what they cut, and what they leave alone."""

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import pytest
from stub_operator import StubOperator

from cortex.clients.calls import Call, CallGivenUp, pause
from cortex.clients.operator_client import OperatorClient

LINES = [b"one\n", b"two\n"]


@pytest.fixture
def operator() -> Iterator[StubOperator]:
    """An operator that keeps connections open."""
    with StubOperator() as stub:
        stub.answers["GET /_cortex/apis"] = keep_alive(b"[]")
        yield stub


@pytest.fixture
def client(operator: StubOperator) -> Iterator[OperatorClient]:
    with OperatorClient(operator.address) as client:
        yield client


def keep_alive(body: bytes, *, until: threading.Event | None = None) -> object:
    """Answer so that the connection serves the next request, too; half of it waits for an event."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.protocol_version = "HTTP/1.1"
        handler.close_connection = False
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for half in (body[: len(body) // 2], body[len(body) // 2 :]):
            handler.wfile.write(b"%x\r\n%b\r\n" % (len(half), half))
            if until is not None:
                assert until.wait(60)
        handler.wfile.write(b"0\r\n\r\n")

    return answer


def test_a_call_that_is_over_cuts_nobody_elses_connection(operator: StubOperator, client: OperatorClient) -> None:
    may_go_on = threading.Event()
    operator.answers["GET /a/1/results"] = keep_alive(b"".join(LINES), until=may_go_on)
    earlier, later = Call(), Call()

    assert [] == earlier.context.run(client.apis)
    stream = client.results("http://h/a", "1")
    received = [later.context.run(next, stream)]
    earlier.give_up()
    may_go_on.set()
    received += stream

    assert LINES == received
    assert 1 == len({request.headers["Host"] for request in operator.requests})


def test_a_connection_that_was_cut_when_it_was_idle_is_opened_anew(client: OperatorClient) -> None:
    over = Call()
    assert [] == over.context.run(client.apis)

    over.give_up()

    assert [] == client.apis()
    assert [] == Call().context.run(client.apis)


def test_a_call_that_was_given_up_asks_nothing_more(operator: StubOperator, client: OperatorClient) -> None:
    call = Call()
    call.give_up()

    with pytest.raises(CallGivenUp):
        call.context.run(client.apis)
    with pytest.raises(CallGivenUp):
        call.context.run(pause, 3600)

    assert [] == operator.requests
    assert [] == client.apis()


def test_outside_of_a_call_a_pause_is_a_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)

    pause(1.5)

    assert [1.5] == slept
