"""Ask an operator over HTTP: one method for each of its routes."""

import ipaddress
import json
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from itertools import chain
from secrets import token_hex
from types import TracebackType
from typing import IO, BinaryIO, Final, Self, TypeVar
from urllib.parse import quote, urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    ProxyError,
    ReadTimeoutError,
    SSLError,
)
from urllib3.fields import RequestField

from cortex import __version__
from cortex.answers import (
    ApiInfo,
    ApiSummary,
    Deployment,
    DryRun,
    Health,
    JobInfo,
    OperatorInfo,
    Submitted,
    UploadState,
)
from cortex.domain.errors import (
    Conflict,
    CortexError,
    Forbidden,
    InvalidRequest,
    OperatorUnreachable,
    Unauthorized,
    UploadOutOfStep,
    errors_by_code,
)

_TIMEOUT: Final = urllib3.Timeout(connect=5.0, read=60.0)
_UPLOADING: Final = urllib3.Timeout(connect=5.0, read=600.0)  # half a gigabyte is unpacked and checked first
_LISTING: Final = urllib3.Timeout(connect=5.0, read=3600.0)  # millions of files are listed before the answer
_FOLLOWING: Final = urllib3.Timeout(connect=5.0, read=None)  # a quiet job may say nothing for hours
_CHUNK_BYTES: Final = 256 * 1024
_UPLOADED_BYTES: Final = 8 * 1024 * 1024  # in one request: what is lost with a connection, at most
_PIECE_BYTES: Final = 64 * 1024
_PAUSES_SECONDS: Final = (0.1, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
_SUBMIT_PAUSES_SECONDS: Final = (0.5, 4.0)  # the second is enough for an operator that is started anew

Answer = TypeVar("Answer")


class OperatorClient:
    """One operator's routes.

    Every method raises OperatorUnreachable where nobody answers, and otherwise the error that the operator names, with
    its message unchanged; but `key_hint` says what to do where the key is missing or wrong. `endpoint` is what the
    operator calls the endpoint of an API; only its path counts, so that it works from wherever the operator's address
    does.
    """

    def __init__(self, address: str, api_key: str | None = None, *, key_hint: str | None = None) -> None:
        self.address = address.rstrip("/")
        self._key_hint = key_hint
        self._headers = {"User-Agent": f"cortex/{__version__}"}
        if api_key and not re.fullmatch("[!-~]+", api_key):
            raise InvalidRequest("an API key is made of ASCII characters without spaces; this one is not")
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        proxy = _proxy(self.address)
        self._http = urllib3.ProxyManager(proxy) if proxy else urllib3.PoolManager()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.clear()

    def health(self) -> Health:
        """Say that the operator answers, and which version it is."""
        return self._ask(Health, "GET", "/healthz")

    def info(self) -> OperatorInfo:
        """Describe the operator."""
        return self._ask(OperatorInfo, "GET", "/_cortex/info")

    def deploy(self, configuration: bytes, file_name: str, project: IO[bytes]) -> list[Deployment]:
        """Deploy every API of a configuration; `file_name` is what messages about it call it."""
        headers, body = _form(
            [
                ("config", file_name, "application/yaml", BytesIO(configuration)),
                ("project", "project.zip", "application/zip", project),
            ]
        )
        return self._ask(list[Deployment], "POST", "/_cortex/deploy", body=body, headers=headers, timeout=_UPLOADING)

    def apis(self) -> list[ApiSummary]:
        """List the deployed APIs."""
        return self._ask(list[ApiSummary], "GET", "/_cortex/apis")

    def api(self, name: str) -> ApiInfo:
        """Describe an API and its jobs, the newest first."""
        return self._ask(ApiInfo, "GET", f"/_cortex/apis/{_segment(name)}")

    def delete_api(self, name: str) -> str:
        """Delete an API with its jobs and their history."""
        return self._message("DELETE", f"/_cortex/apis/{_segment(name)}")

    def submit(self, endpoint: str, submission: bytes) -> Submitted:
        """Submit a job; once this returns, the operator has it in its ledger.

        A connection that is lost on the way is no reason to give up: it is submitted again, which makes no second job.
        """
        headers = {"Content-Type": "application/json", "Idempotency-Key": token_hex(16)}
        path = urlsplit(endpoint).path  # its files are looked for before the answer, among millions perhaps
        pauses = iter(_SUBMIT_PAUSES_SECONDS)
        lost: OperatorUnreachable | None = None
        while True:
            try:
                return self._ask(Submitted, "POST", path, body=submission, headers=headers, timeout=_LISTING)
            except OperatorUnreachable as error:
                # The job may be there then: that nobody answers any more would say less.
                lost = error if isinstance(error.__cause__, ProtocolError) else lost
                if lost is None:
                    raise
            pause = next(pauses, None)
            if pause is None:
                raise lost
            time.sleep(pause)

    def dry_run(self, endpoint: str, submission: bytes) -> DryRun:
        """Check a submission, and count what it would work on; no job is made."""
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        path = f"{urlsplit(endpoint).path}?dryRun=true"
        return self._ask(DryRun, "POST", path, body=submission, headers=headers, timeout=_LISTING)

    def upload(
        self, upload_id: str, name: str, file: BinaryIO, size: int, progress: Callable[[int], None] = lambda _: None
    ) -> None:
        """Send a file of this size, from where an earlier attempt has come to.

        `progress` is told how many more bytes the operator has. After a lost connection it goes on, by another one;
        where that does not help for a minute, OperatorUnreachable is raised, and a later call goes on.
        """
        path = f"/_cortex/uploads/{_segment(upload_id)}/{quote(name)}"
        pauses = iter(_PAUSES_SECONDS)
        known = -1
        while known < size:
            try:
                for offset in self._send_file(path, file, size):
                    if offset > known:
                        pauses = iter(_PAUSES_SECONDS)
                    progress(offset - max(known, 0))
                    known = offset
            except (OperatorUnreachable, UploadOutOfStep):
                pause = next(pauses, None)
                if pause is None:
                    raise
                time.sleep(pause)

    def _send_file(self, path: str, file: BinaryIO, size: int) -> Iterator[int]:
        """Send what the operator lacks; yield how much it has, whenever that is known."""
        offset = self._ask(UploadState, "GET", path)["offset"]
        if offset > size:
            raise Conflict(f"the operator has {offset} bytes of a file of {size}: it has changed meanwhile")
        if size == 0:
            self._append(path, file, 0, 0)
        yield offset
        while offset < size:
            length = min(size - offset, _UPLOADED_BYTES)
            self._append(path, file, offset, length)
            offset += length
            yield offset

    def _append(self, path: str, file: BinaryIO, offset: int, length: int) -> None:
        file.seek(offset)
        pieces = _read_exactly(file, length)
        headers = {"Upload-Offset": str(offset), "Content-Length": str(length)}
        with (
            self._translated_errors(),
            self._send("PATCH", path, body=pieces, headers=headers, timeout=_TIMEOUT) as response,
        ):
            _ = response.data  # what is wrong, if anything is
        if not _is_success(response):
            raise self._refusal(path, response)

    def job(self, endpoint: str, job_id: str) -> JobInfo:
        """Describe a job."""
        return self._ask(JobInfo, "GET", _job_path(endpoint, job_id))

    def stop_job(self, endpoint: str, job_id: str) -> str:
        """Stop a job; what it has done is kept."""
        return self._message("DELETE", _job_path(endpoint, job_id))

    def results(self, endpoint: str, job_id: str, *, follow: bool = False) -> Iterator[bytes]:
        """Stream the rows of a job in input order as JSON lines; with `follow` until the job has ended."""
        return self._stream(f"{_job_path(endpoint, job_id)}/results", follow=follow)

    def failures(self, endpoint: str, job_id: str, *, follow: bool = False) -> Iterator[bytes]:
        """Stream the failed batches of a job as JSON lines; with `follow` until the job has ended."""
        return self._stream(f"{_job_path(endpoint, job_id)}/failures", follow=follow)

    def failed_items(self, endpoint: str, job_id: str) -> Iterator[bytes]:
        """Stream the items of the failed batches of a job as JSON lines."""
        return self._stream(f"{_job_path(endpoint, job_id)}/failures?items=true", follow=False)

    def logs(self, endpoint: str, job_id: str, *, follow: bool = False) -> Iterator[bytes]:
        """Stream the log of a job; with `follow` until the job has ended."""
        return self._stream(f"{_job_path(endpoint, job_id)}/logs", follow=follow)

    def _message(self, method: str, path: str) -> str:
        return self._ask(dict[str, str], method, path)["message"]

    def _ask(
        self,
        _shape: type[Answer],
        method: str,
        path: str,
        *,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: urllib3.Timeout = _TIMEOUT,
    ) -> Answer:
        with (
            self._translated_errors(),
            self._send(method, path, body=body, headers=headers, timeout=timeout) as response,
        ):
            text = response.data
        if not _is_success(response):
            raise self._refusal(path, response)
        try:
            answer: Answer = json.loads(text)
        except ValueError:
            raise self._stranger(path, response) from None
        return answer

    def _stream(self, path: str, *, follow: bool) -> Iterator[bytes]:
        query = "?follow=true" if follow else ""
        timeout = _FOLLOWING if follow else _TIMEOUT
        with self._translated_errors(), self._send("GET", path + query, timeout=timeout) as response:
            if not _is_success(response):
                raise self._refusal(path, response)
            yield from response.stream(_CHUNK_BYTES)

    def _send(
        self,
        method: str,
        path: str,
        *,
        timeout: urllib3.Timeout,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> urllib3.BaseHTTPResponse:
        return self._http.request(
            method,
            self._url(path),
            body=body,
            headers={**self._headers, **(headers or {})},
            timeout=timeout,
            retries=False,
            redirect=False,
            preload_content=False,
        )

    def _url(self, path: str) -> str:
        if path.startswith(("/_cortex/", "/healthz")):
            return self.address + path
        return urljoin(self.address, path)

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        try:
            yield
        except (NewConnectionError, ConnectTimeoutError, NameResolutionError, SSLError, ProxyError) as error:
            raise OperatorUnreachable(
                f"no operator answers at `{self.address}`: {_reason(error)}",
                hint="check that it runs there; `cortex env list` shows the address of every environment",
            ) from error
        except ReadTimeoutError as error:
            raise OperatorUnreachable(f"the operator at `{self.address}` took too long to answer") from error
        except ProtocolError as error:
            raise OperatorUnreachable(
                f"the operator at `{self.address}` went away in the middle of its answer",
                hint="what it has accepted is safe; run the command again once it is back",
            ) from error
        except HTTPError as error:
            raise OperatorUnreachable(f"the operator at `{self.address}` cannot be asked: {error}") from error

    def _refusal(self, path: str, response: urllib3.BaseHTTPResponse) -> CortexError:
        try:
            body = response.json()
            kind, message = str(body["kind"]), str(body["message"])
        except (ValueError, KeyError, TypeError):
            return self._stranger(path, response)
        error = errors_by_code().get(kind, CortexError)(message)
        if isinstance(error, Unauthorized | Forbidden) and self._key_hint:
            text, _, hint = message.partition("\n\nhint: ")
            # The operator can only say in general how to give a key; other refusals have hints of their own.
            return type(error)(text, hint=hint if hint and "--api-key" not in hint else self._key_hint)
        return error

    def _stranger(self, path: str, response: urllib3.BaseHTTPResponse) -> CortexError:
        return CortexError(
            f"`{self._url(path)}` answered {response.status} {response.reason}, and not as an operator does",
            hint=f"check that `{self.address}` is the address of a cortex operator",
        )


def _is_success(response: urllib3.BaseHTTPResponse) -> bool:
    return 200 <= response.status < 300


def _reason(error: BaseException) -> str:
    """Give what the operating system says, such as `connection refused`."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.strerror:
            return seen.strerror[0].lower() + seen.strerror[1:]
        seen = seen.__cause__ or seen.__context__
    return str(error)


def _proxy(address: str) -> str | None:
    """Give the user's HTTP proxy for an address; a company's does not know this machine's loopback."""
    parts = urlsplit(address)
    if _is_loopback(address) or proxy_bypass(parts.netloc):
        return None
    return getproxies().get(parts.scheme)


def _form(parts: Iterable[tuple[str, str, str, IO[bytes]]]) -> tuple[dict[str, str], Iterator[bytes]]:
    """Write files as a form; give its headers, and its body, which is read as it is sent."""
    boundary = token_hex(16)
    pieces: list[Iterable[bytes]] = []
    size_bytes = 0
    for name, file_name, content_type, file in parts:
        field = RequestField(name, b"", file_name)
        field.make_multipart(content_type=content_type)
        head = f"--{boundary}\r\n{field.render_headers()}".encode()
        size_bytes += len(head) + file.seek(0, os.SEEK_END) + len(b"\r\n")
        file.seek(0)
        pieces += [[head], iter(partial(file.read, _CHUNK_BYTES), b""), [b"\r\n"]]
    end = f"--{boundary}--\r\n".encode()
    headers = {
        "Content-Type": f"multipart/form-data; boundary={boundary}",
        "Content-Length": str(size_bytes + len(end)),
    }
    return headers, chain(*pieces, [end])


def _read_exactly(file: BinaryIO, length: int) -> Iterator[bytes]:
    """Read in pieces that a slow line can take before a timeout. Raises InvalidRequest at an early end."""
    while length:
        piece = file.read(min(length, _PIECE_BYTES))
        if not piece:
            raise InvalidRequest("a file has become shorter while it was uploaded", hint="run the command again")
        length -= len(piece)
        yield piece


def _job_path(endpoint: str, job_id: str) -> str:
    return f"{urlsplit(endpoint).path.rstrip('/')}/{_segment(job_id)}"


def _segment(name: str) -> str:
    return quote(name, safe="")


def _is_loopback(address: str) -> bool:
    host = urlsplit(address).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
