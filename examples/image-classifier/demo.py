"""`make demo`: deploy the image classifier on an operator of its own, classify 1,797 images, and show what came out.

Everything that it writes lies in `.demo`, `images` and `model.onnx`; the operator ends with it, however it ends.
"""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from uv import find_uv_bin

from cortex.environments.pip_settings import uv_variables

HERE = Path(__file__).resolve().parent
DEMO = HERE.parents[1] / ".demo"
CORTEX = Path(sys.executable).with_name("cortex")
WANTED_ACCURACY = 0.95
START_SECONDS = 30
STOP_SECONDS = 15


def main() -> None:
    DEMO.mkdir(exist_ok=True)
    for name in ("SIGTERM", "SIGHUP"):
        signal.signal(getattr(signal, name), lambda *_: sys.exit(1))

    if not (HERE / "model.onnx").exists():
        title("Make the images and train the model (only the first time)")
        train()

    title("Start an operator")
    with operator() as address:
        cortex("env", "configure", "demo", "--operator-endpoint", address)

        title("Deploy the API")
        print("$ cd", relative(HERE))
        cortex("deploy", "--env", "demo")

        title("Classify 1,797 images")
        job = output([sys.executable, HERE / "make_job.py", "--dest-dir", DEMO / "results"])
        (DEMO / "job.json").write_text(job)
        job_id = cortex("submit", "image-classifier", DEMO / "job.json", "--wait", "--env", "demo").strip()

        title("The end of the job's log")
        log = cortex("logs", "image-classifier", job_id, "--env", "demo", shows=False)
        print("\n".join(log.splitlines()[-8:]))

        title("The first results")
        results = cortex("results", "image-classifier", job_id, "--env", "demo", shows=False)
        print("\n".join(results.splitlines()[:5]))

        title("The API and its jobs")
        cortex("get", "image-classifier", "--env", "demo")

    title("Where to look next")
    print(f"{relative(HERE / 'README.md')}   the same by hand, step by step")
    print(f"{relative(HERE / 'predictor.py')}   what was deployed")
    print(f"{relative(DEMO / 'results' / job_id / 'aggregated_results.json')}   what on_job_complete wrote")
    check_accuracy(log)


def train() -> None:
    python = ["--no-project", "--python", sys.executable]
    requirements = ["--with-requirements", HERE / "requirements-train.txt"]
    command = [find_uv_bin(), "run", "--quiet", *python, *requirements, HERE / "train.py"]
    subprocess.run(command, env=uv_variables(os.environ), check=True)


@contextmanager
def operator() -> Iterator[str]:
    """Run an operator on a free port and give its address; it has ended when the block has."""
    command = [CORTEX, "operator", "--port", "0", "--data-dir", DEMO / "data"]
    print("$", "cortex operator --port 0 --data-dir", relative(DEMO / "data"), flush=True)
    with (
        (DEMO / "operator.log").open("w") as log,
        # Its own session: a Ctrl-C is ours to handle, and we then stop it.
        subprocess.Popen(
            command, env=variables(), stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True
        ) as process,
    ):
        try:
            yield wait_for_address(process)
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def wait_for_address(process: subprocess.Popen[str]) -> str:
    too_late = threading.Timer(START_SECONDS, process.kill)
    too_late.start()
    try:
        for line in process.stdout or ():
            if match := re.search(r"listening on (http://\S+)", line):
                print(line.rstrip())
                return match[1]
    finally:
        too_late.cancel()
    sys.exit(f"error: the operator did not start\n\n{(DEMO / 'operator.log').read_text()}")


def cortex(*arguments: str | Path, shows: bool = True) -> str:
    """Run a cortex command in the example's folder as a user would, and give what it printed."""
    words = (relative(word, HERE) if isinstance(word, Path) else word for word in arguments)
    print("$ cortex", *words, flush=True)
    printed = output([CORTEX, *arguments])
    if shows:
        print(printed, end="", flush=True)
    return printed


def output(command: list[str | Path]) -> str:
    process = subprocess.run(command, cwd=HERE, env=variables(), stdout=subprocess.PIPE, text=True, check=False)
    if process.returncode != 0:
        print(process.stdout, end="")
        sys.exit(process.returncode)
    return process.stdout


def variables() -> dict[str, str]:
    """The environment of the commands: the user's, but no other operator and no other configuration of cortex."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("CORTEX_")}
    return {**own, "CORTEX_CLI_CONFIG_DIR": str(DEMO / "cli")}


def check_accuracy(log: str) -> None:
    match = re.search(r"not trained on: (\d\.\d+)", log)
    if match is None or float(match[1]) <= WANTED_ACCURACY:
        sys.exit(f"\nerror: the log reports no accuracy above {WANTED_ACCURACY}")
    print(f"\naccuracy on images that the model had not seen: {match[1]}")


def title(text: str) -> None:
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n{text}", flush=True)


def relative(path: Path, folder: Path | None = None) -> str:
    return os.path.relpath(path, folder or Path.cwd())


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
