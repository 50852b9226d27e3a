"""What an endpoint does for one client keeps nobody else waiting."""

import asyncio
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import httpx
import pytest

from cortex.domain.errors import StorageFull, UploadNotFound
from cortex.domain.layout import JobFolder
from cortex.operator.submitting.datasets import Datasets
from cortex.web.app import create_app

ADDRESS = "http://127.0.0.1:8888"
OF_AN_UPLOAD = {"workers": 1, "delimited_files": {"s3_paths": [f"upload://{'0' * 32}/"]}}


class SlowUploads:
    """Files that are claimed once somebody else has been answered."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.has_begun = threading.Event()
        self.has_answered = threading.Event()

    def folder(self, upload_id: str) -> Path:
        return self.root / upload_id

    def take(self, upload_id: str, home: Path) -> None:
        self.has_begun.set()
        assert self.has_answered.wait(timeout=10)
        raise UploadNotFound("another job has it")


class AnyFiles:
    """Says of all files that they can be enqueued."""

    async def check(self, source: object, allowed: object) -> None:
        pass


def test_others_are_answered_while_an_upload_is_claimed(tmp_path: Path) -> None:
    discarded: list[str] = []
    uploads: Any = SlowUploads(tmp_path)
    files: Any = AnyFiles()
    datasets = Datasets(enqueuers=files, exporters=files, uploads=uploads, allowed=None, data=tmp_path)
    version = SimpleNamespace(api_name="api", kind="BatchAPI", endpoint="/api", spec={})
    jobs = SimpleNamespace(
        new_job_id=lambda: "the job",
        write_dataset=lambda *_: [],
        folder=lambda _: JobFolder(tmp_path),
        discard=discarded.append,
    )
    operator: Any = SimpleNamespace(
        deployments=SimpleNamespace(at=lambda _: (version, ""), served_at=lambda _: None),
        jobs=jobs,
        datasets=datasets,
        draining=SimpleNamespace(refuse_if_begun=lambda: None),
        check_room=lambda: None,
    )
    app = create_app(operator, uploads=operator, addresses=[ADDRESS], about={})

    async def ask() -> tuple[httpx.Response, httpx.Response]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url=ADDRESS) as client:
            submission = asyncio.create_task(client.post("/api", json=OF_AN_UPLOAD))
            await asyncio.to_thread(uploads.has_begun.wait)
            health = await client.get("/healthz")
            uploads.has_answered.set()
            return await submission, health

    submitted, health = asyncio.run(ask())

    assert (health.status_code, submitted.status_code, discarded) == (200, 404, ["the job"])


def test_who_looks_at_a_job_does_not_wait_for_all_who_submit_at_once() -> None:
    version = SimpleNamespace(api_name="api", kind="BatchAPI", endpoint="/api", spec={})
    submissions = 50
    happened: list[str] = []

    async def ask() -> None:
        looking: list[asyncio.Task[httpx.Response]] = []

        def submit(job_id: str, *_: object) -> NoReturn:
            happened.append("submitted")
            if not looking:
                looking.append(asyncio.create_task(client.get("/api/1")))
            raise StorageFull

        def describe(_: object) -> dict[str, str]:
            happened.append("looked at")
            return {}

        operator: Any = SimpleNamespace(
            deployments=SimpleNamespace(
                at=lambda path: (version, path.removeprefix("/api").strip("/")),
                served_at=lambda _: None,
                api=lambda _: version,
            ),
            jobs=SimpleNamespace(
                new_job_id=lambda: "1",
                write_dataset=lambda *_: [],
                submit=submit,
                discard=lambda _: None,
                job=lambda *_: SimpleNamespace(id="1"),
            ),
            datasets=None,
            draining=SimpleNamespace(refuse_if_begun=lambda: None),
            check_room=lambda: None,
            describe_job=describe,
        )
        app = create_app(operator, uploads=operator, addresses=[ADDRESS], about={})
        body = {"workers": 1, "item_list": {"items": [1], "batch_size": 1}}
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url=ADDRESS) as client:
            await asyncio.gather(*(client.post("/api", json=body) for _ in range(submissions)))
            await looking[0]

    asyncio.run(ask())

    assert submissions == happened.count("submitted")
    assert happened.index("looked at") < submissions // 2


@pytest.mark.parametrize(
    ("request_body", "waits_for_the_disk"),
    [
        ({"workers": 1, "item_list": {"items": [1, 2], "batch_size": 1}}, False),
        ({"workers": 1, "item_list": {"items": [1] * 20_000, "batch_size": 1}}, True),
        ({"workers": 1, "delimited_files": {"s3_paths": ["/data/"]}}, True),
    ],
)
def test_only_a_dataset_that_waits_for_no_disk_is_written_while_others_wait(
    request_body: dict[str, Any], waits_for_the_disk: bool
) -> None:
    writers: list[int] = []

    def write_dataset(*_: object) -> None:
        writers.append(threading.get_ident())
        raise StorageFull

    async def check_all(_: object) -> None:
        pass

    version = SimpleNamespace(api_name="api", kind="BatchAPI", endpoint="/api", spec={})
    operator: Any = SimpleNamespace(
        deployments=SimpleNamespace(at=lambda _: (version, ""), served_at=lambda _: None),
        jobs=SimpleNamespace(new_job_id=lambda: "the job", write_dataset=write_dataset, discard=lambda _: None),
        datasets=SimpleNamespace(check_all=check_all),
        draining=SimpleNamespace(refuse_if_begun=lambda: None),
        check_room=lambda: None,
    )
    app = create_app(operator, uploads=operator, addresses=[ADDRESS], about={})

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url=ADDRESS) as client:
            return await client.post("/api", json=request_body)

    assert asyncio.run(ask()).status_code == 507
    assert [waits_for_the_disk] == [writer != threading.get_ident() for writer in writers]
