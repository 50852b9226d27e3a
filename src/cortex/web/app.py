"""The routes."""

from collections.abc import Iterable, Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from cortex.domain.errors import CortexError, InvalidRequest, MethodNotAllowed, RouteNotFound
from cortex.operator.operator import Operator
from cortex.web.control import Control
from cortex.web.endpoints import Endpoints
from cortex.web.errors import show_error, show_failure
from cortex.web.guard import Guard


def create_app(operator: Operator, *, addresses: Iterable[str], about: Mapping[str, Any]) -> Starlette:
    """Make the ASGI application of an operator that is reached at these addresses."""
    control, endpoints = Control(operator, about), Endpoints(operator)
    own = [
        Route("/info", control.info),
        Route("/deploy", control.deploy, methods=["POST"]),
        Route("/apis", control.apis),
        Route("/apis/{name}", control.api, methods=["GET"]),
        Route("/apis/{name}", control.delete_api, methods=["DELETE"]),
    ]
    every_method = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
    return Starlette(
        routes=[
            Route("/healthz", control.health, methods=every_method),
            Mount("/_cortex", routes=own),
            Route("/{path:path}", endpoints.__call__, methods=every_method),
        ],
        middleware=[Middleware(Guard, addresses=addresses)],
        exception_handlers={CortexError: show_error, HTTPException: _show_http_error, Exception: show_failure},
    )


async def _show_http_error(request: Request, error: Exception) -> Response:
    """Show what the framework refuses in the shape of our own errors."""
    if not isinstance(error, HTTPException):
        raise error
    path, method = request.url.path, request.method
    if error.status_code == 404:
        return await show_error(request, RouteNotFound(f"nothing is served at `{path}`"))
    if error.status_code == 405:
        return await show_error(request, MethodNotAllowed(f"{method} is not allowed at `{path}`"))
    return await show_error(request, InvalidRequest(str(error.detail)))
