"""How far a Job is with `on_job_complete`: its start is in the ledger, its outcome on the page of its Worker."""

from dataclasses import dataclass

from cortex.domain.batch import HookState
from cortex.domain.layout import JobFolder
from cortex.storage.pages import read_page


@dataclass(slots=True)
class Hook:
    """See the module."""

    folder: JobFolder
    worker: str | None  # that was told to run it, or is about to be told
    exists: bool | None = None  # None until a Worker with a live predictor has told
    is_over: bool = False
    error: str | None = None

    def ended(self, error: str | None) -> None:
        """Its Worker has told that it is over."""
        self.is_over, self.error = True, error

    def look(self) -> None:
        """See whether its Worker has written down that it is over."""
        if self.worker is None or self.is_over:
            return
        state = read_page(self.folder, self.worker).hook
        if state is HookState.SUCCEEDED:
            self.ended(None)
        elif state is HookState.FAILED:
            self.ended("it raised; the log has the traceback")

    def worker_gone(self, cause: str) -> None:
        """Its Worker is gone: unless the page says otherwise, the hook has died with it and is not run again."""
        self.look()
        if not self.is_over:
            self.ended(f"the worker that ran it {cause}")
