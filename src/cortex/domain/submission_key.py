"""The key of a submission: sent again with it, the same request is the same Job."""

import hashlib
import re
from dataclasses import dataclass
from typing import Final, Self

from cortex.domain.errors import InvalidRequest

_KEY: Final = re.compile("[!-~]{1,255}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmissionKey:
    """What a client calls a submission, and a digest of what it has submitted: the request itself is not kept."""

    name: str
    body_sha256: str

    @classmethod
    def of(cls, name: str, body: bytes) -> Self:
        """Take what a client calls this request. Raises InvalidRequest."""
        if not _KEY.fullmatch(name):
            raise InvalidRequest(
                f"Idempotency-Key: got `{name[:80]}`, must be 1 to 255 visible ASCII characters",
                hint="a random one, such as that of `uuidgen`, is fine",
            )
        return cls(name=name, body_sha256=hashlib.sha256(body).hexdigest())
