"""The life of a station: what is said here is told there, after what it refers to.

Of what the operator says to supervisor and Worker, most passes as it is. The start is rewritten when all that it needs
is here, and a Lease when its Segment is in the mirror.
"""

import asyncio
import os
import signal
import socket
import subprocess
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain
from typing import Final, NoReturn

import cortex
from cortex.domain.frame import Frame, Message
from cortex.domain.lease import SETTLE_SECONDS
from cortex.domain.station_order import StationOrder
from cortex.domain.ticket import Ticket
from cortex.station.bundles import Bundles
from cortex.station.deposits import Deposits
from cortex.station.local_channel import LocalChannel, LocalSide
from cortex.station.log_tail import LogTail
from cortex.station.messages import Told
from cortex.station.mirror import Mirror
from cortex.station.node import Node
from cortex.station.operator_link import OperatorLink, OperatorSide
from cortex.station.preparation import Preparation
from cortex.station.referral import Referral
from cortex.station.shared import Shared
from cortex.station.starting import Starting
from cortex.station.stored_rows import StoredRows
from cortex.station.supervisor_process import kill_group
from cortex.worker.link import ORPHAN_SECONDS

_LOOK_SECONDS: Final = 0.2
"""How often it is looked what the Worker has written while it may be in a Batch."""

_END_SECONDS: Final = 3.0
_GONE_SECONDS: Final = 2.0
_LOOK_AGAIN_SECONDS: Final = 0.01
_KEEP_UNUSED_SECONDS: Final = 7 * 24 * 3600.0


