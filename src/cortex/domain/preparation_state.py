"""How far what a version needs, an environment or its models, is."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparationState:
    """See the module; the message is for people to read."""

    status: Literal["pending", "building", "ready", "failed"]
    message: str = ""
