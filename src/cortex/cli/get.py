"""`cortex get`"""

import shlex
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

import click

from cortex.answers import ApiSummary, JobFacts
from cortex.cli.connection import Connection, connect, connect_to_all
from cortex.cli.options import environment_option, output_option, write_json
from cortex.cli.tables import hints
from cortex.cli.views import api_view, apis_view, job_view, shown_jobs
from cortex.cli.watch import Look, watch
from cortex.clients.facts import failed_count, has_ended, job_line, serving_line
from cortex.clients.job import Job
from cortex.domain.errors import CortexError
from cortex.domain.job import JobStatus


@click.command()
@click.argument("api_name", metavar="[API]", required=False)
@click.argument("job_id", metavar="[JOB]", required=False)
@click.option("-w", "--watch", "is_watching", is_flag=True, help="Look every two seconds, until the job ends.")
@environment_option
@output_option
def command(
    api_name: str | None, job_id: str | None, is_watching: bool, environment_name: str | None, output: str
) -> None:
    """Show all APIs, one API (with its jobs, or how it answers), or one job."""
    if is_watching and output == "json":
        raise click.UsageError("--watch draws for people: it cannot be combined with --output json")
    look = _what_to_look_at(api_name, job_id, environment_name)
    if is_watching:
        watch(look, title=f"$ cortex {shlex.join(sys.argv[1:])}")
    elif output == "json":
        write_json(look().answer)
    else:
        click.echo(look().text)


def _what_to_look_at(api_name: str | None, job_id: str | None, environment_name: str | None) -> Callable[[], Look]:
    if api_name is None:
        if environment_name is None:
            return partial(_look_at_environments, connect_to_all())
        return partial(_look_at_environment, connect(environment_name))
    connection = connect(environment_name)
    if job_id is None:
        return partial(_look_at_api, connection, api_name)
    return partial(_look_at_job, connection, connection.job(api_name, job_id))


def _look_at_environments(connections: list[Connection]) -> Look:
    """Look at the APIs of all environments; raises what is wrong with the first if nothing else is to be seen."""
    answers: list[dict[str, object]] = []
    apis: list[tuple[str, ApiSummary]] = []
    problems: list[CortexError] = []
    for connection in connections:
        name = connection.environment.name
        try:
            found = connection.client.apis()
        except CortexError as problem:
            problems.append(problem)
            answers.append({"env_name": name, "apis": [], "error": str(problem)})
        else:
            apis += [(name, api) for api in found]
            answers.append({"env_name": name, "apis": found, "error": ""})
    if problems and not apis:
        raise problems[0]
    text = apis_view(apis, datetime.now(UTC), with_environments=True)
    notes = [f"not shown: {problem.message}" for problem in problems]
    return Look(answer=answers, text="\n\n".join([text, *notes]), lines=_lines(apis))


def _look_at_environment(connection: Connection) -> Look:
    answer = connection.client.apis()
    apis = [(connection.environment.name, api) for api in answer]
    text = apis_view(apis, datetime.now(UTC), with_environments=False)
    return Look(answer=answer, text=text, lines=_lines(apis))


def _lines(apis: list[tuple[str, ApiSummary]]) -> list[str]:
    return [f"{name} {api['name']}: {_line(api)}" for name, api in apis]


def _line(api: ApiSummary) -> str:
    if "status" in api:
        return serving_line(api["status"])
    if "apis" in api:
        return f"splits between {len(api['apis'])} apis"
    return f"{api['running_jobs']} running jobs"


def _look_at_api(connection: Connection, name: str) -> Look:
    api = connection.client.api(name)
    fields = ("spec", "endpoint", "status", "metrics") if "status" in api else ("spec", "endpoint", "job_statuses")
    return Look(
        answer=[{field: value for field, value in api.items() if field in fields}],
        text=api_view(api, datetime.now(UTC)),
        lines=[
            *([serving_line(api["status"])] if "status" in api else []),
            f"environment: {api['environment']['status']}",
            *(f"{job['job_id']} {job_line(job)}" for job in shown_jobs(api["job_statuses"])),
        ],
    )


def _look_at_job(connection: Connection, job: Job) -> Look:
    answer = connection.client.job(job.endpoint, job.id)
    status = answer["job_status"]
    text = job_view(answer, datetime.now(UTC))
    which = f"{job.api} {job.id}"
    commands = []
    if status["status"] == JobStatus.PAUSED:
        commands.append((connection.command(f"resume {which}"), "go on with it"))
    if failed_count(status):
        commands.append((connection.command(f"failures {which}"), "why batches failed"))
    if commands:
        text += "\n\n" + hints(commands)
    return Look(
        answer=answer,
        text=text,
        lines=[job_line(status), *_reason(status)],
        is_last=has_ended(status),
    )


def _reason(status: JobFacts) -> list[str]:
    return [f"reason: {status['status_reason']}"] if status.get("status_reason") else []
