"""`python -m cortex.station PARENT`: reads a StationOrder on standard input, and is the station of its Worker.

It dies with its parent, whose process id it is told: that may have ended before this could ask the kernel for it.
"""

import os
import select
import signal
import sys
from importlib import import_module

from cortex.domain.errors import CortexError
from cortex.domain.station_order import StationOrder
from cortex.domain.ticket import Ticket
from cortex.station.node import Node, node_folder
from cortex.station.supervisor_process import start_supervisor
from cortex.worker.kernel import die_with_parent, name_process, raise_file_limit

_LIFE = "cortex.station.station"


def main() -> int:
    """Give the exit code."""
    die_with_parent()
    if sys.argv[1:] and os.getppid() != int(sys.argv[1]):
        return 1
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    name_process("cortex-station")
    raise_file_limit()
    if not select.select([sys.stdin], [], [], 0)[0]:  # it is to wait for its order: the rest can be imported before
        import_module(_LIFE)
    try:
        order = StationOrder.from_json(sys.stdin.read())
        ticket = Ticket.from_json(order.ticket)
        node = Node(node_folder(os.environ))
        mirror = node.make_mirror(ticket.worker)
        supervisor = start_supervisor(mirror.channel)
    except (CortexError, OSError, ValueError) as error:
        print(f"the station cannot start: {error}", file=sys.stderr)  # noqa: T201 - whoever has placed it shows this
        return 1
    # While the supervisor starts, which takes as long.
    live = import_module(_LIFE).live
    status: int = live(order, ticket, node, mirror, supervisor)
    return status


if __name__ == "__main__":
    sys.exit(main())
