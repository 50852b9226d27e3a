"""What a Worker has been given, as its supervisor is told, which tells it to every later operator."""

from cortex.domain.frame import Frame
from cortex.engines.engine import Needs
from cortex.engines.places import Place


def write_place(place: Place) -> Frame:
    """Give what `read_place` reads."""
    needs = {"millicores": place.needs.millicores, "mem_bytes": place.needs.mem_bytes, "gpus": place.needs.gpus}
    return {"job_id": place.job_id, "devices": place.devices, "lasts": place.lasts, **needs}


def read_place(child: Frame) -> Place:
    """Read what a supervisor says that one of its Workers has been given."""
    given = child["place"]
    needs = Needs(millicores=given["millicores"], mem_bytes=given["mem_bytes"], gpus=given["gpus"])
    return Place(
        worker=child["worker"],
        job_id=given["job_id"],
        needs=needs,
        devices=tuple(given["devices"]),
        lasts=given.get("lasts", False),  # not said by a supervisor that an earlier version of cortex has started
    )
