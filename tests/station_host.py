"""A program: starts a station on this machine, waits for it, and leaves its exit status in a file.

It is to a station what an actor is elsewhere: it outlives the operator, and if it is killed, the station dies with it.
It is started with a folder, the thousandths of cores that are taken, the name of a Worker, and that of a node.
"""

import os
import subprocess
import sys
from pathlib import Path

NODE_FOLDER = "CORTEX_NODE_FOLDER"


def main(folder: Path, worker: str, node: str) -> int:
    """Run the station of a Worker on a node, with the order that is on standard input."""
    with (folder / f"{node}.stderr").open("ab") as errors:
        station = subprocess.Popen(
            [sys.executable, "-P", "-m", "cortex.station", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=errors,
            stderr=errors,
            env={**os.environ, NODE_FOLDER: str(folder / node)},
        )
    station.communicate(sys.stdin.buffer.read())
    draft = folder / f"{worker}.new"
    draft.write_text(str(station.returncode))
    draft.rename(folder / f"{worker}.status")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *sys.argv[3:5]))
