"""HTTP to one operator: requests, streams, and what goes wrong with them as our errors."""

import ipaddress
import json
import re
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final, TypeVar
from urllib.parse import urljoin, urlsplit
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

from cortex import __version__
from cortex.clients.calls import POOLS
from cortex.clients.predicting import Prediction
from cortex.domain.errors import (
    CortexError,
    Forbidden,
    InvalidRequest,
    OperatorUnreachable,
    Unauthorized,
    errors_by_code,
)

TIMEOUT: Final = urllib3.Timeout(connect=5.0, read=60.0)
_FOLLOWING: Final = urllib3.Timeout(connect=5.0, read=None)  # a quiet job may say nothing for hours
_CHUNK_BYTES: Final = 256 * 1024
_CONNECTIONS: Final = 64  # that are kept open; as many calls as there are may be made at once

Body = bytes | Iterable[bytes] | None
Chunks = Generator[bytes, None, None]
Answer = TypeVar("Answer")


class Transport:
    """One operator's HTTP. May be used by many threads.

    Every method raises OperatorUnreachable where nobody answers, and otherwise the error that the operator names, with
    its message unchanged; but `key_hint` says what to do where the key is missing or wrong.
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
        self._http = (
            urllib3.ProxyManager(proxy, maxsize=_CONNECTIONS) if proxy else urllib3.PoolManager(maxsize=_CONNECTIONS)
        )
        self._http.pool_classes_by_scheme = POOLS

    def close(self) -> None:
        """Close the connections."""
        self._http.clear()

    def ask(
        self,
        _shape: type[Answer],
        method: str,
        path: str,
        *,
        body: Body = None,
        headers: Mapping[str, str] | None = None,
        timeout: urllib3.Timeout = TIMEOUT,
    ) -> Answer:
        """Give the answer to a request, which is JSON of this shape."""
        response, text = self._exchange(method, path, body=body, headers=headers, timeout=timeout)
        try:
            answer: Answer = json.loads(text)
        except ValueError:
            raise self._stranger(path, response) from None
        return answer

    def tell(self, method: str, path: str, *, body: Body, headers: Mapping[str, str]) -> None:
        """Make a request whose answer says nothing, unless something is wrong."""
        self._exchange(method, path, body=body, headers=headers, timeout=TIMEOUT)

    def predict(
        self, path: str, *, body: bytes, headers: Mapping[str, str], timeout_seconds: float | None
    ) -> Prediction:
        """Give the answer of a RealtimeAPI, which may take as long as it wants unless there is a timeout.

        An answer that is no success is raised, be it the operator's or the predictor's own.
        """
        timeout = urllib3.Timeout(connect=5.0, read=timeout_seconds)
        with self._translated_errors(), self._send("POST", path, body=body, headers=headers, timeout=timeout) as answer:
            prediction = Prediction(content_type=answer.headers.get("Content-Type", ""), body=answer.data)
        if _is_success(answer):
            return prediction
        text = prediction.body.decode(errors="replace").strip() if prediction.is_text else ""
        own = CortexError(f"`{path}` answered {answer.status} {answer.reason}" + (f": {text}" if text else ""))
        raise self._named(answer) or own

    def stream(self, path: str, *, follow: bool = False) -> Chunks:
        """Give the answer to a request as it comes; the connection is closed when the iteration is left."""
        query = ("&" if "?" in path else "?") + "follow=true" if follow else ""
        timeout = _FOLLOWING if follow else TIMEOUT
        with self._translated_errors(), self._send("GET", path + query, timeout=timeout) as response:
            if not _is_success(response):
                raise self._refusal(path, response)
            yield from response.stream(_CHUNK_BYTES)

    def _exchange(
        self, method: str, path: str, *, body: Body, headers: Mapping[str, str] | None, timeout: urllib3.Timeout
    ) -> tuple[urllib3.BaseHTTPResponse, bytes]:
        with (
            self._translated_errors(),
            self._send(method, path, body=body, headers=headers, timeout=timeout) as response,
        ):
            text = response.data
        if not _is_success(response):
            raise self._refusal(path, response)
        return response, text

    def _send(
        self,
        method: str,
        path: str,
        *,
        timeout: urllib3.Timeout,
        body: Body = None,
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
        return self._named(response) or self._stranger(path, response)

    def _named(self, response: urllib3.BaseHTTPResponse) -> CortexError | None:
        """Give the error that an operator names; None where it was none that answered."""
        try:
            body = response.json()
            kind, message = str(body["kind"]), str(body["message"])
        except (ValueError, KeyError, TypeError):
            return None
        text, _, hint = message.partition("\n\nhint: ")
        error = errors_by_code().get(kind, CortexError)
        if issubclass(error, Unauthorized | Forbidden) and self._key_hint and (not hint or "--api-key" in hint):
            # The operator can only say in general how to give a key; other refusals have hints of their own.
            return error(text, hint=self._key_hint)
        return error(text, hint=hint or None)

    def _stranger(self, path: str, response: urllib3.BaseHTTPResponse) -> CortexError:
        return CortexError(
            f"`{self._url(path)}` answered {response.status} {response.reason}, and not as an operator does",
            hint=f"check that `{self.address}` is the address of a cortex operator",
        )


def is_lost(error: OperatorUnreachable) -> bool:
    """Tell whether a request may have been heard, although its answer did not come."""
    return isinstance(error.__cause__, ProtocolError)


def is_late(error: OperatorUnreachable) -> bool:
    """Tell whether the answer took longer than was to be waited."""
    return isinstance(error.__cause__, ReadTimeoutError)


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


def _is_loopback(address: str) -> bool:
    host = urlsplit(address).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
