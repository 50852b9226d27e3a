"""A real Worker process, and in place of the operator the test, which leases it Batches frame by frame."""

import json
import subprocess
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from channel_peer import TIMEOUT_SECONDS, Peer, listen, start_worker
from cortex.domain.frame import Frame
from cortex.domain.job import SegmentRange
from cortex.domain.layout import JobFolder
from cortex.storage.pages import create_page, write_lease


class LoneWorker:
    """One Worker; entered, it has constructed its predictor and waits for a Lease."""

    def __init__(
        self, folder: JobFolder, worker: str, predictor: str, *, setup: Mapping[str, Any], segment: SegmentRange
    ) -> None:
        self.folder = folder
        self.worker = worker
        self.segment = segment
        self._job_id = worker.partition("-")[0]
        self._project = folder.root / "project"
        self._project.mkdir(exist_ok=True)
        (self._project / "predictor.py").write_text(textwrap.dedent(predictor))
        folder.setup.write_text(json.dumps({"config": {}, "job_spec": {}, **setup}))
        create_page(folder, worker)

    def __enter__(self) -> Self:
        channel = self.folder.root / "channel"
        with listen(channel) as listener:
            self.process = self._start(channel)
            self._peer = Peer(listener)
        assert "hello" == self._peer.hello["type"]
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()
        self._peer.close()

    def lease(self, token: int, first: int, end: int, **extras: Any) -> Frame:
        """Lease it Batches, and give what it says of them at the end."""
        self.offer(token, first, end, **extras)
        return self.hear()

    def offer(self, token: int, first: int, end: int, **extras: Any) -> None:
        """Lease it Batches."""
        write_lease(self.folder, self.worker, token=token, first=first, limit=end)
        of_segment = {"segment": self.segment.number, "segment_first": self.segment.first}
        lease = {"type": "lease", "token": token, **of_segment, "first": first, "end": end}
        self._peer.send({**lease, **extras})

    def hear(self) -> Frame:
        """Give what it says next. Fails where it ends instead."""
        return self._peer.hear()

    def finish(self) -> str:
        """Let it end; give what it has printed."""
        self._peer.send({"type": "finish", "message": "no batches left in queue"})
        return self.printed()

    def printed(self) -> str:
        """Give what it has printed, once it has ended."""
        return self.process.communicate(timeout=TIMEOUT_SECONDS)[0]

    def _start(self, channel: Path) -> "subprocess.Popen[str]":
        order = {
            "worker": self.worker,
            "job_id": self._job_id,
            "folder": str(self.folder.root),
            "channel": str(channel),
            "project": str(self._project),
            "python_path": None,
            "predictor_path": str(self._project / "predictor.py"),
            "env": {},
        }
        return start_worker(order)
