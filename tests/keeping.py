"""A data directory with ended jobs, projects, environments and uploads, as tests of what is removed from it want it."""

import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path

from cortex.domain.job import Counts, Job, JobStatus
from cortex.environments import Environments
from cortex.fetching.stock import ModelStock
from cortex.operator.deployments import Deployments
from cortex.operator.machine import Machine
from cortex.operator.upkeep.prune import Prune
from cortex.storage.ledger import Ledger, Version
from cortex.storage.memory import MemoryLedger
from cortex.storage.uploads import Uploads
from samples import JOB

NOW_NS = 10**18
DAY_NS = 24 * 3600 * 10**9
KB = 1000
UPLOAD = "1" * 32


@dataclass
class Kept:
    """A data directory in which each job, project and environment has a file of a size that tests choose."""

    data: Path
    ledger: Ledger = field(default_factory=MemoryLedger)
    held: set[str] = field(default_factory=set)
    is_fetching: bool = False

    def __post_init__(self) -> None:
        for folder in ("jobs", "projects", "uploads", "environments", "incoming", "models"):
            (self.data / folder).mkdir(parents=True)
        self.stock = Environments(self.data, variables={})
        self.uploads = Uploads(root=self.data / "incoming", limit_bytes=10**9, now_ns=lambda: NOW_NS)
        self.deployments = Deployments(
            ledger=self.ledger,
            root=self.data / "projects",
            uploads=self.data / "uploads",
            machine=Machine(cpu_cores=1, mem_bytes=1, gpus=0),
            now_ns=lambda: NOW_NS,
            background=lambda work, then: (work(), then())[0],
        )
        self.prune = Prune(
            ledger=self.ledger,
            root=self.data / "jobs",
            trash=self.data / "uploads",
            deployments=self.deployments,
            uploads=self.uploads,
            stock=self.stock,
            models=ModelStock(root=self.data / "models", is_at_work=lambda: self.is_fetching),
            apis=self.data / "apis",
            key=lambda version: version.spec["environment"],
            now_ns=lambda: NOW_NS,
            is_held=self.held.__contains__,
        )

    def deploy(self, api: str = "api", content: str = "1", model: str | None = None) -> Version:
        """Deploy a version, whose project and environment are there; both have the name of its content."""
        predictor = {"predictor": {"type": "onnx", "model_path": model}} if model else {}
        version = Version(
            api_id=f"{api}-{content}",
            api_name=api,
            kind="BatchAPI",
            endpoint=f"/{api}",
            spec={"environment": content, **predictor},
            project_id=content,
            deployed_at_ns=1,
        )
        self.ledger.deploy([version])
        fill(self.data / "projects" / content, 10 * KB)
        if not (self.data / "environments" / content).exists():
            self.environment(content)
        return version

    def environment(self, key: str, size: int = 100 * KB, *, used_at_ns: int = NOW_NS) -> Path:
        """Make an environment; give its interpreter."""
        home = self.data / "environments" / key
        fill(home / "abc" / "bin", size)
        python = home / "abc" / "bin" / "python"
        python.symlink_to("/bin/sh")
        (home / "ready").write_text(json.dumps({"folder": "abc"}))
        os.utime(home / "ready", ns=(used_at_ns, used_at_ns))
        return python

    def model(self, key: str, url: str, *, used_at_ns: int = NOW_NS) -> Path:
        """Have a model fetched; give what is loaded."""
        home = self.data / "models" / key
        fill(home / "files", 100 * KB)
        (home / "model.json").write_text(json.dumps({"type": "onnx", "url": url, "path": "file"}))
        os.utime(home / "model.json", ns=(used_at_ns, used_at_ns))
        return home / "files" / "file"

    def job(self, number: int, days_ago: float | None, size: int = 100 * KB, *, version: Version | None = None) -> Job:
        """Make a job that ended some days ago, or has not."""
        version = version or self.ledger.versions()[0]
        job = replace(JOB, id=f"{number:016x}", api_name=version.api_name, api_id=version.api_id)
        self.ledger.add_job(job, [])
        fill(self.data / "jobs" / job.id, size)
        if days_ago is None:
            return job
        at_ns = NOW_NS - round(days_ago * DAY_NS)
        return self.ledger.move(job.id, JobStatus.ENQUEUE_FAILED, at_ns=at_ns, counts=Counts(in_queue=1))

    def upload(self, days_ago: float) -> None:
        """Have a client send something, and not go on."""
        with self.uploads.append(UPLOAD, "a", 0) as write:
            write(b"x" * 10 * KB)
        at_ns = NOW_NS - round(days_ago * DAY_NS)
        os.utime(self.uploads.root / UPLOAD, ns=(at_ns, at_ns))

    def left(self, what: str) -> set[str]:
        """Give the names of what is left."""
        names = {path.name for path in (self.data / what).iterdir()}
        if what == "jobs":
            apis = {version.api_name for version in self.ledger.needed_versions()}
            assert names == {job.id for api in apis for job in self.ledger.jobs(api)}
        return names


def fill(folder: Path, size: int) -> None:
    """Make a folder with a file of a size in it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "file").write_bytes(b"x" * size)
