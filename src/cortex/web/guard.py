"""Who may ask: a web page that a user of this machine looks at must not be able to deploy code."""

import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from cortex.domain.errors import Forbidden
from cortex.web.errors import show_error


class Guard:
    """Refuses requests with a foreign Origin, or for a Host that is not this operator (DNS rebinding)."""

    def __init__(self, app: ASGIApp, addresses: Iterable[str]) -> None:
        self._app = app
        self._addresses = {same for address in addresses for same in _names(address)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "http":
            request = Request(scope)
            try:
                self._check(request)
            except Forbidden as error:
                response = await show_error(request, error)
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _check(self, request: Request) -> None:
        for host in request.headers.getlist("host") or [""]:
            if host.lower() not in self._addresses:
                raise Forbidden(f"the Host `{host}` is not this operator")
        for origin in request.headers.getlist("origin"):
            if origin.lower().partition("://")[2] not in self._addresses:
                raise Forbidden(f"requests from `{origin}` are not allowed")


def _names(address: str) -> set[str]:
    """Give the Host headers that mean this address, such as `localhost` for a loopback address."""
    parts = urlsplit(address)
    host, port = parts.hostname or "", parts.port
    shown = f"[{host}]" if ":" in host else host
    names = {shown}
    if is_loopback(host):
        names.add("localhost")
    return {f"{name}:{port}" for name in names} | (names if port in (None, 80) else set())


def is_loopback(host: str) -> bool:
    """Tell whether an address can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
