"""Section 2 of the contract: datasets in files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from contract_world import files_of, submit

from operator_process import OperatorProcess
from s3_server import S3


@pytest.fixture
def listed(operator: OperatorProcess) -> Callable[..., list[str]]:
    """Give the files that a dry run of these paths lists."""

    def listed(*paths: str, **section: Any) -> list[str]:
        request = files_of("file_path_lister", *paths, batch_size=1, **section)
        answer = operator.http.post("/echo?dryRun=true", json=request)
        assert answer.status_code in (200, 400), answer.text
        return answer.text.split("\n")[:-1] if answer.status_code == 200 else []

    return listed


def test_paths_are_prefixes_or_whole_keys_and_each_file_is_there_once(listed: Callable[..., list[str]], s3: S3) -> None:
    """`s3_paths` are key prefixes or whole keys …"""
    s3.put("paths/", "paths/a.json", "paths/a.json.bak", "paths/b/", "paths/b/c.json", "pathway.json")
    a, bak, c, way = map(s3.url, ("paths/a.json", "paths/a.json.bak", "paths/b/c.json", "pathway.json"))

    assert [a, bak, c, way] == listed(s3.url("path"))
    assert [a, bak, c] == listed(s3.url("paths/"))
    assert [way] == listed(s3.url("pathway.json"))
    assert [c, a, bak, way] == listed(s3.url("paths/b/"), s3.url("path"), s3.url("paths/a.json"))


@pytest.mark.parametrize("written", ["FOLDER/", "file://FOLDER/"])
def test_files_of_the_operators_machine_are_named_by_path_or_url(
    listed: Callable[..., list[str]], tmp_path: Path, written: str
) -> None:
    """`s3_paths` are key prefixes or whole keys …: `file://` and plain paths."""
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_text("1\n")

    found = listed(written.replace("FOLDER", str(tmp_path)))

    assert [f"{tmp_path}/a.json", f"{tmp_path}/b.json"] == [path.removeprefix("file://") for path in found]


@pytest.mark.parametrize(("scheme", "service"), [("gs", "Google Cloud Storage"), ("az", "Azure Blob Storage")])
def test_other_clouds_are_asked_for(operator: OperatorProcess, scheme: str, service: str) -> None:
    """`s3_paths` are key prefixes or whole keys …: `gs://`, `az://`."""
    answer = operator.http.post("/echo", json=files_of("delimited_files", f"{scheme}://bucket/lines/"))

    assert answer.status_code == 400
    assert f"`{scheme}://bucket/lines/` cannot be listed: {service} does not answer" in answer.json()["message"]


def test_more_files_than_a_page_are_listed(
    listed: Callable[..., list[str]], s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`s3_paths` are key prefixes or whole keys …: listing is paginated."""
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "10")  # a page of the server; it is part of this process
    keys = [f"pages/{number:04}" for number in range(25)]
    s3.put(*keys)
    s3.faults.requests.clear()

    found = listed(s3.url("pages/"))

    assert [s3.url(key) for key in keys] == found
    assert sum("list-type=2" in path for _, path, _ in s3.faults.requests) >= 3


def test_a_file_that_changes_before_it_is_read_ends_the_job(operator: OperatorProcess, s3: S3) -> None:
    """`s3_paths` are key prefixes or whole keys …: a file that changes."""
    s3.put("changing/a.json", body=b"1\n")
    s3.faults.before(lambda: s3.put("changing/a.json", body=b"22\n"), matching="changing/a.json")

    status = operator.wait(submit(operator, files_of("delimited_files", s3.url("changing/"))), api="echo")

    assert status["status"] == "status_enqueue_failed"
    assert f"`{s3.url('changing/a.json')}` has changed since it was listed" in status["status_reason"]


IMAGES = ("img_1.png", "img_2.jpg", "img_3.jpg", "img_4.gif", "é.jpg")


