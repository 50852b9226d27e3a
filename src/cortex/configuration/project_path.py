"""Paths inside the project."""

from cortex.configuration.wording import describe_value


def check_project_path(text: str) -> str:
    """Give the path without empty parts and `.`. Raises ValueError where it may lead out of the project."""
    parts = [part for part in text.split("/") if part not in {"", "."}]
    if text.startswith(("/", "~")) or ".." in parts or "\\" in text or "\0" in text:
        rule = "relative to the folder of the configuration file and inside it, with `/` between its parts"
        raise ValueError(f"got {describe_value(text)}, must be {rule}")
    return "/".join(parts)
