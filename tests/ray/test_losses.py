"""A job on several machines, of which processes, nodes, links and Ray's head are lost: its results come once each."""

from collections import Counter
from pathlib import Path

import pytest

from cluster import Node, RayCluster, wait_until
from operator_process import OperatorProcess
from processes import children_running, is_alive
from record import (
    CPUS,
    assert_each_once,
    constructions,
    ends,
    in_predict,
    losses_of_nodes,
    read_record,
    start_job,
    told,
    visible,
    wait_until_held,
)

BETWEEN = {
    "cortex-superv": "was killed with its supervisor",
    "cortex-station": "was lost with its station",
    "ray::StationActor.ended": "was killed with what ran it",
}
"""Who is between a raylet and a worker, by the name of its process, and what is told if it is killed."""

pytestmark = pytest.mark.timeout(180)


def test_a_worker_that_is_killed_costs_its_batch_one_attempt_and_is_replaced(
    operator: OperatorProcess, nodes: tuple[Node, Node], folder: Path
) -> None:
    job = start_job(operator, folder, 200, held=196)
    wait_until_held(folder, *nodes, held=196)
    earlier = visible(operator, job)
    pid, item = next(iter(in_predict(folder, "second").items()))

    nodes[1].process(pid).kill()
    wait_until(lambda: Counter(line.item for line in read_record(folder))[item] == 2, "its batch runs again")
    (folder / "gate").touch()

    assert_each_once(operator, job, folder, range(200), earlier)
    assert set(range(196)) == set(earlier)
    assert set(range(200)) == {item for item, count in ends(folder).items() if count == 1}
    assert 1 == told(operator, job).count("was killed by signal 9 (SIGKILL) while it processed batch")


@pytest.mark.parametrize(("who", "reason"), list(BETWEEN.items()))
def test_whoever_is_killed_between_ray_and_a_worker_costs_no_attempt(
    operator: OperatorProcess, nodes: tuple[Node, Node], folder: Path, who: str, reason: str
) -> None:
    job = start_job(operator, folder, 200, held=196)
    wait_until_held(folder, *nodes, held=196)
    earlier = visible(operator, job)
    killed = nodes[1].ray.one_called(who)
    below = killed.children(recursive=True)

    killed.kill()
    wait_until(lambda: CPUS + 1 == len(constructions(folder, nodes[1])), "there is another worker")
    assert not any(map(is_alive, below))
    (folder / "gate").touch()

    assert_each_once(operator, job, folder, range(200), earlier)
    assert set(range(196)) == set(earlier)
    assert set(range(200)) == {item for item, count in ends(folder).items() if count == 1}
    log = told(operator, job)
    assert reason in log, log
    assert "death" not in told(operator, job)


def test_a_bridge_that_is_killed_is_replaced_and_no_worker_notices(
    operator: OperatorProcess, nodes: tuple[Node, Node], folder: Path
) -> None:
    job = start_job(operator, folder, 200, held=190)
    wait_until_held(folder, *nodes, held=190)
    assert operator.process is not None
    (bridge,) = children_running("cortex.engines.ray.bridge", operator.process.pid)

    bridge.kill()
    pid = next(iter(in_predict(folder, "second")))
    nodes[1].process(pid).kill()
    wait_until(lambda: CPUS + 1 == len(constructions(folder, nodes[1])), "the next bridge places another worker")
    (folder / "gate").touch()

    assert_each_once(operator, job, folder, range(200), range(190))
    assert 2 * CPUS + 1 == sum(len(constructions(folder, node)) for node in nodes)


def test_a_node_whose_raylet_is_killed_is_lost_and_charges_nobody(
    operator: OperatorProcess, nodes: tuple[Node, Node], folder: Path
) -> None:
    job = start_job(operator, folder, 200, held=196)
    wait_until_held(folder, *nodes, held=196)
    earlier = visible(operator, job)

    nodes[1].kill_raylet()
    wait_until(lambda: losses_of_nodes(told(operator, job)), "the loss is in the job's log")
    (folder / "gate").touch()

    assert_each_once(operator, job, folder, range(200), earlier)
    assert set(range(196)) == set(earlier)
    assert "death" not in told(operator, job)


