"""A progress bar for a job."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from cortex.cli.times import format_rate
from cortex.cli.views import failed_count, has_ended, status_text, succeeded_count, total_count
from cortex.client import JobFacts


class _RateColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        rate = task.finished_speed or task.speed
        return Text("" if rate is None else format_rate(rate))


@contextmanager
def progress_bar() -> Iterator[Callable[[JobFacts], None]]:
    """Draw a bar on stderr; what is yielded brings it up to date."""
    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[counts]}"),
        _RateColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    ]
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task("submitted", total=None, counts="")

        def show(job: JobFacts) -> None:
            succeeded, failed, total = succeeded_count(job), failed_count(job), total_count(job)
            counts = f"{succeeded}/{total}" + (f", {failed} failed" if failed else "")
            # Without a total the bar only swings: before the count is final, a share of it would be a lie.
            share = total if "start_time" in job or has_ended(job) else None
            progress.update(bar, description=status_text(job), completed=succeeded + failed, total=share, counts=counts)

        yield show
