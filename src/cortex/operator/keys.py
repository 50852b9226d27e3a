"""Who may ask what: the operator's key, and the tokens of Jobs and of APIs that are made of it."""

import hashlib
import hmac
import os
import re
import stat
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from typing import Final

from cortex.domain.errors import Forbidden, StartRefused
from cortex.storage.ledger import Ledger

KEY_VARIABLE: Final = "CORTEX_API_KEY"
FILE_VARIABLE: Final = "CORTEX_OPERATOR_API_KEY_FILE"

HOW_TO_MAKE_A_KEY: Final = (
    '`python3 -c "import secrets; print(secrets.token_urlsafe(32))" > key; chmod 600 key` makes one;'
    " then start the operator with --api-key-file key"
)

HOW_TO_SEND_A_KEY: Final = (
    "`cortex env configure NAME --operator-endpoint URL --api-key KEY` gives the command line the key, for `local` it"
    f" takes {KEY_VARIABLE}; other clients send the header `Authorization: Bearer KEY`"
)

_KEY: Final = re.compile(r"[!-~]{16,1024}")  # what fits into a header, and is too long to be guessed
_JOB_TOKEN: Final = re.compile(r"([0-9a-f]{16})\.[0-9a-f]{64}")
_API_TOKEN: Final = re.compile(r"api\.([-a-z0-9]{1,42})\.[0-9a-f]{64}")


class Caller(Enum):
    """Who asks."""

    OWNER = auto()  # may do everything
    JOB = auto()  # one of its Workers: may use the endpoints of APIs, and look
    API = auto()  # a replica of it: may do what a Job may


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """Tells callers apart. The tokens are not stored anywhere, so they hold for the next operator with this key too."""

    key: str = field(repr=False)
    ledger: Ledger
    is_deployed: Callable[[str], bool] = lambda _: False  # says so of an API's name

    def token(self, job_id: str) -> str:
        """Give the token with which the Workers of a Job may ask, while it is in progress."""
        return f"{job_id}.{self._signed(f'job {job_id}')}"

    def api_token(self, api_name: str) -> str:
        """Give the token with which the replicas of an API may ask, while it is deployed."""
        return f"api.{api_name}.{self._signed(f'api {api_name}')}"

    def caller(self, presented: str) -> Caller:
        """Tell whose key or token this is, in a time that says nothing of them. Raises Forbidden."""
        if _are_equal(presented, self.key):
            return Caller.OWNER
        if (found := _JOB_TOKEN.fullmatch(presented)) and _are_equal(presented, self.token(found[1])):
            return self._job(found[1])
        if (found := _API_TOKEN.fullmatch(presented)) and _are_equal(presented, self.api_token(found[1])):
            return self._api(found[1])
        raise Forbidden("the API key is not that of this operator", hint=HOW_TO_SEND_A_KEY)

    def _signed(self, text: str) -> str:
        return hmac.new(self.key.encode(), text.encode(), hashlib.sha256).hexdigest()

    def _job(self, job_id: str) -> Caller:
        job = self.ledger.job(job_id)
        if job is None or job.is_final:
            raise Forbidden(f"the token is that of job `{job_id}`, which is no longer in progress")
        return Caller.JOB

    def _api(self, api_name: str) -> Caller:
        if not self.is_deployed(api_name):
            raise Forbidden(f"the token is that of the API `{api_name}`, which is no longer deployed")
        return Caller.API


def take_key(file: Path | None, environ: MutableMapping[str, str]) -> str | None:
    """Take the operator's key from its file, or else out of the environment; None where there is none.

    No variable that holds it, or says where it is, is left: what the operator starts shall not know them. Raises
    StartRefused for a key that others can read, or guess.
    """
    environ.pop(FILE_VARIABLE, None)
    of_environment = environ.pop(KEY_VARIABLE, None)
    if file is not None:
        return _checked(_read(file), f"the API key in `{file}`")
    return None if of_environment is None else _checked(of_environment, f"the API key in {KEY_VARIABLE}")


def _read(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            mode = stat.S_IMODE(os.fstat(opened.fileno()).st_mode)
            if mode & 0o077:
                raise StartRefused(
                    f"the API key file `{file}` is open to others than its owner (its mode is {mode:04o})",
                    hint=f"`chmod 600 {file}` closes it; if anybody may have read the key, make another",
                )
            return opened.read(4096).decode(errors="replace")
    except OSError as error:
        raise StartRefused(
            f"the API key file `{file}` cannot be read: {error.strerror or error}", hint=HOW_TO_MAKE_A_KEY
        ) from error


def _checked(text: str, what: str) -> str:
    key = text.strip()
    if _KEY.fullmatch(key) is None:
        raise StartRefused(
            f"{what} must be 16 to 1024 characters of ASCII without spaces; it has {len(key)}",
            hint=HOW_TO_MAKE_A_KEY,
        )
    return key


def _are_equal(presented: str, expected: str) -> bool:
    digests = (hashlib.sha256(text.encode()).digest() for text in (presented, expected))
    return hmac.compare_digest(*digests)
