"""The section `networking`: how an API is reached."""

from typing import Annotated

from pydantic import AfterValidator, Field

from cortex.configuration.durations import LimitSeconds
from cortex.configuration.endpoint import ENDPOINT_PATTERN, MAX_CHARACTERS, normalize_endpoint
from cortex.configuration.section import Section


class Networking(Section):
    """How the API is reached."""

    endpoint: Annotated[str, AfterValidator(normalize_endpoint)] | None = Field(
        default=None,
        description="The path of the API's URL. The default is `/` and the name of the API.",
        examples=["/image-classifier", "/vision/digits"],
        json_schema_extra={"pattern": ENDPOINT_PATTERN, "maxLength": MAX_CHARACTERS},
    )


class RealtimeNetworking(Networking):
    """How the API is reached."""

    timeout: LimitSeconds = Field(
        default=None,
        description="How long a request may take, waiting included; then it is answered with 504.",
        examples=["30s", 0.5],
    )


def endpoint_of(name: str, networking: Networking) -> str:
    """Give the path of an API's URL. Raises ValueError where its name would be one that it cannot have."""
    endpoint = networking.endpoint or f"/{name}"
    try:
        normalize_endpoint(endpoint)
    except ValueError as error:
        raise ValueError(f"the endpoint of an API is its name: {error}; set `networking.endpoint`") from error
    return endpoint
