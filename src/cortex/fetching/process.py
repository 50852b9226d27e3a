"""The operator's side of fetching models: one process for each, shared by all who need the same at that time."""

import asyncio
import os
import shutil
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex
from typing import Final

from cortex.child_process.children import MOST_AT_ONCE, Call, ChildDied, Children
from cortex.domain.errors import ModelFailed
from cortex.domain.preparation_state import PreparationState
from cortex.domain.quantity import show_bytes
from cortex.fetching.events import WORDS, Failed, Fetching, Here, Request
from cortex.files.fence import Allowed, write_allowed
from cortex.files.places import imports_for
from cortex.shared_work import Log, SharedWork

_MAX_RESTARTS: Final = 3

_Model = tuple[str, str]
"""The type of its predictor, and its URL."""


@dataclass(slots=True, kw_only=True)
class Fetchers:
    """The models that predictors load: those on this machine where they lie, others as they were fetched last.

    As many processes are at work as there are CPUs, at least two; the others wait.
    """

    children: Children
    models: Path  # the folder of all that were fetched
    unfinished: Path  # a folder on the same disk; what lies there when an operator starts is removed
    log: Path  # where the standard error of the processes goes
    allowed: Allowed = None
    _fetches: dict[_Model, SharedWork] = field(default_factory=dict)
    _states: dict[_Model, PreparationState] = field(default_factory=dict)
    _turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MOST_AT_ONCE))

    def state(self, predictor_type: str, url: str) -> PreparationState:
        """Say how far a model is; pending, where nobody has asked for it since the operator was started."""
        model = (predictor_type, url)
        if fetch := self._fetches.get(model):
            return PreparationState(status="building", message=fetch.latest or f"looking up model {url}")
        return self._states.get(model, PreparationState(status="pending"))

    async def fetch(self, predictor_type: str, url: str, log: Log) -> Path:
        """Give what is loaded, a file or a folder, after looking the model up and, if its content is new, fetching it.

        Callers who need the same model at the same time share that; each follows it in its own log. A cancelled
        caller leaves it to the others, the last one ends it. Raises ModelFailed; asking again tries again.
        """
        model = (predictor_type, url)
        fetch = self._fetches.get(model)
        if fetch is None:
            fetch = self._fetches[model] = SharedWork()
            fetch.task = asyncio.create_task(self._run(model, fetch))
        elif fetch.latest:
            log(fetch.latest)
        return await fetch.wait(log, forget=lambda: self._forget(model, fetch))

    async def _run(self, model: _Model, fetch: SharedWork) -> Path:
        try:
            async with self._turns:
                path = await self._persist(model, fetch)
        except ModelFailed as failure:
            self._states[model] = PreparationState(status="failed", message=str(failure))
            raise
        else:
            self._states[model] = PreparationState(status="ready")
            return path
        finally:
            self._forget(model, fetch)

    def _forget(self, model: _Model, fetch: SharedWork) -> None:
        if self._fetches.get(model) is fetch:
            del self._fetches[model]

    async def _persist(self, model: _Model, fetch: SharedWork) -> Path:
        """Have a process do it, and another one where that dies."""
        deaths = 0
        while True:
            unfinished = self.unfinished / token_hex(8)
            try:
                here = await self._fetch(model, unfinished, fetch)
            except ChildDied as death:
                deaths += 1
                if deaths > _MAX_RESTARTS:
                    raise ModelFailed(
                        f"model {model[1]}: the process that fetches it {death.how}, {deaths} times",
                        hint=f"ask whoever keeps the operator: `{self.log}` may say more",
                    ) from death
                fetch.tell(f"the process that fetches model {model[1]} {death.how}, and is started again")
            else:
                _tell_outcome(model[1], here, fetch)
                return Path(here.path)
            finally:
                await asyncio.to_thread(shutil.rmtree, unfinished, ignore_errors=True)

    async def _fetch(self, model: _Model, unfinished: Path, fetch: SharedWork) -> Here:
        predictor_type, url = model
        request = Request(
            predictor_type=predictor_type,
            url=url,
            allowed=write_allowed(self.allowed),
            models=os.fspath(self.models),
            unfinished=os.fspath(unfinished),
        )
        call = Call(
            module="cortex.fetching",
            action="fetch",
            request=WORDS.write_request(request),
            log=self.log,
            imports=imports_for([url]),
        )
        is_told = False
        async with aclosing(self.children.events(WORDS, call)) as events:
            async for event in events:
                if isinstance(event, Fetching):
                    if not is_told:
                        fetch.tell(f"fetching model {url} ({show_bytes(event.total_bytes)})")
                        is_told = True
                    done = f"{show_bytes(event.done_bytes)} of {show_bytes(event.total_bytes)}"
                    fetch.latest = f"fetching model {url}: {done}"
                elif isinstance(event, Failed):
                    raise ModelFailed(f"model {url}: {event.reason}", hint=event.hint)
                else:
                    return event
        raise ModelFailed(f"model {url}: its process said nothing")  # cannot be: events end with the last word


def _tell_outcome(url: str, here: Here, fetch: SharedWork) -> None:
    if here.doubt:
        fetch.tell(f"using model {url} as it was fetched before, because it cannot be looked up: {here.doubt}")
    elif here.fetched_bytes:
        fetch.tell(f"fetched model {url}")
