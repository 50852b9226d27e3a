"""A worker runs in the user's environment: it must start in one that has nothing but Python."""

import subprocess
import sys
from pathlib import Path

import cortex.worker

START = Path(cortex.worker.__file__).with_name("start.py")


def test_a_worker_and_a_supervisor_import_with_the_standard_library_only() -> None:
    program = f"""
import runpy, sys
sys.argv = ["start.py", "none"]
runpy.run_path({str(START)!r})["_make_importable"](__import__("pathlib").Path({str(START.parent.parent)!r}))
import cortex.worker.life, cortex.worker.supervisor
print(sorted(name for name in sys.modules if name.split(".")[0] in ("numpy", "orjson", "pydantic", "msgspec")))
"""

    found = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=False)

    assert (found.stdout.strip(), found.stderr) == ("[]", "")
