"""Every error that a user can meet.

CortexError
├── InvalidRequest            what was asked for is wrong: change it and ask again
│   ├── InvalidConfiguration      cortex.yaml
│   ├── InvalidProject            the files beside it
│   ├── InvalidPredictor          the predictor class
│   └── InvalidSubmission         a job request
├── Unauthorized              asked without the key that is asked for
├── Forbidden                 asked from a place, or with a key, that may not ask
├── NotFound
│   ├── ApiNotFound
│   ├── JobNotFound
│   ├── RouteNotFound
│   └── UploadNotFound
├── MethodNotAllowed
├── Conflict                  right in itself, but not in the present state
│   ├── JobNotInProgress
│   ├── EndpointTaken
│   ├── UploadOutOfStep
│   └── IdempotencyKeyReused
├── TooLarge
├── Overloaded                the operator has too much to do at the moment
│   └── ApiOverloaded             as many requests as an API may have are waiting or running
├── NotServing                no replica of an API can be started
├── PredictFailed             predict raised, or returned what cannot be an answer
├── ReplicaDied               the process that a request was given to has died
├── RequestTimedOut           a request took longer than its API allows
├── OperatorStopping          the operator is about to stop and begins nothing new
├── StorageFailed             the operator's disk does not take what was sent
│   └── StorageFull               it has no room
├── DataDamaged               what the operator has kept is not there as it was written
├── StartRefused              the operator cannot start here
│   └── DataDirectoryInUse
├── OperatorUnreachable       nobody answers at the environment's address
├── EnvironmentFailed         the requirements of a project cannot be installed
├── ModelFailed               a model of a predictor cannot be had
├── FilesError                a file or a listing cannot be read
│   ├── FileChanged           it is not what it was when it was listed
│   └── FilesUnavailable      where they lie does not answer, or has no room: it may pass
└── JobFailed                 the job that was waited for did not succeed
"""

from typing import ClassVar


class CortexError(Exception):
    """Something went wrong."""

    code: ClassVar[str] = "error"

    def __init__(self, message: str | None = None, *, hint: str | None = None) -> None:
        self.message = message or (type(self).__doc__ or "").strip()
        self.hint = hint
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.message}\n\nhint: {self.hint}" if self.hint else self.message


class InvalidRequest(CortexError):
    """The request is not valid."""

    code = "request.invalid"


class InvalidConfiguration(InvalidRequest):
    """The configuration file is not valid."""

    code = "configuration.invalid"


class InvalidProject(InvalidRequest):
    """The project cannot be deployed."""

    code = "project.invalid"


class InvalidPredictor(InvalidRequest):
    """The predictor class is not valid."""

    code = "predictor.invalid"


class InvalidSubmission(InvalidRequest):
    """The job request is not valid."""

    code = "submission.invalid"


class Unauthorized(CortexError):
    """The operator asks for an API key."""

    code = "request.unauthorized"


class Forbidden(CortexError):
    """The request comes from a place, or with a key, that may not ask."""

    code = "request.forbidden"


class NotFound(CortexError):
    """There is no such thing."""

    code = "not_found"


class ApiNotFound(NotFound):
    """There is no such API."""

    code = "api.not_found"


class JobNotFound(NotFound):
    """There is no such job."""

    code = "job.not_found"


class RouteNotFound(NotFound):
    """Nothing is served here."""

    code = "route.not_found"


class UploadNotFound(NotFound):
    """There is no such upload."""

    code = "upload.not_found"


class MethodNotAllowed(CortexError):
    """The method is not allowed here."""

    code = "request.method_not_allowed"


class Conflict(CortexError):
    """The request does not fit the present state."""

    code = "conflict"


class JobNotInProgress(Conflict):
    """The job has already ended."""

    code = "job.not_in_progress"


class EndpointTaken(Conflict):
    """Another API has this endpoint."""

    code = "api.endpoint_taken"


class UploadOutOfStep(Conflict):
    """The upload goes on at another place."""

    code = "upload.out_of_step"


class IdempotencyKeyReused(Conflict):
    """The key was used for another request before."""

    code = "submission.key_reused"


class TooLarge(CortexError):
    """The request is too large."""

    code = "request.too_large"


class Overloaded(CortexError):
    """The operator has too much to do at the moment."""

    code = "operator.overloaded"


class ApiOverloaded(Overloaded):
    """The API has too many requests at the moment."""

    code = "api.overloaded"


class NotServing(CortexError):
    """The API cannot answer requests."""

    code = "api.not_serving"


class PredictFailed(CortexError):
    """The predictor has failed with the request."""

    code = "predict.failed"


class ReplicaDied(CortexError):
    """The process that the request was given to has died."""

    code = "replica.died"


class RequestTimedOut(CortexError):
    """The request took longer than its API allows."""

    code = "request.timed_out"


class OperatorStopping(CortexError):
    """The operator is about to stop."""

    code = "operator.stopping"


class StorageFailed(CortexError):
    """The operator cannot write to its disk."""

    code = "storage.failed"


class DataDamaged(CortexError):
    """What the operator has kept is damaged."""

    code = "storage.damaged"


class StorageFull(StorageFailed):
    """The operator's disk is full."""

    code = "storage.full"


class StartRefused(CortexError):
    """The operator cannot start."""

    code = "operator.start_refused"


class DataDirectoryInUse(StartRefused):
    """Another operator uses this data directory."""

    code = "operator.data_directory_in_use"


class OperatorUnreachable(CortexError):
    """The operator does not answer."""

    code = "operator.unreachable"


class EnvironmentFailed(CortexError):
    """The requirements of the project cannot be installed."""

    code = "environment.failed"


class ModelFailed(CortexError):
    """A model of the predictor cannot be had."""

    code = "model.failed"


class JobFailed(CortexError):
    """The job did not succeed."""

    code = "job.failed"


class FilesError(CortexError):
    """A file or a listing cannot be read, and trying again did not help."""

    code = "files.unreadable"


class FileChanged(FilesError):
    """A file is not what it was when it was listed."""

    code = "files.changed"


class FilesUnavailable(FilesError):
    """The place where files lie does not answer, or has no room."""

    code = "files.unavailable"


def errors_by_code() -> dict[str, type[CortexError]]:
    """Give every error by its code."""
    found: dict[str, type[CortexError]] = {}
    waiting = [CortexError]
    while waiting:
        error = waiting.pop()
        found[error.code] = error
        waiting.extend(error.__subclasses__())
    return found
