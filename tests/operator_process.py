"""A real operator in a process of its own, and the requests that tests make of it."""

import io
import json
import os
import signal
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import psutil

from ports import free_port
from processes import name_of
from waiting import wait_until

TIMEOUT_SECONDS = 60
CORTEX = ("-m", "cortex")
"""The program that users start."""

PREPARED = (str(Path(__file__).with_name("prepared_operator.py")),)
"""The program that takes more variables of the environment than cortex does."""

ELSEWHERE = (str(Path(__file__).with_name("station_operator.py")),)
"""The program whose workers run on machines elsewhere."""


class DidNotStart(AssertionError):
    """The operator has ended before it listened."""


class OperatorProcess:
    """`cortex operator` on a free port; `start` again after `kill` gives the next operator on the same data."""

    def __init__(
        self,
        data_dir: Path,
        *options: str,
        env: Mapping[str, str] | None = None,
        program: Sequence[str] = CORTEX,
        enter: Sequence[str] = (),
    ) -> None:
        self.data_dir = data_dir
        self._enter = enter  # what comes before the command, to have it run somewhere else
        self._program = program
        self._env = {**os.environ, **(env or {})}
        self._options = options
        self._port = free_port()
        self._errors = data_dir.with_name(f"{data_dir.name}.stderr")  # a pipe that nobody reads would stop it
        self.process: subprocess.Popen[str] | None = None
        self.written = ""  # to stdout, after the line that says where it listens, by those that have ended
        self.http = httpx.Client(timeout=TIMEOUT_SECONDS)

    def start(self, env: Mapping[str, str] | None = None) -> "OperatorProcess":
        """Start it, with these variables too, and wait until it listens; the port stays the same over restarts."""
        self._errors.parent.mkdir(parents=True, exist_ok=True)
        with self._errors.open("a") as errors:
            self.process = subprocess.Popen(
                [
                    *(*self._enter, sys.executable, *self._program, "operator"),
                    *("--port", str(self._port), "--data-dir", str(self.data_dir)),
                    *self._options,
                ],
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**self._env, **(env or {})},
                text=True,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line.startswith("listening on "):
            raise DidNotStart(f"the operator did not start: {line}{self._close()}")
        address = line.split()[-1]
        self._port = int(address.rsplit(":", 1)[1])
        self.http = httpx.Client(base_url=address, timeout=TIMEOUT_SECONDS)
        return self

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._port}"

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        self._close()

    def wait_for_death(self) -> int:
        """Wait until it has ended without being told to; give its exit status."""
        process = self.process
        assert process is not None
        self._close()
        return process.returncode

    def stop(self, *, at_once: bool = False) -> str:
        """Stop it as a service manager does, or without a grace period; give what it wrote to stderr."""
        assert self.process is not None
        self.http.close()  # or the operator would wait a moment for this connection, too
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            if at_once:
                self.process.send_signal(signal.SIGINT)
        return self._close()

    def errors(self) -> str:
        """Give what it has written to stderr so far."""
        return self._errors.read_text()

    def _close(self) -> str:
        assert self.process is not None
        assert self.process.stdout is not None
        with self.process.stdout as stdout:  # not by `communicate`, which leaves out what `readline` has read ahead
            self.written += stdout.read()
        self.process.wait(timeout=TIMEOUT_SECONDS)
        self.http.close()
        self.process = None
        return self.errors()

    # What users do

    def deploy(self, predictor: str, **what: Any) -> None:
        """Deploy a predictor from its source; `what` is as in `try_to_deploy`."""
        response = self.try_to_deploy(predictor, **what)
        assert response.status_code == 200, response.text

    def deploy_realtime(self, predictor: str, **what: Any) -> None:
        """Deploy it as a RealtimeAPI; `what` is as in `try_to_deploy`."""
        self.deploy(predictor, kind="RealtimeAPI", **what)

    def try_to_deploy(
        self,
        predictor: str,
        *,
        name: str = "api",
        files: Mapping[str, str] | None = None,
        compute: Mapping[str, Any] | None = None,
        job: Mapping[str, Any] | None = None,
        kind: str = "BatchAPI",
        sections: Mapping[str, Mapping[str, Any]] | None = None,
        **spec: Any,
    ) -> httpx.Response:
        """Ask for a deployment with these fields of `predictor`, and these other sections; give the answer."""
        project = io.BytesIO()
        with zipfile.ZipFile(project, "w") as archive:
            for path, text in {"predictor.py": textwrap.dedent(predictor), **(files or {})}.items():
                archive.writestr(path, text)
        fields = {"type": "python", "path": "predictor.py", **spec}
        given = {"compute": compute, "job": job, **(sections or {})}
        api = {"name": name, "kind": kind, "predictor": fields, **{key: value for key, value in given.items() if value}}
        upload = {"config": ("cortex.yaml", json.dumps([api])), "project": ("project.zip", project.getvalue())}
        return self.http.post("/_cortex/deploy", files=upload)

    def submit(self, items: list[Any], *, api: str = "api", batch_size: int = 1, workers: Any = 1, **more: Any) -> str:
        """Submit inline items; give the job id."""
        request = {"workers": workers, "item_list": {"items": items, "batch_size": batch_size}, **more}
        response = self.http.post(f"/{api}", json=request)
        assert response.status_code == 200, response.text
        return str(response.json()["job_id"])

    def status(self, job: str, *, api: str = "api") -> dict[str, Any]:
        """Give the status of a job, whose counts must add up whenever it is read."""
        response = self.http.get(f"/{api}/{job}")
        assert response.status_code == 200, response.text
        status: dict[str, Any] = response.json()["job_status"]
        metrics = status["batch_metrics"]
        waiting = status["batches_in_queue"] + status["batches_in_flight"]
        assert metrics["succeeded"] + metrics["failed"] + waiting == status["total_batch_count"]
        return status

    def wait(self, job: str, *, api: str = "api") -> dict[str, Any]:
        """Wait until a job has ended; give its status."""
        self.log(job, api=api, follow=True)
        return self.status(job, api=api)

    def log(self, job: str, *, api: str = "api", follow: bool = False) -> str:
        """Give the log of a job, if following to its end."""
        response = self.http.get(f"/{api}/{job}/logs", params={"follow": str(follow).lower()})
        assert response.status_code == 200, response.text
        return response.text

    def rows(self, job: str, *, api: str = "api", follow: bool = False) -> list[Any]:
        """Give the rows of a job."""
        response = self.http.get(f"/{api}/{job}/results", params={"follow": str(follow).lower()})
        assert response.status_code == 200, response.text
        return [json.loads(line) for line in response.text.splitlines()]

    # What tests see of it

    def worker_processes(self, name: str | None = None) -> list[psutil.Process]:
        """Give the living Worker and supervisor processes of this data directory, or those of them with this name."""
        ours = [process for process in psutil.process_iter() if self._is_ours(process)]
        return ours if name is None else [process for process in ours if name_of(process) == name]

    def worker_names(self) -> list[str]:
        """Give their names in order."""
        return sorted(filter(None, map(name_of, self.worker_processes())))

    def wait_until_at_rest(self, *, blanks: int) -> None:
        """Wait until there are so many blanks beside supervisor and template, and nothing else."""
        expected = [*["cortex-blank"] * blanks, "cortex-superv", "cortex-template"]
        wait_until(lambda: self.worker_names() == expected, f"nothing but {blanks} blanks is left")

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            command = " ".join(process.cmdline())
            is_worker = "worker/start.py" in command and process.status() != psutil.STATUS_ZOMBIE
            return is_worker and (str(self.data_dir) in command or str(self.data_dir) in process.cwd())
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            return False


def follow_lines(operator: OperatorProcess, job: str, *, api: str = "api") -> Iterator[str]:
    """Give the lines of a job's log as they come: the announced facts that tests wait for."""
    url = f"/{api}/{job}/logs?follow=true"
    with httpx.stream("GET", operator.address + url, timeout=TIMEOUT_SECONDS) as response:
        yield from response.iter_lines()
