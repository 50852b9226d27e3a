"""Logs on their way to a sink: nothing is missing, whatever becomes of the operator and of the sink."""

import json
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cortex.domain.errors import FilesError
from cortex.domain.job import Job, JobStatus
from cortex.files.files import FileInfo, Files
from cortex.operator.upkeep.forwarding import Forwarding
from cortex.operator.upkeep.sinks import LogOf, LogSink, PartsSink, StdoutSink
from samples import JOB

PREFIX = "s3://logs/team"


class Crash(BaseException):
    """The operator dies here."""


@dataclass
class MemoryFiles(Files):
    """A place that may fail, or see the operator die as soon as a file is written."""

    content: dict[str, bytes] = field(default_factory=dict)
    refused: str | None = None  # what fails: every URL with this in it
    tries: list[str] = field(default_factory=list)
    crashes: bool = False

    def list(self, prefix: str, *, after: str | None = None) -> Iterator[FileInfo]:
        raise NotImplementedError

    def write(self, url: str, data: bytes) -> None:
        self.tries.append(url)
        if self.refused is not None and self.refused in url:
            raise FilesError("slow down")
        self.content[url] = data
        if self.crashes:
            raise Crash

    def parts(self, number: int = 1) -> Sequence[bytes]:
        """Give the parts of a job's log; each begins where the one before ends."""
        parts = sorted(
            (url, data) for url, data in self.content.items() if url.startswith(f"{PREFIX}/api/{name(number)}/")
        )
        offsets = [int(url.rpartition("/")[2].removesuffix(".log")) for url, _ in parts]
        lengths = [len(data) for _, data in parts]
        assert offsets == [sum(lengths[:at]) for at in range(len(lengths))]
        return [data for _, data in parts]


def name(number: int) -> str:
    return f"{number:016x}"


def job(number: int = 1) -> Job:
    return replace(JOB, id=name(number), status=JobStatus.RUNNING)


@dataclass
class Story:
    root: Path
    files: MemoryFiles = field(default_factory=MemoryFiles)
    sink: LogSink | None = None
    part_bytes: int = 100
    clock: float = 0.0

    def __post_init__(self) -> None:
        self.sink = self.sink or PartsSink(files=self.files, prefix=PREFIX, part_bytes=self.part_bytes)
        self.restart()

    def restart(self) -> None:
        """Go on as the next operator does."""
        assert self.sink is not None
        self.forwarding = Forwarding(sink=self.sink, root=self.root, monotonic=lambda: self.clock)

    def begin(self, number: int = 1) -> None:
        self.forwarding.follow(job(number))

    def write(self, text: str, number: int = 1) -> None:
        with self.log(number).open("a", encoding="utf-8") as log:
            log.write(text)

    def log(self, number: int = 1) -> Path:
        return self.root / name(number) / "log"

    def look(self, *, is_last: bool = False) -> None:
        while self.forwarding.look(is_last=is_last):
            pass

    def is_followed(self, number: int = 1) -> bool:
        return (self.root / name(number) / "log.sent").exists()


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path)


lines = st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=30)
happenings = st.one_of(
    lines.map(lambda text: ("write", text)),
    st.sampled_from([("newline", ""), ("look", ""), ("wait", ""), ("restart", ""), ("crash", ""), ("refuse", "")]),
)


@given(story_of=st.lists(happenings, max_size=40), part_bytes=st.integers(1, 40))
def test_the_parts_are_the_log_whatever_happens(story_of: list[tuple[str, str]], part_bytes: int) -> None:
    with tempfile.TemporaryDirectory() as root:
        story = Story(Path(root), part_bytes=part_bytes)
        story.begin()
        story.write("")

        for what, text in story_of:
            story.files.refused = "api" if what == "refuse" else None
            if what in ("write", "newline"):
                story.write(text or "\n")
            elif what == "wait":
                story.clock += 10
            elif what == "restart":
                story.look(is_last=True)
                story.restart()
                story.begin()
            elif what == "crash":
                story.files.crashes = True
                with suppress(Crash):
                    story.look(is_last=True)
                story.files.crashes = False
                story.restart()
                story.begin()
            else:
                story.look()
        story.files.refused = None
        story.clock += 100
        story.forwarding.job_ended(name(1))
        story.look()

        assert b"".join(story.files.parts()) == story.log().read_bytes()
        assert not story.is_followed()


def test_little_waits_for_more_but_not_for_long(story: Story) -> None:
    story.begin()
    story.write("one\n")

    story.look()
    at_first = story.files.parts()
    story.clock += 4
    story.write("two\n")
    story.look()
    before = story.files.parts()
    story.clock += 2
    story.look()

    assert [[], []] == [at_first, before]
    assert [b"one\ntwo\n"] == story.files.parts()


def test_a_part_ends_with_a_line_unless_the_line_is_too_long(story: Story) -> None:
    story.begin()
    story.write("a" * 60 + "\n" + "b" * 60 + "\n" + "c" * 150 + "\n")
    story.clock += 10

    story.look()
    story.clock += 10
    story.look()

    assert [61, 61, 100, 51] == [len(part) for part in story.files.parts()]


def test_an_unfinished_line_is_sent_with_its_end_or_the_end_of_the_job(story: Story) -> None:
    story.begin()
    story.write("whole\nunfin")
    story.look()
    story.clock += 10
    story.look()
    before = story.files.parts()

    story.forwarding.job_ended(name(1))
    story.look()

    assert [b"whole\n"] == before
    assert [b"whole\n", b"unfin"] == story.files.parts()


def test_the_end_of_a_log_is_sent_by_the_next_operator(story: Story) -> None:
    story.begin()
    story.write("one\n")
    story.look(is_last=True)
    story.write("two\n")
    story.forwarding.job_ended(name(1))

    story.restart()
    story.forwarding.find_left()
    story.look()

    assert [b"one\n", b"two\n"] == story.files.parts()
    assert not story.is_followed()


