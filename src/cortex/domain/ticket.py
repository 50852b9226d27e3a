"""Tickets: what a station shows to be let in, and all that the operator believes of it.

A station runs on a machine where users' code runs, too. So it knows no secret, but only its own ticket and the
signature below it; and whatever it says, the operator takes who it is and where its files lie from the ticket.
"""

import hashlib
import hmac
import json
from dataclasses import asdict, dataclass, fields
from typing import Final

_PURPOSE: Final = b"station "  # what else is ever signed with the secret is no ticket


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """Which Worker a station runs, and which of the operator's files it may read and write to."""

    worker: str
    job_id: str  # a Job, or the owner of replicas
    project_id: str
    folder: str  # of the Job, where the operator has it
    log: str
    log_limit_bytes: int
    log_rotates: bool
    serves: bool

    def to_json(self) -> str:
        """Give the text that is signed: of the same ticket always the same."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "Ticket":
        """Raises ValueError for what is no ticket."""
        found = json.loads(text)
        if not isinstance(found, dict) or {field.name: field.type for field in fields(cls)} != {
            name: type(value) for name, value in found.items()
        }:
            raise ValueError("it is no ticket")
        return cls(**found)


def sign(secret: str, ticket_text: str) -> str:
    """Give the signature of a ticket."""
    return hmac.new(secret.encode(), _PURPOSE + ticket_text.encode(), hashlib.sha256).hexdigest()


def is_signed(secret: str, ticket_text: str, signature: str) -> bool:
    """Tell whether a ticket has been signed with this secret."""
    return hmac.compare_digest(sign(secret, ticket_text).encode(), signature.encode(errors="surrogatepass"))
