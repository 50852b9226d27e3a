"""Requests to realtime APIs over HTTP: what becomes a call, what does not, and how it is answered."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from cortex.domain.errors import ApiOverloaded, PredictFailed
from cortex.serving.calls import Answer, Incoming
from cortex.storage.ledger import Version
from cortex.web.app import create_app
from cortex.web.body import MAX_REQUEST_BYTES

ADDRESS = "http://127.0.0.1:8888"

Answered = Callable[[Answer], None]


def version(kind: str = "RealtimeAPI", **spec: Any) -> Version:
    return Version(
        api_id="v1",
        api_name="iris",
        kind=kind,
        endpoint="/flowers/iris",
        spec={"name": "iris", "kind": kind, **spec},
        project_id="",
        deployed_at_ns=0,
    )


class FakeServing:
    """Remembers the calls, and answers them as a test has it."""

    def __init__(self, answer: Callable[[Incoming], Answer] | None = None) -> None:
        self.calls: list[Incoming] = []
        self.waiting: list[Answered] = []
        self.called = asyncio.Event()
        self._answer = answer

    def call(self, _: Version, incoming: Incoming, answered: Answered) -> None:
        if self._answer is not None:
            answered(self._answer(incoming))
        else:
            self.waiting.append(answered)
        self.calls.append(incoming)
        self.called.set()

    def describe(self, _: Version) -> dict[str, Any]:
        return {"status": {"status_code": "status_live"}, "metrics": {}}


def echo(incoming: Incoming) -> Answer:
    return Answer(200, [(b"content-type", b"application/octet-stream")], incoming.body)


def application(serving: FakeServing, deployed: Version | None = None) -> Any:
    found = deployed or version()

    def served_at(path: str) -> Version | None:
        return found if path.removesuffix("/") == found.endpoint else None

    deployments = SimpleNamespace(served_at=served_at, at=lambda path: (found, path[len(found.endpoint) :].strip("/")))
    operator: Any = SimpleNamespace(deployments=deployments, serving=serving, jobs=None)
    return create_app(operator, operator, addresses=[ADDRESS], about={})


def ask(
    serving: FakeServing,
    method: str = "POST",
    path: str = "/flowers/iris",
    *,
    deployed: Version | None = None,
    **more: Any,
) -> httpx.Response:
    async def asked() -> httpx.Response:
        transport = httpx.ASGITransport(app=application(serving, deployed))
        async with httpx.AsyncClient(transport=transport, base_url=ADDRESS) as client:
            return await client.request(method, path, **more)

    return asyncio.run(asked())


@pytest.mark.parametrize("path", ["/flowers/iris", "/flowers/iris/"])
def test_a_post_to_the_endpoint_is_a_call_with_all_that_came(path: str) -> None:
    serving = FakeServing(echo)

    answer = ask(
        serving, path=f"{path}?a=1&b=%20", content=b"\x00body", headers={"Content-Type": "image/x", "X-Y": "z"}
    )

    (call,) = serving.calls
    assert (200, b"\x00body") == (answer.status_code, answer.content)
    assert (b"a=1&b=%20", "image/x", b"\x00body") == (call.query, call.content_type, call.body)
    assert (b"x-y", b"z") in call.headers


def test_a_body_that_comes_in_chunks_is_one_body_and_none_is_an_empty_one() -> None:
    async def chunks() -> Any:
        for chunk in (b"a", b"", b"bc"):
            yield chunk

    serving = FakeServing(echo)

    assert b"abc" == ask(serving, content=chunks()).content
    assert b"" == ask(serving).content
    assert serving.calls[-1].content_type is None


def test_the_answer_is_the_predictors_with_its_status_and_headers_and_nothing_of_ours_but_the_length() -> None:
    headers = [(b"content-type", b"text/x"), (b"x-own", b"1"), (b"x-own", b"2"), (b"content-length", b"99")]
    answer = ask(FakeServing(lambda _: Answer(418, headers, b"tea")))

    assert (418, b"tea") == (answer.status_code, answer.content)
    assert [("content-type", "text/x"), ("x-own", "1"), ("x-own", "2"), ("content-length", "3")] == (
        answer.headers.multi_items()
    )


def test_an_answer_that_can_have_no_body_has_none() -> None:
    answer = ask(FakeServing(lambda _: Answer(204, [], b"not to be sent")))

    assert (204, b"", []) == (answer.status_code, answer.content, answer.headers.multi_items())


@pytest.mark.parametrize("header", [(b"a", b"b\r\nc: d"), (b"a b", b"c"), (b"", b"c"), (b"a", b"\x00")])
def test_a_header_that_cannot_be_sent_is_a_failure_of_the_predictor(header: tuple[bytes, bytes]) -> None:
    answer = ask(FakeServing(lambda _: Answer(200, [header], b"")))

    assert (500, PredictFailed.code) == (answer.status_code, answer.json()["kind"])


def test_what_cannot_be_taken_is_refused_as_everywhere() -> None:
    def refuse(_: Incoming) -> Answer:
        raise ApiOverloaded("too much", hint="wait")

    answer = ask(FakeServing(refuse))

    assert 503 == answer.status_code
    assert {"kind": "api.overloaded", "message": "too much\n\nhint: wait"} == answer.json()
    assert "2" == answer.headers["retry-after"]


def test_a_body_that_is_too_large_is_read_and_refused() -> None:
    serving = FakeServing(echo)

    large = ask(serving, content=b"x" * MAX_REQUEST_BYTES)
    largest = ask(serving, content=b"x" * (MAX_REQUEST_BYTES - 1))

    assert (413, "request.too_large") == (large.status_code, large.json()["kind"])
    assert MAX_REQUEST_BYTES - 1 == len(largest.content)
    assert 1 == len(serving.calls)


@pytest.mark.parametrize(
    "headers", [{"Host": "evil.example.com"}, {"Origin": "http://evil.example.com"}], ids=["host", "origin"]
)
def test_a_web_page_of_another_place_cannot_call(headers: dict[str, str]) -> None:
    serving = FakeServing(echo)

    answer = ask(serving, content=b"1", headers=headers)

    assert (403, []) == (answer.status_code, serving.calls)


def test_a_get_describes_the_api() -> None:
    answer = ask(FakeServing(), "GET")
    head = ask(FakeServing(), "HEAD")

    assert 200 == answer.status_code == head.status_code
    message = "POST sends a request to this API: what `predict` returns is the answer"
    assert {
        "api_name": "iris",
        "kind": "RealtimeAPI",
        "endpoint": f"{ADDRESS}/flowers/iris",
        "message": message,
        "status": {"status_code": "status_live"},
        "metrics": {},
    } == answer.json()


def test_a_get_of_a_splitter_tells_between_which_it_splits() -> None:
    apis = [{"name": "a", "weight": 30}, {"name": "b", "weight": 70}]

    answer = ask(FakeServing(), "GET", deployed=version("TrafficSplitter", apis=apis))

    assert ("TrafficSplitter", apis) == (answer.json()["kind"], answer.json()["apis"])


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "PATCH"])
def test_another_method_is_not_allowed(method: str) -> None:
    answer = ask(FakeServing(), method)

    assert (405, "request.method_not_allowed") == (answer.status_code, answer.json()["kind"])


@pytest.mark.parametrize(("method", "path"), [("GET", "/x"), ("POST", "/x"), ("POST", "/x/logs"), ("POST", "//")])
def test_nothing_is_served_below_the_endpoint(method: str, path: str) -> None:
    answer = ask(FakeServing(echo), method, f"/flowers/iris{path}")

    assert (404, "route.not_found") == (answer.status_code, answer.json()["kind"])


def test_a_client_that_leaves_does_not_end_its_call() -> None:
    async def leave() -> tuple[bool, bytes]:
        serving = FakeServing()
        app = application(serving)
        sent: list[Any] = []
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/flowers/iris",
            "query_string": b"",
            "headers": [(b"host", b"127.0.0.1:8888")],
        }
        messages = [{"type": "http.request", "body": b"1"}]

        async def receive() -> Any:  # the server says for ever after that the client is gone
            return messages.pop(0) if messages else {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        asking = asyncio.create_task(app(scope, receive, send))
        await serving.called.wait()
        await asyncio.sleep(0)
        is_over = asking.done()
        serving.waiting[0](Answer(200, [], b"late"))
        await asking
        return is_over, sent[-1]["body"]

    assert (False, b"late") == asyncio.run(leave())


def test_an_answer_after_the_server_has_given_up_harms_nobody() -> None:
    async def give_up() -> None:
        serving = FakeServing()
        transport = httpx.ASGITransport(app=application(serving))
        async with httpx.AsyncClient(transport=transport, base_url=ADDRESS) as client:
            asking = asyncio.create_task(client.post("/flowers/iris"))
            await serving.called.wait()
            asking.cancel()
            await asyncio.wait([asking])
        serving.waiting[0](Answer(200, [], b""))

    asyncio.run(give_up())
