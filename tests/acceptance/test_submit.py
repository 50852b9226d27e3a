"""Datasets on the command line, against a real operator: on this machine, and on one that does not see its files."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from shell import Said, User

from operator_process import OperatorProcess

CONFIGURATION = """\
- name: sizes
  kind: BatchAPI
  predictor:
    type: python
    path: predictor.py
"""

PREDICTOR = """\
from pathlib import Path


class PythonPredictor:
    def __init__(self, config):
        self.config = config

    def predict(self, payload):
        if self.config.get("reads"):
            return [Path(path).read_text() for path in payload]
        return [{"item": item, "of": len(payload), **self.config} for item in payload]
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitter:
    """A user whose project is deployed."""

    user: User
    operator: OperatorProcess

    def submit(self, *words: str, stdin: str = "") -> Said:
        return self.user.cortex("submit", "sizes", *words, "-e", "there", stdin=stdin)

    def rows(self, *words: str, stdin: str = "") -> list[Any]:
        """Submit a job that must succeed; give its rows."""
        said = self.submit(*words, "--wait", stdin=stdin)
        assert said.code == 0, said.err
        results = self.user.cortex("results", "sizes", said.out.strip(), "-e", "there")
        return [json.loads(line) for line in results.out.splitlines()]

    def write(self, name: str, text: str) -> Path:
        self.user.write(name, text)
        return self.user.folder / name

    def move_to_another_machine(self) -> None:
        """Let the operator's data directory be one that only looks like its own."""
        note = self.operator.data_dir / "operator.json"
        note.write_text(json.dumps(json.loads(note.read_text()) | {"instance": "another"}))


@pytest.fixture
def submitter(user: User, start_operator: Callable[..., OperatorProcess]) -> Submitter:
    user.write("predictor.py", PREDICTOR)
    user.write("cortex.yaml", CONFIGURATION)
    operator = start_operator()
    assert user.cortex("env", "configure", "there", "--operator-endpoint", operator.address).code == 0
    deployed = user.cortex("deploy", "-e", "there")
    assert deployed.code == 0, deployed.err
    return Submitter(user=user, operator=operator)


def test_the_lines_of_a_file_as_items(submitter: Submitter) -> None:
    submitter.write("items.jsonl", '1.50\n\n{"a": "Zürich"}\n[2]\n')

    rows = submitter.rows("--items", "items.jsonl", "--batch-size", "2", "--config", "m.n=x", "--workers", "2")

    assert [(1.5, 2), ({"a": "Zürich"}, 2), ([2], 1)] == [(row["item"], row["of"]) for row in rows]
    assert all(row["m"] == {"n": "x"} for row in rows)


def test_files_that_the_operator_sees_stay_where_they_are(submitter: Submitter) -> None:
    paths = [str(submitter.write(f"images/{name}", name)) for name in ("a.jpg", "b.jpg", "c.gif", "d/e.jpg")]

    rows = submitter.rows("--files", "images", "--include", "**.jpg", "--batch-size", "2")

    assert [paths[0], paths[1], paths[3]] == [row["item"] for row in rows]


def test_who_names_a_file_means_that_file_alone(submitter: Submitter) -> None:
    submitter.write("items.json", "1\n2\n")
    submitter.write("items.json.bak", "not JSON\n")

    assert [1, 2] == [row["item"] for row in submitter.rows("--lines", "items.json")]


def test_files_that_the_operator_does_not_see_are_uploaded(submitter: Submitter) -> None:
    for name in ("a b.jpg", "b.jpg", "c.gif", "d/é.jpg", "empty.jpg"):
        submitter.write(f"images/{name}", "" if name == "empty.jpg" else name)
    submitter.move_to_another_machine()

    words = ["--files", "images", "--include", "**.jpg", "--batch-size", "2", "--config", "reads=true"]

    assert ["a b.jpg", "b.jpg", "d/é.jpg", ""] == submitter.rows(*words)


def test_lines_and_items_that_the_operator_does_not_see_are_uploaded(submitter: Submitter) -> None:
    submitter.write("lines/1.json", "1\n2")
    submitter.write("lines/2.json", "3\n")
    large = [f'"{number}{"x" * 200_000}"' for number in range(55)]
    submitter.write("large.jsonl", "\n".join(large))
    submitter.move_to_another_machine()

    assert [1, 2, 3] == [row["item"] for row in submitter.rows("--lines", "lines/", "--batch-size", "2")]
    rows = submitter.rows("--items", "large.jsonl", "--batch-size", "1")
    assert [json.loads(line) for line in large] == [row["item"] for row in rows]


