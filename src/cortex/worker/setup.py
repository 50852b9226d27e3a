"""What a predictor is constructed with: the setup that the operator has left in the folder of the Job or API."""

import json
from typing import Any

from cortex.domain.layout import JobFolder
from cortex.predictor import LoadedPredictor, construct
from cortex.predictor.models import open_client

Setup = dict[str, Any]


def read_setup(folder: JobFolder) -> Setup:
    """Read it. Raises OSError."""
    setup: Setup = json.loads(folder.setup.read_bytes())
    return setup


def construct_as_set_up(predictor_class: type[Any], setup: Setup) -> LoadedPredictor:
    """Load the models and construct the predictor; what either raises passes unchanged."""
    # The setup of an earlier version knows of no models.
    client = open_client(setup.get("predictor_type", "python"), setup.get("models", []))
    return construct(predictor_class, config=setup["config"], job_spec=setup["job_spec"], client=client)
