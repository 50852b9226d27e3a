"""All Templates of a supervisor: who is forked from which, how many blanks each has ready, and when it ends.

A blank is forked for every order that finds none ready. Once nobody works, as many as have worked at once are forked
again, so that the next Job meets them; they live as long as their Template.

Who dies, and what then: an idle blank is forgotten. One that has not printed yet, or was never born because its
Template has died, is no loss either: its Worker becomes a fresh process (`Workers.lose_blank`). With a Template go its
idle blanks, and whoever would be forked from it becomes a fresh process; those that are ordered later are forked from
another one. All of them die with their supervisor:
a Template and each blank by the kernel's hand (`PR_SET_PDEATHSIG`), one that is not born yet because it finds another
parent than it should.
"""

import contextlib
import os
import selectors
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol

from cortex.domain.frame import Frame, encode
from cortex.worker.blank import MAX_ORDER_BYTES, Blank, open_blank
from cortex.worker.forking import State, Template, start_template, template_key
from cortex.worker.memory import MemoryLimits

_READ_BYTES: Final = 1 << 16
_MOST_READY: Final = 2 * (os.cpu_count() or 1)
"""So many blanks are kept of a Template at the most: more Workers would not start any sooner."""


class Workers(Protocol):
    """Who has Workers started, and hears what becomes of them."""

    def start_fresh(self, worker: str) -> None:
        """Start a Worker as a fresh process: it cannot be forked."""

    def log_import(self, worker: str, printed: bytes) -> None:
        """Keep what the import has printed, in the log of this Worker, which is the first."""

    def give_blank(self, worker: str, blank: Blank) -> None:
        """A blank was sent the order of this Worker."""

    def blank_born(self, worker: str) -> None:
        """It has a process."""

    def lose_blank(self, worker: str) -> None:
        """It was never born, and never will be: nobody has the order."""


