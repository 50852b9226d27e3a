"""Isolated environments for projects that have a `requirements.txt`."""

from cortex.environments.ensure import BASE_SET, Environments, EnvironmentState

__all__ = ["BASE_SET", "EnvironmentState", "Environments"]
