"""The scikit-learn predictor of W2, W4, W8 and W10 in the service, and the same in bare Python.

Its environment has scikit-learn from a requirements.txt, and is built before any clock starts.
"""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from benchmarks.load import Load
from benchmarks.options import WORKERS
from benchmarks.rounds import Run
from benchmarks.service import Service, items_of

HERE = Path(__file__).parent
MODEL_FILE, HALF_FILE = HERE / "forest_model.py", HERE / "plain_half.py"
PROJECT = {"requirements.txt": "scikit-learn>=1.5,<2\n", MODEL_FILE.name: MODEL_FILE.read_text()}

PREDICTOR = """
from forest_model import make_model


class PythonPredictor:
    def __init__(self, config):
        self.model = make_model()

    def predict(self, payload):
        self.model.predict(payload)
"""

WHERE = """
import sys


class PythonPredictor:
    def __init__(self, config):
        pass

    def predict(self, payload):
        return [sys.executable]
"""

BARE = "from forest_model import make_model; make_model().predict([[0.1, 0.2, 0.3, 0.4]] * 32); print(flush=True)"
"""What a user would run without a service: the same imports, the same model, one predict."""


class Prepared:
    """A data directory with the built environment and a deployed predictor; operators on it come and go."""

    def __init__(self, folder: Path, predictor: str = PREDICTOR, *options: str, **what: Any) -> None:
        """Prepare it with an operator with these options; `what` is what is deployed besides."""
        self.service = Service(Path(mkdtemp(dir=folder)), *options)
        with self.running() as service:
            service.process.deploy(WHERE, name="where", files=PROJECT)
            job = service.submit(items_of([0]), "where")
            service.wait(job, "where")
            self.python = Path(str(service.process.rows(job, api="where")[0]))
            service.process.deploy(predictor, files=PROJECT, **what)
        self.bare_seconds()  # whose bytecode is written now

    @contextmanager
    def running(self) -> Iterator[Service]:
        """Run an operator on it."""
        try:
            yield self.service.start()
        finally:
            self.service.stop()

    def bare_seconds(self) -> float:
        """Time a bare Python of the environment that imports, makes the model, and predicts once; not its end."""
        began_at = time.perf_counter()
        with subprocess.Popen([self.python, "-c", BARE], cwd=HERE, stdout=subprocess.PIPE) as process:
            has_predicted = bool(process.stdout and process.stdout.readline())
            seconds = time.perf_counter() - began_at
        if not has_predicted:
            raise RuntimeError("the bare Python did not predict")
        return seconds

    @contextmanager
    def halves(self, load: Load) -> Iterator[Run]:
        """Let plain processes of the environment each predict, once, a part of the batches that is theirs before."""
        count = load.batches // WORKERS
        sizes = [str(count), str(load.batch_size)]
        processes = [
            subprocess.Popen(
                [self.python, HALF_FILE, load.path, *sizes, str(number * count)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for number in range(WORKERS)
        ]
        self._expect(processes, "ready")

        def run() -> float:
            began_at = time.perf_counter()
            for process in processes:
                if process.stdin:
                    process.stdin.write("go\n")
                    process.stdin.flush()
            self._expect(processes, "done")
            return time.perf_counter() - began_at

        yield run
        for process in processes:
            process.communicate()

    @staticmethod
    def _expect(processes: list[subprocess.Popen[str]], word: str) -> None:
        for process in processes:
            line = process.stdout.readline().strip() if process.stdout else ""
            if line != word:
                raise RuntimeError(f"a plain process said {line!r} instead of {word!r}")
