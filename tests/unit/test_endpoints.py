"""What an endpoint does for one client keeps nobody else waiting."""

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import httpx

from cortex.domain.errors import UploadNotFound
from cortex.web.app import create_app

ADDRESS = "http://127.0.0.1:8888"
OF_AN_UPLOAD = {"workers": 1, "delimited_files": {"s3_paths": [f"upload://{'0' * 32}/"]}}


class SlowDatasets:
    """Files that are claimed once somebody else has been answered."""

    def __init__(self) -> None:
        self.has_begun = threading.Event()
        self.has_answered = threading.Event()

    async def check(self, source: object) -> None:
        pass

    def claim(self, source: object, folder: object) -> None:
        self.has_begun.set()
        assert self.has_answered.wait(timeout=10)
        raise UploadNotFound("another job has it")


def test_others_are_answered_while_an_upload_is_claimed() -> None:
    discarded: list[str] = []
    datasets = SlowDatasets()
    version = SimpleNamespace(api_name="api", endpoint="/api", spec={})
    jobs = SimpleNamespace(
        new_job_id=lambda: "the job",
        write_dataset=lambda *_: [],
        folder=lambda _: SimpleNamespace(root=None),
        discard=discarded.append,
    )
    operator: Any = SimpleNamespace(
        deployments=SimpleNamespace(at=lambda _: (version, "")),
        jobs=jobs,
        datasets=datasets,
        draining=SimpleNamespace(refuse_if_begun=lambda: None),
        check_room=lambda: None,
    )
    app = create_app(operator, uploads=operator, addresses=[ADDRESS], about={})

    async def ask() -> tuple[httpx.Response, httpx.Response]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url=ADDRESS) as client:
            submission = asyncio.create_task(client.post("/api", json=OF_AN_UPLOAD))
            await asyncio.to_thread(datasets.has_begun.wait)
            health = await client.get("/healthz")
            datasets.has_answered.set()
            return await submission, health

    submitted, health = asyncio.run(ask())

    assert (health.status_code, submitted.status_code, discarded) == (200, 404, ["the job"])
