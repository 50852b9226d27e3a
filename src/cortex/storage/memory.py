"""The simplest thing that keeps the ledger's contract: dictionaries."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from cortex.domain.isolation import Death, DeathKind, Part
from cortex.domain.job import Counts, Job, JobStatus, SegmentRange
from cortex.domain.submission_key import SubmissionKey
from cortex.storage.ledger import (
    NO_FILES,
    Ledger,
    UnsyncedFile,
    Version,
    WorkerRecord,
    check_key,
    check_move,
    check_publication,
)


class MemoryLedger(Ledger):
    """A ledger that forgets when it is let go of: for tests, and to say what the contract means."""

    def __init__(self) -> None:
        self._epoch = 0
        self._boot_id: str | None = None
        self._deployed: dict[str, str] = {}
        self._versions: dict[str, Version] = {}
        self._jobs: dict[str, Job] = {}
        self._segments: dict[str, list[SegmentRange]] = {}
        self._cursors: dict[str, Mapping[str, Any]] = {}
        self._keys: dict[str, SubmissionKey] = {}
        self._workers: dict[str, WorkerRecord] = {}
        self._gone: set[str] = set()
        self._deaths: dict[tuple[str, int, Part], Death] = {}
        self._newest_forgotten: str | None = None
        self._unsynced: dict[UnsyncedFile, bytes] = {}
        self._last_unsynced = 0

    def boot_id(self) -> str | None:
        return self._boot_id

    def begin_epoch(self, boot_id: str) -> tuple[int, bool]:
        restarted = self._boot_id is not None and self._boot_id != boot_id
        self._epoch, self._boot_id = self._epoch + 1, boot_id
        return self._epoch, restarted

    def deploy(self, versions: Sequence[Version]) -> None:
        deployed = {version.api_name: version for version in [*self.versions(), *versions]}
        if len({version.endpoint for version in deployed.values()}) < len(deployed):
            raise ValueError("two APIs have the same endpoint")
        self._versions.update({version.api_id: version for version in versions})
        self._deployed = {name: version.api_id for name, version in deployed.items()}
        self._forget_unneeded_versions()

    def _forget_unneeded_versions(self) -> None:
        needed = {*self._deployed.values(), *(job.api_id for job in self._jobs.values())}
        self._versions = {api_id: version for api_id, version in self._versions.items() if api_id in needed}

    def versions(self) -> Sequence[Version]:
        return [self._versions[self._deployed[name]] for name in sorted(self._deployed)]

    def version(self, api_id: str) -> Version | None:
        return self._versions.get(api_id)

    def project_ids(self) -> set[str]:
        return {version.project_id for version in self._versions.values()}

    def needed_versions(self, *, without_jobs: Sequence[str] = ()) -> Sequence[Version]:
        jobs = [job for job in self._jobs.values() if job.id not in set(without_jobs)]
        return [self._versions[key] for key in sorted({*self._deployed.values(), *(job.api_id for job in jobs)})]

    def delete_api(self, api_name: str) -> None:
        for job in self.jobs(api_name):
            self._forget(job.id)
        self._deployed.pop(api_name, None)
        self._versions = {key: version for key, version in self._versions.items() if version.api_name != api_name}

    def add_job(
        self,
        job: Job,
        segments: Sequence[SegmentRange],
        key: SubmissionKey | None = None,
        deaths: Sequence[Death] = (),
        files: Mapping[str, bytes] = NO_FILES,
    ) -> None:
        if key is not None:
            check_key(self.keyed_job(job.api_name, key.name))
            self._keys[job.id] = key
        self._jobs[job.id] = job
        self._segments[job.id] = list(segments)
        self._deaths.update({(job.id, death.batch, death.part): death for death in deaths})
        self._write_unsynced(job.id, files)

    def keyed_job(self, api_name: str, key_name: str) -> tuple[Job, SubmissionKey] | None:
        keyed = ((self._jobs[job_id], key) for job_id, key in self._keys.items() if key.name == key_name)
        return next((found for found in keyed if found[0].api_name == api_name), None)

    def publish(self, job_id: str, segment: SegmentRange, *, item_count: int, cursor: Mapping[str, Any]) -> Job:
        job = self._jobs.get(job_id)
        check_publication(job, job_id, next(reversed(self.segments(job_id)), None), segment)
        assert job is not None  # noqa: S101 - checked
        self._segments[job_id].append(segment)
        self._cursors[job_id] = cursor
        total, items = job.total_batch_count + segment.count, job.item_count + item_count
        self._jobs[job_id] = replace(job, total_batch_count=total, item_count=items)
        return self._jobs[job_id]

    def cursor(self, job_id: str) -> Mapping[str, Any] | None:
        return self._cursors.get(job_id)

    def job(self, job_id: str) -> Job | None:
        return self._jobs.get(job_id)

    def jobs(self, api_name: str) -> Sequence[Job]:
        return sorted((job for job in self._jobs.values() if job.api_name == api_name), key=lambda job: job.id)

    def newest_job(self, api_name: str) -> Job | None:
        return next(iter(self.jobs(api_name)), None)

    def count_in_progress(self, api_name: str) -> int:
        return sum(not job.is_final for job in self.jobs(api_name))

    def ended_jobs_beyond(self, api_name: str, count: int, *, limit: int) -> Sequence[str]:
        last_first = sorted((-(job.ended_at_ns or 0), job.id) for job in self.jobs(api_name) if job.is_final)
        return [job_id for _, job_id in last_first[count : count + limit]]

    def jobs_ended_before(self, at_ns: int, *, limit: int) -> Sequence[str]:
        ended = [(job.ended_at_ns, job.id) for job in self._jobs.values() if job.ended_at_ns is not None]
        return [job_id for ended_at_ns, job_id in sorted(ended) if ended_at_ns < at_ns][:limit]

    def delete_jobs(self, job_ids: Sequence[str]) -> None:
        for job_id in {job_id for job_id in job_ids if job_id in self._jobs and self._jobs[job_id].is_final}:
            self._forget(job_id)
        self._forget_unneeded_versions()

    def _forget(self, job_id: str) -> None:
        self._newest_forgotten = min(job_id, self._newest_forgotten or job_id)
        del self._jobs[job_id], self._segments[job_id]
        self._cursors.pop(job_id, None)
        self._keys.pop(job_id, None)
        self._workers = {name: record for name, record in self._workers.items() if record.job_id != job_id}
        self._deaths = {key: death for key, death in self._deaths.items() if key[0] != job_id}
        self._unsynced = {file: content for file, content in self._unsynced.items() if file.job_id != job_id}

    def jobs_in_progress(self) -> Sequence[Job]:
        return sorted((job for job in self._jobs.values() if not job.is_final), key=lambda job: job.id, reverse=True)

    def newest_job_id(self) -> str | None:
        return min([*self._jobs, *([self._newest_forgotten] if self._newest_forgotten else [])], default=None)

    def segments(self, job_id: str) -> Sequence[SegmentRange]:
        return list(self._segments.get(job_id, []))

    def move(
        self,
        job_id: str,
        status: JobStatus,
        *,
        at_ns: int,
        reason: str | None = None,
        ending: JobStatus | None = None,
        counts: Counts | None = None,
        busy_seconds: float = 0.0,
        files: Mapping[str, bytes] = NO_FILES,
    ) -> Job:
        job = self._jobs.get(job_id)
        check_move(job, job_id, status, ending, counts)
        assert job is not None  # noqa: S101 - checked
        job = replace(job, status=status, status_reason=job.status_reason if reason is None else reason)
        if status is JobStatus.RUNNING and job.started_at_ns is None:
            job = replace(job, started_at_ns=at_ns)
        if ending is not None:
            job = replace(job, ending=ending)
        if counts is not None:
            job = replace(job, ended_at_ns=at_ns, final_counts=counts, busy_seconds=busy_seconds)
        self._jobs[job_id] = job
        self._write_unsynced(job_id, files)
        return job

    def _write_unsynced(self, job_id: str, files: Mapping[str, bytes]) -> None:
        for name, content in files.items():
            self._last_unsynced += 1
            self._unsynced[UnsyncedFile(number=self._last_unsynced, job_id=job_id, name=name)] = content

    def unsynced(self) -> Sequence[UnsyncedFile]:
        return list(self._unsynced)

    def unsynced_bytes(self, file: UnsyncedFile) -> bytes:
        return self._unsynced.get(file, b"")

    def forget_unsynced(self, up_to: int) -> None:
        self._unsynced = {file: content for file, content in self._unsynced.items() if file.number > up_to}

    def start_hook(self, job_id: str, worker: str) -> None:
        if self._jobs[job_id].hook_worker is not None:
            raise ValueError(f"on_job_complete of job {job_id} was started before")
        self._jobs[job_id] = replace(self._jobs[job_id], hook_worker=worker)

    def add_worker(self, record: WorkerRecord) -> None:
        self._workers.setdefault(record.worker, record)

    def end_worker(self, worker: str) -> None:
        self._gone.add(worker)

    def workers(self, job_id: str) -> Sequence[WorkerRecord]:
        records = (self._workers[name] for name in sorted(self._workers.keys() - self._gone))
        return [record for record in records if record.job_id == job_id]

    def charge_death(
        self, job_id: str, batch: int, part: Part, *, kind: DeathKind, cause: str, worker: str | None = None
    ) -> Death:
        earlier = self._deaths.get((job_id, batch, part))
        is_timeout = kind is DeathKind.TIMED_OUT
        death = Death(
            batch=batch,
            part=part,
            deaths=(earlier.deaths if earlier else 0) + (not is_timeout),
            timeouts=(earlier.timeouts if earlier else 0) + is_timeout,
            cause=cause,
            kind=kind,
        )
        self._deaths[job_id, batch, part] = death
        if worker is not None:
            self._gone.add(worker)
        return death

    def deaths(self, job_id: str) -> Sequence[Death]:
        return [self._deaths[key] for key in sorted(self._deaths) if key[0] == job_id]

    def close(self) -> None:
        """Nothing to let go of."""
