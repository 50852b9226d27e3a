"""`cortex predict`"""

import json
import sys
from mimetypes import guess_type
from pathlib import Path

import click

from cortex.answers import ApiSummary
from cortex.cli.connection import connect
from cortex.cli.options import environment_option, talk
from cortex.clients.predicting import JSON, OCTETS, Prediction, check_answers_at_once
from cortex.domain.duration import read_duration
from cortex.domain.errors import InvalidRequest


def _seconds(_: click.Context, __: click.Parameter, text: str | None) -> float | None:
    try:
        seconds = None if text is None else read_duration(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    if seconds == 0:
        raise click.BadParameter(f"got `{text}`, must be longer than that")
    return seconds


@click.command()
@click.argument("api_name", metavar="API")
@click.argument("path", metavar="FILE")
@click.option(
    "--timeout",
    "timeout_seconds",
    metavar="TIME",
    callback=_seconds,
    show_default="as long as it takes",
    help="Wait no longer for the answer: 500ms, 30s, 5m.",
)
@environment_option
def command(api_name: str, path: str, timeout_seconds: float | None, environment_name: str | None) -> None:
    """Send a file to a RealtimeAPI, and print what `predict` returns.

    FILE is JSON where its name ends in .json; any other is sent as it is. `-` reads stdin, which is JSON if it can be.

    \b
    cortex predict iris-classifier sample.json
    echo '{"sepal_length": 5.2}' | cortex predict iris-classifier -
    """
    body = _read(path)
    connection = connect(environment_name)
    submit = connection.command(f"submit {api_name} --items FILE --batch-size 1")
    api = check_answers_at_once(connection.api(api_name), hint=f"`{submit}` makes a job of one item, too")
    content_type = _content_type(path)
    # Without a type, what can be read as JSON is read as that.
    headers = {} if content_type is None else {"Content-Type": content_type}
    if _has_to_wait(api):
        talk(f"no replica of `{api_name}` is ready yet: the request waits for one")
    _write(connection.client.predict(api["endpoint"], body, headers, timeout_seconds=timeout_seconds))


def _has_to_wait(api: ApiSummary) -> bool:
    """Tell whether a request waits for a replica; where none can be started it is refused at once."""
    if "status" not in api:
        return False
    counts = api["status"]["replica_counts"]
    updated, stale = counts["updated"], counts["stale"]
    return not (updated["ready"] or stale["ready"] or updated["failed"] or updated["stalled"])


def _read(path: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise InvalidRequest(f"`{path}` cannot be read: {error.strerror}") from error


def _content_type(path: str) -> str | None:
    if path == "-":
        return None
    if Path(path).suffix.lower() == ".json":
        return JSON
    found, compression = guess_type(Path(path).name)
    return OCTETS if found is None or compression else found


def _write(answer: Prediction) -> None:
    """Write text with a line end, for people on a terminal JSON over several lines; everything else as it came."""
    body = answer.body
    if answer.is_json and sys.stdout.isatty():
        body = json.dumps(answer.value(), indent=2, ensure_ascii=False).encode()
    if answer.is_text and not body.endswith(b"\n"):
        body += b"\n"
    sys.stdout.buffer.write(body)
    sys.stdout.buffer.flush()
