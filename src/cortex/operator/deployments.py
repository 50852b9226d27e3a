"""What is deployed: APIs, their versions and the projects of these."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import random
from secrets import token_hex

from cortex.configuration import Api, BatchApi, TrafficSplitter, overlap, read_configuration
from cortex.domain.api_kind import ApiKind
from cortex.domain.errors import ApiNotFound, Conflict, EndpointTaken, InvalidConfiguration
from cortex.domain.timing import Background
from cortex.operator.machine import Machine
from cortex.operator.submitting.options import LACKS_PARQUET, PARQUET_HINT, can_write
from cortex.predictor import MAX_SOURCE_BYTES, check_source
from cortex.project import unpack
from cortex.serving.splitter import Share, choose
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
    also_needed: Callable[[], Iterable[str]] = tuple  # projects of what still runs, though no version is of them
    chance: Callable[[], float] = random  # a number of [0, 1) for each request that is split
    _by_name: dict[str, Version] = field(default_factory=dict)
    _by_endpoint: dict[str, Version] = field(default_factory=dict)
    _shares: dict[str, tuple[Share, ...]] = field(default_factory=dict)  # of each TrafficSplitter
    _leaving: set[str] = field(default_factory=set)
    _arriving: list[str] = field(default_factory=list)

    def recover(self) -> None:
        """Take over what is deployed, and remove what interrupted uploads left."""
        shutil.rmtree(self.uploads, ignore_errors=True)
        for folder in (self.root, self.uploads):
            folder.mkdir(parents=True, exist_ok=True)
        self.remove_unneeded()
        self._know(self.ledger.versions())

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

    def check(self, configuration: str, file_name: str, project_id: str) -> Sequence[Api]:
        """Check a configuration and the project that it is of; give its APIs.

        Slow for a large one; may be called from any thread. Raises InvalidConfiguration or InvalidPredictor.
        """
        project = self.root / project_id
        apis = read_configuration(configuration, file_name, project=project)
        predictors = [api.predictor for api in apis if not isinstance(api, TrafficSplitter)]
        for path, predictor_type in dict.fromkeys((predictor.path, predictor.type) for predictor in predictors):
            with (project / path).open("rb") as file:
                check_source(file.read(MAX_SOURCE_BYTES + 1), path, predictor_type)
        for api in apis:
            place = f"{file_name}: {api.name} ({api.kind})"
            if not isinstance(api, TrafficSplitter) and (misfit := self.machine.misfit(api.compute)):
                raise InvalidConfiguration(f"{place}: compute.{misfit}")
            if not isinstance(api, TrafficSplitter) and api.node_groups and not self.machine.has_groups():
                raise InvalidConfiguration(
                    f"{place}: node_groups: this operator runs workers on its own machine, which is in no group",
                    hint="remove it, or have the operator started with `--engine ray`",
                )
            if isinstance(api, BatchApi) and not can_write(api.job.results):
                raise InvalidConfiguration(f"{place}: job.results.format: {LACKS_PARQUET}", hint=PARQUET_HINT)
        return apis

    def deploy(self, apis: Sequence[Api], project_id: str) -> list[Deployed]:
        """Deploy APIs that have been checked: all of them, or none; TrafficSplitters behind what they lead to.

        Raises EndpointTaken, or Conflict.
        """
        if leaving := [api.name for api in apis if api.name in self._leaving]:
            raise Conflict(f"{leaving[0]} is being deleted", hint="deploy it again when that is done")
        self._check_kinds(apis)
        self._check_endpoints(apis)
        self._check_targets(apis)
        in_order = sorted(apis, key=lambda api: isinstance(api, TrafficSplitter))
        deployed = [self._version(api, project_id) for api in in_order]
        self.ledger.deploy([one.version for one in deployed if one.is_new])
        self._know([one.version for one in deployed])
        return deployed

    def _know(self, versions: Sequence[Version]) -> None:
        self._by_name.update({version.api_name: version for version in versions})
        self._index()

    def _index(self) -> None:
        """Note what requests are looked up by."""
        self._by_endpoint = {version.endpoint: version for version in self._by_name.values()}
        self._shares = {
            version.api_name: tuple(Share(name=api["name"], weight=api["weight"]) for api in version.spec["apis"])
            for version in self._by_name.values()
            if version.kind == ApiKind.SPLITTER
        }

    def _check_kinds(self, apis: Sequence[Api]) -> None:
        for api in apis:
            present = self._by_name.get(api.name)
            if present is not None and present.kind != api.kind:
                raise Conflict(
                    f"`{api.name}` is deployed as a {present.kind}, and cannot become a {api.kind}",
                    hint=f"give it another name, or delete the present one first: `cortex delete {api.name}`",
                )

    def _check_targets(self, apis: Sequence[Api]) -> None:
        """Refuse a TrafficSplitter that leads to what is no RealtimeAPI, in the same file or deployed."""
        kinds = {name: version.kind for name, version in self._by_name.items() if name not in self._leaving}
        kinds |= {api.name: api.kind for api in apis}
        for api in apis:
            for target in api.apis if isinstance(api, TrafficSplitter) else ():
                kind = kinds.get(target.name)
                if kind != ApiKind.REALTIME:
                    why = "is not deployed" if kind is None else f"is a {kind}"
                    raise Conflict(
                        f"`{api.name}` leads to `{target.name}`, which {why}; a TrafficSplitter leads to RealtimeAPIs",
                        hint="deploy that first, or have it in the same file",
                    )

    def _check_endpoints(self, apis: Sequence[Api]) -> None:
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

    def _version(self, api: Api, project_id: str) -> Deployed:
        spec = api.model_dump(mode="json")
        if isinstance(api, TrafficSplitter):  # which has nothing of the project
            project_id = ""
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

    def is_deployed(self, name: str) -> bool:
        """Say whether there is such an API, also one that is being deleted."""
        return name in self._by_name

    def at(self, path: str) -> tuple[Version, str]:
        """Find the API whose endpoint this path is or lies below; give what follows it. Raises ApiNotFound."""
        end = len(path)
        while end > 0:  # no endpoint lies below another, so there is one at most
            if (version := self._by_endpoint.get(path[:end])) is not None:
                return self.api(version.api_name), path[end:].strip("/")
            end = path.rfind("/", 0, end)
        raise ApiNotFound(f"no API is deployed at `{path}`", hint="`cortex get` lists the APIs")

    def served_at(self, path: str) -> Version | None:
        """Give the RealtimeAPI that is to answer a request to this path; None where it is no endpoint of one.

        Of a TrafficSplitter it is one of those that it leads to, by chance and weight: another one each time.
        """
        version = self._by_endpoint.get(path) or self._by_endpoint.get(path.removesuffix("/"))
        if version is None or version.kind == ApiKind.BATCH or version.api_name in self._leaving:
            return None
        if version.kind == ApiKind.SPLITTER:
            return self._by_name[choose(self._shares[version.api_name], self.chance())]
        return version

    def targets(self, version: Version) -> list[tuple[Version, int]]:
        """Give the RealtimeAPIs that a TrafficSplitter leads to, each with its weight in percent."""
        return [(self._by_name[share.name], share.weight) for share in self._shares[version.api_name]]

    def begin_delete(self, name: str) -> Version:
        """Take an API out of service: from now on it takes no requests.

        Raises ApiNotFound, or Conflict where a TrafficSplitter leads to it.
        """
        version = self.api(name)
        if users := [user for user, shares in self._shares.items() if any(share.name == name for share in shares)]:
            raise Conflict(
                f"`{name}` cannot be deleted: {_these(users)} to it",
                hint=f"delete `{users[0]}` first, or deploy it without `{name}`",
            )
        self._leaving.add(name)
        return version

    def end_delete(self, name: str) -> None:
        """Take an API into service again, unless it is gone."""
        self._leaving.discard(name)

    def delete(self, name: str) -> None:
        """Forget an API and its history, and remove the projects that no other version needs."""
        self.ledger.delete_api(name)
        del self._by_name[name]
        self._index()
        self.end_delete(name)
        self.remove_unneeded()

    def unneeded(self, needed: Iterable[str]) -> list[Path]:
        """Give the folders of the projects that are neither needed, nor in use, nor just arriving."""
        kept = {*needed, *self._arriving, *self.also_needed()}
        return [path for path in self.root.iterdir() if path.name not in kept]

    def remove_unneeded(self) -> None:
        """Take projects that no version is of out of the way, at once, and remove them in the background."""
        unneeded = self.unneeded(self.ledger.project_ids())
        trash = [path.rename(self.uploads / token_hex(8)) for path in unneeded]
        if trash:
            self.background(lambda: remove_folders(trash), lambda: None)


def _these(splitters: Sequence[str]) -> str:
    names = " and ".join(f"`{name}`" for name in splitters)
    return f"the TrafficSplitter {names} leads" if len(splitters) == 1 else f"the TrafficSplitters {names} lead"


def _content_id(spec: Mapping[str, object], project_id: str) -> str:
    content = json.dumps([spec, project_id], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(content.encode()).hexdigest()[:16]
