"""The OpenAPI document: every route, what it takes and all that it can answer, from the types that the code uses."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import msgspec
from pydantic.json_schema import models_json_schema

from cortex import __version__, answers
from cortex.operator.submitting.rerun import RerunRequest
from cortex.operator.submitting.submission import JobRequest
from cortex.web.pruning import PruneRequest

_JSON: Final = "application/json"
_LINES: Final = "application/x-ndjson"
_TEXT: Final = "text/plain"

_ERRORS: Final[Mapping[int, str]] = {
    400: "The request is not valid; the message names every problem.",
    401: "The operator asks for an API key, and none came.",
    403: "The key is not the operator's, or the request comes from a place that may not ask.",
    404: "There is no such API, job or upload.",
    405: "The method is not allowed here.",
    409: "The request does not fit the present state.",
    413: "The request is too large.",
    503: "The operator has too much to do, or is about to stop; try again in a moment.",
    500: "What the operator has kept is damaged, or `predict` raised; the message says what.",
    502: "The replica that had the request has died.",
    504: "The request took longer than `networking.timeout`.",
    507: "The operator's disk is full, or cannot be written to.",
}
_EVERYWHERE: Final = (401, 403)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What one method of one path does."""

    method: str
    path: str
    summary: str
    answers: Mapping[int, tuple[str, Any]]  # by status: media type and schema, or ("", None) for no body
    errors: tuple[int, ...] = ()
    query: Mapping[str, Mapping[str, Any]] | None = None
    headers: Mapping[str, Mapping[str, Any]] | None = None
    body: tuple[str, Any] | None = None
    is_body_required: bool = True
    is_open: bool = False  # also without an API key


def _text(media_type: str = _TEXT) -> tuple[str, Any]:
    return media_type, {"type": "string"}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _message(status: int = 200) -> Mapping[int, tuple[str, Any]]:
    return {status: (_JSON, _ref("Message"))}


_JOB_ID: Final = {"jobID": {"schema": {"type": "string"}, "description": "A job, instead of the API."}}
_WAIT: Final = {
    "wait": {
        "schema": {"type": "number", "minimum": 0, "default": 0},
        "description": "Answer when the job has ended, or after so many seconds; more than 60 count as 60.",
    }
}
_FOLLOW: Final = {
    "follow": {"schema": {"type": "boolean", "default": False}, "description": "Go on until the job has ended."}
}
_ITEMS: Final = {
    "items": {
        "schema": {"type": "boolean", "default": False},
        "description": "Give the items of the failed batches instead: each line FailedItems.",
    }
}
_DRY_RUN: Final = {
    "dryRun": {"schema": {"type": "boolean", "default": False}, "description": "Say what would be processed, only."}
}
_UPLOAD_OFFSET: Final = {"Upload-Offset": {"required": True, "schema": {"type": "integer", "minimum": 0}}}
_IDEMPOTENCY_KEY: Final = {
    "Idempotency-Key": {
        "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
        "description": "Sent again with the same key, the same request is the same job.",
    }
}
_DEPLOYMENT: Final = {
    "type": "object",
    "required": ["config", "project"],
    "properties": {
        "config": {"type": "string", "format": "binary", "description": "cortex.yaml"},
        "project": {"type": "string", "format": "binary", "description": "A ZIP archive of the folder beside it."},
    },
}

