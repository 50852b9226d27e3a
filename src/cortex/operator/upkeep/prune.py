"""Removes what is not needed any more, on request: ended Jobs, environments, models, projects, uploads.

Nothing that is in use is touched: Jobs in progress, Jobs that somebody holds, environments that are being built, that
a Job in progress needs or that a process runs from. What is used after it was found to be removable stays, too.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from secrets import token_hex
from typing import Final, Protocol, TypeVar

from cortex.domain.layout import JobFolder
from cortex.domain.retention import KeepJobs
from cortex.engines.process_table import commands_below
from cortex.fetching.stock import FetchedModel, ModelStock
from cortex.operator.deployments import Deployments
from cortex.operator.upkeep.retention import SLICE
from cortex.operator.upkeep.unneeded_models import unneeded_models
from cortex.storage.files import remove_at_once, remove_folders
from cortex.storage.ledger import Ledger, Version
from cortex.storage.uploads import Uploads
from cortex.storage.usage import NOTHING, Usage, bytes_freed, measure

UPLOADS_KEPT: Final = timedelta(days=1)
"""What a client has not gone on with for so long is stale."""

_ALL: Final = 2**62

Name = TypeVar("Name")


class Kind(StrEnum):
    """What can be removed, in the order in which it is told."""

    JOBS = "jobs"
    PROJECTS = "projects"
    UPLOADS = "uploads"
    MODELS = "models"  # that were fetched
    ENVIRONMENTS = "environments"
    PACKAGES = "packages"  # that were downloaded for environments


class EnvironmentStock(Protocol):
    """The environments that are there."""

    @property
    def cache(self) -> Path:
        """The packages that were downloaded; the files of the environments are links to them."""

    def last_used_ns(self) -> dict[str, int]:
        """Give the keys of those that are not being built, and when each was asked for."""

    @property
    def homes(self) -> Path:
        """The folder of all; each has one by its key, and what runs in it was started from there."""

    def take_away(self, key: str, last_used_ns: int, destination: Path) -> bool:
        """Move one to where it can be removed, unless it is being built or was asked for since then."""

    def take_cache_away(self, destination: Path) -> bool:
        """Move the downloaded packages to where they can be removed, unless a build may need them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be removed."""

    jobs: KeepJobs = field(default_factory=KeepJobs)  # the ended ones that are not to be kept
    all_environments: bool = False  # also those that a version needs, with its models, and all downloaded packages


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """What was removed of one kind, or would be. `bytes` is what is free by that."""

    kind: Kind
    count: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What may be removed, with what each takes."""

    jobs: Mapping[str, Usage]
    projects: Mapping[Path, Usage]
    uploads: Mapping[str, Usage]
    models: Mapping[FetchedModel, Usage]
    environments: Mapping[str, Usage]
    environments_used_ns: Mapping[str, int]
    packages: Mapping[Path, Usage]


