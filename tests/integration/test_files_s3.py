"""What only S3 has: odd keys, long listings, and all that goes wrong on the way."""

import itertools
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from cortex.domain.errors import FileChanged, FilesError, FilesUnavailable
from cortex.files import ranged
from cortex.files.files import FileInfo
from cortex.files.patience import Patience
from cortex.files.ranged import CONNECTIONS, RANGE_BYTES, TRIAL_BYTES
from cortex.files.s3 import S3Files, prepare
from cortex.files.selection import Selection, select
from s3_server import S3

DATA = bytes(itertools.islice(itertools.cycle(range(251)), 5 * 2**20 + 7))


def hurried(attempts: int = 4, timeout_seconds: float = 30) -> S3Files:
    patience = Patience(
        attempts=attempts,
        first_pause_seconds=0.001,
        longest_pause_seconds=0.002,
        connect_timeout_seconds=timeout_seconds,
        read_timeout_seconds=timeout_seconds,
    )
    return S3Files(patience=patience)


def urls(s3: S3, prefix: str = "", after: str | None = None, attempts: int = 4) -> list[str]:
    return [file.url for file in hurried(attempts).list(s3.url(prefix), after=after)]


def read(s3: S3, file: FileInfo, attempts: int = 4) -> bytes:
    with hurried(attempts).open(file) as opened:
        return opened.read()


@pytest.fixture
def big(s3: S3) -> FileInfo:
    s3.put("big", body=DATA)
    (file,) = hurried().list(s3.url("big"))
    return file


def test_odd_keys_are_listed_and_read(s3: S3) -> None:
    keys = [
        "ü a+b%20&c=1/é", "a//b", "a/", "a", "tab\there", "x/../y", "x/./y", "<&>\"'", "a+b", "a b", "a%2Bb", "//",
        "//x", "\N{GRINNING FACE}", "\N{FULLWIDTH LATIN SMALL LETTER F}", "?#=", "\\", "*", " ",
    ]  # fmt: skip
    s3.put(*keys)

    found = urls(s3)

    assert sorted((s3.url(key) for key in keys if not key.endswith("/")), key=str.encode) == found
    assert [url for url in s3.keys("") if not url.endswith("/")] == found
    files = hurried()
    for file in files.list(s3.url("")):
        with files.open(file) as opened:
            assert b"x" == opened.read()
    for prefix in ("a", "a/", "a//", "/", "ü a+b%20&", "x/..", "\N{GRINNING FACE}", "tab\t"):
        expected = [url for url in s3.keys(prefix) if not url.endswith("/")]
        assert expected == [file.url for file in files.list(s3.url(prefix))]


@pytest.mark.parametrize("count", [999, 1000, 1001, 1205])
def test_a_listing_of_any_length_is_that_of_the_aws_sdk(s3: S3, count: int) -> None:
    s3.fill(f"d/{number * 7 % 10_000:05}" for number in range(count))
    s3.fill(["c", "e"])

    expected = s3.keys("d/")
    assert count == len(expected)
    assert expected == urls(s3, "d/")
    assert expected[500:] == urls(s3, "d/", after=expected[499])


def test_a_selection_of_thousands_is_what_an_independent_filter_takes(s3: S3) -> None:
    s3.fill(f"{folder}/{number:04}.{'jpg' if number % 3 else 'txt'}" for folder in "abc" for number in range(1100))
    selection = Selection(
        paths=(s3.url("b/"), s3.url("a/0"), s3.url(""), s3.url("c/1")),
        includes=("**.jpg", "**/0*"),
        excludes=("**/[!a-b]/?[5-9]??.*", "**7.jpg"),
    )
    in_order = [
        *s3.keys("b/"),
        *s3.keys("a/0"),
        *(url for url in s3.keys("") if "/b/" not in url and "/a/0" not in url),
    ]
    expected = [
        url
        for url in in_order
        if (url.endswith(".jpg") or url.rpartition("/")[2].startswith("0"))
        and not ("/c/" in url and url.rpartition("/")[2][1] in "56789")
        and not url.endswith("7.jpg")
    ]

    chosen = list(select(hurried(), selection))

    assert expected == [file.url for _, file in chosen]
    assert len(expected) > 1500
    for at in (0, 1000, len(chosen) - 1):
        index, file = chosen[at]
        assert chosen[at + 1 :] == list(select(hurried(), selection, after=(index, file.url)))