OPERATIONS: Final = (
    Operation(
        method="get",
        path="/healthz",
        summary="Tell that the operator is there",
        answers={200: (_JSON, _ref("Health"))},
        is_open=True,
    ),
    Operation(
        method="get",
        path="/_cortex/info",
        summary="Describe the operator",
        answers={200: (_JSON, _ref("OperatorInfo"))},
    ),
    Operation(
        method="post",
        path="/_cortex/deploy",
        summary="Deploy the APIs of a configuration",
        answers={200: (_JSON, {"type": "array", "items": _ref("Deployment")})},
        errors=(400, 409, 413, 507),
        body=("multipart/form-data", _DEPLOYMENT),
    ),
    Operation(
        method="get",
        path="/_cortex/apis",
        summary="List the APIs",
        answers={200: (_JSON, {"type": "array", "items": _ref("ApiSummary")})},
    ),
    Operation(
        method="get",
        path="/_cortex/apis/{name}",
        summary="Describe an API and its jobs",
        answers={200: (_JSON, _ref("ApiInfo"))},
        errors=(404,),
    ),
    Operation(
        method="delete",
        path="/_cortex/apis/{name}",
        summary="Delete an API, its jobs and their history",
        answers=_message(),
        errors=(404, 409, 507),
    ),
    Operation(
        method="get",
        path="/_cortex/apis/{name}/logs",
        summary="Read the log of a RealtimeAPI",
        answers={200: _text()},
        errors=(400, 404, 409),
        query={"follow": {**_FOLLOW["follow"], "description": "Go on until the API is deleted."}},
    ),
    Operation(
        method="post",
        path="/_cortex/apis/{name}/refresh",
        summary="Replace all replicas of a RealtimeAPI by new ones",
        answers=_message(),
        errors=(404, 409),
    ),
    Operation(
        method="get",  # and HEAD, as of every path
        path="/_cortex/uploads/{upload_id}/{name}",
        summary="Ask how much of a file has come: the header Upload-Offset says it",
        answers={200: (_JSON, _ref("UploadState"))},
        errors=(400, 404),
    ),
    Operation(
        method="patch",
        path="/_cortex/uploads/{upload_id}/{name}",
        summary="Send a file, or go on with it",
        answers={204: ("", None)},
        errors=(400, 404, 409, 413, 507),
        headers=_UPLOAD_OFFSET,
        body=("application/octet-stream", {"type": "string", "format": "binary"}),
    ),
    Operation(
        method="delete",
        path="/_cortex/uploads/{upload_id}",
        summary="Remove what was sent",
        answers={204: ("", None)},
        errors=(400, 404),
    ),
    Operation(
        method="post",
        path="/_cortex/prune",
        summary="Remove ended jobs, and what nothing needs any more",
        answers={200: (_JSON, _ref("Pruned"))},
        errors=(400, 413, 503, 507),
        body=(_JSON, _ref("PruneRequest")),
        is_body_required=False,
    ),
    Operation(
        method="get",
        path="/{endpoint}",
        summary="List the jobs of a BatchAPI; describe any other API",
        answers={200: (_JSON, {"anyOf": [_ref("Jobs"), _ref("JobInfo"), _ref("Endpoint")]})},
        errors=(400, 404),
        query={**_JOB_ID, **_WAIT},
    ),
    Operation(
        method="post",
        path="/{endpoint}",
        summary="Submit a job to a BatchAPI; to a RealtimeAPI send any request: what predict returns is the answer",
        answers={200: (_JSON, {"anyOf": [_ref("Submitted"), _ref("DryRun")]})},
        errors=(400, 404, 409, 413, 500, 502, 503, 504, 507),
        query=_DRY_RUN,
        headers=_IDEMPOTENCY_KEY,
        body=(_JSON, _ref("JobRequest")),
    ),
    Operation(
        method="delete",
        path="/{endpoint}",
        summary="Stop a job",
        answers=_message(),
        errors=(404, 405, 409, 507),
        query={"jobID": {**_JOB_ID["jobID"], "required": True}},
    ),
    Operation(
        method="get",
        path="/{endpoint}/{job_id}",
        summary="Show a job",
        answers={200: (_JSON, _ref("JobInfo"))},
        errors=(400, 404),
        query=_WAIT,
    ),
    Operation(
        method="delete",
        path="/{endpoint}/{job_id}",
        summary="Stop a job",
        answers=_message(),
        errors=(404, 409, 507),
    ),
    Operation(
        method="post",
        path="/{endpoint}/{job_id}/rerun",
        summary="Make a job of what failed in this one; its results are the merged ones of both",
        answers={200: (_JSON, _ref("Submitted"))},
        errors=(400, 404, 409, 413, 500, 503, 507),
        headers=_IDEMPOTENCY_KEY,
        body=(_JSON, _ref("RerunRequest")),
        is_body_required=False,
    ),
    *(
        Operation(
            method="post",
            path=f"/{{endpoint}}/{{job_id}}/{what}",
            summary=summary,
            answers=_message(),
            errors=(404, 409, 507),
        )
        for what, summary in (("pause", "Let a running job stand still"), ("resume", "Go on with a paused job"))
    ),
    *(
        Operation(
            method="get",
            path=f"/{{endpoint}}/{{job_id}}/{what}",
            summary=summary,
            answers={200: _text(media_type)},
            errors=(400, 404, 500),
            query=_FOLLOW | (_ITEMS if what == "failures" else {}),
        )
        for what, media_type, summary in (
            ("results", _LINES, "Read the rows that predict returned, in the order of the items"),
            ("failures", _LINES, "Read which batches failed, and why: each line a Failure"),
            ("manifest", _LINES, "Read the receipt: the job, its inputs, how each batch has ended, and the total"),
            ("logs", _TEXT, "Read the log"),
        )
    ),
    Operation(
        method="get",
        path="/{endpoint}/{job_id}/verify",
        summary="Check that all that a job gave is there, and as it was written",
        answers={200: (_JSON, _ref("Verification"))},
        errors=(404,),
    ),
    Operation(
        method="get",
        path="/openapi.json",
        summary="This document",
        answers={200: (_JSON, {"type": "object"})},
    ),
    Operation(method="get", path="/docs", summary="This document for people", answers={200: _text("text/html")}),
)


