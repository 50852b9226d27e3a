"""From the environment that a command names to a client of its operator, and its jobs."""

from dataclasses import dataclass

from cortex.answers import ApiSummary
from cortex.cli.options import talk
from cortex.clients.client import find_api
from cortex.clients.connect import client_of, local_address, local_operator
from cortex.clients.environments import Environment, read_environments
from cortex.clients.job import Job
from cortex.clients.operator_client import OperatorClient
from cortex.clients.predicting import check_takes_jobs
from cortex.domain.errors import JobNotFound


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
        return find_api(self.client, name, hint=f"`{self.command('get')}` lists the APIs that are")

    def batch_api(self, name: str) -> ApiSummary:
        """Find an API that takes jobs; raises ApiNotFound, and InvalidRequest for another kind of API."""
        hint = f"`{self.command(f'predict {name} FILE')}` sends it a request"
        return check_takes_jobs(self.api(name), hint=hint)

    def job(self, api_name: str, job_id: str | None) -> Job:
        """Find a job of an API, or its newest; raises ApiNotFound, and JobNotFound where there is none."""
        api = self.batch_api(api_name)
        return Job(self.client, api["endpoint"], api_name, job_id or self.newest_job(api))

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


def _connection(environment: Environment, default: str) -> Connection:
    client = client_of(environment, environment.operator_endpoint or local_address(talk))
    return Connection(environment=environment, client=client, is_default=environment.name == default)