FAULTS: list[Callable[[S3], None]] = [
    lambda s3: s3.faults.refuse("503 Slow Down", "SlowDown", times=3),
    lambda s3: s3.faults.refuse("500 Internal Server Error", "InternalError", times=3),
    lambda s3: s3.faults.refuse("429 Too Many Requests", "", times=2),
    lambda s3: s3.faults.refuse("400 Bad Request", "RequestTimeout", times=1),
    lambda s3: s3.faults.cut(100, times=3),
    lambda s3: s3.faults.cut(0, times=2),
]
LASTING: list[tuple[Callable[[S3], None], str]] = [
    (lambda s3: s3.faults.refuse("503 Slow Down", "SlowDown", times=99), "kept answering 503 SlowDown"),
    (lambda s3: s3.faults.refuse("500 Internal Server Error", "InternalError", times=99), "kept answering 500"),
    (lambda s3: s3.faults.cut(0, times=99), "does not answer"),
]


@pytest.mark.parametrize("fail", FAULTS)
def test_a_listing_outlasts_faults_that_pass(s3: S3, fail: Callable[[S3], None]) -> None:
    s3.fill(f"{number:05}" for number in range(1100))
    expected = s3.keys("")

    listing = hurried().list(s3.url(""))
    first = [next(listing).url for _ in range(1000)]
    fail(s3)
    rest = [file.url for file in listing]

    assert expected == first + rest


