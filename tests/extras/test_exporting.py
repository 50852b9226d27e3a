"""`docs/exporting.md` and `examples/iris-classifier` with the libraries themselves: what they export is what is run.

All of it is installed once, as the operator installs requirements, into a data directory whose operator then runs the
examples with their own requirements.
"""

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from shell import User, new_user
from transcript import files

from cortex.domain.errors import EnvironmentFailed
from cortex.environments import Environments
from operator_process import OperatorProcess

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BLOCKS = files((ROOT / "docs" / "exporting.md").read_text())
EXAMPLES = ROOT / "examples" / "iris-classifier"
SLOW_SECONDS = 900  # what may be installed for so long
REQUIREMENTS = "scikit-learn\nskl2onnx\nxgboost-cpu\nonnxmltools\nonnxruntime\ntorch\nonnxscript\ntensorflow-cpu\n"
VARIABLES = {
    **os.environ,
    "UV_CONSTRAINT": str(HERE / "constraints.txt"),
    "ORT_DISABLE_TELEMETRY": "1",
    "PYTHONPATH": str(ROOT / "src"),
}

CALL = """
import json, sys
import numpy as np
from cortex.predictor.models import ONLY_MODEL, open_client

kind, path, rows = json.loads(sys.argv[1])
client = open_client(kind, [{"name": ONLY_MODEL, "path": path, "signature_key": None}])
answer = client.predict(rows)
outputs = list(answer.values()) if isinstance(answer, dict) else answer
print(json.dumps([output.tolist() for output in outputs]))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Libraries:
    """An interpreter with everything that models are made with."""

    python: Path

    def run(self, folder: Path, *command: str) -> str:
        """Run Python in a folder; give what it prints."""
        ended = subprocess.run(
            [self.python, *command], cwd=folder, env=VARIABLES, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    def call(self, folder: Path, kind: str, path: str, rows: list[list[float]]) -> list[Any]:
        """Give the outputs of a model, called as a predictor does."""
        answer: list[Any] = json.loads(self.run(folder, "-c", CALL, json.dumps([kind, path, rows])))
        return answer


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorProcess]:
    """An operator, in whose data directory everything is installed: what is downloaded, is downloaded once."""
    data = tmp_path_factory.mktemp("exporting") / "data"
    operator = OperatorProcess(data, env={"UV_CONSTRAINT": VARIABLES["UV_CONSTRAINT"]}).start()
    operator.http.timeout = httpx.Timeout(SLOW_SECONDS)
    yield operator
    operator.stop(at_once=True)


@pytest.fixture(scope="module")
def libraries(operator: OperatorProcess, tmp_path_factory: pytest.TempPathFactory) -> Libraries:
    """Install what models are made with."""
    project = tmp_path_factory.mktemp("project")
    requirements = project / "requirements.txt"
    requirements.write_text(REQUIREMENTS)
    environments = Environments(operator.data_dir, variables=VARIABLES)
    try:
        python = asyncio.run(environments.ensure(project, requirements, wants_gpu=False, log=print))
    except EnvironmentFailed as error:
        if "CI" in os.environ:
            raise
        pytest.skip(str(error))
    return Libraries(python=python)


@pytest.fixture
def user(tmp_path: Path, operator: OperatorProcess) -> Iterator[User]:
    """A patient user whose default environment is this operator."""
    with new_user(tmp_path, timeout_seconds=SLOW_SECONDS) as somebody:
        somebody.cortex("env", "configure", "here", "--operator-endpoint", operator.address)
        somebody.cortex("env", "default", "here")
        yield somebody


IRISES = [[5.1, 3.5, 1.4, 0.2], [5.9, 2.8, 4.3, 1.3], [6.6, 3.0, 5.6, 2.1]]

LABELS = """
rows = np.array({rows}, np.float32)
print(json.dumps([model.predict(rows).tolist(), model.predict_proba(rows).tolist()]))
"""


@pytest.mark.timeout(2 * SLOW_SECONDS)
@pytest.mark.parametrize(("name", "model"), [("sklearn", "forest.onnx"), ("xgboost", "boosted.onnx")])
def test_what_is_exported_to_onnx_gives_what_the_library_gives(
    libraries: Libraries, tmp_path: Path, name: str, model: str
) -> None:
    block = BLOCKS[f"export_{name}.py"]

    expected = json.loads(libraries.run(tmp_path, "-c", f"import json\n{block}\n{LABELS.format(rows=IRISES)}"))

    labels, probabilities = libraries.call(tmp_path, "onnx", model, IRISES)
    assert expected[0] == labels == [0, 1, 2]
    np.testing.assert_allclose(expected[1], probabilities, atol=1e-5)


@pytest.mark.timeout(2 * SLOW_SECONDS)
def test_what_xgboost_saves_is_loaded_by_a_python_predictor(libraries: Libraries, tmp_path: Path) -> None:
    libraries.run(tmp_path, "-c", BLOCKS["export_xgboost.py"])

    load = "from xgboost import XGBClassifier; model = XGBClassifier(); model.load_model('boosted.ubj')"
    assert "[0, 1, 2]" == libraries.run(tmp_path, "-c", f"{load}; print(model.predict({IRISES}).tolist())").strip()


SCORES = """
import json
with torch.no_grad():
    print("answer:", json.dumps(model(torch.tensor({rows})).tolist()))
