"""The client against an operator that answers over HTTP, and against those that do not."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from io import BytesIO

import pytest
from stub_operator import Refusal, StubOperator, Then, cut_off

from cortex.clients.operator_client import OperatorClient
from cortex.domain.errors import (
    ApiNotFound,
    CortexError,
    InvalidConfiguration,
    InvalidRequest,
    JobNotInProgress,
    OperatorUnreachable,
)


@pytest.fixture
def operator() -> Iterator[StubOperator]:
    with StubOperator() as stub:
        yield stub


@pytest.fixture
def client(operator: StubOperator) -> Iterator[OperatorClient]:
    with OperatorClient(operator.address + "/") as client:
        yield client


def test_it_asks_the_routes_of_the_operator(operator: StubOperator, client: OperatorClient) -> None:
    operator.answers |= {
        "GET /_cortex/apis/a%2Fb": {"endpoint": "e"},
        "POST /iris": {"job_id": "1"},
        "GET /iris/1": {"endpoint": "e"},
        "DELETE /iris/1": {"message": "stopped job 1"},
        "DELETE /_cortex/apis/iris": {"message": "deleting iris"},
    }
    endpoint = "http://name.behind.a.proxy/iris"

    assert client.health() == {"status": "ok", "version": "0.1.0"}
    assert client.api("a/b") == {"endpoint": "e"}
    assert client.submit(endpoint, b'{"workers": 1}') == {"job_id": "1"}
    assert client.job(endpoint, "1") == {"endpoint": "e"}
    assert client.stop_job(endpoint, "1") == "stopped job 1"
    assert client.delete_api("iris") == "deleting iris"
    assert operator.requests[2].body == b'{"workers": 1}'
    assert operator.requests[2].headers["Content-Type"] == "application/json"
    assert not any("Authorization" in request.headers for request in operator.requests)


def test_it_uploads_the_configuration_and_the_project(operator: StubOperator, client: OperatorClient) -> None:
    operator.answers["POST /_cortex/deploy"] = []

    client.deploy(b"- name: a", "dir/cortex.yaml", BytesIO(b"PK zip"))

    body = operator.requests[0].body
    assert b'name="config"; filename="dir/cortex.yaml"' in body
    assert b'name="project"; filename="project.zip"' in body
    assert b"- name: a" in body
    assert b"PK zip" in body


def test_a_key_is_sent(operator: StubOperator) -> None:
    with OperatorClient(operator.address, api_key="secret") as client:
        client.health()

    assert operator.requests[0].headers["Authorization"] == "Bearer secret"


def test_an_http_proxy_is_not_asked_for_this_machine(operator: StubOperator, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    with OperatorClient(operator.address) as client:
        assert client.health()["status"] == "ok"


def test_streams_come_in_parts(operator: StubOperator, client: OperatorClient) -> None:
    operator.answers["GET /iris/1/results"] = b"[1]\n[2]\n"
    operator.answers["GET /iris/1/logs?follow=true"] = b"line\n"
    operator.answers["GET /iris/1/failures"] = b""

    assert b"".join(client.results("http://h/iris", "1")) == b"[1]\n[2]\n"
    assert b"".join(client.logs("http://h/iris/", "1", follow=True)) == b"line\n"
    assert b"".join(client.failures("http://h/iris", "1")) == b""


@pytest.mark.parametrize(
    ("refusal", "error"),
    [
        (Refusal(404, "api.not_found", "`x` is not deployed\n\nhint: look"), ApiNotFound),
        (Refusal(400, "configuration.invalid", "cortex.yaml:3: wrong"), InvalidConfiguration),
        (Refusal(409, "job.not_in_progress", "it has ended"), JobNotInProgress),
        (Refusal(418, "of.a.newer.operator", "teapot"), CortexError),
    ],
)
def test_refusals_become_our_errors_with_their_message(
    operator: StubOperator, client: OperatorClient, refusal: Refusal, error: type[CortexError]
) -> None:
    operator.answers["GET /_cortex/info"] = refusal
    operator.answers["GET /iris/1/logs"] = refusal

    with pytest.raises(error) as asked:
        client.info()
    with pytest.raises(error) as streamed:
        list(client.logs("http://h/iris", "1"))

    assert error is type(asked.value) is type(streamed.value)
    assert refusal.message == str(asked.value) == str(streamed.value)


def bad_gateway(handler: BaseHTTPRequestHandler) -> None:
    handler.send_error(502)


@pytest.mark.parametrize(
    ("refusal", "shown"),
    [
        (
            Refusal(401, "request.unauthorized", "a key\n\nhint: `cortex env configure NAME --api-key KEY`"),
            "a key\n\nhint: do",
        ),
        (Refusal(403, "request.forbidden", "a wrong key\n\nhint: --api-key"), "a wrong key\n\nhint: do"),
        (Refusal(403, "request.forbidden", "a wrong place"), "a wrong place\n\nhint: do"),
        (Refusal(403, "request.forbidden", "a wrong host\n\nhint: --public-url"), "a wrong host\n\nhint: --public-url"),
        (Refusal(404, "api.not_found", "no such api\n\nhint: look"), "no such api\n\nhint: look"),
    ],
)
def test_who_asks_without_the_right_key_is_told_how_to_give_it(
    operator: StubOperator, refusal: Refusal, shown: str
) -> None:
    operator.answers["GET /_cortex/info"] = refusal

    with OperatorClient(operator.address, key_hint="do") as client, pytest.raises(CortexError) as error:
        client.info()

    assert shown == str(error.value)


@pytest.mark.parametrize("answer", [b"<html>hello", bad_gateway])
def test_another_server_is_recognised(operator: StubOperator, client: OperatorClient, answer: object) -> None:
    operator.answers["GET /_cortex/info"] = answer

    with pytest.raises(CortexError, match="not as an operator does") as error:
        client.info()

    assert f"hint: check that `{operator.address}` is the address of a cortex operator" in str(error.value)


def test_nobody_there() -> None:
    with StubOperator() as operator:
        pass

    with OperatorClient(operator.address) as client, pytest.raises(OperatorUnreachable) as error:
        client.health()

    assert f"no operator answers at `{operator.address}`" in str(error.value)
    assert "hint: check that it runs there" in str(error.value)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What it would have waited."""
    pauses: list[float] = []
    monkeypatch.setattr("cortex.clients.calls.time.sleep", pauses.append)
    return pauses


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    handler.close_connection = True


