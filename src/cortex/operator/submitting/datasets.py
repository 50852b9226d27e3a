"""The files that submissions name: where they are, whether they can be read, and what they would give."""

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol

from cortex.domain.errors import InvalidSubmission
from cortex.domain.layout import JobFolder
from cortex.domain.output import Output
from cortex.domain.source import FileSource, SourceKind
from cortex.enqueuing.events import Listed
from cortex.files.address import local_path, read_address
from cortex.operator.export import Exporters
from cortex.operator.submitting.enqueuing import Enqueuers
from cortex.operator.submitting.submission import UPLOAD, Submission
from cortex.storage.files import sync_file

_SHOWN_PATHS: Final = 10


class Uploads(Protocol):
    """Where files lie that clients have sent for their next Job."""

    def folder(self, upload_id: str) -> Path:
        """Give the folder of an upload. Raises NotFound."""

    def take(self, upload_id: str, destination: Path) -> None:
        """Move an upload to where its Job has it. Raises NotFound."""


@dataclass(slots=True, kw_only=True)
class Datasets:
    """See the module."""

    enqueuers: Enqueuers
    exporters: Exporters
    uploads: Uploads
    allowed: tuple[Path, ...] | None  # the folders whose files may be read; None for all
    data: Path  # the data directory

    async def check_all(self, submission: Submission) -> None:
        """Look, at the same time, at the files that a submission names and where its results are to be written.

        Raises InvalidSubmission.
        """
        checks = [
            asyncio.create_task(check)
            for check in (
                self.check(submission.source) if submission.source else None,
                self.check_output(submission.output) if submission.output else None,
            )
            if check is not None
        ]
        try:
            for check in checks:  # in this order: if both fail, it is the first that is told
                await check
        finally:
            for check in checks:
                check.cancel()
            await asyncio.gather(*checks, return_exceptions=True)

    async def check(self, source: FileSource) -> None:
        """Look whether there is a file to enqueue. Raises InvalidSubmission."""
        await self.enqueuers.check(*await self._where_they_are(source))

    async def check_output(self, output: Output) -> None:
        """Look whether results may be written where a submission wants them. Raises InvalidSubmission."""
        if read_address(output.path).scheme == "file":
            folder = Path(os.fsdecode(local_path(output.path))).resolve()
            if folder.is_relative_to(self.data.resolve()):
                raise InvalidSubmission(
                    f"results.path: `{output.path}` is in the operator's data directory",
                    hint="what is in there may be removed at any time: name a folder elsewhere",
                )
        await self.exporters.check(output, self.allowed)

    async def listing(self, source: FileSource) -> AsyncGenerator[Listed]:
        """List the files. Raises InvalidSubmission, also where there are none."""
        async with aclosing(self.enqueuers.listing(*await self._where_they_are(source))) as groups:
            async for group in groups:
                yield group

    async def summary(self, submission: Submission) -> dict[str, Any]:
        """Count what a submission would process, and name its first files. Raises InvalidSubmission."""
        source = submission.source
        if source is None:
            counts = {"files": None, "bytes": None, "items": submission.item_count, "batches": len(submission.batches)}
            return {**counts, "paths": []}
        files, size_bytes, paths = 0, 0, list[str]()
        async for group in self.listing(source):
            files += len(group.urls)
            size_bytes += sum(group.sizes)
            paths += group.urls[: _SHOWN_PATHS - len(paths)]
        is_each_an_item = source.kind is SourceKind.FILE_PATH_LISTER
        return {
            "files": files,
            "bytes": size_bytes,
            "items": files if is_each_an_item else None,
            "batches": -(-files // source.batch_size) if is_each_an_item else None,
            "paths": paths,
        }

    async def claim(self, source: FileSource, folder: JobFolder) -> FileSource:
        """Move what was uploaded for a Job into its folder; give its source as it is from now on."""
        taken = {upload_id: folder.uploads / upload_id for path in source.paths if (upload_id := _upload_id(path))}
        if not taken:
            return source
        await asyncio.to_thread(self._take, taken, folder)
        return replace(source, paths=tuple(_place(path, taken) for path in source.paths))

    def _take(self, uploads: dict[str, Path], folder: JobFolder) -> None:
        """Slow for one of many folders."""
        folder.uploads.mkdir()
        sync_file(folder.root)
        for upload_id, home in uploads.items():
            self.uploads.take(upload_id, home)
        sync_file(folder.uploads)

    async def _where_they_are(self, source: FileSource) -> tuple[FileSource, tuple[Path, ...] | None]:
        upload_ids = {upload_id for path in source.paths if (upload_id := _upload_id(path))}
        # In a thread, because another upload may be on its way to the disk, and they wait for each other.
        found = {upload_id: await asyncio.to_thread(self.uploads.folder, upload_id) for upload_id in upload_ids}
        allowed = None if self.allowed is None else (*self.allowed, *found.values())
        return replace(source, paths=tuple(_place(path, found) for path in source.paths)), allowed


def _upload_id(path: str) -> str | None:
    match = UPLOAD.fullmatch(path)
    return match["id"] if match else None


def _place(path: str, folders: dict[str, Path]) -> str:
    match = UPLOAD.fullmatch(path)
    if match is None:
        return path
    name = match["name"] or ""
    if ".." in name.split("/"):
        raise InvalidSubmission(f"`{path}`: an upload is one folder, and `..` leads out of it")
    return f"{folders[match['id']]}/{name}"
