"""Which HTTP status an error has, and how it is shown."""

import logging
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from cortex.domain.errors import (
    Conflict,
    CortexError,
    DataDamaged,
    EnvironmentFailed,
    FilesError,
    Forbidden,
    InvalidRequest,
    JobFailed,
    MethodNotAllowed,
    ModelFailed,
    NotFound,
    NotServing,
    OperatorStopping,
    OperatorUnreachable,
    Overloaded,
    PredictFailed,
    ReplicaDied,
    RequestTimedOut,
    StartRefused,
    StorageFailed,
    TooLarge,
    Unauthorized,
)

logger = logging.getLogger(__name__)

_RETRY_AFTER_SECONDS: Final = "2"

HTTP_STATUS: Final[dict[type[CortexError], int]] = {
    InvalidRequest: 400,
    Unauthorized: 401,
    Forbidden: 403,
    NotFound: 404,
    MethodNotAllowed: 405,
    Conflict: 409,
    TooLarge: 413,
    Overloaded: 503,
    OperatorStopping: 503,
    NotServing: 503,
    PredictFailed: 500,
    ReplicaDied: 502,
    RequestTimedOut: 504,
    StorageFailed: 507,
    DataDamaged: 500,
    # These have no way into an answer; if one finds it, it is our failure.
    StartRefused: 500,
    OperatorUnreachable: 500,
    EnvironmentFailed: 500,
    ModelFailed: 500,
    FilesError: 500,
    JobFailed: 500,
    CortexError: 500,
}


def http_status(error: CortexError) -> int:
    """Give the HTTP status of an error: that of the nearest class in the table."""
    return next(HTTP_STATUS[kind] for kind in type(error).__mro__ if kind in HTTP_STATUS)


async def show_error(_: Request, error: Exception) -> Response:
    """Answer with an error that users can meet."""
    if not isinstance(error, CortexError):
        raise error
    headers: dict[str, str] = {}
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, Overloaded | NotServing | OperatorStopping):
        headers["Retry-After"] = _RETRY_AFTER_SECONDS
    return JSONResponse({"kind": error.code, "message": str(error)}, http_status(error), headers)


async def show_failure(request: Request, error: Exception) -> Response:
    """Answer when the operator itself has failed; what happened is in its log, not in the answer."""
    logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    message = "the operator failed; its log says more"
    return JSONResponse({"kind": CortexError.code, "message": message}, 500)