def test_uploaded_files_and_others_in_one_job(submitter: Submitter) -> None:
    elsewhere = submitter.write("elsewhere/b.jpg", "b")
    submitter.write("elsewhere/b.gif", "b")
    submitter.write("images/a.jpg", "a")
    submitter.write("images/a.gif", "a")
    submitter.move_to_another_machine()

    words = ["--files", "images", f"file://{elsewhere.parent}/", "--include", "**.jpg"]
    rows = submitter.rows(*words, "--batch-size", "5")

    uploaded, there = [str(row["item"]) for row in rows]
    assert uploaded.endswith("/a.jpg")
    assert f"file://{elsewhere}" == there


def test_a_dry_run_counts_and_makes_no_job(submitter: Submitter) -> None:
    paths = [submitter.write(f"images/{number:02}.jpg", "x" * 1024) for number in range(12)]
    counts = "files   size       items   batches\n12      12.0 KiB   12      3\n\n"
    expected = counts + "".join(f"{path}\n" for path in paths[:10]) + "... and 2 more\nvalidations passed\n"
    words = ["--files", "images", "--batch-size", "5", "--dry-run"]

    there = submitter.submit(*words)
    items = submitter.submit("--items", "-", "--batch-size", "2", "--dry-run", stdin="1\n2\n3\n")
    submitter.move_to_another_machine()
    here = submitter.submit(*words)

    assert expected == there.out == here.out
    assert "files   size   items   batches\n-       -      3       2\n\nvalidations passed\n" == items.out
    assert "no submitted jobs" in submitter.user.cortex("get", "sizes", "-e", "there").out


def test_a_bad_line_is_named_by_whoever_finds_it(submitter: Submitter) -> None:
    path = submitter.write("items.jsonl", '{"a": 1}\noops\n')

    by_command = submitter.submit("--items", "items.jsonl", "--batch-size", "1")
    by_operator = submitter.submit("--lines", "items.jsonl", "--wait")

    assert by_command.code == 1
    assert by_command.err.startswith("error: items.jsonl:2: is not JSON: ")
    job = by_operator.out.strip()
    assert by_operator.code == 1
    assert f"error: job `{job}` ended: failed while enqueuing: " in by_operator.err
    assert str(path) in by_operator.err
    reason = submitter.user.cortex("get", "sizes", job, "-e", "there").out
    assert "status: failed while enqueuing\nreason: " in reason


def test_what_is_not_there_is_no_job(submitter: Submitter) -> None:
    seen = submitter.submit("--files", "nosuch", "--batch-size", "1")
    submitter.move_to_another_machine()
    unseen = submitter.submit("--files", "nosuch", "--batch-size", "1")

    for said in (seen, unseen):
        assert (said.code, said.out) == (1, "")
        assert "there is no file " in said.err
        assert f"`{submitter.user.folder}/nosuch`" in said.err


def test_a_job_is_retried_isolated_and_written_as_its_options_say(submitter: Submitter) -> None:
    submitter.write("predictor.py", PREDICTOR.replace("return [{", "assert 13 not in payload\n        return [{"))
    assert submitter.user.cortex("deploy", "-e", "there").code == 0
    options = ["--retries", "1", "--backoff", "0", "--on-failed-batch", "isolate", "--results", "out"]

    said = submitter.submit("--items", "-", "--batch-size", "4", *options, "--wait", stdin="10\n11\n12\n13\n")

    job = said.out.strip()
    shown = submitter.user.cortex("get", "sizes", job, "-e", "there").out
    log = submitter.user.cortex("logs", "sizes", job, "-e", "there").out
    written = (submitter.user.folder / "out" / job / "part-00000.jsonl").read_text()
    assert (1, 1) == (said.code, said.err.count("ended: completed with failures"))
    assert "\nretries:         2 attempts, 0s apart\non failed batch: isolate\n" in shown
    assert f"\nresults:         {submitter.user.folder}/out/{job} (jsonl)\n" in shown
    assert "\nitem stats\nsucceeded   failed\n3           1\n" in shown
    assert "(attempt 1 of 2)" in log
    assert [10, 11, 12] == [json.loads(line)["item"] for line in written.splitlines()]
