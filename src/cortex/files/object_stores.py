"""Files in Google Cloud Storage and Azure Blob Storage, behind `gs://` and `az://` URLs.

Through obstore, which finds credentials as the vendors' own tools do (`GOOGLE_*`, `AZURE_STORAGE_*`). Tested against
stubs of the two protocols only, never against the real services. Keys with empty segments, or segments `.` and `..`,
cannot be named: a listing that meets one fails, and says so.
"""

import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from typing import Any, BinaryIO, Final

import obstore
from obstore.exceptions import (
    BaseError,
    InvalidPathError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import AzureStore, GCSStore

from cortex.domain.errors import FilesError, FilesUnavailable
from cortex.files.address import Address, key_after, read_address
from cortex.files.bodies import BrokenOff, Pieces, changed, not_there
from cortex.files.files import FileInfo
from cortex.files.patience import Patience
from cortex.files.ranged import quick_body
from cortex.files.read_ahead import PIECE_BYTES, read_ahead

_PAGE: Final = 1000
_WHOLE_REQUEST: Final = timedelta(days=1)  # obstore's default ends a download after 30 s, however well it goes
_SCHEMES: Final = ("gs", "az")
_FAILURES: Final = (BaseError, OSError, ValueError)  # some of obstore's errors are Python's own
_TRANSIENT_STATUSES: Final = (408, 425, 429, 500, 502, 503, 504)
_NAMES: Final = {"gs": "Google Cloud Storage", "az": "Azure Blob Storage"}
_CREDENTIAL_HINTS: Final = {
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS where the operator starts",
    "az": "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY where the operator starts",
}


class ObjectStoreFiles:
    """Every bucket of Google and container of Azure that this process's settings open.

    `settings` adds to those of the environment, by scheme: keys are those of obstore's GCSConfig and AzureConfig.
    """

    def __init__(
        self,
        *,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        patience: Patience | None = None,
    ) -> None:
        self._settings = settings or {}
        self._patience = patience or Patience()
        self._stores: dict[tuple[str, str], Any] = {}
        self._connecting = threading.Lock()

    def list(self, prefix: str, *, after: str | None = None) -> Iterator[FileInfo]:
        """Keep the contract. The prefix's last folder is listed from about there on, the rest is left out."""
        address = _address(prefix)
        base = f"{address.scheme}://{address.bucket}/"
        folder, _, _ = address.key.rpartition("/")
        last = key_after(base, after)
        if last is None:
            return
        # An offset is left out itself; so begin one character before the prefix, to get the key that equals it.
        offset = max(last, address.key[:-1]) or None
        store = self._store(address)
        with _told(prefix, address, "list"):
            for page in obstore.list(store, folder or None, offset=offset, chunk_size=_PAGE):
                for entry in page:
                    key = entry["path"]
                    if key.encode() > address.key.encode() and not key.startswith(address.key):
                        return
                    if key.startswith(address.key) and key > last and not _is_folder_marker(store, entry):
                        yield FileInfo(url=base + key, size_bytes=entry["size"], version=_version(entry))

    def open(self, file: FileInfo) -> BinaryIO:
        """Keep the contract; about 5 MiB are held, and 9 more where one connection is slow."""
        return read_ahead(quick_body(file, partial(self._pieces, file), self._patience), name=file.url)

    def read_range(self, url: str, offset: int, length: int) -> bytes:
        """Keep the contract."""
        address = _address(url)
        if not length:
            return b""
        try:
            with _told(url, address, "read"):
                data = bytes(obstore.get_range(self._store(address), address.key, start=offset, length=length))
        except _Gone as error:
            raise not_there(url, offset, length) from error
        if len(data) != length:
            raise not_there(url, offset, length)
        return data

    def write(self, url: str, data: bytes) -> None:
        """Keep the contract."""
        address = _address(url)
        with _told(url, address, "write"):
            obstore.put(self._store(address), address.key, data, use_multipart=False)

    def remove(self, url: str) -> None:
        """Keep the contract."""
        address = _address(url)
        with _told(url, address, "remove"), suppress(FileNotFoundError, NotFoundError):
            obstore.delete(self._store(address), address.key)

    def remove_unfinished(self, folder: str) -> None:
        """Keep the contract: an object is there as a whole, or not at all."""

    def _pieces(self, file: FileInfo, position: int, end: int | None) -> Pieces:
        """Give the bytes from a position on, up to an end."""
        address = _address(file.url)
        options: dict[str, Any] = {"if_match": file.version}
        if end is not None:
            options["range"] = (position, end)
        elif position:
            options["range"] = {"offset": position}
        try:
            with _told(file.url, address, "read"):
                answer = obstore.get(self._store(address), address.key, options=options)  # type: ignore[arg-type]
        except _Gone as error:
            raise changed(file) from error
        if _version(answer.meta) != file.version:
            raise changed(file)
        try:
            for piece in answer.stream(min_chunk_size=PIECE_BYTES):
                yield bytes(piece)
        except _FAILURES as error:
            raise BrokenOff(_translate(error, file.url, address, "read")) from error

    def _store(self, address: Address) -> Any:
        name = (address.scheme, address.bucket)
        with self._connecting:
            if name not in self._stores:
                with _told(f"{address.scheme}://{address.bucket}", address, "reach"):
                    self._stores[name] = self._connect(address)
            return self._stores[name]

    def _connect(self, address: Address) -> Any:
        kind = GCSStore if address.scheme == "gs" else AzureStore
        settings = dict(self._settings.get(address.scheme, {}))
        options: dict[str, Any] = {
            "allow_http": settings.pop("allow_http", False),
            "connect_timeout": timedelta(seconds=self._patience.connect_timeout_seconds),
            "read_timeout": timedelta(seconds=self._patience.read_timeout_seconds),
            "timeout": _WHOLE_REQUEST,
        }
        retries: dict[str, Any] = {
            "max_retries": self._patience.attempts - 1,
            "backoff": {
                "init_backoff": timedelta(seconds=self._patience.first_pause_seconds),
                "max_backoff": timedelta(seconds=self._patience.longest_pause_seconds),
            },
        }
        return kind(address.bucket, config=settings, client_options=options, retry_config=retries)  # type: ignore[arg-type]


class _Gone(Exception):
    """What was listed is not there as it was."""


def _address(url: str) -> Address:
    address = read_address(url)
    if address.scheme not in _SCHEMES:
        raise ValueError(f"`{url}` is no gs:// or az:// URL")
    return address


def _version(entry: Any) -> str:
    return str(entry["e_tag"] or entry["version"] or f"{entry['last_modified'].isoformat()}-{entry['size']}")


def _is_folder_marker(store: Any, entry: Any) -> bool:
    """Tell whether a key ends in `/`: obstore hides that, but does not find the key without it. They are empty."""
    if entry["size"] > 0:
        return False
    try:
        obstore.head(store, entry["path"])
    except FileNotFoundError:
        return True
    return False


@contextmanager
def _told(url: str, address: Address, verb: str) -> Iterator[None]:
    """Say as FilesError what the store has against it."""
    try:
        yield
    except (PreconditionError, FileNotFoundError, NotFoundError) as error:
        raise (_Gone() if verb == "read" else _translate(error, url, address, verb)) from error
    except _FAILURES as error:
        if verb == "read" and _status(error) == 416:
            raise _Gone from error
        raise _translate(error, url, address, verb) from error


def _status(error: Exception) -> int:
    status = re.search(r"status code: (\d{3})", str(error))
    return int(status[1]) if status else 0


def _translate(error: Exception, url: str, address: Address, verb: str) -> FilesError:
    """Say what happened. The error's own words are not repeated: they hold whole URLs, with signatures in them."""
    verbed = {"list": "listed", "read": "read", "write": "written", "remove": "removed", "reach": "reached"}[verb]
    what, name = f"`{url}` cannot be {verbed}", _NAMES[address.scheme]
    number = _status(error)
    if isinstance(error, PermissionDeniedError | UnauthenticatedError | PermissionError) or number in (401, 403):
        return FilesError(f"{what}: {name} denies access", hint=_CREDENTIAL_HINTS[address.scheme])
    if isinstance(error, FileNotFoundError | NotFoundError) or number == 404:
        return FilesError(f"{what}: {name} has no `{address.bucket}`", hint="check the name")
    if isinstance(error, InvalidPathError | ValueError):
        return FilesError(
            f"{what}: a key in it has an empty segment, `.` or `..`", hint="such keys can be read in s3:// only"
        )
    if number:
        kind = FilesUnavailable if number in _TRANSIENT_STATUSES else FilesError
        return kind(f"{what}: {name} kept answering {number}", hint="submit again when it has recovered")
    return FilesUnavailable(
        f"{what}: {name} does not answer, or there are no credentials for it",
        hint=f"check the network, and {_CREDENTIAL_HINTS[address.scheme]}",
    )
