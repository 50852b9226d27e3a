"""The dataset that `cortex submit` is given, in a file that holds the request or by options."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from cortex.cli.job_config import read_config
from cortex.cli.job_policy import JobPolicy
from cortex.clients.job_request import (
    JobOptions,
    Prepared,
    WorkerRange,
    as_it_is,
    with_files,
    with_items,
    with_uploaded_files,
)
from cortex.clients.local_files import (
    LocalFile,
    absolute,
    common_root,
    make_upload,
    shares_files,
)
from cortex.clients.operator_client import OperatorClient
from cortex.clients.sources import prepare_files
from cortex.domain.errors import InvalidSubmission
from cortex.domain.source import FileSource, SourceKind

Prepare = Callable[[OperatorClient], Prepared]
"""Completes a request once there is an operator to ask."""

STDIN = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """The words and options of the command."""

    words: tuple[str, ...]  # after the API: FILE, or more of what --files or --lines began
    items: str | None
    files: tuple[str, ...]
    lines: tuple[str, ...]
    includes: tuple[str, ...]
    excludes: tuple[str, ...]
    workers: int | WorkerRange | None
    batch_size: int | None
    config: tuple[str, ...]
    policy: JobPolicy

    @property
    def may_be_uploaded_again(self) -> bool:
        """Whether the same command would find the same files: what came from stdin is gone."""
        return self.items != STDIN

    def check(self) -> None:
        """Raise UsageError for options that do not go together."""
        named = {"items": () if self.items is None else (self.items,), "files": self.files, "lines": self.lines}
        chosen = [name for name, paths in named.items() if paths]
        if len(chosen) > 1:
            raise click.UsageError(f"--{chosen[0]} and --{chosen[1]} cannot be combined: a job has one dataset")
        if not chosen:
            self._check_file()
            return
        if "" in (*named[chosen[0]], *self.words):  # of a variable that is not set; it would be the current folder
            raise click.UsageError(f"--{chosen[0]} got an empty path: `.` is the current folder")
        if self.words and "items" in chosen:
            raise click.UsageError(f"--items takes one file: what is `{self.words[0]}`?")
        if "items" in chosen and (self.includes or self.excludes):
            raise click.UsageError("--include and --exclude choose among files: they go with --files and --lines")
        if self.batch_size is None and "lines" not in chosen:
            raise click.UsageError("missing option `--batch-size`: how many items `predict` gets at a time")

    def _check_file(self) -> None:
        if not self.words:
            raise click.UsageError("missing argument `FILE`, or a dataset: --items, --files or --lines")
        if len(self.words) > 1:
            raise click.UsageError(f"got unexpected extra argument `{self.words[1]}`")
        for name in ("workers", "batch_size", "config", "includes", "excludes"):
            if getattr(self, name):
                option = "--" + name.replace("_", "-").removesuffix("s" if name.endswith("cludes") else "")
                raise _whole_request(option)
        if self.policy.first_flag:
            raise _whole_request(self.policy.first_flag)

    def read(self, context: click.Context) -> Prepare:
        """Read and check what is here; files that are needed for longer are kept as long as the context."""
        if self.items:
            return self._read_items(context, self.items)
        if self.files or self.lines:
            return self._read_paths()
        prepared = as_it_is(_read_request(self.words[0]))
        return lambda _: prepared

    def _job(self) -> JobOptions:
        config, policy = read_config(self.config), self.policy.fields()
        return JobOptions(workers=self.workers or 1, config=config, policy=policy)

    def _read_paths(self) -> Prepare:
        job = self._job()
        source = FileSource(
            kind=SourceKind.FILE_PATH_LISTER if self.files else SourceKind.DELIMITED_FILES,
            paths=(*(self.files or self.lines), *self.words),
            includes=self.includes,
            excludes=self.excludes,
            batch_size=self.batch_size or 1,
        )
        return lambda client: prepare_files(client, job, source)

    def _read_items(self, context: click.Context, name: str) -> Prepare:
        from cortex.cli.items import items_file, read_items  # here, because only this needs a JSON parser

        job, batch_size = self._job(), self.batch_size or 1
        path = context.with_resource(items_file(name))
        items = read_items(path, name)
        inline = None if items.json is None else with_items(job, items.json, batch_size)
        source = FileSource(kind=SourceKind.DELIMITED_FILES, paths=(str(path),), batch_size=batch_size)

        def prepare(client: OperatorClient) -> Prepared:
            if inline is not None:
                return inline
            if name != STDIN and shares_files(client.info()):
                return with_files(job, source)
            upload = make_upload([_local_file(path)])
            root = common_root([absolute(str(path))])
            return with_uploaded_files(job, source, upload, root=root, item_count=items.count)

        return prepare


def _whole_request(option: str) -> click.UsageError:
    return click.UsageError(f"{option} goes with --items, --files or --lines: FILE holds the whole request")


def _local_file(path: Path) -> LocalFile:
    stat = path.stat()
    return LocalFile(name=path.name, path=path, size_bytes=stat.st_size, version=str(stat.st_mtime_ns))


def _read_request(file: str) -> bytes:
    try:
        with click.open_file(file, "rb") as opened:
            request: Any = opened.read()
    except OSError as error:
        raise InvalidSubmission(
            f"`{file}` cannot be read: {error.strerror}",
            hint="FILE holds the job request as JSON; `-` reads it from stdin",
        ) from error
    return bytes(request)
