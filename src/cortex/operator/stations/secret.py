"""The secret that the tickets of stations are signed with. It never leaves the operator."""

import secrets
from pathlib import Path

from cortex.storage.files import write_durably


def channel_secret(path: Path) -> str:
    """Give the secret of a data directory, made up once; only this user can read its file.

    It stays the same for all operators, since stations outlive them.
    """
    if not path.exists():
        new = path.with_suffix(".new")  # an operator that dies here leaves no secret that is cut short
        new.unlink(missing_ok=True)
        new.touch(mode=0o600)
        write_durably(new, secrets.token_hex(32).encode())  # or a power cut might leave an empty one, which all know
        new.replace(path)
    return path.read_text(encoding="ascii")
