"""A progress bar for a job."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from cortex.answers import JobFacts
from cortex.cli.pace import Pace
from cortex.cli.views import failed_count, has_ended, status_text, succeeded_count, total_count


@contextmanager
def progress_bar() -> Iterator[Callable[[JobFacts], None]]:
    """Draw a bar on stderr; what is yielded brings it up to date."""
    console = Console(stderr=True)
    columns = [
        TextColumn("{task.description}"),
        # Narrower where the texts need the room, and in a colour that every terminal has.
        BarColumn(max(10, min(40, console.width - 60)), complete_style="green", finished_style="green"),
        TextColumn("{task.fields[counts]}"),
    ]
    pace = Pace()
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("submitted", total=None, counts="")

        def show(job: JobFacts) -> None:
            # Without a total the bar only swings: before the count is final, a share of it would be a lie.
            share = total_count(job) if "start_time" in job or has_ended(job) else None
            succeeded, failed = succeeded_count(job), failed_count(job)
            counts = f"{succeeded}/{total_count(job)}" + (f", {failed} failed" if failed else "") + pace.text(job)
            progress.update(bar, description=status_text(job), completed=succeeded + failed, total=share, counts=counts)

        yield show
