"""How many workers fit on a machine at the same time, and which never do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cortex.configuration import Compute
from cortex.engines.engine import Needs
from cortex.operator.machine import Machine, needs_of, needs_of_process

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


# Replicas


@pytest.mark.parametrize(
    ("expected", "compute", "processes"),
    [
        (Needs(millicores=1000, mem_bytes=2**29, gpus=1), {"cpu": 1, "mem": "512Mi", "gpu": 1}, 1),
        (Needs(millicores=500, mem_bytes=2**28), {"cpu": 1, "mem": "512Mi"}, 2),
        (Needs(millicores=333), {"cpu": 1}, 3),
        (Needs(), {"cpu": None}, 4),
        (Needs(millicores=1, mem_bytes=209715), {"cpu": "20m", "mem": "20Mi"}, 100),
    ],
)
def test_the_processes_of_a_replica_share_what_it_has(
    expected: Needs, compute: dict[str, object], processes: int
) -> None:
    assert expected == needs_of_process(Compute.model_validate(compute), processes)


@given(cpu=st.integers(1, 4), mem=st.integers(64, 1024), processes=st.integers(1, 100))
def test_a_replica_that_is_no_misfit_has_room_for_all_of_its_processes(cpu: int, mem: int, processes: int) -> None:
    compute = Compute(cpu=cpu, mem=f"{mem}Mi")
    assert MACHINE.misfit(compute) is None

    needs = needs_of_process(compute, processes)

    assert needs.millicores * processes <= MACHINE.millicores
    assert needs.mem_bytes * processes <= MACHINE.mem_bytes


ELSEWHERE = Machine(cpu_cores=1, mem_bytes=2**30, gpus=0, is_all=False)


def test_what_is_larger_than_this_machine_may_fit_on_another_one() -> None:
    compute = Compute.model_validate({"cpu": 64, "mem": "512Gi", "gpu": 8})

    assert ELSEWHERE.misfit(compute) is None
    assert 10_000 == ELSEWHERE.places(compute)


@pytest.mark.parametrize(
    ("expected", "compute"),
    [
        ("cpu: got `5000`, must be at most 4096: no machine has more cores", {"cpu": 5000}),
        ("mem: got `1P`, must be at most 128Ti: no machine has more", {"mem": "1P"}),
        ("gpu: got `2000`, must be at most 1024: no machine has more", {"gpu": 2000}),
    ],
)
def test_what_no_machine_has_is_refused_before_a_count_overflows(expected: str, compute: dict[str, object]) -> None:
    assert expected == ELSEWHERE.misfit(Compute.model_validate(compute))


def test_the_groups_of_nodes_are_what_each_process_of_a_replica_needs_too() -> None:
    needs = needs_of_process(Compute.model_validate({"cpu": 1}), 2, ["gpu"])

    assert Needs(millicores=500, node_groups=("gpu",)) == needs
