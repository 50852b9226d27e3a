"""One process of a replica: construct the predictor, answer requests, end.

One thread hears the operator, and so many as the API has threads per process call predict: each request is given to the
first of them that is free.
"""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from cortex.domain.frame import Frame
from cortex.domain.layout import JobFolder
from cortex.predictor import LoadedPredictor
from cortex.worker.answers import Answers
from cortex.worker.link import Link
from cortex.worker.output import Output
from cortex.worker.page import map_words
from cortex.worker.raised import show, summarize
from cortex.worker.setup import construct_as_set_up, read_setup
from cortex.worker.termination import Termination

_WAIT_SECONDS: Final = 0.5


class Replica:
    """See the module."""

    def __init__(
        self, order: dict[str, Any], load_class: Callable[[], type[Any]], output: Output, termination: Termination
    ) -> None:
        self._order = order
        self._load_class = load_class
        self._output = output
        self._folder = JobFolder(Path(order["folder"]))
        self._page = map_words(self._folder.page(order["worker"]))
        termination.heed_the_supervisor_alone(self._page)

    def live(self) -> int:
        """Answer requests until the operator says that this process is done."""
        self._output.log(f"loading the predictor from {self._order['predictor_path']}")
        try:
            setup = read_setup(self._folder)
            predictor = construct_as_set_up(self._load_class(), setup)
        except BaseException as error:
            print(show(error))  # noqa: T201 - to the API's log
            self._output.flush()
            failed = {"phase": "failed", "error": summarize(error), "names": [], "busy": []}
            self._introduce(lambda: failed).wait_for_end()
            return 1
        self._output.flush()
        self._answer_requests(predictor, setup["threads_per_process"])
        self._output.close()
        return 0

    def _answer_requests(self, predictor: LoadedPredictor, count: int) -> None:
        unanswered: set[int] = set()
        ready = {"phase": "ready", "error": None, "names": predictor.names}
        link = self._introduce(lambda: {**ready, "busy": sorted(unanswered)})
        answers = Answers(predictor, self._output, link, unanswered, self._page)
        # They end with the process, also in the middle of predict: one that never returns must not keep it.
        threads = [threading.Thread(target=answers.give, daemon=True) for _ in range(count)]
        for thread in threads:
            thread.start()
        while (frame := link.receive())["type"] != "end":
            if frame["type"] == "request":
                answers.take(frame)
        for _ in threads:
            answers.end()
        for thread in threads:
            while thread.is_alive():  # not without end: a signal that comes just before the wait is heard after it
                thread.join(_WAIT_SECONDS)

    def _introduce(self, facts: Callable[[], Frame]) -> Link:
        """Tell the operator, and every later one, who this is, how its predictor has begun, and what it is at."""
        hello = {"type": "hello", "role": "worker", "worker": self._order["worker"], "serves": True}
        return Link(Path(self._order["channel"]), lambda: {**hello, **facts()})
