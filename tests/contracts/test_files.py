"""Every promise of a place where files lie, of everything that keeps it."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from cortex.domain.errors import FileChanged, FilesError
from cortex.files import ranged
from cortex.files.address import read_address
from cortex.files.files import FileInfo, Files
from cortex.files.folder import FolderFiles
from cortex.files.object_stores import ObjectStoreFiles
from cortex.files.patience import Patience
from cortex.files.places import AllFiles
from cortex.files.ranged import CONNECTIONS, RANGE_BYTES, TRIAL_BYTES
from cortex.files.s3 import S3Files
from store_stubs import BUCKET, run_store_stub

HURRIED = Patience(attempts=3, first_pause_seconds=0.001, connect_timeout_seconds=10, read_timeout_seconds=30)
KEYS = [
    "a.b", "a/b", "a0", "a-", "d/img", "d/img_1.png", "d/images/x", "d/images/deep/y", "d/imx", "d/im",
    "ü a+b%20&c/é", "\N{GRINNING FACE}", "\N{FULLWIDTH LATIN SMALL LETTER F}",
    "<&>'\"", "#?;=", "~t", "a b", "e/f g/h", "e/f!g",
]  # fmt: skip
PREFIXES = ["", "a", "a/", "d/", "d/i", "d/im", "d/img", "d/img_1.png", "d/images", "d/images/", "x", "e/f", "d/img/"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A place under test, and a second way to what is in it."""

    files: Files
    base: str  # what every URL begins with
    put: Callable[[str, bytes], Any]
    remove: Callable[[str], Any]
    fill: Callable[[list[str]], Any]  # with empty files, fast
    spell: Callable[[str], str] = str  # a key as URLs have it

    def url(self, key: str) -> str:
        return self.base + self.spell(key)

    def list(self, prefix: str = "", after: str | None = None) -> list[str]:
        return [file.url for file in self.files.list(self.url(prefix), after=after)]

    def only(self, key: str) -> FileInfo:
        (file,) = self.files.list(self.url(key))
        return file


def folder_place(files: Files, root: Path, base: str, spell: Callable[[str], str] = str) -> Place:
    def put(key: str, data: bytes) -> None:
        (root / key).parent.mkdir(parents=True, exist_ok=True)
        (root / key).write_bytes(data)

    def fill(keys: list[str]) -> None:
        for key in keys:
            put(key, b"")

    return Place(files=files, base=base, put=put, remove=lambda key: (root / key).unlink(), fill=fill, spell=spell)


def s3_place(s3: Any, files: Files) -> Place:
    return Place(
        files=files,
        base=s3.url(""),
        put=lambda key, data: s3.put(key, body=data),
        remove=lambda key: s3.client.delete_object(Bucket=s3.bucket, Key=key),
        fill=s3.fill,
    )