def test_a_log_that_has_been_sent_is_not_sent_again(story: Story) -> None:
    story.begin()
    story.write("one\n")
    story.forwarding.job_ended(name(1))
    story.look()

    story.restart()
    story.forwarding.find_left()
    story.look()

    assert len(story.files.tries) == 1


def test_a_sink_that_fails_is_tried_again_less_and_less_often(story: Story, caplog: pytest.LogCaptureFixture) -> None:
    story.begin()
    story.write("one\n")
    story.forwarding.job_ended(name(1))
    story.files.refused = "api"

    tried_at = []
    for second in range(200):
        story.clock = second
        before = len(story.files.tries)
        story.look()
        if len(story.files.tries) > before:
            tried_at.append(second)
    story.files.refused = None
    story.clock += 100
    story.look()

    assert [0, 1, 3, 7, 15, 31, 61, 91, 121, 151, 181] == tried_at
    assert [b"one\n"] == story.files.parts()
    assert [
        "the log sink takes no lines; they wait, and it is tried again: slow down",
        "the log sink takes lines again",
    ] == caplog.messages


def test_a_log_that_cannot_be_sent_does_not_hold_up_the_others(story: Story) -> None:
    for number in (1, 2, 3):
        story.begin(number)
        story.write("one\n", number)
        story.forwarding.job_ended(name(number))
    story.files.refused = name(1)

    for _ in range(4):
        story.look()
        story.clock += 100

    assert [[], [b"one\n"], [b"one\n"]] == [story.files.parts(number) for number in (1, 2, 3)]


def test_a_job_is_held_until_all_is_sent_but_not_for_a_sink_that_fails(story: Story) -> None:
    story.begin()
    story.write("one\n")
    held = [story.forwarding.is_held(name(1))]

    story.forwarding.job_ended(name(1))
    held.append(story.forwarding.is_held(name(1)))
    story.files.refused = "api"
    story.look()
    held.append(story.forwarding.is_held(name(1)))
    story.files.refused = None
    story.clock += 10
    story.look()
    held.append(story.forwarding.is_held(name(1)))

    assert [False, True, False, False] == held


def test_a_job_that_is_removed_is_let_go_of(story: Story, caplog: pytest.LogCaptureFixture) -> None:
    story.begin()
    story.write("one\n")
    story.forwarding.job_ended(name(1))
    shutil.rmtree(story.root / name(1))

    story.look()
    story.look()

    assert [f"the end of the log of job {name(1)} was removed before the log sink took it"] == caplog.messages


# stdout


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def read_lines(file: int) -> list[dict[str, str]]:
    return [json.loads(line) for line in os.read(file, 2**16).splitlines()]


def test_each_line_of_each_log_is_an_object_on_stdout(tmp_path: Path, pipe: tuple[int, int]) -> None:
    story = Story(tmp_path, sink=StdoutSink(file=pipe[1], now_ns=lambda: 1))
    for number in (1, 2):
        story.begin(number)
    story.log(1).write_bytes(b'one "\xff\\ \x00\n\ntwo\n')
    story.write("three", 2)
    story.forwarding.job_ended(name(2))

    story.look()

    about = {"time": "1970-01-01T00:00:00.000000001Z", "api": "api"}
    assert [
        {**about, "job_id": name(1), "line": 'one "�\\ \x00'},
        {**about, "job_id": name(1), "line": ""},
        {**about, "job_id": name(1), "line": "two"},
        {**about, "job_id": name(2), "line": "three"},
    ] == read_lines(pipe[0])


def test_what_a_slow_reader_is_too_far_behind_with_is_dropped_and_counted(
    tmp_path: Path, pipe: tuple[int, int]
) -> None:
    clock = iter([0.0, 5.0, *[5.0] * 99])
    sink = StdoutSink(file=pipe[1], now_ns=lambda: 1, monotonic=lambda: next(clock), part_bytes=20, backlog_bytes=100)
    story = Story(tmp_path, sink=sink)
    story.begin()
    story.write("".join(f"line {number:04}\n" for number in range(100)))

    story.look()

    told = [line["line"] for line in read_lines(pipe[0])]
    assert told[:2] == ["line 0000", "line 0001"]
    assert told[2] == "94 lines were dropped here: whoever reads the operator's stdout is too slow"
    assert told[3:] == [f"line {number:04}" for number in range(96, 100)]


def test_a_pipe_that_was_set_not_to_block_is_waited_for(pipe: tuple[int, int]) -> None:
    os.set_blocking(pipe[1], False)
    sink = StdoutSink(file=pipe[1])
    sent = b"x" * 99 + b"\n"
    writer = threading.Thread(
        target=lambda: [sink.send(LogOf(api_name="api", job_id="j"), 0, sent * 100) for _ in range(20)]
    )

    writer.start()
    with os.fdopen(os.dup(pipe[0])) as reader:
        received = [json.loads(next(reader))["line"] for _ in range(2000)]
    writer.join()

    assert received == ["x" * 99] * 2000


def test_closing_does_not_wait_for_a_reader_that_has_stopped(tmp_path: Path, pipe: tuple[int, int]) -> None:
    story = Story(tmp_path, sink=StdoutSink(file=pipe[1]))
    story.begin()
    story.write("x" * 100_000 + "\n")

    story.forwarding.start()
    story.forwarding.close(0.1)
    is_stuck = story.forwarding._thread is not None and story.forwarding._thread.is_alive()
    with os.fdopen(os.dup(pipe[0])) as reader:
        assert json.loads(next(reader))["line"] == "x" * 100_000

    assert is_stuck
    story.forwarding.close(30)
