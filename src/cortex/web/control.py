"""The operator's own routes, for the command line and other clients."""

import asyncio
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Message, Receive

from cortex import __version__
from cortex.configuration.document import MAX_CHARACTERS
from cortex.domain.api_kind import ApiKind
from cortex.domain.errors import Conflict, InvalidRequest, MethodNotAllowed, TooLarge
from cortex.operator.operator import Operator
from cortex.storage.files import told_if_full
from cortex.storage.ledger import Version
from cortex.web.endpoints import describe_serving, endpoint_url, is_true, stream
from cortex.web.streams import api_log

_MAX_UPLOAD_BYTES: Final = 600 * 1024 * 1024
_MAX_CONFIGURATION_BYTES: Final = 4 * MAX_CHARACTERS
_HINT: Final = "`cortex deploy` sends what is needed"


@dataclass(frozen=True, slots=True)
class Control:
    """See the module."""

    operator: Operator
    about: Mapping[str, Any]

    async def health(self, request: Request) -> Response:
        """Tell that the operator is there."""
        if request.method not in ("GET", "HEAD"):
            raise MethodNotAllowed(f"{request.method} is not allowed at `{request.url.path}`")
        return JSONResponse({"status": "ok", "version": __version__})

    async def info(self, _: Request) -> Response:
        """Tell what this operator is."""
        apis = len(self.operator.deployments.all())
        in_progress = len(self.operator.ledger.jobs_in_progress())
        answer = {"version": __version__, **self.about, "apis": apis, "jobs_in_progress": in_progress}
        draining = self.operator.draining.describe()
        return JSONResponse(answer if draining is None else {**answer, "draining": draining})

    async def deploy(self, request: Request) -> Response:
        """Deploy an uploaded configuration and project."""
        self.operator.check_room()
        with told_if_full():
            name, text, project_id = await self._received(Request(request.scope, _bounded(request.receive)))
        try:
            apis = await asyncio.to_thread(self.operator.deployments.check, text, name, project_id)
            deployed = self.operator.deploy(apis, project_id)
        finally:
            self.operator.deployments.settle(project_id)
        return JSONResponse(
            [{"api": self._api(request, one.version), "message": one.message, "error": ""} for one in deployed]
        )

    async def _received(self, request: Request) -> tuple[str, str, str]:
        """Take what was uploaded: the configuration's name and text, and the id of the project."""
        async with request.form(max_files=2, max_fields=0) as form:
            configuration, project = form.get("config"), form.get("project")
            if not isinstance(configuration, UploadFile) or not isinstance(project, UploadFile):
                raise InvalidRequest("a deployment has the files `config` and `project`", hint=_HINT)
            if (size := configuration.size or 0) > _MAX_CONFIGURATION_BYTES:  # or all of it would be held in memory
                raise TooLarge(f"the configuration has {size} bytes, must have at most {_MAX_CONFIGURATION_BYTES}")
            text = (await configuration.read()).decode(errors="replace")
            project_id = await asyncio.to_thread(self._receive, project.file)
        return configuration.filename or "cortex.yaml", text, project_id

    def _receive(self, upload: BinaryIO) -> str:
        with tempfile.NamedTemporaryFile(dir=self.operator.deployments.uploads) as archive:
            shutil.copyfileobj(upload, archive)
            archive.flush()
            return self.operator.deployments.receive(Path(archive.name))

    def _api(self, request: Request, version: Version) -> dict[str, Any]:
        return {
            "name": version.api_name,
            "kind": version.kind,
            "endpoint": endpoint_url(request, version),
            "api_id": version.api_id,
        }

    async def apis(self, request: Request) -> Response:
        """List what is deployed."""
        return JSONResponse(
            [
                {
                    **self.operator.describe_api(version),
                    "endpoint": endpoint_url(request, version),
                    **describe_serving(self.operator, version),
                }
                for version in self.operator.deployments.all()
            ]
        )

    async def api(self, request: Request) -> Response:
        """Show one API with its Jobs."""
        version = self.operator.deployments.api(request.path_params["name"])
        return JSONResponse(
            {
                "spec": _without_secrets(version.spec),
                **self.operator.describe_api(version),
                "endpoint": endpoint_url(request, version),
                "environment": self._environment(version),
                "job_statuses": self.operator.describe_jobs(version),
                **describe_serving(self.operator, version),
            }
        )

    def _environment(self, version: Version) -> Mapping[str, str]:
        if version.kind == ApiKind.SPLITTER:
            return {"status": "none", "message": ""}
        return self.operator.preparation.state(version)

    async def refresh(self, request: Request) -> Response:
        """Replace all replicas of a RealtimeAPI by new ones; the old ones serve until these are ready."""
        name = self._realtime(request, "it has no replicas that could be replaced").api_name
        self.operator.serving.refresh(name)
        return JSONResponse({"message": f"updating {name} ({ApiKind.REALTIME})"})

    async def logs(self, request: Request) -> Response:
        """Give the log of a RealtimeAPI."""
        version = self._realtime(request, "it has no log; its jobs, or the APIs that it leads to, have")
        pieces = api_log(self.operator, version.api_name, follow=is_true(request, "follow"))
        return await stream(request, pieces, "text/plain")

    def _realtime(self, request: Request, reason: str) -> Version:
        """Find the RealtimeAPI that is asked for. Raises ApiNotFound, and Conflict, with the reason, for another."""
        version = self.operator.deployments.api(request.path_params["name"])
        if version.kind != ApiKind.REALTIME:
            raise Conflict(f"`{version.api_name}` is a {version.kind}: {reason}")
        return version

    async def delete_api(self, request: Request) -> Response:
        """Delete an API; the answer comes when its Jobs have stopped and its history is gone."""
        name = request.path_params["name"]
        deleted = asyncio.Event()
        self.operator.delete_api(name, deleted.set)
        await deleted.wait()
        return JSONResponse({"message": f"deleting {name}"})


def _bounded(receive: Receive) -> Receive:
    """Let no more of a body through than an upload may have."""
    size = 0

    async def bounded() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > _MAX_UPLOAD_BYTES:
            raise TooLarge(f"an upload must have at most {_MAX_UPLOAD_BYTES} bytes")
        return message

    return bounded


def _without_secrets(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Show which variables are set, but not to what."""
    predictor = spec.get("predictor")
    if predictor is None:  # of what has none
        return {**spec}
    return {**spec, "predictor": {**predictor, "env": dict.fromkeys(predictor["env"], "***")}}
