"""Classify images of handwritten digits, given by their URLs."""

import json
import os
import re
from io import BytesIO
from pathlib import Path
from urllib.parse import unquote, urlsplit

import boto3
import numpy as np
import onnxruntime
import requests
from PIL import Image

SIDE = 8  # the model takes images of 8 x 8 pixels


class PythonPredictor:
    def __init__(self, config, job_spec):
        if not config.get("dest_dir"):
            raise ValueError("'dest_dir' was not provided in the job submission's 'config': the folder for the results")
        self.dest_dir = Path(config["dest_dir"], job_spec["job_id"])

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # a worker is given one CPU; more workers make it faster
        model = Path(__file__).with_name("model.onnx")
        self.model = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.http = requests.Session()
        self.s3 = None

    def predict(self, payload):
        pixels = np.stack([self.preprocess(self.download(url)) for url in payload])
        (probabilities,) = self.model.run(["probabilities"], {"pixels": pixels})

        # One row for each item of the payload, in its order: Cortex keeps them.
        return [
            {"url": url, "class": str(row.argmax()), "confidence": round(float(row.max()), 4)}
            for url, row in zip(payload, probabilities, strict=True)
        ]

    def on_job_complete(self):
        rows = self.all_rows()

        held_out = [row for row in rows if "/test/" in row["url"]]
        print(f"accuracy on {len(rows)} images: {accuracy(rows):.4f}")
        print(f"accuracy on the {len(held_out)} images that the model was not trained on: {accuracy(held_out):.4f}")

        self.dest_dir.mkdir(parents=True, exist_ok=True)
        aggregated = self.dest_dir / "aggregated_results.json"
        aggregated.write_text(json.dumps(rows))
        print(f"wrote {aggregated}")

    def download(self, url):
        parts = urlsplit(url)
        if parts.scheme == "file":
            return Path(unquote(parts.path)).read_bytes()
        if parts.scheme == "s3":
            self.s3 = self.s3 or boto3.client("s3")
            return self.s3.get_object(Bucket=parts.netloc, Key=parts.path.lstrip("/"))["Body"].read()
        response = self.http.get(url, timeout=30)
        response.raise_for_status()
        return response.content

    def preprocess(self, image_bytes):
        image = Image.open(BytesIO(image_bytes)).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
        return np.asarray(image, dtype=np.float32).reshape(SIDE * SIDE) / 255

    def all_rows(self):
        """Read the rows of the whole job, whichever worker made them, from the operator."""
        operator, api, job = (os.environ[f"CORTEX_{name}"] for name in ("OPERATOR_ENDPOINT", "API_NAME", "JOB_ID"))
        key = os.environ.get("CORTEX_API_KEY")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        with self.http.get(f"{operator}/{api}/{job}/results", headers=headers, stream=True, timeout=30) as response:
            response.raise_for_status()
            return [json.loads(line) for line in response.iter_lines() if line]


def accuracy(rows):
    """The share of the images whose class is the one in their file name, as in `0005-label-5.png`."""
    labels = [(row["class"], match[1]) for row in rows if (match := re.search(r"-label-(\w+)\.", row["url"]))]
    return sum(found == label for found, label in labels) / len(labels) if labels else float("nan")
