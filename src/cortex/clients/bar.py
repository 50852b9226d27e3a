"""Progress bars: of a job, and of an upload."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from cortex.answers import JobFacts
from cortex.clients.facts import enqueuing_text, failed_count, has_ended, status_text, succeeded_count, total_count
from cortex.clients.pace import Pace


@contextmanager
def progress_bar() -> Iterator[Callable[[JobFacts], None]]:
    """Draw a bar on stderr; what is yielded brings it up to date."""
    console = Console(stderr=True)
    columns = [
        TextColumn("{task.description}"),
        _bar(console),
        TextColumn("{task.fields[counts]}"),
    ]
    pace = Pace()
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("submitted", total=None, counts="")

        def show(job: JobFacts) -> None:
            # Without a total the bar only swings: before the count is final, a share of it would be a lie.
            share = total_count(job) if "start_time" in job or has_ended(job) else None
            succeeded, failed = succeeded_count(job), failed_count(job)
            counts = enqueuing_text(job) or (
                f"{succeeded}/{total_count(job)}" + (f", {failed} failed" if failed else "") + pace.text(job)
            )
            progress.update(bar, description=status_text(job), completed=succeeded + failed, total=share, counts=counts)

        yield show


@contextmanager
def upload_bar(total_bytes: int) -> Iterator[Callable[[int], None]]:
    """Draw a bar on stderr; what is yielded is told how many more bytes the operator has."""
    console = Console(stderr=True)
    columns = [TextColumn("uploading"), _bar(console), DownloadColumn(binary_units=True), TimeRemainingColumn()]
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("uploading", total=total_bytes)
        yield lambda more_bytes: progress.update(bar, advance=more_bytes)


def _bar(console: Console) -> BarColumn:
    """Give a bar that is narrower where the texts need the room, in a colour that every terminal has."""
    return BarColumn(max(10, min(40, console.width - 60)), complete_style="green", finished_style="green")