@dataclass(slots=True, kw_only=True)
class Prune:
    """See the module. The methods are called from the operator's thread; what takes long, they do in others."""

    ledger: Ledger
    root: Path  # of the Jobs' folders
    trash: Path  # what lies there is removed, at the latest when an operator starts
    deployments: Deployments
    uploads: Uploads
    stock: EnvironmentStock
    models: ModelStock
    apis: Path  # the folder of what RealtimeAPIs have
    key: Callable[[Version], str | None]  # of a version's environment; from any thread
    now_ns: Callable[[], int]
    is_held: Callable[[str], bool]  # a Job whose folder somebody needs for a moment longer
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)  # two at once would both count the same

    async def prune(self, wanted: Wanted, *, is_dry_run: bool) -> list[Removed]:
        """Remove what is wanted and not in use, or say only what that would be; tell it by kind."""
        async with self._turn:
            found = await self.find(wanted)
            return tell(found if is_dry_run else await self._remove(found))

    async def find(self, wanted: Wanted) -> Found:
        """Find what may be removed, and what it takes."""
        jobs = self._jobs(wanted.jobs)
        needed = self.ledger.needed_versions(without_jobs=jobs)
        stale = self.uploads.stale(UPLOADS_KEPT)
        used_ns = self.stock.last_used_ns()
        projects = self.deployments.unneeded({version.project_id for version in needed})
        running = self._versions_in_progress()
        setups = [JobFolder(self.root / job.id).setup for job in self.ledger.jobs_in_progress()]

        def measured() -> Found:
            versions = running if wanted.all_environments else [*needed, *running]
            idle = self.idle_environments(set(used_ns) - set(filter(None, map(self.key, versions))))
            models = unneeded_models(self.models, versions, [*setups, *self.apis.glob("*/*/setup.json")])
            return Found(
                jobs={job: measure(self.root / job) for job in jobs},
                projects={path: measure(path) for path in projects},
                uploads={upload: measure(self.uploads.root / upload) for upload in stale},
                models={model: measure(self.models.root / model.key) for model in models},
                environments={key: measure(self.stock.homes / key) for key in sorted(idle)},
                environments_used_ns=used_ns,
                packages={
                    path: measure(path) for path in [self.stock.cache] if wanted.all_environments and path.exists()
                },
            )

        return await asyncio.to_thread(measured)

    def idle_environments(self, keys: Iterable[str]) -> set[str]:
        """Give those of which no process runs. Looks at every process of the machine; may be called in any thread."""
        keys = set(keys)
        homes = self.stock.homes
        return keys - {program.relative_to(homes).parts[0] for program in commands_below(homes)} if keys else keys

    async def remove_jobs(self, jobs: Sequence[str]) -> list[str]:
        """Remove ended Jobs, their rows first; give which. Those that are held, or not ended, stay.

        Their versions may be forgotten with them; the projects of these are left to the caller.
        """
        removed: list[str] = []
        for at in range(0, len(jobs), SLICE):
            going = [job for job in jobs[at : at + SLICE] if self._may_go(job)]
            self.ledger.delete_jobs(going)
            await asyncio.to_thread(remove_at_once, [self.root / job for job in going])
            removed += going
        return removed

    async def remove_environments(self, used_ns: Mapping[str, int]) -> list[str]:
        """Remove environments that were last asked for at these instants; give which: not those asked for since."""
        trash = {key: self.trash / token_hex(8) for key in used_ns}
        removed = [key for key, at_ns in used_ns.items() if self.stock.take_away(key, at_ns, trash[key])]
        await asyncio.to_thread(remove_folders, [trash[key] for key in removed])
        return removed

    async def remove_models(self, models: Iterable[FetchedModel]) -> list[FetchedModel]:
        """Remove fetched models; give which: not those that were asked for since they were found."""
        trash = {model: self.trash / token_hex(8) for model in models}
        removed = [model for model, destination in trash.items() if self.models.take_away(model, destination)]
        await asyncio.to_thread(remove_folders, [trash[model] for model in removed])
        return removed

    async def remove_packages(self) -> bool:
        """Remove the downloaded packages, unless an environment is being built; tell whether they are gone."""
        trash = self.trash / token_hex(8)
        is_taken = self.stock.take_cache_away(trash)
        await asyncio.to_thread(remove_folders, [trash])
        return is_taken

    async def _remove(self, found: Found) -> Found:
        """Remove what was found; give what of it was removed."""
        jobs = await self.remove_jobs(list(found.jobs))
        needed = {version.project_id for version in self.ledger.needed_versions()}
        projects = [path for path in found.projects if path in self.deployments.unneeded(needed)]
        trash = [path.rename(self.trash / token_hex(8)) for path in projects]
        await asyncio.to_thread(remove_folders, trash)
        still_stale = set(self.uploads.stale(UPLOADS_KEPT))
        uploads = [upload for upload in found.uploads if upload in still_stale]
        for upload in uploads:
            await asyncio.to_thread(self.uploads.remove, upload)
        models = await self.remove_models(found.models)
        used_ns = {key: found.environments_used_ns[key] for key in found.environments}
        environments = await self.remove_environments(used_ns)
        are_packages_gone = bool(found.packages) and await self.remove_packages()
        return Found(
            jobs=_some(found.jobs, jobs),
            projects=_some(found.projects, projects),
            uploads=_some(found.uploads, uploads),
            models=_some(found.models, models),
            environments=_some(found.environments, environments),
            environments_used_ns={},
            packages=found.packages if are_packages_gone else {},
        )

    def _jobs(self, keep: KeepJobs) -> list[str]:
        """Give the ended Jobs that are not to be kept, first ended first."""
        going: dict[str, None] = {}
        if keep.age is not None:
            before_ns = self.now_ns() - keep.age // timedelta(microseconds=1) * 1000
            going |= dict.fromkeys(self.ledger.jobs_ended_before(before_ns, limit=_ALL))
        if keep.count is not None:
            for version in self.ledger.versions():
                going |= dict.fromkeys(self.ledger.ended_jobs_beyond(version.api_name, keep.count, limit=_ALL))
        return [job for job in going if not self.is_held(job)]

    def _may_go(self, job_id: str) -> bool:
        job = self.ledger.job(job_id)
        return job is not None and job.is_final and not self.is_held(job_id)

    def _versions_in_progress(self) -> list[Version]:
        """Give those of Jobs in progress, and of RealtimeAPIs: a request may need these at any moment."""
        ids = {job.api_id for job in self.ledger.jobs_in_progress()}
        versions = [version for api_id in ids if (version := self.ledger.version(api_id)) is not None]
        return [*versions, *(version for version in self.deployments.all() if version.kind == "RealtimeAPI")]


def tell(found: Found) -> list[Removed]:
    """Count by kind. What several kinds share counts where the last of them is removed."""
    kinds: dict[Kind, Sequence[Usage]] = {
        Kind.JOBS: list(found.jobs.values()),
        Kind.PROJECTS: list(found.projects.values()),
        Kind.UPLOADS: list(found.uploads.values()),
        Kind.MODELS: list(found.models.values()),
        Kind.ENVIRONMENTS: list(found.environments.values()),
        Kind.PACKAGES: list(found.packages.values()),
    }
    told: list[Removed] = []
    before: list[Usage] = [NOTHING]
    for kind, usages in kinds.items():
        freed = bytes_freed([*before, *usages]) - bytes_freed(before)
        told.append(Removed(kind=kind, count=len(usages), bytes=freed))
        before += usages
    return told


def _some(found: Mapping[Name, Usage], names: Iterable[Name]) -> dict[Name, Usage]:
    return {name: found[name] for name in names}
