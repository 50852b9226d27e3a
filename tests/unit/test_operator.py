"""What is asked of an operator as a whole."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cortex.domain.errors import ApiNotFound, StorageFull
from cortex.domain.job import Job, JobStatus
from cortex.operator.deployments import Deployments
from cortex.operator.jobs import Jobs
from cortex.operator.machine import Machine
from cortex.operator.operator import Operator
from cortex.operator.submitting.enqueuing import JobEnqueuing
from cortex.operator.submitting.submission import read_submission
from cortex.storage.files import disk_full
from cortex.storage.ledger import Version
from cortex.storage.memory import MemoryLedger
from cortex.storage.small_files import Dataset
from job_story import NoExports

VERSION = Version(
    api_id="v1", api_name="api", kind="BatchAPI", endpoint="/api", spec={}, project_id="p", deployed_at_ns=1
)


class FullLedger(MemoryLedger):
    """A ledger whose disk is full while it is told so."""

    is_full = False

    def delete_api(self, api_name: str) -> None:
        self._check_room()
        super().delete_api(api_name)

    def move(self, job_id: str, status: JobStatus, **what: Any) -> Job:
        self._check_room()
        return super().move(job_id, status, **what)

    def _check_room(self) -> None:
        if self.is_full:
            raise disk_full()


class NothingWarm:
    """An engine without Workers."""

    def idle(self) -> None:
        pass


@pytest.fixture
def ledger() -> FullLedger:
    ledger = FullLedger()
    ledger.deploy([VERSION])
    return ledger


@pytest.fixture
def operator(ledger: FullLedger, tmp_path: Path) -> Operator:
    def background(work: Callable[[], None], then: Callable[[], None]) -> None:
        work()
        then()

    jobs = Jobs(
        ledger=ledger,
        root=tmp_path / "jobs",
        preparation=None,
        now_ns=lambda: 1,
        call_later=lambda _, __: lambda: None,
        background=background,
        enqueuing=JobEnqueuing(ledger=ledger, enqueuers=None, allowed=None),
        exports=NoExports(),
    )
    jobs.engine = NothingWarm()
    deployments = Deployments(
        ledger=ledger,
        root=tmp_path / "projects",
        uploads=tmp_path / "uploads",
        machine=Machine(cpu_cores=1, mem_bytes=1, gpus=0),
        now_ns=lambda: 1,
        background=background,
    )
    operator = Operator(
        ledger=ledger,
        deployments=deployments,
        jobs=jobs,
        serving=SimpleNamespace(recover=lambda _: None, remove=lambda _, when_gone: when_gone()),
        preparation=None,
        datasets=None,
        export=None,
        reruns=None,
        draining=None,
        stalls=None,
        prune=None,
    )
    operator.recover("boot")
    return operator


@pytest.mark.parametrize("has_job", [False, True])
def test_an_api_that_could_not_be_deleted_stays_and_can_be_deleted_later(
    operator: Operator, ledger: FullLedger, has_job: bool
) -> None:
    deleted: list[str] = []
    if has_job:
        submission = read_submission(b'{"workers": 1, "delimited_files": {"s3_paths": ["/data/"]}}')
        operator.jobs.submit(operator.jobs.new_job_id(), VERSION, submission, Dataset())
    ledger.is_full = True

    with pytest.raises(StorageFull):
        operator.delete_api("api", lambda: deleted.append("first"))
    assert VERSION == operator.deployments.api("api")

    ledger.is_full = False
    operator.delete_api("api", lambda: deleted.append("second"))
    assert deleted == ["second"]
    with pytest.raises(ApiNotFound):
        operator.deployments.api("api")
