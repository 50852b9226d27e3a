"""The command `cortex`: finds the command that is asked for, and says what went wrong."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import IO, Any

import click

from cortex import __version__
from cortex.cli.group import PrefixGroup
from cortex.domain.errors import CortexError

COMMANDS = {
    "deploy": "Deploy the APIs of a configuration file.",
    "get": "Show all APIs, one API or one job.",
    "submit": "Submit a job to an API.",
    "predict": "Send a file to a realtime API, and print its answer.",
    "logs": "Print the log of a job or of a realtime API, and follow it.",
    "results": "Print the results of a job as JSON lines.",
    "failures": "Show why batches of a job failed, or print their items.",
    "verify": "Check that all that a job gave is there, and intact.",
    "rerun": "Run again what failed in a job, as another job.",
    "pause": "Let a running job stand still.",
    "resume": "Go on with a job that was paused.",
    "refresh": "Replace the replicas of a realtime API by new ones.",
    "delete": "Delete an API, or stop one of its jobs.",
    "prune": "Remove ended jobs, and what nothing needs any more.",
    "env": "Manage the operators that this command line knows.",
    "cluster": "Start, describe and stop the operator.",
    "operator": "Run an operator in the foreground.",
    "version": "Print the version.",
}
"""Each command and its help; it is the `command` of the module of its name."""

_DISK_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS})


class Failure(click.ClickException):
    """An error of ours as click shows it."""

    def show(self, file: IO[Any] | None = None) -> None:
        """Write `error: …` to stderr."""
        line = f"{click.style('error:', fg='red', bold=True)} {self.message}"
        click.echo(line, file=file, err=file is None, color=self.show_color)


class Misuse(Failure):
    """A command that cannot be understood, as click found."""

    exit_code = click.UsageError.exit_code


class CommandLine(PrefixGroup):
    """Imports the module of a command when it is asked for: `--help` and `version` need none of the others."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names of the commands in the order of a user's work."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import a command."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"cortex.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Understand the options before the command."""
        with _misuse_explained():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> object:
        """Run a command; what may go wrong becomes a message and an exit code."""
        try:
            with _misuse_explained():
                return super().invoke(ctx)
        except CortexError as error:
            raise Failure(str(error)) from error
        except KeyboardInterrupt:
            ctx.exit(130)
        except BrokenPipeError:  # `| head` has seen enough
            _forget_output()
            ctx.exit(141)
        except OSError as error:
            if error.errno not in _DISK_ERRORS:
                raise
            _forget_output()
            raise Failure(f"what was to be written could not be: {error}") from error


def _forget_output() -> None:
    """Have nothing more be tried when Python flushes stdout at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def _misuse_explained() -> Iterator[None]:
    """Show what click refuses as our own errors are shown."""
    try:
        yield
    except click.exceptions.NoArgsIsHelpError:
        raise
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "cortex"
        message = error.format_message().rstrip(".").replace("'", "`")
        hint = f"hint: `{command} --help` shows how it is used"
        raise Misuse(f"{message[0].lower()}{message[1:]}\n\n{hint}") from error


@click.group(cls=CommandLine, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(version)s")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Deploy predictors, submit datasets to them, and get every result exactly once."""
    if os.environ.get("NO_COLOR"):
        ctx.color = False
