"""What `config` a predictor gets: the API's, and the job's on top of it."""

import copy
from collections.abc import Mapping
from typing import Any


def merge_config(api_config: Mapping[str, Any], job_config: Mapping[str, Any] | None) -> dict[str, Any]:
    """Lay a job's config over its API's: maps merge, anything else of the job's replaces.

    Neither is modified, and nothing in the result belongs to either.
    """
    merged = copy.deepcopy(dict(api_config))
    for key, value in (job_config or {}).items():
        before = merged.get(key)
        if isinstance(before, dict) and isinstance(value, dict):
            merged[key] = merge_config(before, value)
        else:
            merged[key] = copy.deepcopy(value)
    return merged