@pytest.fixture(params=["plain path", "plain path, fenced", "file URL", "s3", "gs", "az"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    kind = request.param
    if kind in ("gs", "az"):
        with run_store_stub(kind) as stub:
            files = ObjectStoreFiles(settings={kind: stub.settings}, patience=HURRIED)
            base = f"{kind}://{BUCKET}/"
            yield Place(
                files=files,
                base=base,
                put=stub.objects.__setitem__,
                remove=stub.objects.pop,
                fill=lambda keys: stub.objects.update(dict.fromkeys(keys, b"")),
            )
    elif kind == "file URL":
        yield folder_place(FolderFiles(), tmp_path, f"{tmp_path.as_uri()}/", quote)
    elif kind == "s3":
        yield s3_place(request.getfixturevalue("s3"), S3Files(patience=HURRIED))
    else:
        files = FolderFiles(allowed=(tmp_path,)) if "fenced" in kind else AllFiles()
        yield folder_place(files, tmp_path, f"{tmp_path}/")


def test_every_file_whose_url_begins_with_the_prefix_is_listed_in_the_order_of_bytes(place: Place) -> None:
    for key in KEYS:
        place.put(key, b"x")

    for prefix in PREFIXES:
        expected = sorted((place.url(key) for key in KEYS if key.startswith(prefix)), key=str.encode)
        assert expected == place.list(prefix)


def test_a_listing_goes_on_after_any_url(place: Place) -> None:
    for key in KEYS:
        place.put(key, b"x")

    for prefix in ["", "d/im"]:
        urls = place.list(prefix)
        for index, url in enumerate(urls):
            assert urls[index + 1 :] == place.list(prefix, after=url)
    urls = place.list()
    for between in ["a", "a/", "a/a", "d/images/", "d/images/deep/z", "0", "zzz"]:
        url = place.url(between)
        assert [each for each in urls if each.encode() > url.encode()] == place.list(after=url)


def test_urls_that_end_in_a_slash_are_not_files(place: Place, tmp_path: Path) -> None:
    if place.base.startswith(("/", "file:")):
        (tmp_path / "marker").mkdir()
        (tmp_path / "d/marker").mkdir(parents=True)
    else:
        place.put("marker/", b"")
        place.put("d/marker/", b"")
    place.put("d/x", b"x")
    place.put("empty", b"")

    assert [place.url("d/x"), place.url("empty")] == place.list()
    assert [] == place.list("d/marker/")


def test_a_prefix_that_nothing_begins_with_lists_nothing(place: Place) -> None:
    place.put("d/x", b"x")

    assert [] == place.list("other") + place.list("d/x/y") + place.list("d/xy") + place.list("no/such/folder")


def test_more_files_than_a_page_holds_are_listed(place: Place) -> None:
    keys = [f"{number % 3}/{number:05}" for number in range(1205)]
    place.fill(keys)

    urls = sorted(map(place.url, keys))
    assert urls == place.list()
    assert urls[1001:] == place.list(after=urls[1000])
    assert [url for url in urls if url.startswith(place.url("1/001"))] == place.list("1/001")


def test_a_file_is_listed_with_its_size_and_read_whole(place: Place) -> None:
    data = bytes(range(256)) * 4096 * 11  # 11 MiB: more than is read ahead
    place.put("big", data)

    file = place.only("big")
    with place.files.open(file) as opened:
        head = opened.read(10)
        rest = opened.read()
        end = opened.read(1)

    assert len(data) == file.size_bytes
    assert (data[:10], True, b"") == (head, data[10:] == rest, end)


def test_a_large_file_is_read_whole_where_a_connection_is_slow(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    ranges, submit = list[tuple[int, int, Future[list[bytes]]]](), ThreadPoolExecutor.submit

    def note(pool: ThreadPoolExecutor, read: Any, begin: int, end: int) -> Future[list[bytes]]:
        given = submit(pool, read, begin, end)
        ranges.append((begin, end, given))
        return given

    monkeypatch.setattr(ranged, "ranges_are_quicker", lambda *_: True)
    monkeypatch.setattr(ThreadPoolExecutor, "submit", note)
    data = bytes(islice(cycle(range(251)), TRIAL_BYTES + (CONNECTIONS + 3) * RANGE_BYTES + 7))
    place.put("large", data)
    file = place.only("large")

    with place.files.open(file) as opened:
        assert data == opened.read()
    assert (read_address(file.url).scheme == "file") == (not ranges)
    for begin, end, given in ranges:  # where one connection was quicker, they were stopped
        assert data[begin:end].startswith(b"".join(given.result(timeout=60)))


def test_an_empty_file_is_listed_and_read(place: Place) -> None:
    place.put("empty", b"")

    file = place.only("empty")
    with place.files.open(file) as opened:
        assert b"" == opened.read()
    assert 0 == file.size_bytes


def test_lines_are_read_as_they_are(place: Place) -> None:
    place.put("lines", b"one\r\n\ntwo")

    with place.files.open(place.only("lines")) as opened:
        assert [b"one\r\n", b"\n", b"two"] == list(opened)


def test_every_odd_url_can_be_opened(place: Place) -> None:
    for key in KEYS:
        place.put(key, key.encode())

    for key in KEYS:
        (file,) = [each for each in place.files.list(place.url(key)) if each.url == place.url(key)]
        with place.files.open(file) as opened:
            assert key.encode() == opened.read()


def test_a_file_that_was_replaced_is_not_read(place: Place) -> None:
    place.put("x", b"before")
    file = place.only("x")
    place.put("x", b"after, and longer")

    with pytest.raises(FileChanged, match=r"x` has changed"), place.files.open(file) as opened:
        opened.read()
    assert file.version != place.only("x").version


def test_a_file_that_was_removed_is_not_read(place: Place) -> None:
    place.put("x", b"before")
    file = place.only("x")
    place.remove("x")

    with pytest.raises(FileChanged, match=r"x` has "), place.files.open(file) as opened:
        opened.read()


def test_what_is_written_is_listed_and_read(place: Place) -> None:
    place.files.write(place.url("new/ü b"), b"first")
    place.files.write(place.url("new/ü b"), b"second")

    assert [place.url("new/ü b")] == place.list()
    with place.files.open(place.only("new/ü b")) as opened:
        assert b"second" == opened.read()


def test_to_close_a_file_early_ends_what_reads_ahead(place: Place) -> None:
    place.put("big", b"x" * 40 * 2**20)
    before = set(threading.enumerate())

    opened = place.files.open(place.only("big"))
    opened.read(10)
    reading = [thread for thread in set(threading.enumerate()) - before if thread.name.startswith("read-ahead")]
    opened.close()

    for thread in reading:
        thread.join(20)
    assert [] == [thread for thread in reading if thread.is_alive()]


def test_several_threads_list_and_read_at_once(place: Place) -> None:
    for number in range(8):
        place.put(f"file-{number}", str(number).encode() * 1000)
    seen: list[str] = []

    def read() -> None:
        for file in place.files.list(place.base):
            with place.files.open(file) as opened:
                seen.append(f"{file.url[-1]} {opened.read(1).decode()}")

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(f"{number} {number}" for number in range(8) for _ in threads) == sorted(seen)


def test_what_cannot_be_written_is_a_files_error_that_names_the_url(place: Place) -> None:
    place.put("x", b"")
    scheme, _, rest = place.base.rpartition("://")
    elsewhere = place.url("x/y") if scheme in ("", "file") else f"{scheme}://no-such-{rest}y"

    with pytest.raises(FilesError, match=r"x/y` cannot be written|no-such-bucket"):
        place.files.write(elsewhere, b"")
    assert [place.url("x")] == place.list()


def test_what_is_removed_is_gone_and_may_be_removed_again(place: Place) -> None:
    place.put("folder/x", b"x")
    place.put("folder/x2", b"x")

    for _ in range(2):
        place.files.remove(place.url("folder/x"))

    assert [place.url("folder/x2")] == place.list()


def test_any_part_of_a_file_is_read_that_was_not_listed(place: Place) -> None:
    data = bytes(range(256)) * 4096
    place.put("a b/part", data)

    url = place.url("a b/part")
    assert data[:5] == place.files.read_range(url, 0, 5)
    assert data[300_000:700_000] == place.files.read_range(url, 300_000, 400_000)
    assert data[-3:] == place.files.read_range(url, len(data) - 3, 3)
    assert b"" == place.files.read_range(url, 7, 0)


@pytest.mark.parametrize(("offset", "length"), [(8, 3), (10, 1), (1000, 5)])
def test_a_part_beyond_the_end_of_a_file_is_not_read(place: Place, offset: int, length: int) -> None:
    place.put("short", b"0123456789")

    with pytest.raises(FileChanged, match="short` is not there, or has no"):
        place.files.read_range(place.url("short"), offset, length)


def test_no_part_is_read_of_a_file_that_is_not_there(place: Place) -> None:
    place.put("other", b"x")

    with pytest.raises(FileChanged):
        place.files.read_range(place.url("none"), 0, 1)
