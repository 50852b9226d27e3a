"""`cortex failures`: what failed alike is one line, and what was in it can be submitted again."""

import json
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from stub_operator import StubOperator, cortex, cut_off

from cortex.cli.causes import Causes, fold

JOB = "69d6faf82e4660d3"
FAILURES = f"GET /shout/{JOB}/failures"
ITEMS = f"{FAILURES}?items=true"


@pytest.fixture
def operator(stub: StubOperator) -> StubOperator:
    """An operator with one job, of which some batches have failed so far."""
    stub.api("shout", jobs=(job(failed=3),))
    return stub


def job(*, failed: int = 0, **changes: Any) -> dict[str, Any]:
    return {
        "job_id": JOB,
        "api_name": "shout",
        "workers": 1,
        "api_id": "v1",
        "status": "status_running",
        "total_batch_count": 10,
        "batch_metrics": {"succeeded": 1, "failed": failed},
        "created_time": "2020-07-20T01:07:40Z",
        **changes,
    }


def failure(batch: int, message: str, kind: str = "ValueError") -> dict[str, Any]:
    return {"batch_id": f"b-{batch}", "first_item": batch, "items": 1, "type": kind, "message": message, "attempts": 1}


def lines(*values: object) -> bytes:
    return b"".join(json.dumps(value).encode() + b"\n" for value in values)


@pytest.mark.parametrize("words", [["failures", "shout"], ["failures", "shout", JOB]])
def test_failures_are_shown_by_cause_the_most_frequent_first(operator: StubOperator, words: list[str]) -> None:
    operator.answers[FAILURES] = lines(
        failure(0, "no more room\nsince noon", "OSError"),
        failure(1, "item 17 is empty"),
        failure(2, "item 4 is empty\nand so is its neighbour"),
    )

    result = cortex(*words)

    expected = """\
count   type         message           example batch
2       ValueError   item * is empty   b-1
1       OSError      no more room      b-0
"""
    assert (0, expected) == (result.exit_code, result.stdout)
    assert f"\ncortex failures shout {JOB} --items " in result.stderr


def test_causes_are_counted_however_their_lines_are_cut(operator: StubOperator) -> None:
    text = lines(*(failure(number, f"item {number}") for number in range(20)))
    operator.answers[FAILURES] = partial(answer_in_pieces, text)

    result = cortex("failures", "shout")

    assert ["20", "ValueError", "item", "*", "b-0"] == result.stdout.splitlines()[1].split()


def answer_in_pieces(text: bytes, handler: BaseHTTPRequestHandler) -> None:
    handler.protocol_version = "HTTP/1.1"
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    for place in range(0, len(text), 7):
        piece = text[place : place + 7]
        handler.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
    handler.wfile.write(b"0\r\n\r\n")


def test_as_json_each_failed_batch_is_the_line_that_the_operator_gave(operator: StubOperator) -> None:
    operator.answers[FAILURES] = lines(failure(0, "item 1"), failure(1, "item 2"))
    operator.answers[ITEMS] = lines({"batch_id": "b-0", "items": [1, 2]})

    failures = cortex("failures", "shout", JOB, "-o", "json")
    items = cortex("failures", "shout", JOB, "--items", "-o", "json")

    assert operator.answers[FAILURES] == failures.stdout_bytes
    assert operator.answers[ITEMS] == items.stdout_bytes
    assert "using stub environment\n" == failures.stderr == items.stderr


def test_the_items_are_printed_one_a_line_with_every_digit(operator: StubOperator) -> None:
    operator.answers[ITEMS] = (
        b'{"batch_id": "b-0", "items": [1.10,  123456789012345678901234567890]}\n'
        b'{"batch_id": "b-1", "items": [{"a": [null]}, "\xc3\xa4"]}\n'
        b'{"batch_id": "b-2", "items": ["\\ud800"]}\n'
    )

    result = cortex("failures", "shout", "--items")

    assert (b'1.10\n123456789012345678901234567890\n{"a": [null]}\n"\xc3\xa4"\n"\\ud800"\n') == result.stdout_bytes


