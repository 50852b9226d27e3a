"""Isolated environments for projects that have a `requirements.txt`."""

from cortex.environments.ensure import BASE_SET, Environments

__all__ = ["BASE_SET", "Environments"]
