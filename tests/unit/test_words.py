"""What the operator and its processes say to each other is read as it was written."""

from typing import Any

import pytest

from cortex.child_process.words import Words
from cortex.domain.isolation import Death, DeathKind, Part
from cortex.domain.job import Job, JobStatus, SegmentRange
from cortex.domain.output import Output, OutputFormat
from cortex.domain.source import FileSource, SourceKind
from cortex.enqueuing import events as enqueuing
from cortex.exporting import events as exporting

SOURCE = FileSource(kind=SourceKind.FILE_PATH_LISTER, paths=("/a", "s3://b/"), includes=("**.jpg",), batch_size=7)
SEGMENT = SegmentRange(number=2, first=10, count=5)
DEATH = Death(batch=1, part=Part(0, 7), deaths=2, timeouts=1, cause="died", kind=DeathKind.TIMED_OUT)

EVENTS = [
    (enqueuing.WORDS, enqueuing.Checked(), True),
    (enqueuing.WORDS, enqueuing.Refused(message="no\nfile", hint=None), True),
    (enqueuing.WORDS, enqueuing.Listed(urls=["/a\n", "/é"], sizes=[1, 2**40]), False),
    (enqueuing.WORDS, enqueuing.SegmentCut(segment=SEGMENT, items=35, cursor={"file": 1, "offset": 2**40}), False),
    (enqueuing.WORDS, enqueuing.Enqueued(files=3), True),
    (exporting.WORDS, exporting.Troubled(reason="503"), False),
    (exporting.WORDS, exporting.Written(files=1, rows=2), True),
    (exporting.WORDS, exporting.Verified(findings={"problems": ["a"], "checked": {"rows": 1}}), True),
]


@pytest.mark.parametrize(("words", "event", "is_last"), EVENTS)
def test_an_event_is_one_line_and_is_read_as_it_was_written(words: Words[Any, Any], event: Any, is_last: bool) -> None:
    line = words.write(event)

    assert (1, True) == (line.count(b"\n"), line.endswith(b"\n"))
    assert event == words.read(line)
    assert is_last == words.is_last(event)


def test_requests_are_read_as_they_were_written() -> None:
    resume = enqueuing.Resume(number=3, first=15, cursor={"offset": 5})
    enqueue = enqueuing.Request(source=SOURCE, allowed=["/data"], folder="/jobs/1", resume=resume, segment_bytes=10)
    job = Job(
        id="1",
        api_name="api",
        api_id="2",
        workers=1,
        config=None,
        batch_size=7,
        item_count=35,
        total_batch_count=5,
        created_at_ns=4,
        status=JobStatus.SUCCEEDED,
        source=SOURCE,
        output=Output(path="/out", format=OutputFormat.CSV, include_input=True),
    )
    ended = exporting.Ended(job=job, folder="/jobs/1", segments=[SEGMENT], deaths=[DEATH], facts={"id": "1"})
    write = exporting.Request(allowed=None, ended=ended, is_success=True)

    assert enqueue == enqueuing.WORDS.read_request(enqueuing.WORDS.write_request(enqueue))
    assert write == exporting.WORDS.read_request(exporting.WORDS.write_request(write))