def test_a_submission_whose_connection_is_lost_is_sent_again_with_its_key(
    operator: StubOperator, client: OperatorClient, pauses: list[float]
) -> None:
    operator.answers["POST /iris"] = Then(hang_up, cut_off(b'{"job'), {"job_id": "1"})

    submitted = client.submit("http://h/iris", b"{}")

    assert ({"job_id": "1"}, 2) == (submitted, len(pauses))
    assert [b"{}"] * 3 == [request.body for request in operator.requests]
    assert len({request.headers["Idempotency-Key"] for request in operator.requests}) == 1


def test_a_submission_that_is_lost_again_and_again_is_given_up(
    operator: StubOperator, client: OperatorClient, pauses: list[float]
) -> None:
    operator.answers["POST /iris"] = hang_up

    with pytest.raises(OperatorUnreachable, match="went away in the middle"):
        client.submit("http://h/iris", b"{}")

    assert (3, 2) == (len(operator.requests), len(pauses))


def test_that_an_operator_is_gone_for_good_hides_not_that_it_may_have_the_job(
    operator: StubOperator, client: OperatorClient, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    operator.answers["POST /iris"] = hang_up
    elsewhere = StubOperator()
    with elsewhere:
        pass  # its port is free again
    addresses = iter([operator.address])
    monkeypatch.setattr(client._transport, "_url", lambda path: next(addresses, elsewhere.address) + path)

    with pytest.raises(OperatorUnreachable, match="went away in the middle"):
        client.submit("http://h/iris", b"{}")

    assert (1, 2) == (len(operator.requests), len(pauses))


def test_a_submission_that_nobody_hears_is_not_sent_again(pauses: list[float]) -> None:
    with StubOperator() as operator:
        pass

    with OperatorClient(operator.address) as client, pytest.raises(OperatorUnreachable, match="no operator answers"):
        client.submit("http://h/iris", b"{}")

    assert pauses == []


def test_every_submission_has_a_key_of_its_own(operator: StubOperator, client: OperatorClient) -> None:
    operator.answers["POST /iris"] = {"job_id": "1"}

    for _ in range(2):
        client.submit("http://h/iris", b"{}")

    assert len({request.headers["Idempotency-Key"] for request in operator.requests}) == 2


def test_an_operator_that_goes_away_mid_stream(operator: StubOperator, client: OperatorClient) -> None:
    operator.answers["GET /iris/1/logs?follow=true"] = cut_off(b"one\n", b"two\n")

    received: list[bytes] = []
    with pytest.raises(OperatorUnreachable, match="went away in the middle"):
        received.extend(client.logs("http://h/iris", "1", follow=True))

    assert b"".join(received) == b"one\ntwo\n"


@pytest.mark.parametrize("key", ["schlüssel", "two words", "line\nbreak"])
def test_a_key_that_fits_into_no_header_is_refused(key: str) -> None:
    with pytest.raises(InvalidRequest, match="an API key is made of ASCII"):
        OperatorClient("http://127.0.0.1:1", key)
