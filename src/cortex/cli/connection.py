"""From the environment that a command names to a client of its operator."""

import os
from dataclasses import dataclass

from cortex import __version__
from cortex.answers import ApiSummary
from cortex.cli.background import LocalOperator
from cortex.cli.environments import Environment, local_data_directory, read_environments
from cortex.cli.options import talk
from cortex.client import OperatorClient
from cortex.domain.errors import ApiNotFound, JobNotFound


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """An environment, and a client of its operator."""

    environment: Environment
    client: OperatorClient
    is_default: bool

    def command(self, words: str) -> str:
        """Return a command to suggest, with the environment where it needs one."""
        flag = "" if self.is_default else f" --env {self.environment.name}"
        return f"cortex {words}{flag}"

    def api(self, name: str) -> ApiSummary:
        """Find an API without asking for its jobs; raises ApiNotFound."""
        for api in self.client.apis():
            if api["name"] == name:
                return api
        raise ApiNotFound(f"`{name}` is not deployed", hint=f"`{self.command('get')}` lists the APIs that are")

    def newest_job(self, api: ApiSummary) -> str:
        """Return the id of the newest job of an API; raises JobNotFound."""
        if api["latest_job"] is None:
            submit = self.command(f"submit {api['name']} FILE")
            raise JobNotFound(f"`{api['name']}` has no jobs yet", hint=f"`{submit}` submits one")
        return api["latest_job"]["job_id"]


def connect(environment_name: str | None) -> Connection:
    """Connect to an environment, or the default one; starts the operator of `local` if none runs."""
    environments = read_environments()
    environment = environments.find(environment_name)
    if environment_name is None and len(environments.known) > 1:
        talk(f"using {environment.name} environment")
    return _connection(environment, environments.default)


def connect_to_all() -> list[Connection]:
    """Connect to every environment; `local` only counts where it is the default one or its operator runs."""
    environments = read_environments()
    return [
        _connection(environment, environments.default)
        for environment in environments.known
        if environment.name == environments.default or not environment.is_local or local_operator().find()
    ]


def local_operator() -> LocalOperator:
    """Return the operator of `local`, running or not."""
    return LocalOperator(data_dir=local_data_directory())


def _connection(environment: Environment, default: str) -> Connection:
    address = environment.operator_endpoint or _local_address()
    client = client_of(environment, address)
    return Connection(environment=environment, client=client, is_default=environment.name == default)


def client_of(environment: Environment, address: str) -> OperatorClient:
    """Give a client of the operator of an environment that is at this address."""
    # One that was started in the foreground on the data of `local` may ask for a key; that in the background does not.
    api_key = os.environ.get("CORTEX_API_KEY") if environment.is_local else environment.api_key
    return OperatorClient(address, api_key or None, key_hint=_key_hint(environment))


def _key_hint(environment: Environment) -> str:
    if environment.is_local:
        return "its operator was started with a key: set `CORTEX_API_KEY` to that"
    key = "another key" if environment.api_key else "a key"
    endpoint = f"--operator-endpoint {environment.operator_endpoint}"
    return f"give `{environment.name}` {key}: `cortex env configure {environment.name} {endpoint} --api-key KEY`"


def _local_address() -> str:
    running, was_started = local_operator().start()
    if was_started:
        talk(f"started the operator at {running.address} (stop it with `cortex cluster down`)")
    elif running.version != __version__:
        talk(f"the operator is still {running.version}, this is {__version__}: `cortex cluster down` ends the old one")
    return running.address