model.load_state_dict(torch.load("network.pt", weights_only=True))
"""


@pytest.mark.timeout(2 * SLOW_SECONDS)
def test_what_is_exported_from_pytorch_gives_what_pytorch_gives(libraries: Libraries, tmp_path: Path) -> None:
    printed = libraries.run(tmp_path, "-c", f"{BLOCKS['export_torch.py']}\n{SCORES.format(rows=IRISES)}")

    (scores,) = libraries.call(tmp_path, "onnx", "network.onnx", IRISES)
    np.testing.assert_allclose(json.loads(printed.partition("answer:")[2]), scores, atol=1e-5)
    assert 1 == len(libraries.call(tmp_path, "onnx", "network.onnx", IRISES[:1])[0])


TENSORS = """
import json
print("answer:", json.dumps(model(tf.constant({rows})).numpy().tolist()))
"""


@pytest.mark.timeout(2 * SLOW_SECONDS)
def test_what_is_exported_from_tensorflow_gives_what_tensorflow_gives(libraries: Libraries, tmp_path: Path) -> None:
    printed = libraries.run(tmp_path, "-c", f"{BLOCKS['export_tensorflow.py']}\n{TENSORS.format(rows=IRISES)}")

    (probabilities,) = libraries.call(tmp_path, "tensorflow", "network/1", IRISES)
    np.testing.assert_allclose(json.loads(printed.partition("answer:")[2]), probabilities, atol=1e-5)


@pytest.mark.timeout(2 * SLOW_SECONDS)
def test_the_onnx_model_of_the_example_is_the_one_that_its_script_makes(libraries: Libraries, tmp_path: Path) -> None:
    shutil.copy(EXAMPLES / "onnx" / "model.onnx", tmp_path / "kept.onnx")

    assert "146 of them" in libraries.run(tmp_path, str(EXAMPLES / "onnx" / "make_model.py"))

    kept, made = (libraries.call(tmp_path, "onnx", name, IRISES) for name in ("kept.onnx", "model.onnx"))
    assert kept[0] == made[0] == [0, 1, 2]
    np.testing.assert_allclose(kept[1], made[1], atol=5e-3)  # on another CPU the solver stops a little elsewhere


@pytest.mark.timeout(2 * SLOW_SECONDS)
@pytest.mark.parametrize("name", ["sklearn", "onnx", "tensorflow"])
def test_an_example_answers_with_its_own_requirements(
    libraries: Libraries, operator: OperatorProcess, user: User, name: str
) -> None:
    for path in (EXAMPLES / name).iterdir():
        if path.is_file():
            shutil.copy(path, user.folder)
    if name != "onnx":
        libraries.run(user.folder, "make_model.py")
    deployed = user.cortex("deploy")
    assert deployed.code == 0, deployed.err

    answer = user.cortex("predict", "iris-classifier", "sample.json")

    assert "setosa\n" == answer.out, answer.err
    user.cortex("delete", "iris-classifier")
