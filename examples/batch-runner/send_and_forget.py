"""Send the samples to the runner, and do not wait for its answer."""

import json
import sys
from contextlib import suppress
from pathlib import Path

import requests

samples = json.loads(Path(__file__).with_name("samples.json").read_text())
with suppress(requests.ReadTimeout):  # all is sent by then, and the runner goes on
    requests.post(sys.argv[1], json=samples, timeout=(10, 0.05)).raise_for_status()
