"""Bring files of this machine to the operator."""

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from cortex.cli.dry_run import format_size
from cortex.cli.options import talk
from cortex.clients.local_files import Upload
from cortex.clients.operator_client import OperatorClient
from cortex.clients.uploading import send_files


def send(client: OperatorClient, upload: Upload, *, can_resume: bool = True) -> None:
    """Upload what the operator does not have yet of these files, with a bar on a terminal."""
    try:
        with _display(upload) as advance:
            send_files(client.upload, upload, advance)
    except KeyboardInterrupt:
        if can_resume:
            talk("\nthe same command goes on with the upload where it was")
        raise


def _display(upload: Upload) -> AbstractContextManager[Callable[[int], None]]:
    if not sys.stderr.isatty():
        count = len(upload.files)
        talk(f"uploading {count} {'file' if count == 1 else 'files'}, {format_size(upload.total_bytes)}")
        return nullcontext(lambda _: None)
    # Here, because rich takes longer to import than most commands to run, and only a terminal needs it.
    from cortex.clients.bar import upload_bar

    return upload_bar(upload.total_bytes)
