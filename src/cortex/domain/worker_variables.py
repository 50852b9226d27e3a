"""The environment variables that a Worker has from the process that places it, unless its project says otherwise."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_DEFAULTS: Final = {
    # Its library would send from every Worker what its maker wants to know, by a thread that a fork lacks.
    "ORT_DISABLE_TELEMETRY": "1",
}


def worker_variables(inherited: Mapping[str, str], python: Path) -> dict[str, str]:
    """Give what a Worker with this interpreter is started with: its programs are found first."""
    path = f"{python.parent}{os.pathsep}{inherited.get('PATH', os.defpath)}"
    return {**_DEFAULTS, **inherited, "PATH": path}