@dataclass(slots=True)
class Templates:
    """See the module."""

    selector: selectors.BaseSelector
    memory: MemoryLimits
    workers: Workers
    keep_warm_seconds: float = 0.0
    _templates: list[Template] = field(default_factory=list)  # with those that have died, while Workers need them

    def start(self, frame: Frame) -> None:
        """Start a Worker as soon, and in the way, that is possible. Raises OSError where there can be no Template."""
        worker, template = frame["order"]["worker"], self._for(frame)
        template.unused_since = None
        template.workers.add(worker)
        template.at_work.add(worker)
        template.most_at_work = max(template.most_at_work, len(template.at_work))
        template.waiting.append(frame)
        self._serve(template)

    def warm_up(self, frame: Frame, count: int) -> None:
        """Have a Template, and so many blanks, for Workers that may soon be ordered. Raises OSError."""
        template = self._for(frame)
        template.most_at_work = max(template.most_at_work, count)
        if not template.workers:
            template.unused_since = time.monotonic()
        self._refill(template)

    def _for(self, frame: Frame) -> Template:
        key = template_key(frame)
        for template in self._templates:
            if template.key == key and template.state is not State.GONE:
                return template
        template = self._start_template(frame, key)
        self._templates.append(template)
        return template

    def withdraw(self, worker: str) -> bool:
        """Start this Worker no more; False if it has been started."""
        for template in list(self._of(worker)):
            for frame in template.waiting:
                if frame["order"]["worker"] == worker:
                    template.waiting.remove(frame)
                    if not template.waiting and template.state is State.IMPORTING:
                        self._end(template)  # nobody waits for an import that may never end
                    return True
        return False

    def rest(self, worker: str) -> None:
        """A Worker has said all that it had to say: blanks for the next Job need not wait until it is gone."""
        for template in self._of(worker):
            template.at_work.discard(worker)
            self._refill(template)

    def forget(self, worker: str) -> None:
        """A Worker is over."""
        for template in self._of(worker):
            template.workers.discard(worker)
            if not template.workers:
                template.unused_since = time.monotonic()

    def _of(self, worker: str) -> Iterator[Template]:
        return (template for template in self._templates if worker in template.workers)

    # Ends

    def due(self) -> list[float]:
        """Give when each Template that no Worker needs is to end."""
        return [at + self.keep_warm_seconds for each in self._templates if (at := each.unused_since)]

    def end_unused(self, now: float) -> None:
        """End the Templates that nobody has needed for long enough."""
        for template in list(self._templates):
            if template.unused_since is not None and now >= template.unused_since + self.keep_warm_seconds:
                self._end(template)

    def end_all(self) -> None:
        """End all Templates; their Workers live on."""
        for template in list(self._templates):
            self._end(template)

    def died(self, pid: int) -> None:
        """A process has died that is no Worker: if it was an idle blank, nobody has lost anything."""
        for template in self._templates:
            for blank in [blank for blank in template.idle if blank.pid == pid]:
                blank.pid = None  # soon it may be another's
                self._discard(template, blank)

    def pids(self) -> dict[str, int]:
        """Give the Templates and the idle blanks, by name."""
        there = [template for template in self._templates if template.is_there]
        idle = {blank.name: blank.pid for template in there for blank in template.idle if blank.pid is not None}
        return {template.name: template.process.pid for template in there} | idle

    def limited(self) -> dict[str, int]:
        """Give the Templates that may use only so much memory."""
        return {each.name: each.process.pid for each in self._templates if each.is_there and each.mem_bytes}

    def kill(self, name: str) -> None:
        """Kill the Template, or the idle blank, of this name. Workers that wait for it become fresh processes."""
        for template in self._templates:
            if template.name == name:
                template.kill()
            for blank in [blank for blank in template.idle if blank.name == name]:
                self._discard(template, blank)

    # Templates

    def _start_template(self, frame: Frame, key: str) -> Template:
        name, mem_bytes = f"template-{os.urandom(4).hex()}", frame["place"]["mem_bytes"]
        group = self.memory.admit(name, mem_bytes) if mem_bytes else None
        try:
            template = start_template(frame, key=key, name=name, memory_group=group)
        except OSError:
            self.memory.dismiss(name)
            raise
        self.selector.register(template.link, selectors.EVENT_READ, partial(self._hear, template))
        return template

    def _hear(self, template: Template) -> None:
        if template.is_there and not template.hear():  # it may have been ended in this very round
            self._close(template)
        self._serve(template)
        self._refill(template)

    def _end(self, template: Template) -> None:
        self._templates = [other for other in self._templates if other is not template]
        self._close(template)

    def _close(self, template: Template) -> None:
        with contextlib.suppress(KeyError, ValueError):  # it has hung up already
            self.selector.unregister(template.link)
        template.end()
        for blank in list(template.idle):
            self._discard(template, blank)
        self.memory.dismiss(template.name)

    def _serve(self, template: Template) -> None:
        while template.waiting and template.state is not State.IMPORTING and not template.has_hands_full:
            frame = template.waiting.pop(0)
            worker = frame["order"]["worker"]
            if blank := self._give(template, frame):
                self._log_import(template, worker)
                self.workers.give_blank(worker, blank)
            else:
                self.workers.start_fresh(worker)

    def _log_import(self, template: Template, worker: str) -> None:
        """Let the log of the first Worker begin with what the import has printed: it may be stopped before a word."""
        if template.printed is not None:
            os.lseek(template.printed, 0, os.SEEK_SET)
            while data := os.read(template.printed, _READ_BYTES):
                self.workers.log_import(worker, data)
            os.close(template.printed)
            template.printed = None

    # Blanks

    def _give(self, template: Template, frame: Frame) -> Blank | None:
        """Give an order to a blank: to one that is ready, or else to one that is forked for it; None if none can be."""
        order, worker = encode({"type": "order", "order": frame["order"]}), frame["order"]["worker"]
        while template.state is State.FORKING and len(order) <= MAX_ORDER_BYTES:
            try:
                blank = template.idle.pop(0) if template.idle else self._ask(template)
            except OSError:
                return None
            try:
                blank.give(worker, order)
            except OSError:  # it has died just now
                self._discard(template, blank)
            else:
                if blank.pid is not None:
                    self._hang_up(blank)
                return blank
        return None

    def _ask(self, template: Template) -> Blank:
        name = f"blank-{os.urandom(4).hex()}"
        group = self.memory.admit(name, template.mem_bytes) if template.mem_bytes else None
        try:
            blank, (link, pipe) = open_blank(name)
        except OSError:
            self.memory.dismiss(name)
            raise
        self.selector.register(blank.link, selectors.EVENT_READ, partial(self._hear_blank, template, blank))
        template.unborn.add(blank)
        try:
            template.ask_for(group, link, pipe)
        except OSError:
            self._discard(template, blank)
            raise
        finally:
            link.close()
            os.close(pipe)
        return blank

    def _refill(self, template: Template) -> None:
        """Have as many blanks as the next Job may need, once none works and the import is over."""
        if template.at_work or template.state is State.IMPORTING:
            return
        wanted, template.most_at_work = min(template.most_at_work, _MOST_READY), 0
        with contextlib.suppress(OSError):  # then they are forked when they are needed, or not at all
            while (
                len(template.idle) < wanted
                and template.state is State.FORKING
                and not template.has_hands_full
                and self.keep_warm_seconds
            ):
                template.idle.append(self._ask(template))

    def hear_unborn(self) -> None:
        """Take what blanks say that are not known to be born: their deaths may be known before their births."""
        for template in list(self._templates):
            for blank in list(template.unborn):
                self._hear_blank(template, blank)

    def _hear_blank(self, template: Template, blank: Blank) -> None:
        if blank.link.fileno() < 0:  # it may have been let go in this very round
            return
        is_there = blank.hear()
        if blank.pid is not None and blank in template.unborn:
            template.unborn.discard(blank)
            if blank.worker is not None:
                self._hang_up(blank)  # it has its order, and nothing more to say
                self.workers.blank_born(blank.worker)
        elif not is_there:
            self._hang_up(blank)
            if blank.worker is None:
                self._discard(template, blank)
            else:
                template.unborn.discard(blank)
                self.workers.lose_blank(blank.worker)
        self._serve(template)

    def _hang_up(self, blank: Blank) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self.selector.unregister(blank.link)
        blank.link.close()

    def _discard(self, template: Template, blank: Blank) -> None:
        """Forget a blank that has no order, and end it."""
        template.idle = [other for other in template.idle if other is not blank]
        template.unborn.discard(blank)
        self._hang_up(blank)
        blank.end()
        self.memory.dismiss(blank.name)
