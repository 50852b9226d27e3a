"""The function as a service of BentoML."""

import os
from typing import Any

import bentoml

from benchmarks.empty import predict

PROCESSES = "BENCHMARK_PROCESSES"


@bentoml.service(
    workers=int(os.environ.get(PROCESSES, "1")), logging={"access": {"enabled": False}}, metrics={"enabled": False}
)
class Predictor:
    """Answers at once."""

    @bentoml.api
    async def predict(self, payload: dict[str, Any], /) -> dict[str, str]:
        """Answer a request."""
        return predict(payload)