def test_a_machine_that_is_switched_off_and_on_again_takes_part_again(
    operator: OperatorProcess, nodes: tuple[Node, Node], folder: Path
) -> None:
    job = start_job(operator, folder, 200, held=190)
    wait_until_held(folder, *nodes, held=190)
    earlier = visible(operator, job)

    nodes[1].kill()
    nodes[1].start()
    wait_until_held(folder, nodes[1], lives=2, held=190)
    (folder / "gate").touch()

    assert_each_once(operator, job, folder, range(200), earlier)
    assert CPUS == len(constructions(folder, nodes[0]))


def test_a_node_that_is_cut_off_past_the_deadline_and_comes_back_doubles_nothing(
    operator: OperatorProcess, nodes: tuple[Node, Node], folder: Path
) -> None:
    job = start_job(operator, folder, 200, held=190)
    wait_until_held(folder, *nodes, held=190)
    earlier = visible(operator, job)
    cut_off = [nodes[1].process(pid) for pid in in_predict(folder, "second")]
    theirs = set(in_predict(folder, "second").values())

    nodes[1].cut()
    wait_until(lambda: losses_of_nodes(told(operator, job)), "it was missed")
    assert CPUS == sum(map(is_alive, cut_off))  # nobody there can know, and their disk is still shared
    (folder / "gate").touch()
    wait_until(lambda: all(ends(folder)[item] == 2 for item in theirs), "what it had has run here, and there")
    nodes[1].mend()

    assert_each_once(operator, job, folder, range(200), earlier)
    wait_until(lambda: not any(map(is_alive, cut_off)), "its workers were ended")
    assert {"first"} == {row["node"] for row in operator.rows(job) if row["item"] in theirs}


def test_a_link_that_is_away_for_less_than_the_deadline_is_not_noticed(
    operator: OperatorProcess, nodes: tuple[Node, Node], folder: Path
) -> None:
    job = start_job(operator, folder, 1000, held=990)
    wait_until(lambda: sum(ends(folder).values()) > 50 and constructions(folder, nodes[1]), "it is under way on both")

    nodes[1].cut()
    done = sum(ends(folder).values())
    wait_until(lambda: sum(ends(folder).values()) > done + 20, "others go on")
    nodes[1].mend()
    wait_until_held(folder, *nodes, held=990)
    (folder / "gate").touch()

    assert_each_once(operator, job, folder, range(1000), range(1000))
    assert "was cut off" not in told(operator, job)
    assert "was lost" not in told(operator, job)


def test_an_operator_that_is_killed_finds_its_workers_on_the_nodes_again(
    operator: OperatorProcess, nodes: tuple[Node, Node], folder: Path
) -> None:
    job = start_job(operator, folder, 400, held=390)
    wait_until(lambda: sum(ends(folder).values()) > 100, "it is under way")

    operator.kill()
    operator.start()
    wait_until_held(folder, *nodes, held=390)
    (folder / "gate").touch()

    assert_each_once(operator, job, folder, range(400), range(400))
    constructed = [line for line in read_record(folder) if line.what == "constructed"]
    assert 2 * CPUS == len(constructed), told(operator, job)


def test_a_job_goes_on_while_rays_head_is_away_and_after_it_has_lost_all_it_knew(
    shared_cluster: RayCluster, operator: OperatorProcess, nodes: tuple[Node, Node], folder: Path
) -> None:
    job = start_job(operator, folder, 2000, held=1990)
    wait_until(lambda: sum(ends(folder).values()) > 100, "it is under way")

    shared_cluster.kill_head()
    done = sum(ends(folder).values())
    wait_until(lambda: sum(ends(folder).values()) > done + 100, "batches end without the head")
    earlier = visible(operator, job)
    shared_cluster.start_head()
    for node in nodes:  # as a service manager would, once Ray has ended there
        node.kill()
        node.start()
    wait_until_held(folder, *nodes, lives=2, held=1990)
    (folder / "gate").touch()

    assert_each_once(operator, job, folder, range(2000), earlier)
