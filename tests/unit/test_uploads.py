"""Files that come from other machines: what is kept, and what is not let in."""

import stat
import tempfile
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from datetime import timedelta
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cortex.domain.errors import InvalidRequest, StorageFull, TooLarge, UploadNotFound, UploadOutOfStep
from cortex.storage import uploads as storage
from cortex.storage.uploads import Uploads
from full_disk import files_of_at_most

ONE, OTHER = "0123456789abcdef" * 2, "f" * 32
HOUR_NS = 3600 * 10**9


class Clock:
    def __init__(self) -> None:
        self.now_ns = 10**18

    def __call__(self) -> int:
        return self.now_ns


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(tmp_path: Path, clock: Clock) -> Callable[..., Uploads]:
    """Make the uploads of one data directory, as each operator does."""

    def make(limit_bytes: int = 1000) -> Uploads:
        uploads = Uploads(root=tmp_path / "incoming", limit_bytes=limit_bytes, now_ns=clock)
        uploads.recover()
        return uploads

    return make


@pytest.fixture
def uploads(make: Callable[..., Uploads]) -> Uploads:
    return make()


def send(uploads: Uploads, name: str, data: bytes, upload_id: str = ONE, offset: int = 0) -> None:
    with uploads.append(upload_id, name, offset) as write:
        write(data)


def test_a_file_grows_from_its_beginning(uploads: Uploads, tmp_path: Path) -> None:
    assert uploads.offset(ONE, "a/b.txt") == 0

    send(uploads, "a/b.txt", b"first")
    assert uploads.offset(ONE, "a/b.txt") == 5
    send(uploads, "a/b.txt", b" second", offset=5)

    assert uploads.offset(ONE, "a/b.txt") == 12
    assert (tmp_path / "incoming" / ONE / "a" / "b.txt").read_bytes() == b"first second"


def test_files_are_for_their_owner_only(uploads: Uploads, tmp_path: Path) -> None:
    send(uploads, "a/b.txt", b"secret")

    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in [tmp_path / "incoming", *tmp_path.rglob("*")]}
    assert {"incoming": 0o700, ONE: 0o700, "a": 0o700, "b.txt": 0o600} == modes


@pytest.mark.parametrize("offset", [0, 4, 6, 10**17])
def test_what_does_not_go_on_at_the_end_is_out_of_step(uploads: Uploads, offset: int) -> None:
    send(uploads, "a", b"first")

    with pytest.raises(UploadOutOfStep, match="5 bytes so far"):
        send(uploads, "a", b"more", offset=offset)

    assert uploads.offset(ONE, "a") == 5


def test_what_came_before_a_failure_is_kept(uploads: Uploads) -> None:
    with suppress(ConnectionError), uploads.append(ONE, "a", 0) as write:
        write(b"first")
        raise ConnectionError

    assert uploads.offset(ONE, "a") == 5


def test_the_next_operator_goes_on_with_what_came(make: Callable[..., Uploads], tmp_path: Path) -> None:
    send(make(10), "folder/a", b"12345678")
    (tmp_path / "incoming" / "discarded-1").mkdir()

    uploads = make(10)

    assert uploads.offset(ONE, "folder/a") == 8
    with pytest.raises(TooLarge):
        send(uploads, "b", b"123")
    assert [ONE] == [path.name for path in (tmp_path / "incoming").iterdir()]


# Who appends


def test_one_who_goes_on_with_a_file_cuts_off_the_one_before(uploads: Uploads, tmp_path: Path) -> None:
    with ExitStack() as both:
        first = both.enter_context(uploads.append(ONE, "a", 0))
        first(b"first")
        second = both.enter_context(uploads.append(ONE, "a", 5))
        with pytest.raises(UploadOutOfStep, match="another request"):
            first(b"lost")
        second(b" second")

    assert (tmp_path / "incoming" / ONE / "a").read_bytes() == b"first second"


