"""All RealtimeAPIs: what is asked of them, and what their processes say."""

import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from cortex.configuration.autoscaling import TICK_SECONDS
from cortex.domain.api_kind import ApiKind
from cortex.domain.ending import Exit
from cortex.domain.errors import NotServing
from cortex.domain.frame import Frame
from cortex.domain.layout import ApiFolder
from cortex.engines.engine import Connection
from cortex.serving.api import ServedApi
from cortex.serving.autoscaler import AutoscalingPolicy
from cortex.serving.calls import Answer, Incoming
from cortex.serving.kept import Kept
from cortex.serving.release import PREFIX, Release, api_id_of
from cortex.serving.surroundings import Surroundings
from cortex.serving.versions import restart_key
from cortex.storage.files import remove_folders
from cortex.storage.ledger import Version

_RETURN_SECONDS: Final = 1.5
"""How long the processes of an earlier operator have to come back: they and their supervisor try every 50 ms."""


def is_of_replica(worker: str) -> bool:
    """Tell whether a Worker, by its name, is a process of a replica."""
    return worker.startswith(PREFIX)


@dataclass(slots=True, kw_only=True)
class Serving:
    """See the module. All methods are called from the operator's thread."""

    root: Path
    around: Surroundings
    _apis: dict[str, ServedApi] = field(default_factory=dict)
    _homes: dict[str, ServedApi] = field(default_factory=dict)  # of each process that was heard of
    _is_recovered: bool = False
    _is_draining: bool = False

    def recover(self, versions: Iterable[Version]) -> None:
        """Take over what earlier operators left running of these versions; to be called once, before anything else."""
        self.root.mkdir(parents=True, exist_ok=True)
        for version in versions:
            if version.kind == ApiKind.REALTIME:
                self._take_up(version)
        for path in self.root.iterdir():
            if path.name not in self._apis:  # it was being deleted
                shutil.rmtree(path, ignore_errors=True)
        self._is_recovered = True
        if self.around.engine.may_return():
            self.around.call_later(_RETURN_SECONDS, self._begin_all)
        else:
            self._begin_all()
        self.around.call_later(TICK_SECONDS, self._tick)

    def _take_up(self, version: Version) -> ServedApi:
        folder = ApiFolder(self.root / version.api_name)
        key = restart_key(version)
        known = Release.read(folder.release)
        policy = AutoscalingPolicy.from_spec(version.spec)
        first = policy.clamp(policy.init_replicas)
        release = known.followed_by(version, key) if known else Release.of(version, key, requested=first)
        api = self._apis[version.api_name] = ServedApi(
            version=version,
            folder=folder,
            around=self.around,
            kept=Kept(folder=folder, background=self.around.background, release=release),
        )
        return api

    def _begin_all(self) -> None:
        for api in self._apis.values():
            api.begin()

    def _tick(self) -> None:
        self.around.call_later(TICK_SECONDS, self._tick)
        for api in list(self._apis.values()):
            api.tick()

    # What is asked of it

    def deployed(self, version: Version) -> None:
        """Bring an API to this version, which was just deployed; nothing to do for what is of another kind."""
        if version.kind != ApiKind.REALTIME:
            return
        if api := self._apis.get(version.api_name):
            api.deployed(version)
            return
        api = self._take_up(version)
        if self._is_draining:
            api.drain()  # the next operator is to start it
        api.begin()

    def refresh(self, name: str) -> None:
        """Replace all replicas of an API by new ones, as an update does."""
        self._apis[name].refresh()

    def remove(self, name: str, when_gone: Callable[[], None]) -> None:
        """End an API, and remove its files; tell when that is done. Its requests end within the grace of a stop."""
        api = self._apis.get(name)
        if api is None:
            when_gone()
            return

        def gone() -> None:
            self.around.background(partial(remove_folders, [api.folder.root]), removed)

        def removed() -> None:  # until this has been told it is deployed, and described
            when_gone()
            self._apis.pop(name, None)

        api.remove(gone)

    def call(self, version: Version, incoming: Incoming, answered: Callable[[Answer], None]) -> None:
        """Have a request answered: `answered` is called exactly once, whatever happens, perhaps before this returns.

        Raises, and then `answered` is never called: ApiOverloaded, NotServing, OperatorStopping.
        """
        api = self._apis.get(version.api_name)
        if api is None:
            raise NotServing(f"`{version.api_name}` is not served")
        api.call(incoming, answered)

    def describe(self, version: Version) -> Mapping[str, Any]:
        """Describe how an API is served, in the words of the HTTP API: `status` and `metrics`."""
        return self._apis[version.api_name].describe()

    def folder(self, name: str) -> ApiFolder:
        """Give the folder of an API, with its log."""
        return ApiFolder(self.root / name)

    def project_ids(self) -> set[str]:
        """Give the projects that replicas run, perhaps of versions that are deployed no more; also before `recover`."""
        releases = [api.kept.release for api in self._apis.values()]
        if not self._is_recovered and self.root.exists():
            found = (Release.read(ApiFolder(path).release) for path in self.root.iterdir())
            releases += [release for release in found if release is not None]
        return {project_id for release in releases for project_id in release.project_ids}

    def drain(self) -> None:
        """Take no more requests, and refuse those that have not begun: the operator is about to end."""
        self._is_draining = True
        for api in self._apis.values():
            api.drain()

    def end(self) -> None:
        """Refuse all that is not answered: the engine has ended every process."""
        for api in self._apis.values():
            api.end()

    @property
    def in_flight(self) -> int:
        """How many requests are not answered yet."""
        return sum(api.line.unanswered for api in self._apis.values())

    @property
    def is_drained(self) -> bool:
        """True once every request is answered."""
        return self.in_flight == 0

    # What processes say, and what is said of them

    def connected(self, worker: str, connection: Connection, hello: Frame) -> None:
        """A process introduces itself."""
        if api := self._home(worker):
            api.connected(worker, connection, hello)
            self._begin_if_all_back()
        else:
            connection.send({"type": "end"})

    def says(self, worker: str, frame: Frame) -> None:
        """It answers a request."""
        if api := self._homes.get(worker):
            api.says(worker, frame)

    def disconnected(self, worker: str, connection: Connection) -> None:
        """Its connection is closed."""
        if api := self._homes.get(worker):
            api.disconnected(worker, connection)
            if worker not in api.replicas:
                self._homes.pop(worker, None)

    def started(self, worker: str) -> None:
        """It runs."""
        if api := self._home(worker):
            api.started(worker)
        else:
            self.around.engine.stop(worker, at_once=True)

    def exited(self, worker: str, ending: Exit) -> None:
        """It is gone."""
        if api := self._home(worker):
            api.exited(worker, ending)
            if worker not in api.replicas:
                self._homes.pop(worker, None)

    def _begin_if_all_back(self) -> None:
        """Wait no longer than need be for those that come back."""
        if self.around.engine.may_return():
            return
        for api in self._apis.values():
            if api.are_all_back:
                api.begin()

    def _home(self, worker: str) -> ServedApi | None:
        """Find the API that a process belongs to: of one that an earlier operator has started, by its folder."""
        home = self._homes.get(worker)
        if home is None:
            api_id = api_id_of(worker)
            found = (api for api in self._apis.values() if api_id == api.version.api_id or api.knows(api_id))
            home = next(found, None)
            if home is not None:
                self._homes[worker] = home
        return home
