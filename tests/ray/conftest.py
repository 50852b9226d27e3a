"""What the tests on a real Ray share: a cluster for each module, and an operator on it."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cluster import Node, RayCluster, ray_cluster, wait_until, why_not
from operator_process import OperatorProcess
from ports import free_port
from proxy import run_proxy
from record import CPUS

HEARTBEAT_SECONDS = 3


@pytest.fixture(scope="session")
def can_have_clusters() -> None:
    """Skip where this machine cannot have a cluster; in CI, that is a failure."""
    reason = why_not()
    if reason is not None and "CI" in os.environ:
        pytest.fail(reason)
    if reason is not None:
        pytest.skip(reason)


@pytest.fixture(scope="module")
def cluster(can_have_clusters: None) -> Iterator[RayCluster]:
    """A cluster without nodes, whose head does not run yet."""
    with ray_cluster() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def start_ray_operator(
    cluster: RayCluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], OperatorProcess]]:
    """Start operators on that cluster."""
    with operators(cluster, tmp_path_factory) as start:
        yield start


@pytest.fixture(scope="session")
def shared_cluster(can_have_clusters: None) -> Iterator[RayCluster]:
    """A cluster of two machines with room for CPUS workers each, which reach no package index but by a proxy."""
    with ray_cluster() as cluster, run_proxy(cluster.host) as proxy:
        cluster.start_head()
        for name in ("first", "second"):
            cluster.add_node(name, cpus=CPUS, env={"HTTPS_PROXY": proxy})
        yield cluster


@pytest.fixture(scope="session")
def shared_operator(shared_cluster: RayCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorProcess]:
    """The operator of that cluster."""
    with operators(shared_cluster, tmp_path_factory) as start:
        yield start()


@pytest.fixture
def nodes(shared_cluster: RayCluster) -> Iterator[tuple[Node, Node]]:
    """The two machines, which the test may do anything to."""
    first, second, *_ = shared_cluster.nodes
    yield first, second
    has_head = shared_cluster.has_head
    if not has_head:
        shared_cluster.start_head()
    are_known = has_head
    for node in (first, second):
        node.mend()
        is_off = node.switched_on is None
        if is_off or not has_head or node.was_cut or not node.ray.all_named("raylet/raylet"):
            node.kill()
            node.start()
            are_known = False
    if not are_known:
        shared_cluster.wait_until_known()


@pytest.fixture
def operator(shared_operator: OperatorProcess, nodes: tuple[Node, Node]) -> Iterator[OperatorProcess]:
    """The operator, without any API; nothing that the test leaves runs on."""
    yield shared_operator
    for api in shared_operator.http.get("/_cortex/apis").json():
        shared_operator.http.delete(f"/_cortex/apis/{api['name']}")
    for node in nodes:
        wait_until(
            lambda node=node: node.switched_on is None or not node.stations(), f"no worker is left on {node.name}"
        )


@pytest.fixture
def folder(shared_cluster: RayCluster, request: pytest.FixtureRequest) -> Path:
    """A folder of the test that all machines see."""
    folder = shared_cluster.shared / request.node.name
    folder.mkdir()
    return folder


@contextmanager
def operators(cluster: RayCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], OperatorProcess]]:
    """Give what starts operators whose workers are placed by Ray; they end with it."""
    started: list[OperatorProcess] = []

    def start() -> OperatorProcess:
        operator = OperatorProcess(
            tmp_path_factory.mktemp("operator") / "data",
            *("--engine", "ray", "--ray-address", cluster.address),
            *("--channel-host", cluster.host, "--channel-port", str(free_port(cluster.host))),
            *("--heartbeat", str(HEARTBEAT_SECONDS), "--keep-warm", "0"),
            env=cluster.env,
        )
        started.append(operator)
        return operator.start()

    yield start
    for operator in started:
        if operator.process is not None:
            operator.stop(at_once=True)
        operator.http.close()
