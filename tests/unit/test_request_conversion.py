"""What `predict` gets of a request."""

import contextlib
import io
import json
from typing import Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import QueryParams

from cortex.domain.errors import InvalidRequest
from cortex.predictor.request import Headers, read_payload, read_query

MULTIPART = "multipart/form-data; boundary=xyz"


def encoded(**parts: Any) -> tuple[bytes, str]:
    """Give body and Content-Type, as a client that many use sends a form."""
    prepared = requests.Request("POST", "http://localhost", **parts).prepare()
    assert isinstance(prepared.body, bytes | str)
    body = prepared.body.encode() if isinstance(prepared.body, str) else prepared.body
    return body, prepared.headers["Content-Type"]


@pytest.mark.parametrize(
    ("expected", "body", "content_type"),
    [
        ({"a": 1}, b'{"a": 1}', "application/json"),
        ([1, 2], b" [1, 2]\n", "application/json"),
        (None, b"null", "application/json"),
        ("text", b'"text"', "application/json; charset=utf-8"),
        ("ä", b'"\xe4"', "application/json; charset=latin-1"),
        ("ä", '"ä"'.encode("utf-16"), "application/json"),
        (1, b"1", "Application/JSON"),
        (2**70, str(2**70).encode(), "application/json"),
        ([{"a": 1.5}], b'[{"a": 1.5}]', None),
        ([{"a": 1.5}], b'[{"a": 1.5}]', ""),
        (b"no json", b"no json", None),
        (b"\xff\xd8", b"\xff\xd8", None),
        (b"", b"", None),
        (b"[" * 100_000, b"[" * 100_000, None),
        ("text", b"text", "text/plain"),
        ("", b"", "text/plain"),
        ("ä", "ä".encode(), "text/plain"),
        ("ä", b"\xe4", 'text/plain; charset="ISO-8859-1"'),
        ('{"a": 1}', b'{"a": 1}', "TEXT/PLAIN;charset=ascii"),
        ({"a": 1}, b'{"a": 1}', "application/x-www-form-urlencoded"),
        ([1], b"[1]", "application/x-www-form-urlencoded; charset=utf-8"),
        (b'{"a": 1}', b'{"a": 1}', "application/octet-stream"),
        (b"\x89PNG", b"\x89PNG", "image/png"),
        (b"{}", b"{}", "application/jsonlines"),
        (b"<a/>", b"<a/>", "not a type at all"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_the_payload_is_what_the_content_type_says(expected, body, content_type):
    got = read_payload(body, content_type)

    assert expected == got
    assert type(expected) is type(got)


@pytest.mark.parametrize(
    ("body", "content_type", "why"),
    [
        (b"{", "application/json", "the body is not JSON, as its Content-Type `application/json` says"),
        (b"", "application/json", "the body is empty, which is no JSON"),
        (b"[" * 100_000, "application/json", "the body is not JSON"),
        (b"\xff", "application/json", "the body is not JSON"),
        (b'"\xe4"', "application/json; charset=utf-8", "the body is not in `utf-8`, its charset"),
        (b"\xe4", "text/plain", "the body is not in `utf-8`, its charset"),
        (b"a", "text/plain; charset=klingon", "the body is not in `klingon`, its charset: unknown encoding: klingon"),
        (b"\xe4=1", "application/x-www-form-urlencoded", "the body is not in `utf-8`, its charset"),
        (b"--xyz--", "multipart/form-data", "it names no boundary"),
        (b"", MULTIPART, "its last boundary is missing"),
        (b"something else", MULTIPART, "its last boundary is missing"),
        (b"--xyz\r\n\r\ncut", MULTIPART, "a field has no end of its headers"),
        (b"--xyz\r\ncontent-disposition: form-data; name=a\r\n\r\ncut", MULTIPART, "its last boundary is missing"),
        (b"--xyz\r\ncontent-disposition: form-data; name=a\r\n--xyz--", MULTIPART, "no end of its headers"),
        (b"--xyzzy\r\n\r\n--xyz--", MULTIPART, "a boundary is not alone in its line"),
        (b"--xyz\r\ncontent-disposition: form-data\r\n\r\n\r\n--xyz--", MULTIPART, "a field has no name"),
        (
            (
                b"--xyz\r\ncontent-type: text/plain; charset=no\r\n"
                b"content-disposition: form-data; name=a\r\n\r\nb\r\n--xyz--"
            ),
            MULTIPART,
            "unknown encoding: no",
        ),
        (b"\r\n--xyz" * 1001, MULTIPART, "it has more than 1000 fields"),
        (b"1", "application/json; charset*1*=; charset*=", "the body cannot be read as `application/json; charset*1*="),
        (
            b"--xyz\r\ncontent-disposition: form-data; name*1*=; name*=\r\n\r\n\r\n--xyz--",
            MULTIPART,
            "the body cannot be read as `multipart/form-data",
        ),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_body_that_is_not_what_it_says_is_refused_with_the_reason(body, content_type, why):
    with pytest.raises(InvalidRequest) as refusal:
        read_payload(body, content_type)

    assert why in str(refusal.value)


def test_a_form_gives_the_last_value_of_a_name_and_all_on_request():
    form = read_payload(*encoded(data=[("a", "1"), ("b", "ä &="), ("a", "2"), ("c", "")]))

    assert ("2", "ä &=", "") == (form["a"], form["b"], form["c"])
    assert (["1", "2"], []) == (form.getlist("a"), form.getlist("z"))
    assert [("a", "1"), ("b", "ä &="), ("a", "2"), ("c", "")] == form.multi_items()
    assert {"a": "2", "b": "ä &=", "c": ""} == json.loads(json.dumps(form))


@pytest.mark.parametrize(("expected", "body"), [({"[a": "1"}, b"[a=1"), ({"1": ""}, b"1"), ({}, b"")])
def test_a_form_is_not_taken_for_json(expected, body):
    assert expected == read_payload(body, "application/x-www-form-urlencoded")


def test_a_form_may_hold_files():
    image = bytes(range(256)) * 10 + b"\r\n--not the boundary\r\n"

    form = read_payload(*encoded(data={"name": "Zoë"}, files={"image": ("ä b.png", io.BytesIO(image), "image/png")}))

    file = form["image"]
    assert "Zoë" == form["name"]
    assert ("ä b.png", "image/png", len(image)) == (file.filename, file.content_type, file.size)
    assert (image[:5], image[5:], b"") == (file.read(5), file.read(), file.read())
    file.seek(1)
    assert image[1:] == file.file.read()


def test_a_form_may_have_text_before_and_after_it():
    field = b'content-disposition: form-data; name="a \\"b\\""\r\n\r\n one\r\ntwo \r\n'

    form = read_payload(b"preamble\r\n--xyz \t\r\n" + field + b"--xyz--\r\nepilogue", MULTIPART)

    assert {'a "b"': " one\r\ntwo "} == form


@given(st.lists(st.tuples(st.text(st.characters(codec="utf-8"), min_size=1), st.binary()), max_size=4))
def test_whatever_a_file_holds_arrives(files):
    body, content_type = encoded(files=[("file", (f"n{at}", data)) for at, (_, data) in enumerate(files)] or {"a": b""})

    form = read_payload(body, content_type)

    assert [data for _, data in files] == [file.read() for file in form.getlist("file")]


@given(st.binary(), st.sampled_from([None, "application/json", "text/plain", MULTIPART, "multipart/form-data"]))
def test_no_body_is_worse_than_refused(body, content_type):
    with contextlib.suppress(InvalidRequest):
        read_payload(body, content_type)


@pytest.mark.parametrize("query", ["", "a=1", "a=1&a=2&b", "a=%C3%A4+b&c=%ff", "=1", "a=1;b=2", "a&b=&&c==1"])
def test_the_query_is_read_as_starlette_reads_it(query):
    expected = QueryParams(query)

    got = read_query(query)

    assert dict(expected) == got
    assert expected.multi_items() == got.multi_items()


def test_headers_are_found_in_whatever_case_and_the_first_of_several_is_given():
    headers = Headers([["Content-Type", "a"], ["x-one", "1"], ["X-One", "2"]])

    assert ("a", "1", "1") == (headers["content-type"], headers["X-ONE"], headers.get("x-One"))
    assert ["1", "2"] == headers.getlist("x-oNe")
    assert "CONTENT-type" in headers
    assert "y" not in headers
    assert {"content-type": "a", "x-one": "1"} == dict(headers)
    assert 2 == len(headers)
