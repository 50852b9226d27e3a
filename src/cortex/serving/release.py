"""What of an API must be known to the next operator: how many replicas, and which that it finds are to be replaced.

A version may take over the replicas of earlier ones, where only its autoscaling has changed; and a refresh replaces
replicas of the very same version. So it is written down.
"""

import json
import logging
from collections.abc import Mapping, Set
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from cortex.storage.files import write_whole
from cortex.storage.ledger import Version

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """See the module."""

    requested: int  # replicas
    keys: Mapping[str, str]  # the restart key of each version whose replicas may run, by api_id; the present one last
    stale: tuple[str, ...] = ()  # processes that are to be replaced, of whatever version they are
    project_ids: tuple[str, ...] = ()  # what replicas may run, the present one last

    @property
    def restart_key(self) -> str:
        """What the replicas of the present version are made of."""
        return [*self.keys.values()][-1]

    @classmethod
    def of(cls, version: Version, restart_key: str, *, requested: int) -> "Release":
        """Give the first release of an API."""
        return cls(requested=requested, keys={version.api_id: restart_key}, project_ids=(version.project_id,))

    @classmethod
    def read(cls, path: Path) -> "Release | None":
        """Read what was written; None where there is nothing that can be read."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            told = json.loads(path.read_text(encoding="utf-8"))
            return cls(
                requested=told["requested"],
                keys=dict(told["keys"]),
                stale=tuple(told["stale"]),
                project_ids=tuple(told["project_ids"]),
            )
        return None

    def keep(self, path: Path) -> None:
        """Write it down, whole. Where that is not possible, the next operator takes an older one for it."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, json.dumps(asdict(self)))
        except OSError as error:
            logger.warning("`%s` cannot be written: %s", path, error)

    def followed_by(self, version: Version, restart_key: str) -> "Release":
        """Give the release that a version makes of it: replicas stay where they are as new ones would be.

        These may be older than the latest ones: of the version that an update is taken back to while it is under way.
        """
        projects = (*(each for each in self.project_ids if each != version.project_id), version.project_id)
        others = {api_id: key for api_id, key in self.keys.items() if api_id != version.api_id}
        return replace(self, keys={**others, version.api_id: restart_key}, project_ids=projects)

    def with_stale(self, processes: tuple[str, ...]) -> "Release":
        """Give a release of the same version in which these processes are to be replaced."""
        return replace(self, stale=processes)

    def settled(self, running: Set[str]) -> "Release":
        """Give what is left of it when no replica is to be replaced any more, and those of these versions run."""
        keys = {api_id: key for api_id, key in self.keys.items() if api_id in running}
        return replace(self, keys=keys, stale=(), project_ids=self.project_ids[-1:])

    def is_updated(self, process: str) -> bool:
        """Tell whether a process is as a new one would be."""
        return self.keys.get(api_id_of(process)) == self.restart_key and process not in self.stale


PREFIX = "replica-"
"""What the names of all processes of replicas begin with."""


def process_name(api_id: str, suffix: str) -> str:
    """Name a process of a version."""
    return f"{PREFIX}{api_id}-{suffix}"


def api_id_of(process: str) -> str:
    """Give the version that a process was started for."""
    return process.removeprefix(PREFIX).rpartition("-")[0]
