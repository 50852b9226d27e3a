"""The routes."""

from collections.abc import Iterable, Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route

from cortex.domain.errors import CortexError, InvalidRequest, MethodNotAllowed, RouteNotFound
from cortex.operator.keys import Keys
from cortex.operator.operator import Operator
from cortex.storage.uploads import Uploads
from cortex.web.body import Intake
from cortex.web.control import Control
from cortex.web.docs import page
from cortex.web.endpoints import Endpoints
from cortex.web.errors import show_error, show_failure
from cortex.web.guard import Guard
from cortex.web.openapi import document
from cortex.web.pruning import PruneRoute
from cortex.web.realtime import RealtimeRoutes
from cortex.web.uploads import UploadRoutes


def create_app(
    operator: Operator,
    uploads: Uploads,
    *,
    addresses: Iterable[str],
    about: Mapping[str, Any],
    public_url: str | None = None,
    keys: Keys | None = None,
) -> Starlette:
    """Make the ASGI application of an operator that is reached at these addresses, with its keys if it has any."""
    intake = Intake()
    control, endpoints, sent = Control(operator, about), Endpoints(operator, intake), UploadRoutes(uploads)
    own = [
        Route("/info", control.info),
        Route("/deploy", control.deploy, methods=["POST"]),
        Route("/apis", control.apis),
        Route("/apis/{name}", control.api, methods=["GET"]),
        Route("/apis/{name}", control.delete_api, methods=["DELETE"]),
        Route("/apis/{name}/logs", control.logs),
        Route("/apis/{name}/refresh", control.refresh, methods=["POST"]),
        Route("/prune", PruneRoute(operator, intake).__call__, methods=["POST"]),
        Route("/uploads/{upload_id}", sent.remove, methods=["DELETE"]),
        Route("/uploads/{upload_id}/{name:path}", sent.offset, methods=["GET"]),
        Route("/uploads/{upload_id}/{name:path}", sent.append, methods=["PATCH"]),
    ]
    every_method = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
    return Starlette(
        routes=[
            Route("/healthz", control.health, methods=every_method),
            Route("/openapi.json", lambda _: JSONResponse(document())),
            Route("/docs", lambda _: HTMLResponse(page())),
            Mount("/_cortex", routes=own),
            Route("/{path:path}", endpoints.__call__, methods=every_method),
        ],
        middleware=[
            Middleware(Guard, addresses=addresses, public_url=public_url, keys=keys),
            Middleware(RealtimeRoutes, operator=operator),
        ],
        exception_handlers={
            CortexError: show_error,
            HTTPException: _show_http_error,
            ClientDisconnect: _nobody_is_there,
            Exception: show_failure,
        },
    )


async def _nobody_is_there(_: Request, __: Exception) -> Response:
    """Answer one who is gone: nobody reads it, and it is no failure of the operator."""
    return Response(status_code=400)


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
