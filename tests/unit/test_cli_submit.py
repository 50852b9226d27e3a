"""`cortex submit` without a request to write: which request becomes of the options, and what is said about mistakes."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from stub_operator import Refusal, StubOperator, cortex

from cortex.clients.local_files import absolute, common_root, longer_names
from cortex.clients.operator_client import OperatorClient
from cortex.domain.batch import MAX_BATCH_BYTES, MAX_REQUEST_BYTES
from cortex.files.places import AllFiles
from cortex.files.selection import Selection, select

JOB = "69d6faf82e4660d3"
SUBMIT = "POST /digits"
DRY_RUN = "POST /digits?dryRun=true"


pytestmark = pytest.mark.usefixtures("configuration", "folder")


@pytest.fixture
def operator(digits: StubOperator) -> StubOperator:
    return digits


def share(operator: StubOperator, folder: Path, *, instance: str = "abc") -> None:
    """Let the operator say where its data is, with the note that a running one leaves there."""
    data = folder.parent / "data"
    data.mkdir()
    (data / "operator.json").write_text(json.dumps({"instance": "abc"}))
    operator.answers["GET /_cortex/info"] = {"data_dir": str(data), "instance": instance}


def submitted(operator: StubOperator) -> Any:
    """Give the one request that was submitted."""
    (body,) = [request.body for request in operator.requests if request.line == SUBMIT]
    return json.loads(body)


def test_the_lines_of_a_file_are_the_items(operator: StubOperator, folder: Path) -> None:
    (folder / "items.jsonl").write_bytes(b'\xef\xbb\xbf{"id": 1.50}\r\n\r\n  "text" \n[1, 2]\nnull')

    result = cortex("submit", "digits", "--items", "items.jsonl", "--batch-size", "2", "-e", "stub")

    assert result.exit_code == 0, result.output
    assert f"{JOB}\n" == result.stdout
    expected = {"workers": 1, "item_list": {"items": [{"id": 1.5}, "text", [1, 2], None], "batch_size": 2}}
    assert expected == submitted(operator)
    assert b'"id": 1.50' in operator.requests[-1].body  # numbers stay as they were written


def test_items_from_stdin(operator: StubOperator) -> None:
    result = cortex("submit", "digits", "--items", "-", "--batch-size", "1", "--workers", "3", input="1\n2\n")

    assert result.exit_code == 0, result.output
    assert {"workers": 3, "item_list": {"items": [1, 2], "batch_size": 1}} == submitted(operator)


def test_an_elastic_job_is_asked_for_by_its_least_and_its_most(operator: StubOperator) -> None:
    cortex("submit", "digits", "--lines", "s3://b/k", "--workers", "2-8")

    assert {"min": 2, "max": 8} == submitted(operator)["workers"]


def test_bad_lines_are_named_with_file_line_and_reason_before_anyone_is_asked(
    operator: StubOperator, folder: Path
) -> None:
    large = '"' + "x" * MAX_BATCH_BYTES + '"'
    lines = ["{'id': 1}", "2", '{"id":', "NaN", "1 2", large, "[" * 5000]
    (folder / "items.jsonl").write_bytes("\n".join(lines).encode() + b'\n"\xff"\n')

    result = cortex("submit", "digits", "--items", "items.jsonl", "--batch-size", "1")

    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        "error: items.jsonl:1: is not JSON: expected '\"' (byte 1)",
        "items.jsonl:3: is not JSON: ends too early",
        "items.jsonl:4: is not JSON: invalid character (byte 0)",
        "items.jsonl:5: is not JSON: trailing characters (byte 3)",
        f"items.jsonl:6: has {len(large)} bytes as compact JSON; an item must have less than 262144 (256 KiB)",
        "items.jsonl:7: is nested too deeply",
        "items.jsonl:8: is not UTF-8",
        "",
        'hint: each line holds one item as JSON, such as {"id": 1}, "text" or 3',
    ]
    assert operator.requests == []


def test_only_the_first_bad_lines_are_named(operator: StubOperator) -> None:
    result = cortex("submit", "digits", "--items", "-", "--batch-size", "1", input="x\n" * 1000)

    assert result.stderr.count("is not JSON") == 10


def test_the_white_space_of_a_large_item_does_not_count(operator: StubOperator, folder: Path) -> None:
    (folder / "items.jsonl").write_text("[1," + " " * MAX_BATCH_BYTES + "2]\n")

    result = cortex("submit", "digits", "--items", "items.jsonl", "--batch-size", "1")

    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("nosuch.jsonl", "`nosuch.jsonl` cannot be read: No such file or directory", "each line holds one item"),
        (".", "`.` cannot be read: Is a directory", "`--lines` takes URLs and folders"),
        ("s3://b/x.jsonl", "`s3://b/x.jsonl` cannot be read: No such file or directory", "`--lines` takes URLs"),
        ("blank.jsonl", "`blank.jsonl` holds no items", "each line holds one item"),
    ],
)
def test_a_file_without_items_is_refused(
    operator: StubOperator, folder: Path, name: str, message: str, hint: str
) -> None:
    (folder / "blank.jsonl").write_text("\n \n")

    result = cortex("submit", "digits", "--items", name, "--batch-size", "1")

    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: {message}\n\nhint: {hint}")


@pytest.mark.parametrize("kind", ["files", "lines"])
def test_urls_go_as_they_are(operator: StubOperator, kind: str) -> None:
    urls = ["s3://bucket/images/", "gs://b/k", "az://c/k", "file:///data/x"]

    result = cortex("submit", "digits", f"--{kind}", urls[0], *urls[1:], "--batch-size", "8", "--include", "**.jpg")

    assert result.exit_code == 0, result.output
    section = {"files": "file_path_lister", "lines": "delimited_files"}[kind]
    expected = {"s3_paths": urls, "batch_size": 8, "includes": ["**.jpg"]}
    assert {"workers": 1, section: expected} == submitted(operator)
    assert not any("/_cortex/info" in request.line for request in operator.requests)


def test_paths_go_to_an_operator_that_sees_them(operator: StubOperator, folder: Path) -> None:
    share(operator, folder)
    (folder / "images").mkdir()
    words = ["--files", "images", "--files", "s3://b/k", "--files", "./images/img", "--exclude", "**.gif"]

    result = cortex("submit", "digits", *words, "--batch-size", "2")

    assert result.exit_code == 0, result.output
    paths = [f"{folder}/images/", "s3://b/k", f"{folder}/images/img"]
    section = {"s3_paths": paths, "batch_size": 2, "excludes": ["**.gif"]}
    assert {"workers": 1, "file_path_lister": section} == submitted(operator)


def test_lines_come_one_by_one_unless_a_batch_size_is_given(operator: StubOperator) -> None:
    result = cortex("submit", "digits", "--lines", "s3://b/k")

    assert result.exit_code == 0, result.output
    assert {"workers": 1, "delimited_files": {"s3_paths": ["s3://b/k"], "batch_size": 1}} == submitted(operator)


def test_items_that_are_too_large_for_a_request_are_read_by_an_operator_that_sees_them(
    operator: StubOperator, folder: Path
) -> None:
    share(operator, folder)
    (folder / "items.jsonl").write_text(f'"{"x" * 99_990}"\n' * (MAX_REQUEST_BYTES // 99_990 + 1))

    result = cortex("submit", "digits", "--items", "items.jsonl", "--batch-size", "2")

    assert result.exit_code == 0, result.output
    section = {"s3_paths": [f"{folder}/items.jsonl"], "batch_size": 2}
    assert {"workers": 1, "delimited_files": section} == submitted(operator)


def test_a_request_just_below_the_limit_holds_its_items(operator: StubOperator, folder: Path) -> None:
    shell = len(b'{"workers":1,"item_list":{"batch_size":1,"items":[]}}')
    share(operator, folder)
    count, rest = divmod(MAX_REQUEST_BYTES - 1 - shell + 1, 1024)
    lines = ["1" * 1023] * (count - 1) + ["1" * (1023 + rest)]

    fits = cortex("submit", "digits", "--items", "-", "--batch-size", "1", input="\n".join(lines))

    assert fits.exit_code == 0, fits.output
    assert MAX_REQUEST_BYTES - 1 == len(operator.requests[-1].body)
    assert b'"item_list"' in operator.requests[-1].body


@pytest.mark.parametrize(
    ("assignments", "config"),
    [
        (["a=1"], {"a": 1}),
        (["a=text"], {"a": "text"}),
        (["a="], {"a": ""}),
        (["a=b=c"], {"a": "b=c"}),
        (['a={"b": [1]}', "a.c=true"], {"a": {"b": [1], "c": True}}),
        (["a.c=true", 'a={"b": [1]}'], {"a": {"b": [1], "c": True}}),
        (["m.n.o=null", "m.p=1e3"], {"m": {"n": {"o": None}, "p": 1000.0}}),
        (["a=007", "b=NaN", "c=1e999", 'd="1"'], {"a": "007", "b": "NaN", "c": "1e999", "d": "1"}),
    ],
)
def test_the_config_of_a_job(operator: StubOperator, assignments: list[str], config: dict[str, Any]) -> None:
    options = [word for assignment in assignments for word in ("--config", assignment)]

    result = cortex("submit", "digits", "--lines", "s3://b/k", *options)

    assert result.exit_code == 0, result.output
    assert config == submitted(operator)["config"]


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (["a"], "`--config a` names no field and its value"),
        (["=1"], "`--config =1` names no field and its value"),
        (["a..b=1"], "`--config a..b=1` names no field and its value"),
        (["a=1", "a=1"], "`--config a=1` sets `a`, which another `--config` sets too"),
        (["a.b=1", "a=2"], "`--config a=2` sets `a`, which another `--config` sets too"),
        (["a=2", "a.b=1"], "`--config a.b=1` sets `a`, which another `--config` sets too"),
        (['a={"b":1}', "a.b=2"], "`--config a.b=2` sets `a.b`, which another `--config` sets too"),
    ],
)
def test_a_config_that_contradicts_itself_is_refused(
    operator: StubOperator, assignments: list[str], message: str
) -> None:
    options = [word for assignment in assignments for word in ("--config", assignment)]

    result = cortex("submit", "digits", "--lines", "s3://b/k", *options)

    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: {message}")
    assert operator.requests == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "missing argument `FILE`, or a dataset: --items, --files or --lines"),
        (["job.json", "more"], "got unexpected extra argument `more`"),
        (["--items", "a", "--lines", "b"], "--items and --lines cannot be combined: a job has one dataset"),
        (["--items", "a", "--batch-size", "1", "more"], "--items takes one file: what is `more`?"),
        (["--items", "a", "--include", "*"], "--include and --exclude choose among files"),
        (["--items", "a"], "missing option `--batch-size`: how many items `predict` gets at a time"),
        (["--files", "a"], "missing option `--batch-size`: how many items `predict` gets at a time"),
        (["job.json", "--workers", "2"], "--workers goes with --items, --files or --lines"),
        (["job.json", "--batch-size", "2"], "--batch-size goes with --items, --files or --lines"),
        (["job.json", "--config", "a=1"], "--config goes with --items, --files or --lines"),
        (["job.json", "--include", "*"], "--include goes with --items, --files or --lines"),
        (["--items", "", "--batch-size", "1"], "--items got an empty path: `.` is the current folder"),
        (["--files", "", "--batch-size", "1"], "--files got an empty path: `.` is the current folder"),
        (["--lines", "a", ""], "--lines got an empty path: `.` is the current folder"),
        (["--lines", "a", "--workers", "0"], "invalid value for `--workers`: 0 is not in the range x>=1"),
        (["--lines", "a", "--workers", "8-2"], "invalid value for `--workers`: 8-2 is not in the range 1<=MIN<=MAX"),
        (["--lines", "a", "--workers", "0-2"], "invalid value for `--workers`: 0-2 is not in the range 1<=MIN<=MAX"),
        (["--lines", "a", "--workers", "2-"], "invalid value for `--workers`: 2- is neither a number nor a range"),
        (["job.json", "--dry-run", "--wait"], "--dry-run submits nothing that --wait could wait for"),
    ],
)
def test_options_that_do_not_go_together_are_refused(operator: StubOperator, words: list[str], message: str) -> None:
    result = cortex("submit", "digits", *words)

    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {message}")
    assert operator.requests == []


def counts(**changes: Any) -> dict[str, Any]:
    return {"files": 12, "bytes": 1_572_864, "items": 12, "batches": 6, "paths": ["s3://b/1", "s3://b/2"]} | changes


def test_a_dry_run_shows_how_much_there_is(operator: StubOperator, folder: Path) -> None:
    operator.answers[DRY_RUN] = counts()
    (folder / "job.json").write_text("{}")
    expected = """\