@pytest.mark.parametrize("fail", FAULTS)
def test_reading_outlasts_faults_that_pass(s3: S3, big: FileInfo, fail: Callable[[S3], None]) -> None:
    fail(s3)

    assert DATA == read(s3, big)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every connection is slow."""
    monkeypatch.setattr(ranged, "ranges_are_quicker", lambda *_: True)


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize("fail", FAULTS)
def test_reading_over_several_connections_outlasts_faults_that_pass(s3: S3, fail: Callable[[S3], None]) -> None:
    data = DATA * 3
    s3.put("large", body=data)
    (large,) = hurried().list(s3.url("large"))

    with hurried().open(large) as opened:
        first = opened.read(TRIAL_BYTES)
        fail(s3)
        rest = opened.read()

    assert data == first + rest
    assert any(asked and not asked.endswith("-") for _, _, asked in s3.faults.requests)


@pytest.mark.usefixtures("slow")
def test_a_large_file_that_is_replaced_while_it_is_read_is_a_change(s3: S3) -> None:
    s3.put("large", body=DATA * 8)
    (large,) = hurried().list(s3.url("large"))

    with hurried().open(large) as opened:
        while sum(bool(asked) for _, _, asked in s3.faults.requests) <= CONNECTIONS:  # the first has not come
            opened.read(RANGE_BYTES)
        s3.put("large", body=DATA[::-1] * 8)
        with pytest.raises(FileChanged, match="large` has changed"):
            opened.read()


@pytest.mark.usefixtures("slow")
def test_a_large_file_of_a_server_without_ranges_is_read_whole(s3: S3) -> None:
    s3.put("large", body=DATA * 3)
    (large,) = hurried().list(s3.url("large"))
    s3.faults.clear()
    s3.faults.strip("HTTP_IF_MATCH", "HTTP_RANGE", times=99)

    assert DATA * 3 == read(s3, large)


def test_a_body_that_keeps_breaking_is_read_on_from_where_it_broke(s3: S3, big: FileInfo) -> None:
    s3.faults.clear()
    s3.faults.cut(700_000, times=50)

    assert DATA == read(s3, big, attempts=2)
    begins = [asked or "whole" for method, _, asked in s3.faults.requests if method == "GET"]
    positions = [int(begin.strip("bytes=-")) for begin in begins[1:]]
    assert "whole" == begins[0]
    assert sorted(set(positions)) == positions
    assert 7 <= len(positions) < 20


@pytest.mark.parametrize("fail", FAULTS)
def test_a_part_of_a_file_outlasts_faults_that_pass(s3: S3, big: FileInfo, fail: Callable[[S3], None]) -> None:
    fail(s3)

    assert DATA[1_000_000:2_000_000] == hurried().read_range(big.url, 1_000_000, 1_000_000)


@pytest.mark.parametrize(("fail", "reason"), LASTING)
def test_a_part_of_a_file_is_given_up_after_a_while(
    s3: S3, big: FileInfo, fail: Callable[[S3], None], reason: str
) -> None:
    fail(s3)

    with pytest.raises(FilesUnavailable, match=reason):
        hurried().read_range(big.url, 1_000_000, 1_000_000)


def test_a_server_that_gives_no_part_of_a_file_is_told(s3: S3, big: FileInfo) -> None:
    s3.faults.strip("HTTP_RANGE", "HTTP_IF_RANGE")

    with pytest.raises(FilesError, match="its server gives no part of a file"):
        hurried().read_range(big.url, 1_000_000, 1_000_000)


def test_slow_bytes_are_waited_for(s3: S3, big: FileInfo) -> None:
    turns = threading.Semaphore(0)
    s3.faults.trickle(turns.acquire)

    with hurried().open(big) as opened:
        got = []
        for _ in range(0, len(DATA), 64 * 1024):
            turns.release()
            got.append(opened.read1(2**16) if len(got) % 4 == 3 else b"")
        got.append(opened.read())
    assert DATA == b"".join(got)


@pytest.mark.parametrize(("fail", "said"), LASTING)
def test_faults_that_last_end_a_listing_and_a_read(
    s3: S3, big: FileInfo, fail: Callable[[S3], None], said: str
) -> None:
    fail(s3)

    with pytest.raises(FilesError, match=f"`{s3.url('')}` cannot be listed: .*{said}"):
        urls(s3)
    with pytest.raises(FilesError, match=f"`{big.url}` cannot be read: .*{said}"):
        read(s3, big)


def test_a_listing_that_breaks_off_without_a_word_is_not_taken_for_whole(s3: S3) -> None:
    s3.put("a", "b")

    for after_bytes in (200, 400, 600):
        s3.faults.cut(after_bytes, times=1, is_length_told=False)
        assert s3.keys("") == urls(s3)


def test_a_truncated_page_without_a_token_is_followed_by_the_next(s3: S3) -> None:
    s3.fill(f"{number:05}" for number in range(1500))
    expected = s3.keys("")
    s3.faults.rewrite(rb"<NextContinuationToken>.*?</NextContinuationToken>", b"")

    assert expected == urls(s3)


def test_a_listing_out_of_order_is_refused(s3: S3) -> None:
    s3.put("a", "b")
    s3.faults.rewrite(rb"<Key>a</Key>", b"<Key>c</Key>")

    with pytest.raises(FilesError, match="out of order: `b` after `c`"):
        urls(s3)


def test_a_precondition_that_fails_is_a_change(s3: S3, big: FileInfo) -> None:
    s3.faults.refuse("412 Precondition Failed", "PreconditionFailed")

    with pytest.raises(FileChanged, match="big` has changed"):
        read(s3, big)


def test_a_file_that_is_replaced_while_it_is_read_is_a_change(s3: S3, big: FileInfo) -> None:
    s3.faults.cut(2**20)
    s3.faults.before(lambda: s3.put("big", body=DATA[::-1]))

    with pytest.raises(FileChanged, match="big` has changed"):
        read(s3, big)


def test_a_server_that_ignores_conditions_and_ranges_is_not_believed(s3: S3, big: FileInfo) -> None:
    s3.put("big", body=DATA[::-1])
    s3.faults.strip("HTTP_IF_MATCH", "HTTP_RANGE", times=9)
    with pytest.raises(FileChanged, match="big` has changed"):
        read(s3, big)

    (again,) = hurried().list(s3.url("big"))
    s3.faults.clear()
    s3.faults.cut(2**20)
    s3.faults.strip("HTTP_IF_MATCH", "HTTP_RANGE", times=9)
    with pytest.raises(FilesError, match="cannot go on in the middle"):
        read(s3, again)


def test_a_bucket_that_is_not_there_is_named(s3: S3) -> None:
    with pytest.raises(FilesError, match=f"there is no bucket `{s3.bucket}-not` at {s3.endpoint}") as refused:
        list(hurried().list(f"s3://{s3.bucket}-not/x"))
    assert "AWS_ENDPOINT_URL" in (refused.value.hint or "")


@pytest.mark.parametrize(
    ("status", "code", "said", "hint"),
    [
        ("403 Forbidden", "AccessDenied", "access is denied", "s3:ListBucket"),
        ("403 Forbidden", "InvalidAccessKeyId", "refuses the credentials", "AWS_ACCESS_KEY_ID"),
        ("403 Forbidden", "SignatureDoesNotMatch", "refuses the credentials", "AWS_SECRET_ACCESS_KEY"),
        ("400 Bad Request", "ExpiredToken", "refuses the credentials", "AWS_SESSION_TOKEN"),
        ("301 Moved Permanently", "PermanentRedirect", "another region", "AWS_REGION"),
        ("400 Bad Request", "IllegalLocationConstraintException", "another region", "AWS_REGION"),
        ("418 Teapot", "Odd", "answered 418 Odd", ""),
    ],
)
def test_what_s3_has_against_it_is_said_with_a_hint(s3: S3, status: str, code: str, said: str, hint: str) -> None:
    s3.faults.refuse(status, code, times=9, message=f"the secret is {s3.env['AWS_SECRET_ACCESS_KEY']}")
    s3.faults.refuse(status, code, times=9, method="HEAD")

    with pytest.raises(FilesError, match=said) as refused:
        urls(s3)
    assert hint in (refused.value.hint or "")
    assert s3.env["AWS_SECRET_ACCESS_KEY"] not in str(refused.value)
    assert not [1 for method, _, _ in s3.faults.requests if method == "GET"][3:]  # none of these passes


def test_missing_credentials_are_said_at_once(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")

    with pytest.raises(FilesError, match="no usable AWS credentials") as refused:
        urls(s3)
    assert "AWS_ACCESS_KEY_ID" in (refused.value.hint or "")


@pytest.mark.parametrize("setting", [("AWS_PROFILE", "nobody"), ("AWS_ENDPOINT_URL", "nowhere")])
def test_settings_that_cannot_be_used_are_said(
    s3: S3, monkeypatch: pytest.MonkeyPatch, setting: tuple[str, str]
) -> None:
    monkeypatch.setenv(*setting)

    with pytest.raises(FilesError, match=f"AWS settings .* cannot be used: .*{setting[1]}"):
        urls(s3)


def test_an_endpoint_that_refuses_is_named_without_its_password(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://user:pass-word@127.0.0.1:{port}")

    with pytest.raises(FilesError, match=f"http://127.0.0.1:{port} does not answer") as refused:
        urls(s3)
    assert "pass-word" not in str(refused.value)


def test_a_black_hole_ends(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")

        with pytest.raises(FilesError, match=r"does not answer \(ReadTimeoutError\)"):
            list(hurried(attempts=2, timeout_seconds=1).list(s3.url("")))


def test_another_endpoint_for_s3_alone_wins(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    s3.put("x")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3.endpoint)

    assert [s3.url("x")] == urls(s3)


def test_settings_that_are_made_after_the_preparation_count(
    s3: S3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    s3.put("x")
    settings = tmp_path / "config"
    settings.write_text("[default]\nendpoint_url = http://127.0.0.1:1\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(settings))
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3", raising=False)

    prepare()
    settings.write_text(f"[default]\nendpoint_url = {s3.endpoint}\n")

    assert [s3.url("x")] == urls(s3)


def test_writing_outlasts_faults_that_pass_and_tells_those_that_last(s3: S3) -> None:
    s3.faults.refuse("503 Slow Down", "SlowDown", method="PUT", times=2)
    hurried().write(s3.url("new"), b"data")
    s3.faults.refuse("503 Slow Down", "SlowDown", method="PUT", times=99)

    with pytest.raises(FilesError, match=f"`{s3.url('other')}` cannot be written"):
        hurried().write(s3.url("other"), b"data")
    assert [s3.url("new")] == s3.keys("")
