"""The user's predictor class: checked when it is deployed, loaded and called in a worker.

Only the standard library is used here: this package runs in the user's environment.
"""

from cortex.predictor.config import merge_config
from cortex.predictor.loaded import LoadedPredictor, construct, load
from cortex.predictor.source import MAX_SOURCE_BYTES, check_source

__all__ = ["MAX_SOURCE_BYTES", "LoadedPredictor", "check_source", "construct", "load", "merge_config"]
