"""Batch inference as a service.

`client` and `async_client` are all that a program needs. What they give is imported when they are called: workers
import this package, in environments that need not have any of it.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cortex.clients.async_client import AsyncClient as AsyncClient
    from cortex.clients.async_client import AsyncJob as AsyncJob
    from cortex.clients.client import Client as Client
    from cortex.clients.job import Job as Job
    from cortex.domain.errors import CortexError as CortexError
    from cortex.domain.errors import JobFailed as JobFailed

__version__ = "0.1.0"

_HOMES = {
    "AsyncClient": "cortex.clients.async_client",
    "AsyncJob": "cortex.clients.async_client",
    "Client": "cortex.clients.client",
    "CortexError": "cortex.domain.errors",
    "Job": "cortex.clients.job",
    "JobFailed": "cortex.domain.errors",
}
"""Where each public name comes from."""


def client(env: str | None = None) -> "Client":
    """Give a client of the operator of an environment, as `cortex env list` names them.

    Without a name it is the default environment; in a worker it is the operator of the worker's job. The operator of
    `local` is started in the background if none runs. Raises NotFound for an environment that is not there, and
    StartRefused where the operator of `local` cannot start.
    """
    from cortex.clients.client import Client
    from cortex.clients.connect import connect

    return Client(connect(env))


def async_client(env: str | None = None) -> "AsyncClient":
    """Give the same for a program with an event loop; the operator is looked for when something is asked first."""
    from cortex.clients.async_client import AsyncClient

    return AsyncClient(lambda: client(env))


if not TYPE_CHECKING:  # which would take it for any name at all

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module `cortex` has no attribute `{name}`")
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
