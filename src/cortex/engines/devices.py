"""The GPUs of this machine, as CUDA names them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

VISIBLE_DEVICES: Final = "CUDA_VISIBLE_DEVICES"


def gpus_of_machine(environ: Mapping[str, str], folder: Path = Path("/dev")) -> tuple[str, ...]:
    """Name the GPUs that Workers can be given: those that the operator itself may use (ids or UUIDs).

    Where nobody has said which, all that there are: CUDA numbers those that it sees from 0, whatever their files are
    called.
    """
    if VISIBLE_DEVICES in environ:
        names = [name.strip() for name in environ[VISIBLE_DEVICES].split(",")]
        until = next((number for number, name in enumerate(names) if name in {"", "-1"}), len(names))
        return tuple(dict.fromkeys(names[:until]))  # as CUDA reads it: what follows an invalid one does not count
    return tuple(str(number) for number, _ in enumerate(folder.glob("nvidia[0-9]*")))
