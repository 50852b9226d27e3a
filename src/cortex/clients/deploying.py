"""Deploy the APIs of a configuration file, with the project that it lies in."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cortex.answers import Deployment
from cortex.clients.operator_client import OperatorClient
from cortex.domain.errors import CortexError, InvalidConfiguration
from cortex.project import PackedProject, pack


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployable:
    """A configuration and its project, ready to be sent."""

    path: Path
    configuration: bytes
    project: PackedProject

    def deploy(self, operator: OperatorClient) -> list[Deployment]:
        """Send it; what became of each API may be an error."""
        return operator.deploy(self.configuration, str(self.path), self.project.file)


@contextmanager
def packed(configuration: Path, project: Path | None = None) -> Iterator[Deployable]:
    """Read a configuration and pack its folder, or that of the project.

    Raises InvalidConfiguration where the file cannot be read, and InvalidProject.
    """
    text = _read(configuration)
    with pack(configuration if project is None else project / configuration.name) as files:
        yield Deployable(path=configuration, configuration=text, project=files)


def check_deployed(deployments: list[Deployment]) -> None:
    """Raise CortexError, with all that went wrong, where an API was not deployed."""
    errors = [deployment["error"] for deployment in deployments if deployment["error"]]
    if errors:
        raise CortexError("\n".join(errors))


def _read(configuration: Path) -> bytes:
    try:
        return configuration.read_bytes()
    except FileNotFoundError:
        raise InvalidConfiguration(
            f"there is no `{configuration}` in {Path.cwd()}",
            hint="change to the project's folder, or name the file: `cortex deploy PATH/cortex.yaml`",
        ) from None
    except OSError as error:
        hint = f"name the file: `cortex deploy {configuration / 'cortex.yaml'}`" if configuration.is_dir() else None
        raise InvalidConfiguration(f"`{configuration}` cannot be read: {error.strerror}", hint=hint) from error
