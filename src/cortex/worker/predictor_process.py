"""A process with the user's predictor: what a Worker of a Job and a process of a replica have in common."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from cortex.domain.frame import Frame
from cortex.domain.layout import JobFolder
from cortex.predictor import LoadedPredictor, construct
from cortex.predictor.models import open_client
from cortex.worker.link import Link
from cortex.worker.output import Output
from cortex.worker.page import map_words
from cortex.worker.raised import show, summarize
from cortex.worker.termination import Termination

Setup = dict[str, Any]
"""What the operator has left in the folder of the Job, or of the API's version, to construct the predictor with."""


class PredictorProcess(ABC):
    """Constructs the predictor as it was set up, tells the operator how that has gone, and works."""

    FACTS: ClassVar[Mapping[str, Any]]
    """What an operator hears of this kind of process, beside how it is, where there is no predictor."""

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
        """Do what the operator says until it says that this process is done; give the exit code."""
        self._output.log(f"loading the predictor from {self._order['predictor_path']}")
        try:
            setup: Setup = json.loads(self._folder.setup.read_bytes())
            predictor = self._construct(setup)
        except BaseException as error:
            print(show(error))  # noqa: T201 - to the log of the Job or API
            self._output.flush()
            facts = {**self.FACTS, "phase": "failed", "error": summarize(error)}
            self._introduce(lambda: facts).wait_for_end()  # so that the operator knows why before it sees the exit
            return 1
        self._work(predictor, setup)
        return 0

    @abstractmethod
    def _work(self, predictor: LoadedPredictor, setup: Setup) -> None:
        """Introduce this process, and do what the operator says until it is done."""

    def _construct(self, setup: Setup) -> LoadedPredictor:
        """Load the models and construct the predictor; what either raises passes unchanged."""
        predictor_class = self._load_class()
        # The setup of an earlier version knows of no models.
        client = open_client(setup.get("predictor_type", "python"), setup.get("models", []))
        return construct(predictor_class, config=setup["config"], job_spec=setup["job_spec"], client=client)

    def _introduce(self, facts: Callable[[], Frame]) -> Link:
        """Tell the operator, and every later one, who this is, and what is the case then."""
        hello = {"type": "hello", "role": "worker", "worker": self._order["worker"]}
        return Link(Path(self._order["channel"]), lambda: {**hello, **facts()})
