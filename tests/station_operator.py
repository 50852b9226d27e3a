"""A program: `cortex operator` whose Workers run on nodes elsewhere, which are folders of this machine.

How many cores its nodes have together, NODE_CORES in its environment says.
"""

import asyncio
import os
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from cortex import wiring
from cortex.cli import operator
from cortex.cli.main import main
from cortex.engines.placement import PlacementListener, Placer
from cortex.engines.places import Places
from cortex.settings import Settings
from local_placer import LocalPlacer
from prepared_operator import prepare

NODE_CORES: Final = "TEST_NODE_CORES"


def local_placer(settings: Settings, listener: PlacementListener) -> Placer:
    """Make the placer of an operator."""
    loop = asyncio.get_running_loop()

    def call_later(seconds: float, call: Callable[[], None]) -> Callable[[], None]:
        return loop.call_later(seconds, call).cancel

    cores = int(os.environ.get(NODE_CORES, "64"))
    places = Places(millicores=cores * 1000, mem_bytes=2**40, devices=(), most_workers=64)
    folder = settings.data_dir.with_name(f"{settings.data_dir.name}-nodes")
    return LocalPlacer(folder=folder, listener=listener, call_later=call_later, places=places)


if __name__ == "__main__":
    prepare()
    commands: Any = operator
    commands.run_operator = partial(wiring.run_operator, make_placer=local_placer)
    main()