class Station(OperatorSide, LocalSide):
    """See the module."""

    def __init__(
        self,
        order: StationOrder,
        ticket: Ticket,
        node: Node,
        mirror: Mirror,
        supervisor: "subprocess.Popen[bytes]",
    ) -> None:
        self._order = order
        self._worker = ticket.worker
        self._node = node
        self._mirror = mirror
        self._supervisor = supervisor
        self._link = OperatorLink(
            order.host, order.port, heartbeat_seconds=order.heartbeat_seconds, hello=self._hello, side=self
        )
        self._channel = LocalChannel(mirror.channel, self)
        self._log = LogTail(mirror.folder.log)
        self._bundles = Bundles(lambda frame: self._link.tell([(frame, None)]))
        self._shared = Shared(node.root)
        self._starting = Starting(
            ticket.worker,
            Preparation(self._shared, self._bundles, say=self._say),
            mirror,
            self._channel,
            tell=self._link.tell,
            fail=self._fail,
        )
        self._referral = Referral(begin=self._begin, tell=self._link.tell)
        self._deposits: Deposits | None = None
        if order.storage is not None and not ticket.serves:
            self._deposits = Deposits(root=order.storage["url"], job_id=ticket.job_id, worker=ticket.worker)
            mirror.bring_rows_by(StoredRows(deposits=self._deposits))
        self._is_there = asyncio.Event()  # the operator
        self._is_ended = asyncio.Event()
        self._alone_since = 0.0
        self._failure: str | None = None
        self._pid: int | None = None  # the Worker's
        self._is_in_hook = False
        self._has_met_supervisor = False
        self._supervisor_hung_up = False  # and the operator was not told yet
        self._outliving: asyncio.Task[None] | None = None
        self._next_look: asyncio.TimerHandle | None = None
        self._beats = 0
        self._unanswered: deque[tuple[int, int]] = deque()  # beats, and how much of the log was told before each

    async def live(self) -> None:
        """Be the station until there is nothing left to do; when this returns, nothing of it is left."""
        loop = asyncio.get_running_loop()
        self._alone_since = loop.time()
        loop.add_signal_handler(signal.SIGCHLD, self._reap)
        self._reap()  # it may have been too quick for the signal
        connecting = loop.create_task(self._link.run())
        sweeping = loop.create_task(asyncio.to_thread(self._node.remove_left))
        await self._is_ended.wait()
        connecting.cancel()
        await self._end_supervisor()
        self._channel.close()
        await sweeping
        self._node.remove_mirror(self._worker)
        with suppress(OSError):  # the next one will try again
            # Not before: this Worker may need what was not used for long.
            await asyncio.to_thread(self._shared.remove_unused, time.time() - _KEEP_UNUSED_SECONDS)

    # OperatorSide

    def operator_there(self) -> None:
        """See OperatorSide: it may be another one, or the same after a while."""
        self._is_there.set()
        self._channel.open()
        self._link.tell(self._news_of_all())
        self._bundles.ask_again()
        if self._failure is not None:
            self._fail(self._failure)
        self._look_later()

    def operator_gone(self) -> None:
        """See OperatorSide."""
        self._is_there.clear()
        self._alone_since = asyncio.get_running_loop().time()
        self._channel.close()
        self._supervisor_hung_up = False
        self._unanswered.clear()
        self._referral.forget()
        self._log.tell_again()
        self._mirror.tell_again()

    def operator_says(self, frame: Frame) -> None:
        """See OperatorSide."""
        if self._referral.holds(frame):
            return
        peer, kind = frame.pop("peer", None), frame["type"]
        try:
            if peer == "worker" and kind == "lease":
                self._lease(frame)
            elif peer == "supervisor" and kind == "start":
                self._starting.start(frame)
            elif peer == "supervisor" and kind == "stop" and self._starting.is_at_work:
                self._starting.give_up()
            elif peer is not None:
                self._is_in_hook |= kind == "run_hook"
                self._channel.send(peer, frame, frame.pop("data", None))
                self._look_later()
            else:
                self._obey(frame)
        except OSError as error:
            self._keeps_nothing(error)

    def _keeps_nothing(self, error: OSError) -> None:
        self._fail(f"could not go on: its machine does not keep what it is sent: {error}")

    def _obey(self, frame: Frame) -> None:
        match frame["type"]:
            case "beat":
                self._beat_is_answered(frame.get("n", self._beats))
            case "payload":
                self._mirror.take_piece(frame["data"])
            case "limit":
                self._mirror.limit(frame["token"], frame["limit"])
                asyncio.get_running_loop().call_later(SETTLE_SECONDS, self._page_seen, frame["id"])
            case "rows_wanted":
                self._send_rows(frame["offset"], frame["bytes"])
            case "piece":
                self._bundles.take(frame)
            case "end":
                if why := frame.get("why"):
                    print(f"the operator has no use for this station: {why}", flush=True)  # noqa: T201
                self._is_ended.set()

    def beat(self) -> Iterator[Message]:
        """See OperatorSide: what is printed is told with it."""
        if self._link.is_there:
            yield from self._log.news()
        self._beats += 1
        self._unanswered.append((self._beats, self._log.told))
        yield {"type": "beat", "n": self._beats}, None

    def cannot_tell(self, error: OSError) -> None:
        """See OperatorSide."""
        self._fail(f"could not go on: what it has written cannot be read: {error}")

    def _hello(self) -> Frame:
        return {
            "type": "hello",
            "role": "station",
            "ticket": self._order.ticket,
            "signature": self._order.signature,
            "version": cortex.__version__,
            "node": socket.gethostname(),
            "pid": os.getpid(),
        }

    def _beat_is_answered(self, number: int) -> None:
        while self._unanswered and self._unanswered[0][0] <= number:
            self._log.is_known(self._unanswered.popleft()[1])

    def _page_seen(self, identity: int) -> None:
        # With what it has ended, all told: what the operator does not know to be over, it may lease again.
        self._link.tell(chain(self._mirror.outcome(), [({"type": "page_seen", "id": identity}, None)]))

    def _say(self, text: str) -> None:
        self._link.tell([({"type": "say", "text": text}, None)])

    def _fail(self, error: str) -> None:
        """The operator is to know that nothing will come of the Worker; it then ends this station."""
        self._failure = error
        self._link.tell([({"type": "failed", "error": error}, None)])

    def _lease(self, frame: Frame) -> None:
        data = frame.pop("data")
        if frame["payload"]["kind"] == "stored":
            self._referral.fetch(frame, data)
        else:
            self._begin(frame, data)

    def _begin(self, lease: Frame, data: bytes, items: bytes = b"") -> None:
        """Tell the Worker of a Lease, now that all of it is here; `items` came another way."""
        try:
            self._channel.send("worker", self._mirror.begin(lease, data, items))
        except OSError as error:
            self._keeps_nothing(error)
            return
        self._look_later()
        for frame in self._referral.over():
            self.operator_says(frame)

    def _send_rows(self, offset: int, size: int) -> None:
        """Send rows that the operator could not get from the storage."""
        if self._deposits is not None:
            self._deposits.pause("the operator could not read there")
        sent: Message = ({"type": "rows_sent", "offset": offset}, None)
        self._link.tell(chain(self._mirror.rows_again(offset, offset + size), [sent]))

    # LocalSide

    def local_connected(self, peer: str, hello: Frame) -> None:
        """See LocalSide."""
        if peer == "supervisor":
            self._supervisor_came(hello)
        else:
            self._referral.forget()
            if self._mirror.lease is not None:
                self._mirror.lease.is_over = True
        self._link.tell(chain(self._news_of_all(), _relayed(peer, hello)))

    def local_says(self, peer: str, frame: Frame) -> None:
        """See LocalSide."""
        before: Iterable[Told] = ()
        match frame["type"]:
            case "lease_ended":
                if self._mirror.lease is not None:
                    self._mirror.lease.is_over = True
                before = self._mirror.outcome()
            case "hook_ended":
                self._is_in_hook = False
                before = self._news_of_all()
            case "exited" | "drained":
                before = self._news_of_all()
            case "started":
                self._pid = frame["pid"]
        self._link.tell(chain(before, _relayed(peer, frame)))

    def local_closed(self, peer: str) -> None:
        """See LocalSide. That of the supervisor may mean that the Worker is about to die: it is told when it has."""
        if peer == "supervisor":
            self._supervisor_hung_up = True
        else:
            self._tell_closed(peer)

    def _tell_closed(self, peer: str) -> None:
        self._link.tell(chain(self._news_of_all(), [({"type": "closed", "peer": peer}, None)]))

    def _supervisor_came(self, hello: Frame) -> None:
        if self._supervisor_hung_up:
            self._supervisor_hung_up = False
            self._tell_closed("supervisor")
        self._has_met_supervisor = True
        children = [child for child in hello["workers"] if child["worker"] == self._worker]
        self._pid = children[0]["pid"] if children else None
        self._starting.is_done = bool(children)

    # What the Worker writes

    def _news_of_all(self) -> Iterator[Told]:
        yield from self._log.news()
        yield from self._mirror.outcome()

    def _look_later(self) -> None:
        if self._next_look is None and (self._mirror.is_leased or self._is_in_hook):
            self._next_look = asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._look)

    def _look(self) -> None:
        self._next_look = None
        if self._link.is_there:
            self._link.tell(chain(self._log.news(), self._mirror.news()))
            self._look_later()

    # The end

    def _reap(self) -> None:
        if self._outliving is None and self._supervisor.poll() is not None:
            self._outliving = asyncio.get_running_loop().create_task(self._outlive_supervisor())

    async def _outlive_supervisor(self) -> None:
        """The supervisor is gone, and the kernel kills its Worker: when that is gone for sure, tell what is left."""
        loop = asyncio.get_running_loop()
        if self._pid is not None:
            kill_group(self._pid)
        until = loop.time() + _GONE_SECONDS
        while self._channel.has("worker") and loop.time() < until:
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)
        try:
            async with asyncio.timeout_at(self._alone_since + ORPHAN_SECONDS):
                await self._is_there.wait()
        except TimeoutError:
            pass
        else:
            self._link.tell(self._news_of_all())
            if self._supervisor_hung_up:
                self._tell_closed("supervisor")
            if not self._has_met_supervisor:
                self._fail(f"could not start: its supervisor has ended with status {self._supervisor.returncode}")
            await self._link.finish()
        self._is_ended.set()

    async def _end_supervisor(self) -> None:
        """End the supervisor, and with it the Worker."""
        self._starting.cancel()
        self._channel.send("supervisor", {"type": "end"})
        loop = asyncio.get_running_loop()
        until = loop.time() + (_END_SECONDS if self._channel.has("supervisor") else 0)
        while self._supervisor.poll() is None:
            if loop.time() >= until:
                self._supervisor.kill()
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)


def _relayed(peer: str, frame: Frame) -> Iterator[Message]:
    data = frame.pop("data", None)
    yield {"peer": peer, **frame}, data


def live(
    order: StationOrder, ticket: Ticket, node: Node, mirror: Mirror, supervisor: "subprocess.Popen[bytes]"
) -> NoReturn:
    """Be a station, and end."""

    async def live() -> None:
        await Station(order, ticket, node, mirror, supervisor).live()

    asyncio.new_event_loop().run_until_complete(live())
    os._exit(0)  # whatever a thread is still unpacking for nobody
