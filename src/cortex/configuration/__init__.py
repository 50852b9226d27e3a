"""The file cortex.yaml: what a project's APIs are, read strictly."""

from cortex.configuration.apis import Api, BatchApi, RealtimeApi, TrafficSplitter
from cortex.configuration.autoscaling import Autoscaling
from cortex.configuration.compute import Compute
from cortex.configuration.endpoint import overlap
from cortex.configuration.job_options import JobOptions
from cortex.configuration.json_schema import json_schema
from cortex.configuration.networking import Networking
from cortex.configuration.predictor import Predictor
from cortex.configuration.read import read_configuration
from cortex.configuration.update_strategy import UpdateStrategy

__all__ = [
    "Api",
    "Autoscaling",
    "BatchApi",
    "Compute",
    "JobOptions",
    "Networking",
    "Predictor",
    "RealtimeApi",
    "TrafficSplitter",
    "UpdateStrategy",
    "json_schema",
    "overlap",
    "read_configuration",
]
