"""What the tests of the contract share: a user, requests and a predictor."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shell import Said, User

from operator_process import OperatorProcess

ECHO = """\
class PythonPredictor:
    def __init__(self, config):
        pass

    def predict(self, payload):
        return payload
"""


REALTIME = """\
class PythonPredictor:
    def __init__(self, config):
        self.name = config.get("name")

    def predict(self, payload):
        if payload == "raise":
            raise ValueError("as asked")
        print("asked for", payload)
        return {"name": self.name, "payload": payload}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class AtOperator:
    """A user whose default environment is the operator of these tests."""

    user: User

    def cortex(self, *words: str, stdin: str = "") -> Said:
        return self.user.cortex(*words, stdin=stdin)

    def out(self, *words: str) -> str:
        """Run a command that has nothing to complain about; give its answer."""
        said = self.cortex(*words)
        assert said.code == 0, said.err
        return said.out


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """A named pipe: who reads it waits until it is opened, and who opens it waits until somebody reads."""

    path: Path

    def open(self) -> None:
        self.path.write_text("")


def files_of(kind: str, *paths: str, workers: int = 1, **section: Any) -> dict[str, Any]:
    """Give a request for a dataset in files."""
    return {"workers": workers, kind: {"s3_paths": list(paths), **section}}


def submit(operator: OperatorProcess, request: Any, *, api: str = "echo") -> str:
    """Submit a request that is right; give the job id."""
    answer = operator.http.post(f"/{api}", json=request)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["job_id"])
