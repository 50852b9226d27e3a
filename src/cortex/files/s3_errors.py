"""What S3 has against a request, in the words of whoever asked."""

from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

from botocore import exceptions
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from cortex.domain.errors import FilesError, FilesUnavailable
from cortex.files.address import Address

Failure: TypeAlias = BotoCoreError | ClientError | ResponseParserError
FAILURES: Final = (BotoCoreError, ClientError, ResponseParserError)

_TRANSIENT_CODES: Final = {
    "InternalError", "OperationAborted", "RequestTimeout", "ServiceUnavailable", "SlowDown", "Throttling",
    "ThrottlingException", "TooManyRequestsException",
}  # fmt: skip
_TRANSIENT_STATUSES: Final = {408, 425, 429, 500, 502, 503, 504}
_TRANSIENT: Final = (
    exceptions.HTTPClientError,  # every failure of a connection
    exceptions.ConnectionError,
    exceptions.IncompleteReadError,
    ResponseParserError,  # of a page that broke off in the middle
)
_CREDENTIAL_CODES: Final = {
    "ExpiredToken", "InvalidAccessKeyId", "InvalidToken", "RequestExpired", "SignatureDoesNotMatch",
    "TokenRefreshRequired",
}  # fmt: skip
_CREDENTIAL_ERRORS: Final = (
    exceptions.CredentialRetrievalError,
    exceptions.NoAuthTokenError,
    exceptions.NoCredentialsError,
    exceptions.PartialCredentialsError,
    exceptions.SSOError,
    exceptions.TokenRetrievalError,
)
_REGION_CODES: Final = {
    "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "PermanentRedirect", "301",
}  # fmt: skip
_NEEDED: Final = {
    "list": "s3:ListBucket",
    "read": "s3:GetObject",
    "write": "s3:PutObject",
    "remove": "s3:DeleteObject",
}
_DONE: Final = {"list": "listed", "read": "read", "write": "written", "remove": "removed"}
_CREDENTIAL_HINT: Final = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN), or AWS_PROFILE, where the operator starts"
)


def is_transient(error: Failure) -> bool:
    """Tell whether the same request may succeed a little later."""
    if isinstance(error, ClientError):
        return _code(error) in _TRANSIENT_CODES or _status(error) in _TRANSIENT_STATUSES
    return isinstance(error, _TRANSIENT)


def translate(error: Failure, address: Address, url: str, verb: str, client: Any) -> FilesError:
    """Say what happened, and what to do. Nothing that may hold a secret is repeated."""
    what = f"`{url}` cannot be {_DONE[verb]}"
    if isinstance(error, ClientError):
        return _translate_answer(error, address, what, verb, client)
    if isinstance(error, _CREDENTIAL_ERRORS):
        return FilesError(f"{what}: the operator has no usable AWS credentials", hint=_CREDENTIAL_HINT)
    if isinstance(error, exceptions.SSLError):
        return FilesError(
            f"{what}: the certificate of {_endpoint(client)} is not trusted", hint="AWS_CA_BUNDLE names your own CAs"
        )
    if is_transient(error):
        return FilesUnavailable(
            f"{what}: {_endpoint(client)} does not answer ({type(error).__name__})",
            hint="check the network, and AWS_ENDPOINT_URL and AWS_REGION where the operator starts",
        )
    if isinstance(error, exceptions.ParamValidationError):
        return FilesError(f"{what}: S3 allows no such name", hint="check the name of the bucket")
    return FilesError(f"{what}: {type(error).__name__}")


def _translate_answer(error: ClientError, address: Address, what: str, verb: str, client: Any) -> FilesError:
    code, status = _code(error), _status(error)
    answer = f"{status} {code}" if code != str(status) else code
    if code == "NoSuchBucket" or (status == 404 and verb != "read"):
        return FilesError(
            f"there is no bucket `{address.bucket}` at {_endpoint(client)}",
            hint="check its name, and AWS_ENDPOINT_URL where the operator starts",
        )
    if code in _CREDENTIAL_CODES:
        return FilesError(f"{what}: {_endpoint(client)} refuses the credentials ({code})", hint=_CREDENTIAL_HINT)
    if code in _REGION_CODES or status in (301, 307):
        return FilesError(
            f"{what}: the bucket `{address.bucket}` is in another region",
            hint="set AWS_REGION to the bucket's region where the operator starts",
        )
    if status in (401, 403):
        return FilesError(
            f"{what}: access is denied ({code})",
            hint=f"the operator's AWS credentials need `{_NEEDED[verb]}` for the bucket `{address.bucket}`",
        )
    if is_transient(error):
        return FilesUnavailable(
            f"{what}: {_endpoint(client)} kept answering {answer}", hint="submit again when it has recovered"
        )
    return FilesError(f"{what}: {_endpoint(client)} answered {answer}")


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", "without a code"))


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _endpoint(client: Any) -> str:
    """Give the address of the server, without the password that it may hold."""
    parts = urlsplit(client.meta.endpoint_url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
