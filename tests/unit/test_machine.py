"""How many workers fit on a machine at the same time, and which never do."""

import pytest

from cortex.configuration import Compute
from cortex.engines.engine import Needs
from cortex.operator.machine import Machine, needs_of

MACHINE = Machine(cpu_cores=4, mem_bytes=2**30, gpus=2)


@pytest.mark.parametrize(
    ("expected", "compute"),
    [
        (4, {"cpu": 1}),
        (40, {"cpu": "100m"}),
        (3, {"cpu": "1.1"}),
        (2, {"cpu": 1, "mem": "512Mi"}),
        (2, {"cpu": 1, "gpu": 1}),
        (256, {"cpu": None}),
    ],
)
def test_so_many_workers_fit(expected: int, compute: dict[str, object]) -> None:
    assert expected == MACHINE.places(Compute.model_validate(compute))


def test_more_than_the_cap_fit_only_where_there_are_more_cores() -> None:
    large = Machine(cpu_cores=384, mem_bytes=2**40, gpus=0)

    assert 384 == large.places(Compute.model_validate({"cpu": 1}))
    assert 384 == large.places(Compute.model_validate({"cpu": None}))


@pytest.mark.parametrize(
    ("expected", "compute"),
    [
        (Needs(millicores=200), {}),
        (Needs(millicores=300), {"cpu": 0.3}),
        (Needs(millicores=334), {"cpu": "0.3334"}),
        (Needs(mem_bytes=100 * 2**20, gpus=2), {"cpu": None, "mem": "100Mi", "gpu": 2}),
    ],
)
def test_needs_are_whole_numbers_rounded_up(expected: Needs, compute: dict[str, object]) -> None:
    assert expected == needs_of(Compute.model_validate(compute))


@pytest.mark.parametrize(
    ("expected", "compute"),
    [
        ("cpu: got `5`, must be at most 4", {"cpu": 5}),
        ("mem: got `2Gi`, must be at most 1024Mi", {"mem": "2Gi"}),
        ("gpu: got `3`, must be at most 2", {"gpu": 3}),
    ],
)
def test_what_never_fits_is_told_with_the_size_of_the_machine(expected: str, compute: dict[str, object]) -> None:
    assert expected in (MACHINE.misfit(Compute.model_validate(compute)) or "")


def test_what_fits_is_no_misfit() -> None:
    assert MACHINE.misfit(Compute.model_validate({"cpu": 4, "mem": "1Gi", "gpu": 2})) is None
