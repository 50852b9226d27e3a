"""The file cortex.yaml: what a project's APIs are, read strictly."""

from cortex.configuration.endpoint import overlap
from cortex.configuration.job_options import JobOptions
from cortex.configuration.json_schema import json_schema
from cortex.configuration.read import read_configuration
from cortex.configuration.schema import BatchApi, Compute, Networking, Predictor

__all__ = [
    "BatchApi",
    "Compute",
    "JobOptions",
    "Networking",
    "Predictor",
    "json_schema",
    "overlap",
    "read_configuration",
]
