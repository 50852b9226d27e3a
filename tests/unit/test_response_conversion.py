"""What a request is answered with, by what `predict` returned."""

import json
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace

import numpy as np
import orjson
import pytest
from starlette import responses

from cortex.predictor import json_values
from cortex.predictor.response import MAX_BODY_BYTES, NoAnswer, make_response

JSON, TEXT, BYTES = "application/json", "text/plain; charset=utf-8", "application/octet-stream"


def name_of(value: object) -> str:
    """Name a value for its test, the same in each run: some tell their address."""
    return repr(value).partition(" at 0x")[0][:40]


@pytest.fixture(params=[orjson, None], ids=["with libraries", "without libraries"], autouse=True)
def fast_json(request, monkeypatch) -> ModuleType | None:
    """Both kinds of environment: a user's may lack orjson and msgspec, and must not behave differently for it."""
    monkeypatch.setattr(json_values, "orjson", request.param)
    monkeypatch.setattr(json_values, "fast_decode", request.param and json_values.fast_decode)
    return request.param


@pytest.mark.parametrize(
    ("content_type", "body", "value"),
    [
        (TEXT, b"setosa", "setosa"),
        (TEXT, b'"quoted"', '"quoted"'),
        (TEXT, "ä".encode(), "ä"),
        (TEXT, b"", ""),
        (BYTES, b"\xff\x00", b"\xff\x00"),
        (BYTES, b"\xff", bytearray(b"\xff")),
        (BYTES, b"\xff", memoryview(b"\xff")),
        (BYTES, b"", b""),
        (JSON, b"null", None),
        (JSON, b"true", True),
        (JSON, b"1", 1),
        (JSON, str(2**70).encode(), 2**70),
        (JSON, b"[1,null]", [1, float("nan")]),
        (JSON, b"null", float("inf")),
        (JSON, b'{"a":["b"]}', {"a": ["b"]}),
        (JSON, b'{"1":2}', {1: 2}),
        (JSON, b"[1,2]", (1, 2)),
        (JSON, b"[]", []),
        (JSON, b"[[1,2],[3,4]]", np.array([[1, 2], [3, 4]])),
        (JSON, b"[[1,3],[2,4]]", np.array([[1, 2], [3, 4]]).T),
        (JSON, b"0.5", np.float32(0.5)),
        (JSON, b'{"label":3}', {"label": np.int64(3)}),
        (JSON, b"[null,1.0]", np.array([np.nan, 1.0])),
    ],
    ids=name_of,
)
def test_an_answer_is_what_predict_returned_by_its_type(content_type, body, value):
    assert (200, (("content-type", content_type),), body) == make_response(value)


def test_non_ascii_text_in_json_is_json():
    assert {"ä": "\ud800"} == json.loads(make_response({"ä": "\ud800"}).body)


@pytest.mark.parametrize(
    ("expected", "response"),
    [
        ((200, [("content-type", "text/html; charset=utf-8")], b"<p>"), responses.HTMLResponse("<p>")),
        ((201, [("content-type", JSON)], b'{"a":1}'), responses.JSONResponse({"a": 1}, 201)),
        ((503, [("retry-after", "5")], b""), responses.Response(status_code=503, headers={"Retry-After": "5"})),
        ((204, [], b""), responses.Response(b"ignored", 204)),
        ((307, [("location", "/a")], b""), responses.RedirectResponse("/a")),
        (
            (200, [("x", "ä"), ("X", "2")], b"\xff"),
            SimpleNamespace(
                status_code=200,
                raw_headers=[(b"x", b"\xe4"), (b"X", b"2"), (b"Content-Length", b"1"), (b"Connection", b"close")],
                body=memoryview(b"\xff"),
            ),
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_response_is_sent_as_it_is_but_for_what_is_the_connections(expected, response):
    status, headers, body = make_response(response)

    assert expected == (status, list(headers), body)


def test_several_cookies_are_kept():
    response = responses.Response(b"")
    response.set_cookie("a", "1")
    response.set_cookie("b", "2")

    assert ["a=1", "b=2"] == [value.partition(";")[0] for name, value in make_response(response).headers]


@dataclass
class Fake:
    status_code: object = 200
    body: object = b""
    raw_headers: tuple[tuple[bytes, bytes], ...] = ()


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (object(), "predict returned a value that is not JSON: "),
        ({"a": {1, 2}}, "predict returned a value that is not JSON: "),
        ("\ud800", "predict returned a text that cannot be sent: "),
        (responses.StreamingResponse([]), "a StreamingResponse without a `body`; return one that holds all of it"),
        (Fake(status_code=101), "the status 101; it must be from 200 to 599"),
        (Fake(status_code=600), "the status 600"),
        (Fake(raw_headers=((b"a", b"1\r\nb: 2"),)), "whose header b'a' has a line break in it"),
        (Fake(raw_headers=((b"a", b"1" * 40_000),) * 2), "80002 bytes of headers; it may have 65536"),
        (Fake(body="text"), "a Fake without a `body`"),
        (b"x" * (MAX_BODY_BYTES + 1), "predict returned 67108865 bytes; an answer may have 67108864 (64 MiB)"),
    ],
    ids=name_of,
)
def test_what_cannot_be_sent_is_refused_with_what_to_return(value, why):
    with pytest.raises(NoAnswer) as refusal:
        make_response(value)

    assert why in str(refusal.value)


def test_what_holds_itself_is_refused():
    ring: list[object] = []
    ring.append(ring)

    with pytest.raises(NoAnswer, match="is not JSON"):
        make_response(ring)
