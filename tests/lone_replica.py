"""A real process of a replica, and in place of the operator the test, which sends it requests frame by frame."""

import json
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from channel_peer import TIMEOUT_SECONDS, Peer, listen, start_worker
from cortex.domain.batch import Page
from cortex.domain.frame import Frame
from cortex.domain.layout import ApiFolder, JobFolder
from cortex.storage.pages import create_page
from cortex.worker.page import read_word, write_word

WORKER = "replica-v1-0a1b2c3d"


class LoneReplica:
    """One process of a replica; entered, it has said hello."""

    def __init__(self, root: Path, predictor: str, *, setup: Mapping[str, Any] | None = None, threads: int = 1) -> None:
        self._channel = root / "channel"
        self._order = prepare(root, predictor, {"threads_per_process": threads, **(setup or {})})
        self._page = JobFolder(Path(self._order["folder"])).page(WORKER)
        self._requests = 0

    def __enter__(self) -> Self:
        with listen(self._channel) as listener:
            self.process = start_worker(self._order)
            self._peer = Peer(listener)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()
        self._peer.close()

    @property
    def hello(self) -> Frame:
        """How it has introduced itself last."""
        return self._peer.hello

    def request(self, body: bytes = b"", content_type: str | None = None, **named: Any) -> int:
        """Send a request; give its id."""
        self._requests += 1
        self._peer.send({"type": "request", "id": self._requests, "content_type": content_type, **named}, body)
        return self._requests

    def ask(self, body: bytes = b"", content_type: str | None = None, **named: Any) -> Frame:
        """Send a request; give its answer."""
        identity = self.request(body, content_type, **named)
        answer = self.hear()
        assert ("response", identity) == (answer["type"], answer["id"])
        return answer

    def hear(self) -> Frame:
        """Give what it says next. Fails where it ends instead."""
        return self._peer.hear()

    def change_operators(self) -> None:
        """Hang up, and be the next operator."""
        with listen(self._channel) as listener:
            self._peer.close()
            self._peer = Peer(listener)

    def begun(self) -> int:
        """Give the highest number of a request that may have begun, as its page says it; -1 for none."""
        return read_word(self._page, Page.CURRENT) - 1

    def interrupt(self, *, is_meant: bool) -> None:
        """Send SIGTERM, as its supervisor does where it is meant, or as anybody does."""
        if is_meant:
            write_word(self._page, Page.IS_TO_END, 1)
        self.process.terminate()

    def let_end(self) -> None:
        """Say that it may end."""
        self._peer.send({"type": "end"})

    def end(self) -> str:
        """Let it end; give what it has printed."""
        self.let_end()
        return self.printed()

    def printed(self) -> str:
        """Give what it has printed, once it has ended."""
        return self.process.communicate(timeout=TIMEOUT_SECONDS)[0]


def prepare(root: Path, predictor: str, setup: Mapping[str, Any]) -> dict[str, Any]:
    """Write all that a process of a replica finds when it starts; give its order."""
    folder, project = ApiFolder(root / "api").version("v1"), root / "project"
    folder.workers.mkdir(parents=True)
    folder.setup.write_text(json.dumps({"config": {}, "job_spec": None, "threads_per_process": 1, **setup}))
    create_page(folder, WORKER)
    project.mkdir()
    (project / "predictor.py").write_text(textwrap.dedent(predictor))
    return {
        "worker": WORKER,
        "job_id": "replica-v1",
        "folder": str(folder.root),
        "channel": str(root / "channel"),
        "project": str(project),
        "python_path": None,
        "predictor_path": str(project / "predictor.py"),
        "predictor_type": "python",
        "serves": True,
        "env": {"CORTEX_API_NAME": "classifier"},
    }
