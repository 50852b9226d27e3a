"""From the name of an environment to its operator."""

import logging
import os
from collections.abc import Callable
from typing import Final

from cortex import __version__
from cortex.clients.environments import LOCAL, Environment, local_data_directory, read_environments
from cortex.clients.local import LocalOperator
from cortex.clients.operator_client import OperatorClient

ENDPOINT_VARIABLE: Final = "CORTEX_OPERATOR_ENDPOINT"
KEY_VARIABLE: Final = "CORTEX_API_KEY"

_log: Final = logging.getLogger("cortex")


def connect(environment_name: str | None, tell: Callable[[str], None] = _log.info) -> OperatorClient:
    """Give the operator of an environment, started if it is that of `local` and none runs; `tell` is told so.

    Without a name it is the operator that a worker's environment names, or else that of the default environment.
    Raises NotFound for an environment that is not there, and StartRefused.
    """
    endpoint = os.environ.get(ENDPOINT_VARIABLE)
    if environment_name is None and endpoint:
        hint = f"{ENDPOINT_VARIABLE} names this operator: set {KEY_VARIABLE} to a key that it knows"
        return OperatorClient(endpoint, os.environ.get(KEY_VARIABLE) or None, key_hint=hint)
    environment = read_environments().find(environment_name)
    return client_of(environment, environment.operator_endpoint or local_address(tell))


def local_operator() -> LocalOperator:
    """Return the operator of `local`, running or not."""
    return LocalOperator(data_dir=local_data_directory(), ray_address=read_environments().find(LOCAL).ray_address)


def local_address(tell: Callable[[str], None]) -> str:
    """Give the address of the operator of `local`, started if none runs. Raises StartRefused."""
    running, was_started = local_operator().start()
    if was_started:
        tell(f"started the operator at {running.address} (stop it with `cortex cluster down`)")
    elif running.version != __version__:
        tell(f"the operator is still {running.version}, this is {__version__}: `cortex cluster down` ends the old one")
    return running.address


def client_of(environment: Environment, address: str) -> OperatorClient:
    """Give a client of the operator of an environment that is at this address."""
    # One that was started in the foreground on the data of `local` may ask for a key; that in the background does not.
    api_key = os.environ.get(KEY_VARIABLE) if environment.is_local else environment.api_key
    return OperatorClient(address, api_key or None, key_hint=_key_hint(environment))


def _key_hint(environment: Environment) -> str:
    if environment.is_local:
        return f"its operator was started with a key: set `{KEY_VARIABLE}` to that"
    key = "another key" if environment.api_key else "a key"
    endpoint = f"--operator-endpoint {environment.operator_endpoint}"
    return f"give `{environment.name}` {key}: `cortex env configure {environment.name} {endpoint} --api-key KEY`"