def test_items_that_were_printed_can_be_submitted_again(operator: StubOperator, tmp_path: Path) -> None:
    operator.answers[ITEMS] = b'{"batch_id": "b-0", "items": [{"id": 1}, 2.50]}\n'
    operator.answers["POST /shout"] = {"job_id": JOB}
    kept = tmp_path / "failed.jsonl"
    kept.write_bytes(cortex("failures", "shout", "--items").stdout_bytes)

    assert 0 == cortex("submit", "shout", "--items", str(kept), "--batch-size", "1").exit_code

    (submission,) = [request.body for request in operator.requests if request.line == "POST /shout"]
    assert b'[{"id": 1},2.50]' in submission


@pytest.mark.parametrize("options", [[], ["--items"], ["-o", "json"]])
def test_where_no_batch_has_failed_that_is_said(operator: StubOperator, options: list[str]) -> None:
    operator.job(job(), api="shout")
    operator.answers[FAILURES] = operator.answers[ITEMS] = b""

    result = cortex("failures", "shout", *options)

    assert (0, "") == (result.exit_code, result.stdout)
    assert result.stderr.endswith("\nno batch has failed (running: 1/10 batches)\n")


def test_an_answer_that_is_cut_off_is_no_table(operator: StubOperator) -> None:
    operator.answers[FAILURES] = cut_off(lines(failure(0, "item 1")))

    result = cortex("failures", "shout")

    assert (1, "") == (result.exit_code, result.stdout)
    assert "went away in the middle of its answer" in result.stderr


def test_a_job_with_failed_batches_names_the_command(operator: StubOperator) -> None:
    with_failures = cortex("get", "shout", JOB)
    operator.job(job(), api="shout")
    without = cortex("get", "shout", JOB)

    assert with_failures.stdout.endswith(f"\n\ncortex failures shout {JOB}  (why batches failed)\n")
    assert "cortex failures" not in without.stdout


def test_waiting_for_a_job_with_failed_batches_names_the_command(operator: StubOperator) -> None:
    operator.answers["POST /shout"] = {"job_id": JOB}
    end = {"status": "status_completed_with_failures", "end_time": "2020-07-20T01:11:10Z"}
    operator.job(job(failed=9, **end), api="shout")

    result = cortex("submit", "shout", "-", "--wait", input="{}")

    logs, failures = f"`cortex logs shout {JOB}` shows its log", f"`cortex failures shout {JOB}` why batches failed"
    assert 1 == result.exit_code
    assert result.stderr.endswith(f"\nhint: {logs}, {failures}\n")


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        ("", ""),
        ("", " \n"),
        ("item * of * failed", "item 3 of 1,000 failed"),
        ("batch * was bad", "batch 69d6faf8-2e46-860d-b000-000000000001 was bad"),
        ("<Object at *>", "<Object at 0x7F3a>"),
        ("img_*.jpg: took *s at *", "img_0017.jpg: took 1.5s at 12:30:01"),
        ("one line", "\n  one line\r\nanother"),
        ("no [*mtricks", "no \x1b[1mtricks"),
        ("x" * 97 + "...", "x" * 5000),
    ],
)
def test_what_differs_between_failures_that_are_alike_is_left_out(expected: str, message: str) -> None:
    assert expected == " ".join(fold(message).split())


def test_countless_causes_are_kept_in_little_memory() -> None:
    causes = Causes(most=2)
    for number, word in enumerate(["one", "two", "three", "two", "four"]):
        causes.add(failure(number, word))  # type: ignore[arg-type]

    assert [
        (2, "two", "b-1"),
        (1, "one", "b-0"),
        (2, "(further causes)", "b-2"),
    ] == [(cause.count, cause.message, cause.example) for cause in causes.by_count()]
