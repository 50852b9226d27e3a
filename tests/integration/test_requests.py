"""Requests as clients send them, and what a predictor makes of them, through a whole operator."""

import io
import json
import os

import pytest
import requests

from operator_process import OperatorProcess

ECHO = """
    import numpy
    from starlette.responses import JSONResponse

    class PythonPredictor:
        def __init__(self, config): ...

        def predict(self, payload, query_params, headers):
            match query_params.get("as"):
                case "file":
                    return [payload["name"], payload["file"].filename, payload["file"].read().hex()]
                case "bytes":
                    return payload[::-1]
                case "array":
                    return numpy.array(payload)
                case "response":
                    return JSONResponse({"made": "by hand"}, 418, {"x-made": "by hand"})
                case "error":
                    raise ValueError("a secret")
                case _:
                    return f"{payload!r} {headers.get('X-Who')}"

        def post_predict(self, payload, response):
            print("answered", payload, "with", response, flush=True)
"""


@pytest.fixture
def url(operator: OperatorProcess) -> str:
    operator.deploy_realtime(ECHO)
    return f"{operator.address}/api"


def test_the_payload_is_what_clients_mean(url: str) -> None:
    undeclared = requests.post(url, data='{"a": 1}', timeout=60)
    form = requests.post(url, data={"a": "1"}, headers={"x-who": "me"}, timeout=60)
    text = requests.post(url, data="ä".encode(), headers={"Content-Type": "text/plain"}, timeout=60)
    octets = requests.post(url, data=b"\xff\x00", params={"as": "bytes"}, timeout=60)
    not_json = requests.post(url, data="{", headers={"Content-Type": "application/json"}, timeout=60)

    assert ["{'a': 1} None", "{'a': '1'} me", "'ä' None"] == [undeclared.text, form.text, text.text]
    assert (b"\x00\xff", "application/octet-stream") == (octets.content, octets.headers["content-type"])
    assert (400, "request.invalid") == (not_json.status_code, not_json.json()["kind"])


def test_a_file_in_a_form_arrives_whole(url: str) -> None:
    image = os.urandom(3_000_000)

    answer = requests.post(
        f"{url}?as=file", data={"name": "Zoë"}, files={"file": ("ä.png", io.BytesIO(image))}, timeout=60
    )

    assert ["Zoë", "ä.png", image.hex()] == answer.json()


def test_an_answer_longer_than_a_frame_arrives_whole(url: str) -> None:
    numbers = list(range(1_300_000))
    body = json.dumps(numbers, separators=(",", ":"))  # nearly the 10 MiB that a request may have

    answer = requests.post(f"{url}?as=array", data=body, timeout=60)

    assert numbers == answer.json()


def test_a_response_of_the_predictors_own_comes_as_it_is(url: str) -> None:
    answer = requests.post(f"{url}?as=response", timeout=60)

    assert (418, {"made": "by hand"}, "by hand") == (answer.status_code, answer.json(), answer.headers["x-made"])
    assert "18" == answer.headers["content-length"]


def test_what_predict_raises_is_in_the_log_and_what_post_predict_prints(operator: OperatorProcess, url: str) -> None:
    failed = requests.post(f"{url}?as=error", timeout=60)
    requests.post(url, json="the last", timeout=60)

    assert (500, "predict.failed") == (failed.status_code, failed.json()["kind"])
    assert "a secret" not in failed.text
    seen = []
    with operator.http.stream("GET", "/_cortex/apis/api/logs?follow=true") as log:
        for line in log.iter_lines():
            seen.append(line)
            if line.startswith("answered the last with 'the last'"):
                break
    assert "ValueError: a secret" in seen