@cache
def document() -> Mapping[str, Any]:
    """Make the document."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _describe(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "cortex",
            "version": __version__,
            "description": "`{endpoint}` is that of a deployed API: `networking.endpoint` in its cortex.yaml, or its"
            " name.",
        },
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _describe(operation: Operation) -> dict[str, Any]:
    in_path = [part[1:-1] for part in operation.path.split("/") if part.startswith("{")]
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}} for name in in_path
    ]
    parameters += [{"name": name, "in": "query", **about} for name, about in (operation.query or {}).items()]
    parameters += [{"name": name, "in": "header", **about} for name, about in (operation.headers or {}).items()]
    described: dict[str, Any] = {
        "summary": operation.summary,
        "operationId": f"{operation.method} {operation.path}",
        "parameters": parameters,
        "responses": {str(status): _response(*answer) for status, answer in operation.answers.items()},
    }
    errors = operation.errors if operation.is_open else (*_EVERYWHERE, *operation.errors)
    for status in sorted({*errors}):
        described["responses"][str(status)] = {**_response(_JSON, _ref("Error")), "description": _ERRORS[status]}
    if operation.method == "post" and operation.query is _DRY_RUN:
        described["responses"]["200"]["content"][_TEXT] = {"schema": {"type": "string"}}
    if operation.is_open:
        described["security"] = []
    if operation.body:
        media_type, schema = operation.body
        content = {media_type: {"schema": schema}}
        described["requestBody"] = {"required": operation.is_body_required, "content": content}
    return described


def _response(media_type: str, schema: Any) -> dict[str, Any]:
    return {"description": "Done", **({"content": {media_type: {"schema": schema}}} if media_type else {})}


def _schemas() -> dict[str, Any]:
    kinds = [
        answers.Health,
        answers.OperatorInfo,
        answers.Deployment,
        answers.ApiSummary,
        answers.ApiInfo,
        answers.JobInfo,
        answers.Jobs,
        answers.Endpoint,
        answers.Submitted,
        answers.DryRun,
        answers.Failure,
        answers.FailedItems,
        answers.Verification,
        answers.Message,
        answers.UploadState,
        answers.Pruned,
        answers.Error,
    ]
    _, shapes = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    _, requests = models_json_schema(
        [(each, "validation") for each in (JobRequest, RerunRequest, PruneRequest)],
        ref_template="#/components/schemas/{model}",
    )
    return {**shapes, **requests["$defs"]}
