"""The example `image-classifier`: all of it is real here but the network, which `make demo` trains."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

from PIL import Image
from shell import User

EXAMPLE = Path(__file__).parents[2] / "examples" / "image-classifier"
PARTS = (
    "cortex.yaml",
    ".cortexignore",
    "make_job.py",
    "predictor.py",
)  # no requirements.txt: the base set has the rest

NETWORK = """\
import numpy as np


class SessionOptions:
    pass


class InferenceSession:
    def __init__(self, model, options, providers):
        model.read_bytes()

    def run(self, outputs, inputs):
        shades = np.rint(inputs["pixels"].mean(axis=1) * 255 / 25).astype(int)
        return [np.eye(10, dtype=np.float32)[shades]]
"""


def make_images(folder: Path) -> None:
    """Make a uniform image for each digit, the brighter the higher; the label of one is wrong."""
    for number in range(20):
        digit = number % 10
        part, label = ("test", digit) if number >= 10 else ("train", digit if number else 9)
        (folder / part).mkdir(parents=True, exist_ok=True)
        Image.new("L", (64, 64), 25 * digit).save(folder / part / f"{number:04}-label-{label}.png")


def test_the_image_classifier(user: User) -> None:
    for name in PARTS:
        shutil.copy(EXAMPLE / name, user.folder / name)
    user.write("onnxruntime.py", NETWORK)
    user.write("model.onnx", "")
    make_images(user.folder / "images")
    make_job = [sys.executable, "make_job.py", "--batch-size", "3", "--dest-dir", str(user.home / "dest")]
    request = subprocess.run(make_job, cwd=user.folder, capture_output=True, text=True, check=True).stdout

    assert user.cortex("deploy").out == "created image-classifier (BatchAPI)\n"
    waited = user.cortex("submit", "image-classifier", "-", "--wait", stdin=request)
    assert waited.code == 0, waited.err
    job = waited.out.strip()
    log = user.cortex("logs", "image-classifier", job).out
    rows = [json.loads(line) for line in user.cortex("results", "image-classifier", job).out.splitlines()]

    assert re.search(r"^succeeded: 7/7 batches in \d+s$", waited.err, re.MULTILINE)
    assert "accuracy on 20 images: 0.9500\n" in log
    assert "accuracy on the 10 images that the model was not trained on: 1.0000\n" in log
    assert [row["url"] for row in rows] == json.loads(request)["item_list"]["items"]
    assert ["0", "1", "2"] == [row["class"] for row in rows[:3]]
    aggregated = user.home / "dest" / job / "aggregated_results.json"
    assert rows == json.loads(aggregated.read_text())
