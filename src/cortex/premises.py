"""What an operator holds while it runs: its address, its data directory, and the note that says where it is."""

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from cortex import __version__
from cortex.domain.errors import DataDirectoryInUse, StartRefused
from cortex.operator.keys import HOW_TO_MAKE_A_KEY
from cortex.operator.upkeep.draining import Waiting
from cortex.settings import Settings
from cortex.storage.files import is_still_at, write_whole
from cortex.web.guard import is_loopback, is_wildcard

LEDGER: Final = "ledger.sqlite"

_LOCK_ATTEMPTS: Final = 5
_LOCK_RETRY_SECONDS: Final = 0.02
_BACKLOG: Final = 4096
"""How many stations may come at once: after a restart of the operator, every one does."""


def check_host(settings: Settings) -> None:
    """Raise StartRefused for an address that other machines can reach, unless a key is asked for there."""
    if settings.api_key is None and not is_loopback(settings.host):
        raise StartRefused(
            f"`{settings.host}` can be reached from other machines, and there is no API key to keep strangers out",
            hint=HOW_TO_MAKE_A_KEY,
        )


@contextmanager
def data_directory(path: Path) -> Iterator[None]:
    """Make the data directory, for this user only, and hold it. Raises DataDirectoryInUse."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        _refuse_folder_of_others(path)
        path.chmod(0o700)
        lock = os.open(path / "operator.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StartRefused(f"the data directory `{path}` cannot be used: {error}") from error
    try:
        _lock(lock, path)
        (path / "operator.json").unlink(missing_ok=True)  # of one that was killed
        yield
        if is_still_at(lock, path / "operator.lock"):  # else the folder was removed, and the note may be another's
            (path / "operator.json").unlink(missing_ok=True)
    finally:
        os.close(lock)


def _refuse_folder_of_others(path: Path) -> None:
    """Raise StartRefused for a folder with folders in it that no operator has made.

    What an operator does not know in its own, it removes: the `projects` of somebody's home would be gone.
    """
    if (path / LEDGER).exists():
        return
    folders = sorted(entry.name for entry in path.iterdir() if entry.is_dir() and entry.name != "lost+found")
    if folders:
        raise StartRefused(
            f"`{path}` is not the data directory of an operator, and it is not empty: it has `{folders[0]}`",
            hint="choose a folder that is empty, or not there yet; an operator wants one of its own",
        )


def _lock(lock: int, path: Path) -> None:
    for _ in range(_LOCK_ATTEMPTS):  # a command that looks whether an operator runs holds it for a moment
        with suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        time.sleep(_LOCK_RETRY_SECONDS)
    raise DataDirectoryInUse(
        f"another operator runs on the data directory `{path}`",
        hint="use that one, stop it (`cortex cluster down` for the local one), or choose another --data-dir",
    )


@contextmanager
def listening_socket(settings: Settings) -> Iterator[socket.socket]:
    """Listen where the settings say. Raises StartRefused."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # Named as TCP, so that asyncio sends small answers at once (TCP_NODELAY) on what it accepts.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((settings.host, settings.port))
            listening.listen(1024)
        except OSError as error:
            raise StartRefused(
                f"cannot listen on {settings.host}:{settings.port}: {error.strerror or error}",
                hint="choose another --port; 0 takes a free one",
            ) from error
        yield listening


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrance:
    """Where stations come in, which run Workers on other machines."""

    listening: socket.socket
    host: str  # what they are told
    port: int


@contextmanager
def entrance(settings: Settings) -> Iterator[Entrance]:
    """Listen for stations where the settings say. Raises StartRefused.

    Where any port will do, it is the one of the last operator, if nobody has taken it: there its stations look for the
    next one.
    """
    host = settings.channel_host or _host_for_stations(settings)
    note = settings.data_dir / "channel.port"
    last = int(note.read_text(encoding="ascii")) if note.exists() and not settings.channel_port else 0
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            try:
                listening.bind((host, settings.channel_port or last))
            except OSError:
                if not last:
                    raise
                listening.bind((host, 0))
            listening.listen(_BACKLOG)
        except OSError as error:
            raise StartRefused(
                f"cannot listen on {host}:{settings.channel_port} for workers on other machines:"
                f" {error.strerror or error}",
                hint="choose another --channel-host or --channel-port; port 0 takes a free one",
            ) from error
        port = listening.getsockname()[1]
        write_whole(note, str(port))
        told = urlsplit(f"//{settings.channel_address or ''}")
        yield Entrance(
            listening=listening,
            host=told.hostname or (_host_towards(settings.ray_address, host) if is_wildcard(host) else host),
            port=told.port or port,
        )


def _host_for_stations(settings: Settings) -> str:
    """Give the address to listen on for stations where none is named: their nodes reach no loopback address of ours."""
    if settings.ray_address is None or not is_loopback(settings.host):
        return settings.host
    return _host_towards(settings.ray_address, settings.host)


def _host_towards(ray_address: str | None, host: str) -> str:
    """Give the address of this machine from which Ray is reached; `host` is one of the same family."""
    ray = urlsplit(f"//{(ray_address or '').removeprefix('ray://')}").hostname
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((ray or socket.gethostname(), 9))  # it asks for the way only: nothing is sent
        return str(probe.getsockname()[0])
    return host if is_loopback(host) else socket.gethostname()


def address_of(host: str, port: int) -> str:
    """Give the URL of a host and a port."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def host_from_here(host: str) -> str:
    """Give the host by which this machine reaches what listens on that one; "every address" is none to connect to."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - it is replaced


def announce(settings: Settings, address: str, about: Mapping[str, object]) -> None:
    """Tell where the operator listens: whoever looks, whoever reads stdout, whoever waits."""
    _leave_note(settings, about)
    print(f"listening on {address}", flush=True)  # noqa: T201 - what `cortex operator` prints
    if settings.ready_fd is not None:
        os.write(settings.ready_fd, address.encode())
        os.close(settings.ready_fd)


def announce_end(settings: Settings, waiting: Waiting, about: Mapping[str, object]) -> None:
    """Tell what the operator waits for before it ends: whoever stops it, whoever reads stdout."""
    with suppress(OSError):  # a full disk, or a terminal that is gone, is no reason not to end
        _leave_note(settings, {**about, "waiting_for": str(waiting), "waiting_seconds": waiting.seconds})
        print(f"waiting for {waiting}; a second signal ends it at once", flush=True)  # noqa: T201


def _leave_note(settings: Settings, about: Mapping[str, object]) -> None:
    path = settings.data_dir / "operator.json"
    write_whole(path, json.dumps({"pid": os.getpid(), "version": __version__, **about}))
