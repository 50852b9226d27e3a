"""One process of a replica: construct the predictor, answer requests, end.

One thread hears the operator, and so many as the API has threads per process call predict: each request is given to the
first of them that is free.
"""

import threading
from typing import ClassVar, Final

from cortex.predictor import LoadedPredictor
from cortex.worker.answers import Answers
from cortex.worker.predictor_process import PredictorProcess, Setup

_WAIT_SECONDS: Final = 0.5


class Replica(PredictorProcess):
    """See the module."""

    FACTS: ClassVar = {"serves": True, "names": [], "busy": []}

    def _work(self, predictor: LoadedPredictor, setup: Setup) -> None:
        self._output.flush()
        unanswered: set[int] = set()
        ready = {**self.FACTS, "phase": "ready", "error": None, "names": predictor.names}
        link = self._introduce(lambda: {**ready, "busy": sorted(unanswered)})
        answers = Answers(predictor, self._output, link, unanswered, self._page)
        # They end with the process, also in the middle of predict: one that never returns must not keep it.
        threads = [threading.Thread(target=answers.give, daemon=True) for _ in range(setup["threads_per_process"])]
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
        self._output.close()
