"""Workers on machines that are rented by Ray's autoscaler when there is a job, and given back after it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cloud import Cloud
from cluster import RayCluster, wait_until
from operator_process import OperatorProcess
from record import RECORDER, assert_each_once, read_record

MOST = 2
"""How many machines the cloud has."""

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def cloud(cluster: RayCluster) -> Iterator[Cloud]:
    """A cloud, and a head alone that rents from it."""
    cloud = Cloud(cluster, most=MOST, cpus=1, memory=2 * 10**9)
    cluster.start_head(
        *("--autoscaling-config", str(cloud.configuration())),
        AUTOSCALER_UPDATE_INTERVAL_S="1",
        PYTHONPATH=str(Path(__file__).parent),
    )
    yield cloud
    cloud.close()


@pytest.fixture
def folder(cluster: RayCluster) -> Path:
    """A folder that all machines see."""
    return cluster.shared


def test_a_job_starts_machines_which_go_after_its_end(
    cloud: Cloud, start_ray_operator: Callable[..., OperatorProcess], folder: Path
) -> None:
    operator = start_ray_operator()
    operator.deploy(RECORDER, config={"folder": str(folder), "held": 20}, compute={"cpu": 1})
    assert [] == cloud.rented

    job = operator.submit(list(range(40)), workers=MOST + 1)
    wait_until(lambda: "Ray has no room for" in str(operator.status(job)), "status says what is waited for")
    wait_until(lambda: MOST == len(constructed(folder)), "two workers run")
    wait_until(lambda: MOST == operator.status(job)["worker_counts"]["running"], "they are counted")
    waiting = operator.status(job)
    (folder / "gate").touch()

    assert_each_once(operator, job, folder, range(40), range(40))
    assert 1 == waiting["worker_counts"]["pending"]
    assert ["cloud1", "cloud2"] == cloud.rented
    assert set(cloud.rented) == constructed(folder)
    wait_until(lambda: [] == cloud.nodes, "all machines are given back")


def constructed(folder: Path) -> set[str]:
    """Give the nodes on which there is a worker."""
    return {line.node for line in read_record(folder) if line.what == "constructed"}