def test_many_at_once_do_not_interleave(make: Callable[..., Uploads], tmp_path: Path) -> None:
    uploads, count = make(10**6), 8
    together = threading.Barrier(count)

    def append(letter: bytes) -> None:
        together.wait()
        with suppress(UploadOutOfStep), uploads.append(ONE, "a", 0) as write:
            for _ in range(50):
                write(letter * 100)

    threads = [threading.Thread(target=append, args=(bytes([65 + number]),)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    kept = (tmp_path / "incoming" / ONE / "a").read_bytes()
    assert (len(kept), len(set(kept))) == (uploads.offset(ONE, "a"), 1)
    assert uploads.offset(ONE, "a") == 5000


# Limits


def test_an_upload_has_a_limit_that_names_its_option(uploads: Uploads) -> None:
    send(uploads, "a", b"x" * 600)

    with uploads.append(ONE, "b", 0) as write:
        write(b"x" * 400)
        with pytest.raises(TooLarge, match="--max-upload"):
            write(b"x")

    assert uploads.offset(ONE, "b") == 400
    send(uploads, "a", b"x" * 600, upload_id=OTHER)


def test_all_uploads_together_have_a_limit_and_those_taken_count_no_more(uploads: Uploads, tmp_path: Path) -> None:
    for number in range(4):
        send(uploads, "a", b"x" * 1000, upload_id=f"{number:032x}")

    with pytest.raises(TooLarge, match="--max-upload"):
        send(uploads, "a", b"x")

    uploads.take(f"{0:032x}", tmp_path / "taken")
    uploads.remove(f"{1:032x}")
    send(uploads, "b", b"x" * 1000)


def test_an_upload_has_a_limit_of_files(uploads: Uploads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "MAX_FILES", 2)
    send(uploads, "a", b"")
    send(uploads, "b", b"")

    with pytest.raises(TooLarge, match="at most 2 files"):
        send(uploads, "c", b"")

    send(uploads, "a", b"goes on")


def test_a_full_disk_is_told_and_what_came_is_kept(make: Callable[..., Uploads]) -> None:
    uploads = make(10**9)

    with files_of_at_most(5000), pytest.raises(StorageFull, match="cannot keep"):
        send(uploads, "a", b"x" * 6000)

    assert uploads.offset(ONE, "a") == 5000
    send(uploads, "a", b"there is room again", offset=5000)


# Names


@pytest.mark.parametrize(
    "name",
    [
        "", ".", "..", "/", "/etc/passwd", "../x", "a/../../x", "a/..", "a/.", "./a", "a//b", "a/", "//a",
        "a\x00b", "a\nb", "\x7f", "a\\b", "..\\a", "\ufffd", "a\udc80", "x" * 256, "é" * 128, "x/" * 520 + "x",
    ],
)  # fmt: skip
def test_what_cannot_be_the_name_of_a_file_is_refused(uploads: Uploads, tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidRequest):
        send(uploads, name, b"")
    with pytest.raises(InvalidRequest):
        uploads.offset(ONE, name)

    assert [] == list((tmp_path / "incoming").iterdir())


@pytest.mark.parametrize(
    "name", ["a", ".hidden", "...", "a..b/c", "-rf", "a b", "ä/日本", "👩\u200d🔬", "~", "C:", "$HOME", "x" * 255]
)
def test_odd_names_are_names(uploads: Uploads, tmp_path: Path, name: str) -> None:
    send(uploads, name, b"data")

    assert (tmp_path / "incoming" / ONE / name).read_bytes() == b"data"


@pytest.mark.parametrize(
    "upload_id", ["", ".", "..", "a" * 31, "a" * 33, "A" * 32, "g" * 32, f"{'a' * 32}\n", "../" + "a" * 29]
)
def test_what_cannot_be_an_id_is_refused(uploads: Uploads, tmp_path: Path, upload_id: str) -> None:
    for ask in (
        lambda: uploads.offset(upload_id, "a"),
        lambda: send(uploads, "a", b"", upload_id=upload_id),
        lambda: uploads.take(upload_id, tmp_path / "taken"),
        lambda: uploads.folder(upload_id),
        lambda: uploads.remove(upload_id),
    ):
        with pytest.raises(InvalidRequest, match="32 hexadecimal"):
            ask()


def test_a_file_is_no_folder_and_a_folder_no_file(uploads: Uploads) -> None:
    send(uploads, "a/b", b"data")

    for name in ("a", "a/b/c", "a/b/c/d"):
        with pytest.raises(InvalidRequest, match="folder"):
            send(uploads, name, b"data")
    assert uploads.offset(ONE, "a/b") == 4


@given(
    st.text(st.characters() | st.sampled_from("./\\\x00"))
    | st.lists(st.sampled_from(["a", "..", ".", "", "b"])).map("/".join)
)
def test_whatever_the_name_nothing_lies_outside(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    uploads = Uploads(root=tmp_path_factory.mktemp("around") / "incoming", limit_bytes=1000)
    uploads.recover()

    with suppress(InvalidRequest):
        send(uploads, name, b"data")
        assert (uploads.root / ONE).joinpath(*PurePosixPath(name).parts).read_bytes() == b"data"

    files = [path for path in uploads.root.parent.rglob("*") if path.is_file()]
    assert all(path.is_relative_to(uploads.root / ONE) for path in files)
    assert len(files) <= 1


# Where they go


def test_an_upload_is_taken_once(uploads: Uploads, tmp_path: Path) -> None:
    send(uploads, "folder/a", b"data")
    assert uploads.folder(ONE) == tmp_path / "incoming" / ONE

    uploads.take(ONE, tmp_path / "taken")

    assert (tmp_path / "taken" / "folder" / "a").read_bytes() == b"data"
    assert uploads.offset(ONE, "folder/a") == 0
    for ask in (lambda: uploads.take(ONE, tmp_path / "again"), lambda: uploads.folder(ONE)):
        with pytest.raises(UploadNotFound):
            ask()


def test_one_who_still_appends_writes_nothing_into_what_was_taken(uploads: Uploads, tmp_path: Path) -> None:
    with uploads.append(ONE, "a", 0) as write:
        write(b"data")
        uploads.take(ONE, tmp_path / "taken")
        with pytest.raises(UploadOutOfStep):
            write(b"more")

    assert (tmp_path / "taken" / "a").read_bytes() == b"data"


def test_what_is_removed_is_gone_and_may_be_sent_again(uploads: Uploads, tmp_path: Path) -> None:
    send(uploads, "a", b"data")

    uploads.remove(ONE)
    uploads.remove(ONE)

    assert [] == list((tmp_path / "incoming").iterdir())
    send(uploads, "a", b"data")


def test_what_has_not_been_used_for_long_is_removed(uploads: Uploads, clock: Clock) -> None:
    for upload_id in (ONE, OTHER):
        send(uploads, "a", b"data", upload_id=upload_id)
    clock.now_ns += 23 * HOUR_NS
    assert uploads.offset(OTHER, "a") == 4
    clock.now_ns += 2 * HOUR_NS

    uploads.remove_stale(timedelta(days=1))

    assert (0, 4) == (uploads.offset(ONE, "a"), uploads.offset(OTHER, "a"))


class Story(RuleBasedStateMachine):
    """Clients that send, break off and ask, operators that follow each other: what `offset` tells is always true."""

    names = st.sampled_from(["a", "b", "c/d", "c/e"])

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.root = Path(self.folder.name) / "incoming"
        self.expected: dict[str, bytes] = {}
        self.restart()

    @rule()
    def restart(self) -> None:
        self.uploads = Uploads(root=self.root, limit_bytes=100)
        self.uploads.recover()

    @rule(name=names, data=st.binary(max_size=40), more=st.integers(-3, 3))
    def send(self, name: str, data: bytes, more: int) -> None:
        present = self.expected.get(name, b"")
        offset = max(len(present) + more, 0)
        is_fitting = sum(len(kept) for kept in self.expected.values()) + len(data) <= 100
        try:
            send(self.uploads, name, data, offset=offset)
        except UploadOutOfStep:
            assert offset != len(present)
        except TooLarge:
            assert not is_fitting
            self.expected.setdefault(name, b"")
        else:
            assert (offset, is_fitting) == (len(present), True)
            self.expected[name] = present + data

    @precondition(lambda self: self.expected)
    @rule()
    def remove(self) -> None:
        self.uploads.remove(ONE)
        self.expected = {}

    @invariant()
    def what_is_told_is_there(self) -> None:
        for name in ("a", "b", "c/d", "c/e"):
            assert len(self.expected.get(name, b"")) == self.uploads.offset(ONE, name)
        for name, data in self.expected.items():
            assert data == (self.root / ONE / name).read_bytes()

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.folder.cleanup()


TestStory = Story.TestCase