@pytest.mark.parametrize(
    ("expected", "globs"),
    [
        ("img_1.png img_2.jpg img_3.jpg img_4.gif é.jpg", {}),
        ("", {"includes": ["*.jpg"]}),
        ("img_2.jpg img_3.jpg é.jpg", {"includes": ["**.jpg"]}),
        ("img_2.jpg é.jpg", {"includes": ["**.jpg"], "excludes": ["**_3.jpg"]}),
        ("img_1.png img_2.jpg img_3.jpg é.jpg", {"excludes": ["**.gif"]}),
        ("img_1.png img_4.gif", {"includes": ["**.{png,gif}"]}),
        ("img_2.jpg", {"includes": ["s3://BUCKET/images/img_?.jpg"], "excludes": ["**[!2].jpg"]}),
        ("img_1.png img_2.jpg", {"includes": ["**_[1-2].*"]}),
        ("", {"includes": ["s3://BUCKET/*.jpg"]}),
        ("", {"includes": ["s3://BUCKET/images/**/img_2.jpg"]}),  # a library's defect, as are the next two
        ("é.jpg", {"includes": ["**/?.jpg"]}),
        ("img_1.png img_4.gif", {"includes": ["{**/img_*,c}.{png,gif}"]}),
        ("", {"includes": ["**.JPG"]}),
        ("img_2.jpg", {"includes": ["**\\img_2.jpg"]}),
    ],
    ids=str,
)
def test_files_are_filtered_by_globs(
    listed: Callable[..., list[str]], s3: S3, expected: str, globs: dict[str, list[str]]
) -> None:
    """`includes`, then `excludes`: globs with `/` as the delimiter …"""
    s3.put(*(f"images/{name}" for name in IMAGES))
    here = {kind: [glob.replace("BUCKET", s3.bucket) for glob in some] for kind, some in globs.items()}

    found = listed(s3.url("images/"), **here)

    assert [s3.url(f"images/{name}") for name in expected.split()] == found


def test_every_line_is_an_item_and_batches_span_files(operator: OperatorProcess, s3: S3) -> None:
    """`delimited_files`: one JSON value per line, any type …"""
    s3.put("lines/a.json", body=b'\xef\xbb\xbf1\r\n\r\n"two"\r\n  \n{"three": [3]}')
    s3.put("lines/b.json", body=b"null\n[5]\n6.50")
    job = submit(operator, files_of("delimited_files", s3.url("lines/"), batch_size=4))

    status = operator.wait(job, api="echo")

    assert ("status_succeeded", 2) == (status["status"], status["total_batch_count"])
    assert [1, "two", {"three": [3]}, None, [5], 6.5] == operator.rows(job, api="echo")


@pytest.mark.parametrize("line", [b"{'a': 1}", b"2 3", b"[1,]", b"1,", b"NaN", b"\xff"], ids=repr)
def test_a_bad_line_fails_the_job_and_is_named(operator: OperatorProcess, tmp_path: Path, line: bytes) -> None:
    """`delimited_files`: one JSON value per line, any type …: a bad line."""
    path = tmp_path / "bad.json"
    path.write_bytes(b"1\n2\n" + line + b"\n4\n")
    job = submit(operator, files_of("delimited_files", str(path)))

    status = operator.wait(job, api="echo")

    assert status["status"] == "status_enqueue_failed"
    last = operator.log(job, api="echo").splitlines()[-1]
    assert f"failed to enqueue all batches: {status['status_reason']}" == last
    assert str(path) in last
    assert "line 3" in last
    assert len(last.partition("line 3")[2]) > len(": ")  # the reason


def test_a_dataset_without_items_fails(operator: OperatorProcess, s3: S3) -> None:
    """An empty dataset (files matched, no items) …"""
    s3.put("empty/a.json", body=b"\n \n")

    status = operator.wait(submit(operator, files_of("delimited_files", s3.url("empty/"))), api="echo")

    assert status["status"] == "status_enqueue_failed"
    assert "no items" in status["status_reason"]
    assert 0 == status["total_batch_count"]
