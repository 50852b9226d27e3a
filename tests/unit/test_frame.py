import itertools
import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cortex.domain.frame import MAX_FRAME_BYTES, FrameError, FrameReader, encode

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
FRAMES = st.dictionaries(st.text(), JSON, max_size=5).map(lambda fields: {**fields, "type": "something"})


def raw(body: bytes) -> bytes:
    return struct.pack("<I", len(body)) + body


@given(st.lists(FRAMES, max_size=5), st.lists(st.integers(0, 10_000), max_size=20))
def test_frames_arrive_whole_and_in_order_however_the_stream_was_cut(frames, cuts):
    stream = b"".join(encode(frame) for frame in frames)
    places = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    reader = FrameReader()

    read = [frame for begin, end in itertools.pairwise(places) for frame in reader.feed(stream[begin:end])]

    assert frames == read


@given(
    st.lists(
        st.tuples(FRAMES, st.none() | st.binary() | st.binary().map(lambda data: b"\n" + data * 1000)), max_size=5
    ),
    st.lists(st.integers(0, 10_000), max_size=20),
)
def test_the_data_of_frames_arrives_as_it_was_however_the_stream_was_cut(parts, cuts):
    stream = b"".join(encode(frame, data) for frame, data in parts)
    places = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    reader = FrameReader()

    read = [frame for begin, end in itertools.pairwise(places) for frame in reader.feed(stream[begin:end])]

    assert read == [frame if data is None else {**frame, "data": data} for frame, data in parts]
    assert all(type(frame["data"]) is bytes for frame, (_, data) in zip(read, parts, strict=True) if data is not None)


def test_empty_data_is_not_the_same_as_none():
    stream = encode({"type": "a"}, b"") + encode({"type": "a"})

    assert [{"type": "a", "data": b""}, {"type": "a"}] == FrameReader().feed(stream)


def test_frames_arrive_byte_by_byte():
    reader = FrameReader()

    read = [reader.feed(bytes([byte])) for byte in encode({"type": "a", "text": "ä\n"})]

    assert [[]] * (len(read) - 1) == read[:-1]
    assert [{"type": "a", "text": "ä\n"}] == read[-1]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b"null",
        b"[]",
        b"{}",
        b'{"type": 1}',
        b'{"type": null}',
        b'"type"',
        b'{"type":"a","deep":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
    ids=lambda body: repr(body[:20]),
)
def test_what_is_no_frame_is_an_error_of_the_protocol(body):
    with pytest.raises(FrameError):
        FrameReader().feed(raw(body))


def test_a_length_beyond_the_limit_is_refused_before_its_bytes_have_come():
    with pytest.raises(FrameError, match=str(MAX_FRAME_BYTES + 1)):
        FrameReader().feed(struct.pack("<I", MAX_FRAME_BYTES + 1))


def test_a_frame_of_the_largest_size_is_read():
    text = "x" * (MAX_FRAME_BYTES - len(json.dumps({"type": "a", "text": ""}, separators=(",", ":"))))
    frame = {"type": "a", "text": text}

    assert len(encode(frame)) == MAX_FRAME_BYTES + 4
    assert [frame] == FrameReader().feed(encode(frame))
