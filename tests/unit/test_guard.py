import asyncio
import json
import socket
from typing import Any

import pytest
from starlette.requests import Request

from cortex.operator.keys import Keys
from cortex.storage.memory import MemoryLedger
from cortex.web.guard import Guard, is_loopback

ADDRESS = "http://127.0.0.1:8888"
KEY = "Rather-long-and-not-guessed"


async def _application(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"let in"})


def ask(
    headers: list[tuple[bytes, bytes]],
    *addresses: str,
    method: str = "POST",
    path: str = "/",
    application: Any = _application,
    **more: Any,
) -> tuple[int, bytes]:
    """Send a request through a guard; give the status and the body of the answer."""
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    scope = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": headers}
    asyncio.run(Guard(application, addresses or [ADDRESS], **more)(scope, receive, send))
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
        (["http://myhost:8888"], b"MyHost:8888"),
        (["http://0.0.0.0:8888"], b"192.168.1.7:8888"),
        (["http://0.0.0.0:8888"], b"[2001:db8::1]:8888"),
        (["http://0.0.0.0:8888"], b"localhost:8888"),
        (["http://0.0.0.0:8888"], socket.gethostname().encode() + b":8888"),
        (["http://0.0.0.0:80"], b"192.168.1.7"),
        (["http://[::]:8888"], b"127.0.0.1:8888"),
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


@pytest.mark.parametrize(
    "host",
    [
        b"192.168.1.7:8889",
        b"192.168.1.7",
        b"evil.example.com:8888",
        b"192.168.1.7.evil.example.com:8888",
        b"evil@192.168.1.7:8888",
        b"192.168.1.7:8888/",
        b"192.168.1.7:8888:8888",
        b"[192.168.1.7:8888",
        b":8888",
        b"",
    ],
)
def test_one_who_listens_everywhere_takes_every_ip_address_for_his_own_but_no_other_name(host):
    status, body = ask([(b"host", host)], "http://0.0.0.0:8888")

    assert (status, json.loads(body)["kind"]) == (403, "request.forbidden")


def test_one_who_listens_everywhere_lets_in_pages_of_the_address_that_they_came_by_only():
    by_one = (b"host", b"192.168.1.7:8888")

    assert ask([by_one, (b"origin", b"http://192.168.1.7:8888")], "http://0.0.0.0:8888")[0] == 200
    assert ask([by_one, (b"origin", b"http://6.6.6.6:8888")], "http://0.0.0.0:8888")[0] == 403


# Behind a proxy


async def _url(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(Request(scope).base_url).encode()})


@pytest.mark.parametrize(
    ("public_url", "host"),
    [
        ("https://cortex.example.com", "cortex.example.com"),
        ("https://cortex.example.com", "cortex.example.com:443"),
        ("https://cortex.example.com:8443", "cortex.example.com:8443"),
        ("http://cortex.example.com", "cortex.example.com"),
    ],
)
def test_what_comes_by_the_public_url_is_answered_with_it(public_url, host):
    asked = ask([(b"host", host.encode())], public_url=public_url, application=_url)

    scheme = public_url.partition("://")[0]
    assert asked == (200, f"{scheme}://{host}/".encode())


def test_what_does_not_come_by_the_public_url_is_answered_without_it():
    asked = ask([(b"host", b"127.0.0.1:8888")], public_url="https://cortex.example.com", application=_url)

    assert asked == (200, b"http://127.0.0.1:8888/")


@pytest.mark.parametrize(
    ("status", "origin"),
    [
        (200, b"https://cortex.example.com"),
        (403, b"http://cortex.example.com"),
        (403, b"https://cortex.example.com:8443"),
        (403, b"https://www.cortex.example.com"),
    ],
)
def test_a_page_of_the_public_url_may_ask_and_no_other(status, origin):
    for host in (b"cortex.example.com", b"127.0.0.1:8888"):
        asked = ask([(b"host", host), (b"origin", origin)], public_url="https://cortex.example.com")

        assert status == asked[0]


# Keys


@pytest.fixture
def keys() -> Keys:
    return Keys(key=KEY, ledger=MemoryLedger())


@pytest.mark.parametrize(
    ("status", "authorization"),
    [
        (200, f"Bearer {KEY}"),
        (200, f"bearer {KEY}"),
        (401, None),
        (401, ""),
        (401, "Bearer"),
        (401, "Bearer "),
        (401, KEY),
        (401, f"Basic {KEY}"),
        (401, f"Bearer {KEY} {KEY}"),
        (403, f"Bearer {KEY[:-1]}"),
        (403, f"Bearer {KEY}x"),
        (403, f"Bearer {KEY.lower()}"),
        (403, "Bearer \xe4"),
        (403, f"Bearer 0123456789abcdef.{'0' * 64}"),
    ],
)
def test_where_there_are_keys_nobody_is_let_in_without_one(keys: Keys, status: int, authorization: str | None):
    headers = [] if authorization is None else [(b"authorization", authorization.encode("latin-1"))]

    asked, body = ask([(b"host", b"127.0.0.1:8888"), *headers], keys=keys)

    assert (status, status != 200) == (asked, KEY.encode() not in body and body != b"let in")


@pytest.mark.parametrize("with_keys", [True, False])
def test_what_is_asked_does_not_learn_the_key_but_all_else_that_was_sent(keys: Keys, with_keys: bool):
    host, authorization = (b"host", b"127.0.0.1:8888"), (b"authorization", f"Bearer {KEY}".encode())
    learned: list[tuple[bytes, bytes]] = []

    async def learn(scope: Any, receive: Any, send: Any) -> None:
        learned.extend(scope["headers"])
        await _application(scope, receive, send)

    ask([host, authorization], application=learn, keys=keys if with_keys else None)

    assert ([host] if with_keys else [host, authorization]) == learned


def test_two_keys_are_none(keys: Keys):
    both = [(b"authorization", f"Bearer {KEY}".encode()), (b"authorization", b"Bearer other")]

    assert ask([(b"host", b"127.0.0.1:8888"), *both], keys=keys)[0] == 401


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS", "PROPFIND"])
@pytest.mark.parametrize(
    "path", ["/", "/api", "/_cortex/info", "/healthz/", "/healthz?x", "//healthz", "/Healthz", "*"]
)
def test_every_path_and_method_but_that_of_health_asks_for_the_key(keys: Keys, method: str, path: str):
    assert ask([(b"host", b"127.0.0.1:8888")], keys=keys, method=method, path=path)[0] == 401
    assert ask([(b"host", b"127.0.0.1:8888")], keys=keys, method=method, path="/healthz")[0] == 200


def test_a_key_does_not_make_a_foreign_place_ours(keys: Keys):
    key = (b"authorization", f"Bearer {KEY}".encode())

    assert ask([(b"host", b"evil.example.com"), key], keys=keys)[0] == 403
    assert ask([(b"host", b"127.0.0.1:8888"), (b"origin", b"http://evil.example.com"), key], keys=keys)[0] == 403


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
