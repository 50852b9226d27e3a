"""Ray Serve: a deployment with so many replicas behind its proxy.

From its documentation ("Configure Ray Serve deployments", "Performance tuning"): `num_replicas`, an `async` method, and
`max_ongoing_requests` raised, since the default of 5 is meant for slow models. Once as it comes; once in the mode for
high throughput ("Enable High Throughput on Ray Serve"), in which HAProxy, a program in C, sends requests to the
replicas themselves: `RAY_SERVE_ENABLE_HA_PROXY` and `RAY_SERVE_THROUGHPUT_OPTIMIZED`. The dashboard and usage
statistics are off, and access is not logged, as nobody else logs it.
"""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.empty import predict
from benchmarks.peers.peer import Server
from benchmarks.peers.starlette_uvicorn import free_port

RAY_SERVE, RAY_SERVE_FAST = "Ray Serve", "Ray Serve, high throughput"
ONGOING_REQUESTS = 100
SETTLE_SECONDS = 3.0
"""When replicas have come, HAProxy is started again, and the first one cuts its connections off."""

SPARE_CPUS = 2
"""So that the actors of Serve itself do not wait for cores that the replicas have been promised."""


class RayServe(Server):
    """See the module."""

    needs = ("ray", "ray.serve")

    def __init__(self, *, is_fast: bool = False) -> None:
        self.name = RAY_SERVE_FAST if is_fast else RAY_SERVE
        self.requests = 15_000 if is_fast else 1_000
        self._is_fast = is_fast

    @contextmanager
    def running(self, processes: int, folder: Path) -> Iterator[str]:  # noqa: ARG002 - its own folder is elsewhere
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        if self._is_fast:
            os.environ["RAY_SERVE_ENABLE_HA_PROXY"] = os.environ["RAY_SERVE_THROUGHPUT_OPTIMIZED"] = "1"
        import ray
        from ray import serve
        from starlette.requests import Request

        logging.getLogger("ray.serve").setLevel(logging.ERROR)

        @serve.deployment(num_replicas=processes, max_ongoing_requests=ONGOING_REQUESTS)
        class Predictor:
            async def __call__(self, request: Request) -> dict[str, str]:
                return predict(await request.json())

        ray.init(num_cpus=processes + SPARE_CPUS, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        try:
            port = free_port()
            serve.start(http_options={"host": "127.0.0.1", "port": port}, logging_config={"enable_access_log": False})
            serve.run(Predictor.bind(), route_prefix="/predict", logging_config={"enable_access_log": False})
            time.sleep(SETTLE_SECONDS)
            yield f"http://127.0.0.1:{port}/predict"
        finally:
            ray.shutdown()
