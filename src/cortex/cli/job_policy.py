"""What `cortex submit` asks for besides the dataset: retries, limits, and where the results go."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import click

from cortex.clients.local_files import absolute, is_local, shares_files
from cortex.clients.operator_client import OperatorClient
from cortex.domain.duration import read_duration
from cortex.domain.errors import InvalidSubmission
from cortex.domain.output import OutputFormat
from cortex.domain.policy import OnFailedBatch

NONE: Final = "none"
"""Switches off what cortex.yaml has as a default."""


def _check_duration(_: click.Context, __: click.Parameter, text: str | None) -> str | None:
    try:
        if text is not None:
            read_duration(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    return text


def _check_limit(context: click.Context, parameter: click.Parameter, text: str | None) -> str | None:
    return text if text == NONE else _check_duration(context, parameter, text)


_OPTIONS: Final = (
    click.option(
        "--retries", metavar="N", type=click.IntRange(0, 999), help="How many times more a batch that fails is tried."
    ),
    click.option(
        "--backoff",
        metavar="TIME",
        callback=_check_duration,
        help="How long it waits for the first retry; then ever longer.",
    ),
    click.option(
        "--no-retry", metavar="NAME", multiple=True, help="An exception that no retry would help: `ValueError`."
    ),
    click.option(
        "--batch-timeout",
        metavar="TIME",
        callback=_check_limit,
        help="How long one call of `predict` may take: `30s`.",
    ),
    click.option(
        "--timeout", metavar="TIME", callback=_check_limit, help="How long the job may take: `500ms`, `5m`, `2h`."
    ),
    click.option(
        "--max-failures", metavar="N|N%", help="More failed batches than this, or than this share, stop the job."
    ),
    click.option(
        "--on-failed-batch",
        type=click.Choice([each.value for each in OnFailedBatch]),
        help="Whether all of a failed batch has failed, or only the items at fault.",
    ),
    click.option(
        "--results", "results_path", metavar="PATH", help="Write the results into this folder, too: s3://bucket/out."
    ),
    click.option(
        "--results-format", type=click.Choice([each.value for each in OutputFormat]), help="How to write them."
    ),
    click.option("--include-input", is_flag=True, help="Write each row with the item that it is of."),
)


def job_policy_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command these options."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPolicy:
    """These options of the command."""

    retries: int | None
    backoff: str | None
    no_retry: tuple[str, ...]
    batch_timeout: str | None
    timeout: str | None
    max_failures: str | None
    on_failed_batch: str | None
    results_path: str | None
    results_format: str | None
    include_input: bool

    @classmethod
    def take(cls, options: dict[str, Any]) -> "JobPolicy":
        """Take them out of all options of the command."""
        return cls(**{name: options.pop(name) for name in cls.__slots__})

    @property
    def first_flag(self) -> str | None:
        """The first of them that was given, as it is written; None where none was."""
        flags = {"results_path": "--results"}
        for name in self.__slots__:
            value = getattr(self, name)
            if value is not None and value is not False and value != ():
                return flags.get(name, "--" + name.replace("_", "-"))
        return None

    def check_options(self) -> None:
        """Raise UsageError for options that do not go together."""
        if self.results_path == NONE and (self.results_format or self.include_input):
            option = "--results-format" if self.results_format else "--include-input"
            raise click.UsageError(f"{option} says how results are written, and `--results none` that they are not")

    def fields(self) -> Mapping[str, Any]:
        """Give the fields of a job request that they stand for."""
        retries = {
            "attempts": None if self.retries is None else self.retries + 1,
            "backoff": self.backoff,
            "no_retry": self.no_retry or None,
        }
        results = {
            "path": self._path(),
            "format": self.results_format,
            "include_input": self.include_input or None,
        }
        fields = {
            "retries": _given(retries),
            "batch_timeout": self.batch_timeout,
            "timeout": self.timeout,
            "max_failures": _count(self.max_failures),
            "on_failed_batch": self.on_failed_batch,
            "results": NONE if self.results_path == NONE else _given(results),
        }
        return {name: None if value == NONE else value for name, value in _given(fields).items()}

    def check(self, operator: OperatorClient) -> None:
        """Raise InvalidSubmission where results would go to a folder of another machine than was meant."""
        path = self.results_path
        if path in (None, NONE) or not is_local(str(path)) or shares_files(operator.info()):
            return
        raise InvalidSubmission(
            f"--results {path}: the operator does not see the folders of this machine",
            hint="write them to s3://, gs:// or az://; `file:///path` is a folder of the operator's machine",
        )

    def _path(self) -> str | None:
        path = self.results_path
        return absolute(path) if path and is_local(path) else path


def _given(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value not in (None, {})}


def _count(text: str | None) -> int | str | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 20 else text
