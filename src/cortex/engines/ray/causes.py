"""What a bridge tells of the end of a station, and what that means for its Worker."""

from typing import Final

from cortex.domain.ending import Exit
from cortex.domain.frame import Frame
from cortex.engines.placement import ending_of_station

ENDED: Final = "ended"  # by itself, with a `status`
WITHDRAWN: Final = "withdrawn"
OUT_OF_MEMORY: Final = "out of memory"
NODE_LOST: Final = "node lost"
KILLED: Final = "killed"
REFUSED: Final = "refused"  # with an `error`
FORGOTTEN: Final = "forgotten"  # Ray knows nothing of it any more: its head was lost


def ending_of(gone: Frame, node: str | None) -> Exit:
    """Give the end of a Worker whose station is gone; `node` is where it was, if it was placed."""
    where = f"its node {node}" if node else "its node"
    cause = gone["cause"]
    if cause == ENDED and gone["status"] != 0:
        return ending_of_station(gone["status"], node or "its node")
    if cause == OUT_OF_MEMORY:
        # Without a limit of its own: it is the memory of the node that was used up.
        detail = f"ran out of memory: {where} had no more, and Ray killed it"
        return Exit(status=None, is_out_of_memory=True, detail=detail)
    if cause == REFUSED:
        return Exit(status=None, detail=f"could not be started: {gone['error']}")
    details = {
        ENDED: "ended with its station",
        WITHDRAWN: "was withdrawn",
        NODE_LOST: f"was lost with {where}",
        KILLED: f"was killed with what ran it on {where}",
        FORGOTTEN: "was lost with Ray's head, or while it could not be asked",
    }
    return Exit(status=None, detail=details[cause], is_charged=False)
