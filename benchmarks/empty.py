"""What every server of W9 calls for a request: as good as nothing."""

from typing import Any

PAYLOAD = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}
ANSWER = {"label": "setosa"}


def predict(payload: Any) -> dict[str, str]:  # noqa: ARG001 - a predictor gets what was sent
    """Answer at once."""
    return {"label": "setosa"}