files   size      items   batches
12      1.5 MiB   12      6

s3://b/1
s3://b/2
... and 10 more
validations passed
"""

    result = cortex("submit", "digits", "job.json", "--dry-run", "-e", "stub")
    as_json = cortex("submit", "digits", "job.json", "--dry-run", "-o", "json")

    assert result.exit_code == 0, result.output
    assert expected == result.stdout
    assert result.stderr == ""
    assert counts() == json.loads(as_json.stdout)
    assert operator.requests[-1].headers["Accept"] == "application/json"
    assert not any(request.line == SUBMIT for request in operator.requests)


def test_a_dry_run_of_items_has_no_files(operator: StubOperator) -> None:
    operator.answers[DRY_RUN] = counts(files=None, bytes=None, items=3, batches=2, paths=[])
    expected = "files   size   items   batches\n-       -      3       2\n\nvalidations passed\n"

    result = cortex("submit", "digits", "--items", "-", "--batch-size", "2", "--dry-run", input="1\n2\n3\n")

    assert expected == result.stdout


def test_a_dry_run_of_lines_does_not_know_how_many_there_are(operator: StubOperator) -> None:
    operator.answers[DRY_RUN] = counts(files=1, bytes=973, items=None, batches=None, paths=["s3://b/urls.json"])
    expected = "files   size    items   batches\n1       973 B   -       -\n\ns3://b/urls.json\nvalidations passed\n"

    assert expected == cortex("submit", "digits", "--lines", "s3://b/", "--dry-run").stdout


def test_a_dry_run_fails_where_the_submission_would(operator: StubOperator) -> None:
    operator.answers[DRY_RUN] = Refusal(400, "submission.invalid", "no file matched\n\nhint: look")

    result = cortex("submit", "digits", "--lines", "s3://b/", "--dry-run")

    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.endswith("error: no file matched\n\nhint: look\n")


def test_a_path_is_written_from_the_root_on_and_a_folder_with_its_slash(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "images" / "deep").mkdir(parents=True)
    (folder / "link").symlink_to(folder / "images" / "deep")
    (folder / "images" / "link").symlink_to(folder / "nosuch")
    monkeypatch.setenv("HOME", str(folder / "images"))

    assert f"{folder}/images/" == absolute("images") == absolute("images/") == absolute("./images") == absolute("~")
    assert f"{folder}/images/deep/" == absolute("~/deep")
    assert f"{folder}/img" == absolute("img")
    assert f"{folder}/images/" == absolute("link/..")
    assert f"{folder}/link/" == absolute("link")
    assert f"{folder}/images/link" == absolute("images/deep/../link")
    assert absolute("~nobody-has-this-name") == f"{folder}/~nobody-has-this-name"
    assert absolute("/") == "/"


@pytest.mark.parametrize(
    ("paths", "root"),
    [
        (["/a/b/"], "/a/b/"),
        (["/a/b"], "/a/"),
        (["/a/b", "/a/c/d"], "/a/"),
        (["/a/b/", "/a/bc/"], "/a/"),
        (["/a", "/b/c"], "/"),
    ],
)
def test_uploaded_files_are_named_below_the_folder_that_all_of_them_are_in(paths: list[str], root: str) -> None:
    assert root == common_root(paths)


@pytest.fixture
def images(operator: StubOperator, folder: Path) -> Path:
    """Images of this machine, which the operator does not see."""
    share(operator, folder, instance="another machine's")
    images = folder / "images"
    (images / "deep").mkdir(parents=True)
    for name in ("b.jpg", "a b.jpg", "c.gif", "deep/d.jpg", "empty.jpg"):
        (images / name).write_text("" if name == "empty.jpg" else name)
    return images


def uploaded(operator: StubOperator) -> tuple[str, dict[str, bytes]]:
    """Give the id of the one upload, and the files in it."""
    split = {tuple(unquote(path).split("/", 4)[3:]): data for path, data in operator.uploads.items()}
    (upload_id,) = {upload_id for upload_id, _ in split}
    assert re.fullmatch("[0-9a-f]{32}", upload_id)
    return upload_id, {name: data for (_, name), data in split.items()}


def test_files_that_the_operator_does_not_see_are_uploaded(operator: StubOperator, images: Path) -> None:
    words = ["--files", "images/", "--include", "**.jpg", "--batch-size", "2"]

    result = cortex("submit", "digits", *words, "-e", "stub")

    assert result.exit_code == 0, result.output
    upload_id, files = uploaded(operator)
    expected = {"b.jpg": b"b.jpg", "a b.jpg": b"a b.jpg", "deep/d.jpg": b"deep/d.jpg", "empty.jpg": b""}
    assert expected == files
    section = {"s3_paths": [f"upload://{upload_id}/"], "batch_size": 2}
    assert {"workers": 1, "file_path_lister": section} == submitted(operator)
    assert result.stderr.startswith("uploading 4 files, 22 B\n\ncortex get digits ")


def test_the_same_files_make_the_same_upload_and_others_another(operator: StubOperator, images: Path) -> None:
    def submit() -> str:
        operator.uploads.clear()
        assert cortex("submit", "digits", "--files", "images/b.jpg", "--batch-size", "1").exit_code == 0
        return uploaded(operator)[0]

    first, again = submit(), submit()
    (images / "b.jpg").write_text("other")
    changed = submit()

    assert first == again
    assert first != changed


def test_an_upload_goes_on_where_it_was(operator: StubOperator, images: Path) -> None:
    words = ["--lines", "images/b.jpg"]
    cortex("submit", "digits", *words)
    (path,) = operator.uploads
    operator.uploads[path] = b"b.j"

    result = cortex("submit", "digits", *words)

    assert result.exit_code == 0, result.output
    assert [b"b.jpg", b"pg"] == [request.body for request in operator.requests if request.line == f"PATCH {path}"]


def test_local_and_remote_files_go_into_one_job(operator: StubOperator, images: Path) -> None:
    words = ["--files", "images/deep", "--files", "s3://b/k", "--files", "images/b.jpg", "--include", "**.jpg"]

    result = cortex("submit", "digits", *words, "--batch-size", "2")

    assert result.exit_code == 0, result.output
    upload_id, files = uploaded(operator)
    assert {"deep/d.jpg", "b.jpg"} == set(files)
    section = submitted(operator)["file_path_lister"]
    assert [f"upload://{upload_id}/deep/", "s3://b/k", f"upload://{upload_id}/b.jpg"] == section["s3_paths"]
    assert ["**.jpg", f"**/{upload_id}/**"] == section["includes"]


def test_items_that_are_too_large_for_a_request_are_uploaded(operator: StubOperator, images: Path) -> None:
    lines = f'"{"x" * 99_990}"\n' * (MAX_REQUEST_BYTES // 99_990 + 1)
    Path("items.jsonl").write_text(lines)

    from_file = cortex("submit", "digits", "--items", "items.jsonl", "--batch-size", "2")
    upload_id, files = uploaded(operator)
    operator.uploads.clear()
    from_stdin = cortex("submit", "digits", "--items", "-", "--batch-size", "2", input=lines)

    assert 0 == from_file.exit_code == from_stdin.exit_code, from_file.output
    assert {"items.jsonl": lines.encode()} == files
    assert [lines.encode()] == list(uploaded(operator)[1].values())
    first = next(request for request in operator.requests if request.line == SUBMIT)
    section = {"s3_paths": [f"upload://{upload_id}/items.jsonl"], "batch_size": 2}
    assert {"workers": 1, "delimited_files": section} == json.loads(first.body)


def test_a_dry_run_counts_what_would_be_uploaded_without_doing_it(operator: StubOperator, images: Path) -> None:
    operator.answers[DRY_RUN] = counts(files=1, bytes=10, items=1, batches=1, paths=["s3://b/k"])
    words = ["--files", "images", "--include", "**.jpg", "--batch-size", "3", "--dry-run", "-o", "json"]

    local = cortex("submit", "digits", *words)
    both = cortex("submit", "digits", *words, "s3://b/k")
    lines = cortex("submit", "digits", "--lines", "images", "--dry-run", "-o", "json")

    paths = [f"{images}/{name}" for name in ("a b.jpg", "b.jpg", "deep/d.jpg", "empty.jpg")]
    assert {"files": 4, "bytes": 22, "items": 4, "batches": 2, "paths": paths} == json.loads(local.stdout)
    expected = {"files": 5, "bytes": 32, "items": 5, "batches": 2, "paths": ["s3://b/k", *paths]}
    assert expected == json.loads(both.stdout)
    unknown = json.loads(lines.stdout)
    assert (5, None, None) == (unknown["files"], unknown["items"], unknown["batches"])
    assert operator.uploads == {}
    remote = {"s3_paths": ["s3://b/k"], "batch_size": 3, "includes": ["**.jpg"]}
    assert [{"workers": 1, "file_path_lister": remote}] == [
        json.loads(request.body) for request in operator.requests if request.line == DRY_RUN
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nosuch"], "there is no file at `{folder}/nosuch`\n\nhint: a path is looked for on this machine"),
        (["images", "--include", "*.png"], "there is no file at `{folder}/images/` that --include and --exclude let"),
        (["images", "--include", "[", "--exclude", "["], "--include [0]: `[` is not a glob"),
    ],
)
def test_local_files_that_are_not_there_are_missed_before_anything_is_uploaded(
    operator: StubOperator, images: Path, words: list[str], message: str
) -> None:
    result = cortex("submit", "digits", "--lines", *words, "-e", "stub")

    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: {message.format(folder=images.parent)}")
    assert operator.uploads == {}


def test_an_upload_that_is_refused_shows_the_message(operator: StubOperator, images: Path) -> None:
    refusal = Refusal(413, "request.too_large", "an upload must have at most 5 bytes\n\nhint: --max-upload")
    cortex("submit", "digits", "--lines", "images/b.jpg")
    (path,) = operator.uploads
    operator.uploads.clear()
    operator.answers[f"PATCH {path}"] = refusal

    result = cortex("submit", "digits", "--lines", "images/b.jpg")

    assert result.exit_code == 1
    assert result.stderr.endswith(f"error: {refusal.message}\n")


def test_who_interrupts_an_upload_is_told_that_it_can_go_on(
    operator: StubOperator, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(OperatorClient, "upload", interrupt)

    result = cortex("submit", "digits", "--lines", "images/b.jpg")

    assert result.exit_code == 130
    assert result.stderr.endswith("\nthe same command goes on with the upload where it was\n")


@pytest.mark.parametrize(
    ("chosen", "taken"),
    [
        (["a.json"], {"a.json"}),
        (["a.json", "a.json.bak"], {"a.json", "a.json.bak"}),
        (["a.json.bak", "a.json"], {"a.json", "a.json.bak"}),
        (["a.json.bak", "a"], {"a", "a.json.bak"}),
        (["a.json", "a.jsonl/deep/"], {"a.json", "a.jsonl/x", "a.jsonl/deep/x"}),
        (["a.json", "a.json*"], {"a.json", "a.json*"}),
        (["a.j"], {"a.json", "a.json*", "a.json.bak", "a.jsonl/x", "a.jsonl/deep/x"}),
        (["b"], {"b"}),
    ],
)
def test_who_names_a_file_means_that_file(folder: Path, chosen: list[str], taken: set[str]) -> None:
    for name in ("a", "a.json", "a.json*", "a.json.bak", "a.jsonl/x", "a.jsonl/deep/x", "b", "c"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    paths = tuple(absolute(name) for name in chosen)

    found = select(AllFiles(), Selection(paths=paths, excludes=tuple(longer_names(paths))))

    assert taken == {file.url.removeprefix(f"{folder}/") for _, file in found}


def test_submitting_imports_nothing_heavy_unless_it_is_needed() -> None:
    heavy = "{'boto3', 'cortex.files', 'msgspec', 'numpy', 'obstore', 'pydantic', 'rich'}"
    program = f"import sys, cortex.cli.submit; print(sorted({heavy} & set(sys.modules)))"

    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert result.stdout == "[]\n"
