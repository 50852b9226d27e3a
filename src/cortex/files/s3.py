"""Files in S3 and what speaks its language, behind `s3://` URLs.

Through boto3, which knows every setting of AWS (environment, profiles, `AWS_ENDPOINT_URL`, regions). obstore does
not do: its listing fails whole on legal keys such as `a//b` or `img/../y`, hides a `/` at the end, and knows no
prefix shorter than a path segment.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import cache, partial
from importlib import import_module
from typing import Any, BinaryIO, Final, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.loaders import Loader, create_loader
from botocore.parsers import ResponseParserError
from botocore.session import Session, get_session

from cortex.domain.errors import FilesError
from cortex.files.address import Address, key_after, read_address
from cortex.files.bodies import BrokenOff, Pieces, changed, not_there
from cortex.files.files import FileInfo
from cortex.files.patience import Patience
from cortex.files.ranged import quick_body
from cortex.files.read_ahead import PIECE_BYTES, read_ahead
from cortex.files.s3_errors import FAILURES, Failure, is_transient, translate

_Answer = TypeVar("_Answer")


def prepare() -> None:
    """Do what takes long, and is the same in every process: those that are forked from this one have it then.

    Nobody is asked anything, for credentials neither, and no setting is kept: each process reads its own.
    """
    import_module("encodings.idna")  # the first connection does
    boto3.session.Session("no key", "no secret", region_name="us-east-1", botocore_session=_session()).client("s3")
    _unread_sessions.append(get_session())


_unread_sessions: Final[list[Session]] = []
"""They have read no setting yet, and making one takes a quarter of what comes before the first answer."""


def _session() -> Session:
    try:
        session = _unread_sessions.pop()
    except IndexError:
        session = get_session()
    session.register_component("data_loader", _descriptions(session.get_config_variable("data_path")))
    # Nobody reads when a key was written, and reading it is two thirds of the work of a listing.
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=str)
    return session


@cache
def _descriptions(data_path: str | None) -> Loader:
    """Keep what botocore has read of its descriptions of S3: it takes a tenth of a second and more."""
    return create_loader(data_path)


class S3Files:
    """Every bucket that this process's AWS settings open."""

    def __init__(self, *, patience: Patience | None = None) -> None:
        self._patience = patience or Patience()
        self._client_or_none: Any = None
        self._connecting = threading.Lock()

    def list(self, prefix: str, *, after: str | None = None) -> Iterator[FileInfo]:
        """Keep the contract; a page is a thousand keys."""
        address = _address(prefix)
        base = f"s3://{address.bucket}/"
        last = key_after(base, after)
        if last is None:
            return
        question: dict[str, Any] = {"Bucket": address.bucket, "Prefix": address.key}
        position: dict[str, Any] = {"StartAfter": last} if last else {}
        while True:
            page = self._call(address, prefix, "list", partial(_ask_page, question | position))
            for entry in page.get("Contents", ()):
                if entry["Key"].encode() <= last.encode():
                    raise FilesError(
                        f"`{base}` lists its keys out of order: `{entry['Key']}` after `{last}`",
                        hint="datasets need a bucket that lists in the order of the bytes, as general purpose ones do",
                    )
                last = entry["Key"]
                if not last.endswith("/"):
                    yield FileInfo(url=base + last, size_bytes=entry["Size"], version=entry["ETag"])
            if not page.get("IsTruncated"):
                return
            token = page.get("NextContinuationToken")
            position = {"ContinuationToken": token} if token else {"StartAfter": last}

    def open(self, file: FileInfo) -> BinaryIO:
        """Keep the contract; about 5 MiB are held, and 9 more where one connection is slow."""
        return read_ahead(quick_body(file, partial(self._pieces, file), self._patience), name=file.url)

    def read_range(self, url: str, offset: int, length: int) -> bytes:
        """Keep the contract."""
        address = _address(url)
        question = {"Bucket": address.bucket, "Key": address.key, "Range": f"bytes={offset}-{offset + length - 1}"}

        def ask(s3: Any) -> bytes:
            answer = s3.get_object(**question)
            with closing(answer["Body"]) as body:
                if not answer.get("ContentRange", "").startswith(f"bytes {offset}-"):
                    raise FilesError(f"`{url}` cannot be read: its server gives no part of a file")
                return bytes(body.read())  # all of it: only so is it seen that it broke off

        if not length:
            return b""
        try:
            data = self._call(address, url, "read", ask)
        except _Gone as error:
            raise not_there(url, offset, length) from error
        if len(data) != length:
            raise not_there(url, offset, length)
        return data

    def write(self, url: str, data: bytes) -> None:
        """Keep the contract."""
        address = _address(url)
        place = {"Bucket": address.bucket, "Key": address.key}
        self._call(address, url, "write", lambda s3: s3.put_object(**place, Body=data))

    def remove(self, url: str) -> None:
        """Keep the contract."""
        address = _address(url)
        place = {"Bucket": address.bucket, "Key": address.key}
        self._call(address, url, "remove", lambda s3: s3.delete_object(**place))

    def remove_unfinished(self, folder: str) -> None:
        """Keep the contract: an object is there as a whole, or not at all."""

    def _pieces(self, file: FileInfo, position: int, end: int | None) -> Pieces:
        """Give the bytes from a position on, up to an end."""
        body = self._body(file, position, end)
        try:
            while piece := body.read(PIECE_BYTES):
                yield piece
        except FAILURES as error:
            raise BrokenOff(translate(error, _address(file.url), file.url, "read", self._client())) from error
        finally:
            body.close()

    def _body(self, file: FileInfo, position: int, end: int | None) -> Any:
        """Ask for the bytes from a position on, up to an end, of exactly the version that was listed."""
        address = _address(file.url)
        question = {"Bucket": address.bucket, "Key": address.key, "IfMatch": file.version}
        if position or end is not None:
            question["Range"] = f"bytes={position}-{'' if end is None else end - 1}"
        try:
            answer = self._call(address, file.url, "read", lambda s3: s3.get_object(**question))
        except _Gone as error:
            raise changed(file) from error
        begins_there = answer.get("ContentRange", "bytes 0-").startswith(f"bytes {position}-")
        if answer["ETag"].strip('"') != file.version.strip('"'):
            answer["Body"].close()
            raise changed(file)
        if not begins_there:
            answer["Body"].close()
            raise FilesError(f"`{file.url}` broke off, and its server cannot go on in the middle of a file")
        return answer["Body"]

    def _call(self, address: Address, url: str, verb: str, ask: Callable[[Any], _Answer]) -> _Answer:
        """Ask until there is an answer, or a reason why there is none."""
        client = self._client()
        pauses = self._patience.pauses()
        while True:
            try:
                return ask(client)
            except FAILURES as error:
                if verb == "read" and _is_gone(error):
                    raise _Gone from error
                pause = next(pauses, None) if is_transient(error) else None
                if pause is None:
                    raise translate(error, address, url, verb, client) from error
            time.sleep(pause)

    def _client(self) -> Any:
        with self._connecting:
            if self._client_or_none is None:
                self._client_or_none = self._connect()
            return self._client_or_none

    def _connect(self) -> Any:
        config = Config(
            connect_timeout=self._patience.connect_timeout_seconds,
            read_timeout=self._patience.read_timeout_seconds,
            # We try again ourselves: botocore cannot where a body breaks, and its pauses cannot be set.
            retries={"mode": "standard", "total_max_attempts": 1},
            # Others than AWS know no checksums but MD5.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            max_pool_connections=32,
        )
        try:
            # A custom endpoint gets path-style addresses, and a bucket elsewhere its own region, by botocore's rules.
            return boto3.session.Session(botocore_session=_session()).client("s3", config=config)
        except (BotoCoreError, ValueError) as error:
            raise FilesError(f"the AWS settings of the operator cannot be used: {error}") from error


class _Gone(Exception):
    """What was listed is not there as it was."""


def _address(url: str) -> Address:
    address = read_address(url)
    if address.scheme != "s3":
        raise ValueError(f"`{url}` is not an s3:// URL")
    return address


def _ask_page(question: dict[str, Any], s3: Any) -> Any:
    page = s3.list_objects_v2(**question)
    if "IsTruncated" not in page:
        # A connection that closes before the first byte: botocore takes it for a page without keys, the last one.
        raise ResponseParserError("the page is empty")
    return page


def _is_gone(error: Failure) -> bool:
    if not isinstance(error, ClientError):
        return False
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    code = error.response.get("Error", {}).get("Code")
    return bool(status == 412 or code == "NoSuchKey" or status == 416)
