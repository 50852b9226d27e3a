"""What is deployed: APIs, their versions and the projects of these."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex

from cortex.configuration import BatchApi, overlap, read_configuration
from cortex.domain.errors import ApiNotFound, Conflict, EndpointTaken, InvalidConfiguration
from cortex.domain.timing import Background
from cortex.operator.machine import Machine
from cortex.operator.submitting.options import LACKS_PARQUET, PARQUET_HINT, can_write
from cortex.predictor import MAX_SOURCE_BYTES, check_source
from cortex.project import unpack
from cortex.storage.files import remove_folders, sync_file
from cortex.storage.ledger import Ledger, Version


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """What came of one API of a deployment."""

    version: Version
    message: str
    is_new: bool


@dataclass(slots=True, kw_only=True)
class Deployments:
    """See the module. All methods are called from the operator's thread, but `receive`."""

    ledger: Ledger
    root: Path  # of the projects
    uploads: Path  # where they are while they come
    machine: Machine
    now_ns: Callable[[], int]
    background: Background
    _by_name: dict[str, Version] = field(default_factory=dict)
    _leaving: set[str] = field(default_factory=set)
    _arriving: list[str] = field(default_factory=list)

    def recover(self) -> None:
        """Take over what is deployed, and remove what interrupted uploads left."""
        shutil.rmtree(self.uploads, ignore_errors=True)
        for folder in (self.root, self.uploads):
            folder.mkdir(parents=True, exist_ok=True)
        self.remove_unneeded()
        self._by_name = {version.api_name: version for version in self.ledger.versions()}

    def receive(self, archive: Path) -> str:
        """Unpack an uploaded project, unless it is here already; give its id. Raises InvalidProject.

        It stays until `settle` is called. Slow for a large one; may be called from any thread.
        """
        folder = self.uploads / token_hex(8)
        project_id = unpack(archive, folder)
        self._arriving.append(project_id)
        home = self.root / project_id
        for path in [] if home.exists() else folder.rglob("*"):
            sync_file(path)
        try:
            folder.rename(home)
            sync_file(self.root)
        except OSError:
            shutil.rmtree(folder)
            if not home.exists():
                self._arriving.remove(project_id)
                raise
        return project_id

    def settle(self, project_id: str) -> None:
        """Let go of a received project: from now on it stays only if a version is of it."""
        self._arriving.remove(project_id)
        self.remove_unneeded()

    def check(self, configuration: str, file_name: str, project_id: str) -> Sequence[BatchApi]:
        """Check a configuration and the project that it is of; give its APIs.

        Slow for a large one; may be called from any thread. Raises InvalidConfiguration or InvalidPredictor.
        """
        project = self.root / project_id
        apis = read_configuration(configuration, file_name, project=project)
        for path in {api.predictor.path for api in apis}:
            with (project / path).open("rb") as file:
                check_source(file.read(MAX_SOURCE_BYTES + 1), path)
        for api in apis:
            if misfit := self.machine.misfit(api.compute):
                raise InvalidConfiguration(f"{file_name}: {api.name} ({api.kind}): compute.{misfit}")
            if not can_write(api.job.results):
                place = f"{file_name}: {api.name} ({api.kind}): job.results.format"
                raise InvalidConfiguration(f"{place}: {LACKS_PARQUET}", hint=PARQUET_HINT)
        return apis

    def deploy(self, apis: Sequence[BatchApi], project_id: str) -> list[Deployed]:
        """Deploy APIs that have been checked: all of them, or none. Raises EndpointTaken, or Conflict."""
        if leaving := [api.name for api in apis if api.name in self._leaving]:
            raise Conflict(f"{leaving[0]} is being deleted", hint="deploy it again when that is done")
        self._check_endpoints(apis)
        deployed = [self._version(api, project_id) for api in apis]
        self.ledger.deploy([one.version for one in deployed if one.is_new])
        self._by_name.update({one.version.api_name: one.version for one in deployed})
        return deployed

    def _check_endpoints(self, apis: Sequence[BatchApi]) -> None:
        """Refuse an endpoint that another API has, or that lies below or above another's."""
        redeployed = {api.name for api in apis}
        for api in apis:
            for other in self._by_name.values():
                if overlap(api.endpoint, other.endpoint) and other.api_name not in redeployed:
                    raise EndpointTaken(
                        f"`{api.name}`: the endpoint `{api.endpoint}` is, or lies below or above, `{other.endpoint}`,"
                        f" which `{other.api_name}` has",
                        hint="set another `networking.endpoint`",
                    )

    def _version(self, api: BatchApi, project_id: str) -> Deployed:
        spec = api.model_dump(mode="json")
        version = Version(
            api_id=_content_id(spec, project_id),
            api_name=api.name,
            kind=api.kind,
            endpoint=api.endpoint,
            spec=spec,
            project_id=project_id,
            deployed_at_ns=self.now_ns(),
        )
        present = self._by_name.get(api.name)
        if present is not None and present.api_id == version.api_id:
            return Deployed(version=present, message=f"{api.name} ({api.kind}) is up to date", is_new=False)
        verb = "created" if present is None else "updated"
        return Deployed(version=version, message=f"{verb} {api.name} ({api.kind})", is_new=True)

    def all(self) -> list[Version]:
        """Give what is deployed, by name."""
        return [self._by_name[name] for name in sorted(self._by_name)]

    def api(self, name: str) -> Version:
        """Give the deployed version of an API. Raises ApiNotFound."""
        version = self._by_name.get(name)
        if version is None or name in self._leaving:
            raise ApiNotFound(f"`{name}` is not deployed", hint="`cortex get` lists the APIs")
        return version

    def at(self, path: str) -> tuple[Version, str]:
        """Find the API whose endpoint this path is or lies below; give what follows it. Raises ApiNotFound."""
        for version in self._by_name.values():
            if f"{path}/".startswith(f"{version.endpoint}/"):
                return self.api(version.api_name), path[len(version.endpoint) :].strip("/")
        raise ApiNotFound(f"no API is deployed at `{path}`", hint="`cortex get` lists the APIs")

    def begin_delete(self, name: str) -> Version:
        """Take an API out of service: from now on it takes no requests. Raises ApiNotFound."""
        version = self.api(name)
        self._leaving.add(name)
        return version

    def end_delete(self, name: str) -> None:
        """Take an API into service again, unless it is gone."""
        self._leaving.discard(name)

    def delete(self, name: str) -> None:
        """Forget an API and its history, and remove the projects that no other version needs."""
        self.ledger.delete_api(name)
        del self._by_name[name]
        self.end_delete(name)
        self.remove_unneeded()

    def unneeded(self, needed: Iterable[str]) -> list[Path]:
        """Give the folders of the projects that are neither needed nor just arriving."""
        kept = {*needed, *self._arriving}
        return [path for path in self.root.iterdir() if path.name not in kept]

    def remove_unneeded(self) -> None:
        """Take projects that no version is of out of the way, at once, and remove them in the background."""
        unneeded = self.unneeded(self.ledger.project_ids())
        trash = [path.rename(self.uploads / token_hex(8)) for path in unneeded]
        if trash:
            self.background(lambda: remove_folders(trash), lambda: None)


def _content_id(spec: Mapping[str, object], project_id: str) -> str:
    content = json.dumps([spec, project_id], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(content.encode()).hexdigest()[:16]
