"""Which files a dataset takes: each once, in order, from wherever one left off."""

from collections.abc import Iterator
from typing import BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cortex.files.address import Address, check_paths, key_after, read_address
from cortex.files.files import FileInfo
from cortex.files.selection import Selection, select


class Listed:
    """Files of which there is nothing but their URLs."""

    def __init__(self, *urls: str) -> None:
        self.urls = sorted(urls, key=str.encode)

    def list(self, prefix: str, *, after: str | None = None) -> Iterator[FileInfo]:
        for url in self.urls:
            if url.startswith(prefix) and (after is None or url.encode() > after.encode()):
                yield FileInfo(url=url, size_bytes=1, version="1")

    def open(self, file: FileInfo) -> BinaryIO:
        raise NotImplementedError

    def write(self, url: str, data: bytes) -> None:
        raise NotImplementedError


FILES = Listed("/a/1.jpg", "/a/2.txt", "/a/b/3.jpg", "/ab.jpg", "/c.jpg")


def chosen(selection: Selection, files: Listed = FILES) -> list[tuple[int, str]]:
    return [(index, file.url) for index, file in select(files, selection)]


def test_paths_are_taken_in_their_order() -> None:
    assert [(0, "/c.jpg"), (1, "/a/1.jpg"), (1, "/a/2.txt"), (1, "/a/b/3.jpg")] == chosen(
        Selection(paths=("/c", "/a/"))
    )


def test_a_file_that_an_earlier_path_has_taken_is_left_out() -> None:
    paths = ("/a/b", "/a", "/a/1", "/")

    assert [(0, "/a/b/3.jpg"), (1, "/a/1.jpg"), (1, "/a/2.txt"), (1, "/ab.jpg"), (3, "/c.jpg")] == chosen(
        Selection(paths=paths)
    )


def test_a_bucket_is_no_beginning_of_another_bucket() -> None:
    class Buckets(Listed):
        def list(self, prefix: str, *, after: str | None = None) -> Iterator[FileInfo]:
            bucket = read_address(prefix).bucket
            return (file for file in super().list(prefix, after=after) if read_address(file.url).bucket == bucket)

    files = Buckets("s3://data/1", "s3://data/2", "s3://data-2/1")
    paths = ("s3://data", "s3://data/2", "s3://data-2")

    assert [(0, "s3://data/1"), (0, "s3://data/2"), (2, "s3://data-2/1")] == chosen(Selection(paths=paths), files)


def test_a_file_is_left_out_even_if_the_globs_kept_it_from_the_earlier_path() -> None:
    assert [] == chosen(Selection(paths=("/a/2", "/a/2.txt"), excludes=("**.txt",)))


def test_includes_come_before_excludes() -> None:
    assert [(0, "/a/b/3.jpg"), (0, "/ab.jpg"), (0, "/c.jpg")] == chosen(
        Selection(paths=("/",), includes=("**.jpg", "**.txt"), excludes=("/a/*",))
    )


NAMES = st.text(alphabet="ab/.", max_size=4).map(lambda name: f"/{name}")


@given(st.sets(NAMES, max_size=8), st.lists(NAMES, min_size=1, max_size=4))
def test_each_file_is_given_once_and_any_of_them_is_where_to_go_on(urls: set[str], paths: list[str]) -> None:
    selection = Selection(paths=tuple(paths), excludes=("**.",))
    files = Listed(*urls)

    found = list(select(files, selection))

    wanted = {url for url in urls if any(url.startswith(path) for path in paths) and not url.endswith(".")}
    assert sorted(wanted) == sorted(file.url for _, file in found)
    for at, (index, file) in enumerate(found):
        assert paths[index] == next(path for path in paths if file.url.startswith(path))
        assert found[at + 1 :] == list(select(files, selection, after=(index, file.url)))


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("s3://bucket", Address(scheme="s3", bucket="bucket", key="")),
        ("s3://bucket/", Address(scheme="s3", bucket="bucket", key="")),
        ("s3://bucket//a?b#c%20", Address(scheme="s3", bucket="bucket", key="/a?b#c%20")),
        ("gs://bu_ck.et/a@b", Address(scheme="gs", bucket="bu_ck.et", key="a@b")),
        ("az://$web/a://b", Address(scheme="az", bucket="$web", key="a://b")),
        ("/d/a b://c", Address(scheme="file", bucket="", key="/d/a b://c")),
        ("file:///d/%20", Address(scheme="file", bucket="", key="/d/%20")),
        ("file://localhost/d", Address(scheme="file", bucket="", key="/d")),
    ],
)
def test_a_url_is_taken_apart_and_not_changed(url: str, address: Address) -> None:
    assert address == read_address(url)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "is empty"),
        ("images/", "is not absolute"),
        ("./x", "is not absolute"),
        ("C:\\x", "is not absolute"),
        ("s3:/b/x", "is not absolute"),
        ("s3://", "names no bucket"),
        ("s3:///key", "names no bucket"),
        ("s3://b ucket/x", "is not the name of a bucket"),
        ("s3://host:9000:1/x y", None),
        ("S3://b/x", "`S3://` is not known; must be s3://"),
        ("http://host/x", "`http://` is not known; must be s3://"),
        ("s3://key:pass-word@bucket/x", "must not be followed by a user or password"),
        ("https://user:pass-word@host/x", "is not known"),
        ("file://user:pass-word@host/x", "must not be followed by a user or password"),
        ("file://host/x", "is on another machine"),
        ("file://", "names no path"),
        ("file:///a%2", "a `%` that is no `%XX`"),
        ("file:///a%00", "a `%` that is no `%XX`"),
        ("/a\0b", "has a NUL"),
        ("s3://b/\ud800", "half a character"),
    ],
)
def test_a_url_that_names_nothing_is_refused_with_the_reason(url: str, reason: str | None) -> None:
    if reason is None:
        check_paths([url])
        return

    with pytest.raises(ValueError, match=r"^\[1\]: ") as refused:
        check_paths(["/good", url, "s3://good/x"])
    assert reason in str(refused.value)
    assert "pass-word" not in str(refused.value)
    str(refused.value).encode()


def test_every_wrong_path_is_reported() -> None:
    with pytest.raises(ValueError, match=r"^\[0\]: .*\n\[2\]: [^\n]*$"):
        check_paths(["x", "/y", "ftp://z"])


def test_no_path_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one path"):
        check_paths([])


@pytest.mark.parametrize(
    ("after", "expected"),
    [(None, ""), ("s3://b/x/y", "x/y"), ("s3://b/", ""), ("s3://a/x", ""), ("s3://c/x", None), ("s3://b0", None)],
)
def test_where_to_go_on_in_a_bucket_follows_from_any_url(after: str | None, expected: str | None) -> None:
    assert expected == key_after("s3://b/", after)
