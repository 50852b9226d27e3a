import asyncio
import json
from typing import Any

import pytest

from cortex.web.guard import Guard, is_loopback

ADDRESS = "http://127.0.0.1:8888"


async def _application(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"let in"})


def ask(headers: list[tuple[bytes, bytes]], *addresses: str) -> tuple[int, bytes]:
    """Send a request through a guard; give the status and the body of the answer."""
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": headers}
    asyncio.run(Guard(_application, addresses or [ADDRESS])(scope, None, send))
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


@pytest.mark.parametrize(
    ("addresses", "host"),
    [
        ([ADDRESS], b"127.0.0.1:8888"),
        ([ADDRESS], b"localhost:8888"),
        ([ADDRESS], b"LocalHost:8888"),
        (["http://127.0.0.1:80"], b"127.0.0.1"),
        (["http://127.0.0.1:80"], b"localhost:80"),
        (["http://[::1]:8888"], b"[::1]:8888"),
        (["http://[::1]:8888"], b"localhost:8888"),
        ([ADDRESS, "https://cortex.example.com"], b"cortex.example.com"),
        ([ADDRESS, "https://cortex.example.com:8443"], b"Cortex.example.com:8443"),
    ],
)
def test_a_request_for_this_operator_is_let_in(addresses, host):
    assert ask([(b"host", host)], *addresses) == (200, b"let in")


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"host", b"")],
        [(b"host", b"evil.example.com")],
        [(b"host", b"evil.example.com:8888")],
        [(b"host", b"127.0.0.1")],
        [(b"host", b"127.0.0.1:8889")],
        [(b"host", b"127.0.0.1:8888.evil.example.com")],
        [(b"host", b"127.0.0.1:8888@evil.example.com")],
        [(b"host", b"[::1")],
        [(b"host", b"\xff\xfe")],
    ],
)
def test_a_host_that_is_not_this_operator_is_refused(headers):
    status, body = ask(headers)

    assert (status, json.loads(body)["kind"]) == (403, "request.forbidden")
    assert "is not this operator" in json.loads(body)["message"]


@pytest.mark.parametrize("origin", [ADDRESS, "http://localhost:8888", "HTTP://LOCALHOST:8888"])
def test_a_page_of_this_operator_may_ask(origin):
    assert ask([(b"host", b"127.0.0.1:8888"), (b"origin", origin.encode())]) == (200, b"let in")


@pytest.mark.parametrize(
    "origin",
    [
        b"http://evil.example.com",
        b"https://evil.example.com:8888",
        b"http://127.0.0.1:8889",
        b"http://127.0.0.1",
        b"http://127.0.0.1:8888.evil.example.com",
        b"http://127.0.0.1:8888@evil.example.com",
        b"http://evil.example.com/127.0.0.1:8888",
        b"null",
        b"",
        b"127.0.0.1:8888",
        b"file://",
        b"http://[::1",
        b"http://[not an address]",
        b"http://\xe2\x84\x80.example.com",
        b"\xff\xfe",
    ],
)
def test_a_foreign_origin_is_refused(origin):
    status, body = ask([(b"host", b"127.0.0.1:8888"), (b"origin", origin)])

    assert (status, json.loads(body)["kind"]) == (403, "request.forbidden")


def test_a_foreign_origin_is_refused_beside_one_of_our_own():
    status, _ = ask(
        [(b"host", b"127.0.0.1:8888"), (b"origin", ADDRESS.encode()), (b"origin", b"http://evil.example.com")]
    )

    assert status == 403


@pytest.mark.parametrize(
    ("expected", "host"),
    [
        (True, "127.0.0.1"),
        (True, "127.1.2.3"),
        (True, "::1"),
        (True, "localhost"),
        (False, "0.0.0.0"),
        (False, "::"),
        (False, "192.168.1.1"),
        (False, "localhost.example.com"),
        (False, "example.com"),
        (False, ""),
    ],
)
def test_only_what_this_machine_alone_can_reach_is_loopback(expected, host):
    assert expected is is_loopback(host)
