"""The pages of an API's processes: each says what its process has begun, also when that is gone."""

from contextlib import suppress
from dataclasses import dataclass

from cortex.domain.layout import ApiFolder
from cortex.serving.release import api_id_of
from cortex.storage.pages import create_page, read_page


@dataclass(frozen=True, slots=True)
class Pages:
    """See the module."""

    folder: ApiFolder

    def create(self, process: str) -> None:
        """Make the page of a process that is to be started. Raises OSError."""
        create_page(self.folder.version(api_id_of(process)), process)

    def begun(self, process: str) -> int | None:
        """Give the highest number of a request that a process has begun; None where its page does not say."""
        with suppress(OSError):
            return read_page(self.folder.version(api_id_of(process)), process).current
        return None

    def remove(self, process: str) -> None:
        """Remove the page of a process that is gone. May be repeated."""
        with suppress(OSError):
            self.folder.version(api_id_of(process)).page(process).unlink()

    def names(self) -> list[str]:
        """Name the processes that have a page: those that live, and those that died while nobody heard of it."""
        return [page.stem for page in self.folder.root.glob("*/workers/*.page")]
