"""Who may ask: no web page that a user of this machine looks at, and where there are keys, nobody without one."""

import ipaddress
import re
import socket
from collections.abc import Iterable
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from cortex.domain.errors import CortexError, Forbidden, Unauthorized
from cortex.operator.keys import HOW_TO_SEND_A_KEY, Caller, Keys
from cortex.web.body import drop_body
from cortex.web.errors import show_error

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_BEARER: Final = re.compile(r"bearer +([^ ]+) *", re.IGNORECASE)
_HOST: Final = re.compile(r"(?:\[([^]]+)\]|([^:]+))(?::(\d{1,5}))?", re.ASCII)
_OPEN: Final = "/healthz"
_KNOWN_PLACES: Final = 1024


class Guard:
    """Refuses requests with a foreign Origin, for a Host that is not this operator (DNS rebinding), or without a key.

    `addresses` are those that the operator listens on, `public_url` is the one that a proxy in front of it is reached
    by. A request that came by that is handled as if it had come to the operator with the proxy's scheme.
    """

    def __init__(
        self, app: ASGIApp, addresses: Iterable[str], public_url: str | None = None, keys: Keys | None = None
    ) -> None:
        self._app = app
        addresses = tuple(addresses)
        self._addresses = {same for address in addresses for same in _names(address)}
        self._open_ports = {urlsplit(address).port or 80 for address in addresses if _is_wildcard(address)}
        self._public = _names(public_url) if public_url else set()
        self._public_scheme = urlsplit(public_url or "").scheme
        self._keys = keys
        # The same few come again and again, and what is true of them stays so.
        self._check_place = lru_cache(_KNOWN_PLACES)(self._check_hosts_and_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "http":
            try:
                is_public = self._check(scope)
            except CortexError as error:
                request = Request(scope, receive)
                await drop_body(request.stream())
                response = await show_error(request, error)
                await response(scope, receive, send)
                return
            if is_public:
                scope = {**scope, "scheme": self._public_scheme}  # the URLs in the answer have it, too
            if self._keys is not None:  # a key is for the operator alone: `predict` may be shown all other headers
                headers = [header for header in scope["headers"] if header[0] != b"authorization"]
                scope = {**scope, "headers": headers}
        await self._app(scope, receive, send)

    def _check(self, scope: Scope) -> bool:
        """Raise what is wrong with a request; tell whether it came by the public URL. It is done for every request."""
        hosts: list[bytes] = []
        origins: list[bytes] = []
        keys: list[bytes] = []
        for name, value in scope["headers"]:
            if name == b"host":
                hosts.append(value)
            elif name == b"origin":
                origins.append(value)
            elif name == b"authorization":
                keys.append(value)
        is_public = self._check_place(tuple(hosts), tuple(origins))
        if self._keys is not None and scope["path"] != _OPEN:  # what the routes go by; a URL ends at an encoded `?`
            self._check_key(self._keys, keys, scope["method"], scope["path"])
        return is_public

    def _check_hosts_and_origins(self, raw_hosts: tuple[bytes, ...], origins: tuple[bytes, ...]) -> bool:
        hosts = [host.decode("latin-1").lower() for host in raw_hosts] or [""]
        for host in hosts:
            if not self._is_ours(host):
                raise Forbidden(
                    f"the Host `{host}` is not this operator",
                    hint="if it is reached by that name, start it with --public-url",
                )
        for origin in (origin.decode("latin-1") for origin in origins):
            scheme, _, host = origin.lower().partition("://")
            is_public = scheme == self._public_scheme and host in self._public
            if not is_public and host not in self._addresses.union(hosts) - self._public:
                raise Forbidden(f"requests from `{origin}` are not allowed")
        return self._public.issuperset(hosts)

    def _is_ours(self, host: str) -> bool:
        # Who listens everywhere cannot know all that leads there; but rebinding needs a name: any IP address will do.
        return host in self._addresses | self._public or _port_of_ip_address(host) in self._open_ports

    def _check_key(self, keys: Keys, presented: list[bytes], method: str, path: str) -> None:
        found = _BEARER.fullmatch(presented[0].decode("latin-1")) if len(presented) == 1 else None
        if found is None:
            raise Unauthorized("this operator asks for an API key", hint=HOW_TO_SEND_A_KEY)
        if keys.caller(found[1]) is not Caller.OWNER and not _is_for_jobs(method, path):
            raise Forbidden(
                "the token of a job or an API may only be used for the endpoints of APIs, and to look",
                hint="deploying, deleting and pruning ask for the operator's own key",
            )


def _is_for_jobs(method: str, path: str) -> bool:
    """Tell whether a Job or a replica may ask this: not to change what is deployed, nor to touch what others send."""
    if not f"{path}/".startswith("/_cortex/"):
        return True
    return method == "GET" and not f"{path}/".startswith("/_cortex/uploads/")


def _names(address: str) -> set[str]:
    """Give the Host headers that mean this address, such as `localhost` for a loopback address."""
    parts = urlsplit(address)
    host, port = parts.hostname or "", parts.port
    names = {f"[{host}]" if ":" in host else host}
    if is_loopback(host) or _is_wildcard(address):
        names.add("localhost")
    if _is_wildcard(address):
        names.add(socket.gethostname().lower())
    is_default = port in (None, _DEFAULT_PORTS.get(parts.scheme))
    return {f"{name}:{port or _DEFAULT_PORTS[parts.scheme]}" for name in names} | (names if is_default else set())


def _port_of_ip_address(host: str) -> int | None:
    """Give the port of a Host that is an IP address; None for one that is a name, or nothing at all."""
    found = _HOST.fullmatch(host)
    try:
        ipaddress.ip_address((found[1] or found[2]) if found else "")
    except ValueError:
        return None
    return int(found[3] or 80) if found else None


def _is_wildcard(address: str) -> bool:
    return is_wildcard(urlsplit(address).hostname or "")


def is_wildcard(host: str) -> bool:
    """Tell whether who listens on this listens on every address of the machine."""
    return host in ("0.0.0.0", "::")  # noqa: S104 - it is compared, not listened on


def is_loopback(host: str) -> bool:
    """Tell whether an address can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
