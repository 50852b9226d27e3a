"""The oldest guide that users know, a batch runner, read where it lies when a test runs; and its user."""

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from shell import User

from operator_process import OperatorProcess
from waiting import wait_until

LABELS = ["setosa", "versicolor", "virginica"]
"""Of the samples in the guide."""

SEEDS = Path(__file__).parents[3] / "shared" / "seeds"
FIRST = SEEDS / "1-batch-runner-guide.md"
LATER = SEEDS / "2-batch-runner-guide-later-edition.txt"

_FILE = re.compile(r"^## `([\w.]+)`\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_ENDPOINT = re.compile(r"^(\s*endpoint:) http://\*\*\*\S*$", re.MULTILINE)
_KEY = re.compile(r"[- ]*(\w+):")
_RENAMED = {"threads_per_worker": "threads_per_process"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Guide:
    """The text of the first edition, and of the later one, whose indentation is lost, and some lines with it."""

    first: str
    later: str

    @classmethod
    def read(cls) -> "Guide":
        """Read them; the test is skipped where they are missing: they are no part of the project."""
        if not FIRST.exists() or not LATER.exists():
            pytest.skip("the guides lie beside the project, and they are not there")
        return cls(first=FIRST.read_text(), later=LATER.read_text())

    def file(self, name: str) -> str:
        """Give a file of the first edition, as it stands."""
        return next(text for file, text in _FILE.findall(self.first) if file == name)

    def configuration(self, endpoint: str) -> str:
        """Give the first edition's configuration, with the endpoint of the other API filled in."""
        return _fill_in(self.file("cortex.yaml"), endpoint)

    def later_configuration(self, endpoint: str) -> str:
        """Give the later edition's: each of its lines where the first one has the line with that key."""
        begin = self.later.index("- name: iris-classifier-batch")
        lines = self.later[begin : self.later.index("\n\n", begin)].splitlines()
        by_key = {match[1]: line for line in lines if (match := _KEY.match(line))}
        restored = []
        for line in self.file("cortex.yaml").splitlines():
            match = _KEY.match(line)
            key = _RENAMED.get(match[1], match[1]) if match else None
            indentation = line[: len(line) - len(line.lstrip())]
            restored.append(indentation + by_key.pop(key) if key in by_key else line)
        assert {} == by_key, "the later edition says more than the first"
        return _fill_in("\n".join(restored), endpoint)


def _fill_in(configuration: str, endpoint: str) -> str:
    filled_in, count = _ENDPOINT.subn(rf"\1 {endpoint}", configuration)
    assert count == 1
    return filled_in


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """The user of the guide, in a new directory with its files."""

    user: User
    operator: OperatorProcess
    guide: Guide = field(repr=False)

    @classmethod
    def of(cls, user: User, start_operator: Callable[..., OperatorProcess]) -> "Runner":
        """Give the runner of a user, who has configured an operator; it is not deployed yet."""
        guide, operator = Guide.read(), start_operator()
        assert user.cortex("env", "configure", "aws", "--operator-endpoint", operator.address).code == 0
        assert user.cortex("env", "default", "aws").code == 0
        return cls(user=beside(user, "runner"), operator=operator, guide=guide)

    def deploy(self, configuration: str | None = None) -> None:
        self.user.write("batch.py", self.guide.file("batch.py"))
        self.user.write("test.py", self.guide.file("test.py"))
        self.user.write("cortex.yaml", configuration or self.guide.configuration(self.endpoint_of("iris-classifier")))
        deployed = self.user.cortex("deploy")
        assert deployed.code == 0, deployed.err

    def endpoint_of(self, api: str) -> str:
        return f"{self.operator.address}/{api}"

    def submit(self) -> None:
        """Run test.py, which complains about every answer but 200, and does not wait for one."""
        command = [sys.executable, "test.py", self.endpoint_of("iris-classifier-batch")]
        ran = subprocess.run(command, cwd=self.user.folder, capture_output=True, text=True, timeout=60, check=False)
        assert (0, "", "") == (ran.returncode, ran.stdout, ran.stderr)

    def log(self) -> str:
        said = self.user.cortex("logs", "iris-classifier-batch", "--no-follow")
        assert said.code == 0, said.err
        return said.out

    def labels(self) -> list[str]:
        """Give what the target has answered so far, according to the log, in which threads may share a line."""
        return sorted(re.findall(rf"done with request: ({'|'.join(LABELS)})", self.log()))

    def wait_for_labels(self, count: int = 3) -> list[str]:
        wait_until(lambda: len(self.labels()) >= count, f"{count} requests are done")
        assert "retrying" not in self.log()  # the guide's next try would be ten seconds later
        return self.labels()

    def replicas(self, api: str) -> dict[str, Any]:
        """Give the counts of the replicas of an API."""
        answer = self.operator.http.get(f"/_cortex/apis/{api}")
        assert answer.status_code == 200, answer.text
        counts: dict[str, Any] = answer.json()["status"]["replica_counts"]
        return counts


def beside(user: User, folder: str) -> User:
    """Give the same user in a folder of its own."""
    (user.folder / folder).mkdir()
    return replace(user, folder=user.folder / folder)
