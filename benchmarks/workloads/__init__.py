"""The workloads, each with its verdicts."""

from collections.abc import Callable
from typing import Final

from benchmarks.options import Options
from benchmarks.report import Report
from benchmarks.workloads import (
    w1_dispatch,
    w2_model,
    w3_lines,
    w4_latency,
    w5_results,
    w6_growth,
    w7_http,
    w8_start,
    w9_realtime,
    w10_from_zero,
    w11_ray,
    w12_objects,
)

WORKLOADS: Final[dict[str, Callable[[Report, Options], None]]] = {
    "W1": w1_dispatch.run,
    "W2": w2_model.run,
    "W3": w3_lines.run,
    "W4": w4_latency.run,
    "W5": w5_results.run,
    "W6": w6_growth.run,
    "W7": w7_http.run,
    "W8": w8_start.run,
    "W9": w9_realtime.run,
    "W10": w10_from_zero.run,
    "W11": w11_ray.run,
    "W12": w12_objects.run,
}
