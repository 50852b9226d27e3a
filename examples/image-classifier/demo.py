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
        say("First time only: make 1,797 images of handwritten digits, and train a small network on three quarters.")
        train()

    say("Start an operator: the server that runs jobs. It ends with this demo.")
    with operator() as address:
        cortex("env", "configure", "demo", "--operator-endpoint", address)

        say("Deploy a Python class as a Batch API. Its requirements.txt is installed in the background.")
        typed("cd", relative(HERE))
        cortex("deploy", "--env", "demo")

        say("Submit a job: the URLs of the 1,797 images, in batches of 16, for two workers.")
        make_job()
        job_id = cortex_output("submit", "image-classifier", DEMO / "job.json", "--wait", "--env", "demo").strip()

        say("The job's log ends with what the predictor printed when every batch had ended.")
        log = cortex_output("logs", "image-classifier", job_id, "--env", "demo", then="| tail -n 4")

        say("What predict returned is kept: a row for each image, in the order of the request.")
        cortex_output("results", "image-classifier", job_id, "--env", "demo", then="| head -n 5")

        say("The API and its jobs.")
        cortex("get", "image-classifier", "--env", "demo")

    report(log, job_id)


def train() -> None:
    python = ["--no-project", "--python", sys.executable]
    requirements = ["--with-requirements", HERE / "requirements-train.txt"]
    command = [find_uv_bin(), "run", "--quiet", *python, *requirements, HERE / "train.py"]
    typed("uv run --no-project --with-requirements requirements-train.txt train.py")
    subprocess.run(command, env=uv_variables(os.environ), check=True)


def make_job() -> None:
    arguments = ["--dest-dir", DEMO / "results"]
    typed("python make_job.py", *arguments, ">", DEMO / "job.json", folder=HERE)
    with (DEMO / "job.json").open("w") as job:
        subprocess.run([sys.executable, HERE / "make_job.py", *arguments], stdout=job, check=True)


@contextmanager
def operator() -> Iterator[str]:
    """Run an operator on a free port and give its address; it has ended when the block has."""
    options = ["operator", "--port", "0", "--data-dir", DEMO / "data"]
    typed("cortex", *options, "&")
    with (
        (DEMO / "operator.log").open("w") as log,
        # Its own session: a Ctrl-C is ours to handle, and we then stop it.
        subprocess.Popen(
            [CORTEX, *options], env=variables(), stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True
        ) as process,
    ):
        try:
            yield wait_for_address(process)
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not leave it behind
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


def cortex(*words: str | Path) -> None:
    """Run a cortex command in the example's folder as a user would."""
    typed("cortex", *words, folder=HERE)
    process = subprocess.run([CORTEX, *words], cwd=HERE, env=variables(), check=False)
    if process.returncode != 0:
        sys.exit(process.returncode)


def cortex_output(*words: str | Path, then: str = "") -> str:
    """Run a cortex command in the same way, and give what it wrote to stdout.

    `then` is `| head -n N` or `| tail -n N`, and shows as many of its lines.
    """
    typed("cortex", *words, *then.split(), folder=HERE)
    lines = []
    with subprocess.Popen([CORTEX, *words], cwd=HERE, env=variables(), stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            lines.append(line)
            if not then:  # as it comes: a progress bar follows it on the terminal
                print(line, end="", flush=True)
    if then:
        count = int(then.split()[-1])
        print(*(lines[:count] if "head" in then else lines[-count:]), sep="", end="", flush=True)
    if process.returncode != 0:
        sys.exit(process.returncode)
    return "".join(lines)


def variables() -> dict[str, str]:
    """The environment of the commands: the user's, but no other operator and no other configuration of cortex."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("CORTEX_")}
    return {**own, "CORTEX_CLI_CONFIG_DIR": str(DEMO / "cli")}


def report(log: str, job_id: str) -> None:
    match = re.search(r"not trained on: (\d\.\d+)", log)
    if match is None or float(match[1]) <= WANTED_ACCURACY:
        sys.exit(f"\nerror: the log reports no accuracy above {WANTED_ACCURACY}")
    say(f"Done: the job succeeded, with an accuracy of {match[1]} on images that the network had not seen.")
    look_at = [
        (HERE / "README.md", "the same by hand, step by step"),
        (HERE / "predictor.py", "the class that was deployed"),
        (DEMO / "results" / job_id / "aggregated_results.json", "what its on_job_complete wrote"),
        (HERE.parents[1] / "README.md", "your own first job, in five minutes"),
    ]
    print("Where to look next:")
    for path, what in look_at:
        print(f"  {relative(path)}\n      {what}")


def say(text: str) -> None:
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n{text}", flush=True)


def typed(*words: str | Path, folder: Path | None = None) -> None:
    """Show a command as a user types it."""
    print("$", *(relative(word, folder) if isinstance(word, Path) else word for word in words), flush=True)


def relative(path: Path, folder: Path | None = None) -> str:
    return os.path.relpath(path, folder or Path.cwd())


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
