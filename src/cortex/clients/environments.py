"""The operators that this user's command line knows: the file `cli.yaml`."""

import os
import re
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

import yaml

from cortex.domain.errors import InvalidRequest, NotFound

LOCAL = "local"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """A name for an operator; `local`, which has no fixed address, is the one that cortex starts on this machine."""

    name: str
    operator_endpoint: str | None = None
    api_key: str | None = field(default=None, repr=False)
    ray_address: str | None = None  # of the Ray that runs the workers of `local`; None: they run on this machine

    @property
    def is_local(self) -> bool:
        """Whether cortex runs this operator itself."""
        return self.name == LOCAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Environments:
    """Every environment, `local` first, and which of them is the default."""

    default: str = LOCAL
    known: tuple[Environment, ...] = (Environment(name=LOCAL),)

    def find(self, name: str | None) -> Environment:
        """Return the environment of this name, or the default one; raises NotFound with the names that there are."""
        wanted = name or self.default
        for environment in self.known:
            if environment.name == wanted:
                return environment
        names = ", ".join(f"`{environment.name}`" for environment in self.known)
        raise NotFound(
            f"there is no environment `{wanted}`; there is {names}",
            hint=f"`cortex env configure {wanted} --operator-endpoint URL` adds it",
        )

    def with_environment(self, environment: Environment) -> "Environments":
        """Add an environment, or replace the one of the same name."""
        if environment.operator_endpoint is not None or environment.api_key is not None:
            self._refuse_local(environment.name, "configured: cortex starts that operator itself, on this machine")
        elif environment.is_local:
            return replace(self, known=(environment, *self.known[1:]))
        if not _NAME.fullmatch(environment.name):
            raise InvalidRequest(
                f"`{environment.name}` is no name for an environment",
                hint="a name is made of letters, digits, `-`, `_` and `.`, and begins with one of the first two",
            )
        others = tuple(known for known in self.known if known.name != environment.name)
        return replace(self, known=(*others, environment))

    def without(self, name: str) -> "Environments":
        """Remove an environment; if it was the default one, `local` is again."""
        self._refuse_local(name, "deleted: it is always there")
        self.find(name)
        remaining = tuple(known for known in self.known if known.name != name)
        return Environments(default=LOCAL if self.default == name else self.default, known=remaining)

    def with_default(self, name: str) -> "Environments":
        """Make an environment the default one."""
        return replace(self, default=self.find(name).name)

    @staticmethod
    def _refuse_local(name: str, why: str) -> None:
        if name == LOCAL:
            raise InvalidRequest(f"`{LOCAL}` cannot be {why}")


def configuration_directory() -> Path:
    """Return where the command line keeps its file and the operator of `local` its data."""
    return Path(os.environ.get("CORTEX_CLI_CONFIG_DIR") or "~/.cortex").expanduser().absolute()


def local_data_directory() -> Path:
    """Return the data directory of the operator of `local`."""
    return configuration_directory() / "local"


def read_environments() -> Environments:
    """Read the user's environments; a missing file knows `local` alone."""
    path = _file()
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Environments()
    try:
        document = yaml.safe_load(text) or {}
        entries = document.get("environments", [])
        remote = [
            Environment(name=entry["name"], operator_endpoint=entry["operator_endpoint"], api_key=entry.get("api_key"))
            for entry in entries
            if entry["name"] != LOCAL
        ]
        ray = next((entry["ray"] for entry in entries if entry["name"] == LOCAL), None)
        default = document.get("default_environment", LOCAL)
    except (yaml.YAMLError, AttributeError, KeyError, TypeError) as error:
        raise InvalidRequest(
            f"`{path}` cannot be read: {error}", hint="delete it and configure the environments again"
        ) from error
    return Environments(default=default, known=(Environment(name=LOCAL, ray_address=ray), *remote))


def write_environments(environments: Environments) -> None:
    """Replace the user's environments; a reader finds the old file or the new one, and nobody else may read it."""
    path = _file()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    entries = [_entry(environment) for environment in environments.known if environment != Environment(name=LOCAL)]
    document = {"default_environment": environments.default, "environments": entries}
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.")  # 0600 from birth
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            yaml.safe_dump(document, file, sort_keys=False)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink()
        raise


def parse_endpoint(text: str) -> str:
    """Return the address of an operator as it is kept; raises InvalidRequest where it is none."""
    address = text.strip().rstrip("/")
    try:
        parts = urlsplit(address)
        is_valid = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:  # a port that is no number, or half of an IPv6 address
        parts, is_valid = urlsplit(""), False
    if not is_valid or parts.query or parts.fragment or any(letter.isspace() for letter in address):
        raise InvalidRequest(
            f"`{text}` is not the address of an operator", hint="write it as http://HOST:PORT or https://HOST"
        )
    if parts.username is not None:
        raise InvalidRequest("the address of an operator holds no password", hint="give the key with --api-key")
    return address


def _file() -> Path:
    return configuration_directory() / "cli.yaml"


def _entry(environment: Environment) -> dict[str, str]:
    if environment.is_local:
        return {"name": environment.name, "ray": environment.ray_address or ""}
    entry = {"name": environment.name, "operator_endpoint": environment.operator_endpoint or ""}
    if environment.api_key is not None:
        entry["api_key"] = environment.api_key
    return entry
