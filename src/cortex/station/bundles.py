"""Asking the operator for what it has packed for nodes."""

import asyncio
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Final

from cortex.domain.frame import Frame
from cortex.station.bundle import BundleDamaged, unpack

_AT_ONCE: Final = 4
"""So many pieces are asked for before the first of them has come."""


class Bundles:
    """Reads bundles piece by piece. What a lost connection leaves unanswered is asked again."""

    def __init__(self, send: Callable[[Frame], None]) -> None:
        """`send` tells the operator something, or loses it."""
        self._send = send
        self._ids = itertools.count(1)
        self._asked: dict[int, tuple[Frame, asyncio.Future[Frame]]] = {}

    def ask_again(self) -> None:
        """The operator is there again."""
        for frame, _ in self._asked.values():
            self._send(frame)

    def take(self, piece: Frame) -> None:
        """Take an answer."""
        _, answer = self._asked.pop(piece["id"], (None, None))
        if answer is not None and not answer.done():
            answer.set_result(piece)

    async def unpack(self, bundle: str, folder: Path) -> None:
        """Unpack a bundle into a new folder. Raises BundleDamaged, also for one that the operator cannot give."""
        packed = folder.with_name(f"{folder.name}.tar")
        try:
            with packed.open("wb") as file:
                first = await self._piece(bundle, 0)
                file.write(first["data"])
                offsets = iter(range(len(first["data"]), first["total"], max(len(first["data"]), 1)))
                while group := list(itertools.islice(offsets, _AT_ONCE)):
                    for piece in await asyncio.gather(*(self._piece(bundle, offset) for offset in group)):
                        file.write(piece["data"])
            if packed.stat().st_size != first["total"]:
                raise BundleDamaged("it came in part")
            await asyncio.to_thread(unpack, packed, folder)
        finally:
            packed.unlink(missing_ok=True)

    async def _piece(self, bundle: str, offset: int) -> Frame:
        identity = next(self._ids)
        answer: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        frame: Frame = {"type": "read", "id": identity, "bundle": bundle, "offset": offset}
        self._asked[identity] = frame, answer
        try:
            self._send(frame)
            piece = await answer
        finally:
            self._asked.pop(identity, None)
        if piece.get("error"):
            raise BundleDamaged(piece["error"])
        return {"data": b"", **piece}
