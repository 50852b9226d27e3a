"""The cluster that the benchmarks run on, and peers that run on it. Ray Data needs more than the tests install."""

import os
from pathlib import Path

import psutil
import pytest
from benchmarks.load import Load, small_lines
from benchmarks.options import Options
from benchmarks.peers import chosen_peers_on
from benchmarks.ray_cluster import RayCluster, running_cluster
from benchmarks.rounds import run_rounds
from benchmarks.turns import peers

from processes import is_alive


@pytest.fixture
def _as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the variables that a cluster sets for its processes."""
    monkeypatch.setattr(os, "environ", os.environ.copy())


@pytest.mark.usefixtures("_as_it_was")
def test_the_peers_run_on_the_cluster_of_the_benchmarks_which_leaves_nothing(tmp_path: Path) -> None:
    load = small_lines(tmp_path, batches=40, batch_size=2)
    options = Options(folder=tmp_path, rounds=1)

    with running_cluster(tmp_path) as cluster:
        family = [child for pid in cluster.processes for child in psutil.Process(pid).children(recursive=True)]
        series = compare(load, options, cluster)

    assert {"Ray actors (chunksize 1)": "", "Ray actors (chunksize 16)": ""} == series
    assert [] == list(filter(is_alive, family))


def compare(load: Load, options: Options, cluster: RayCluster) -> dict[str, str]:
    """Give each peer a turn; tell what went wrong with it."""
    at_most = {"rayactors": 40, "rayactors16": 40}
    among = chosen_peers_on(cluster.address, options)
    contestants = peers(load, "nothing", options, at_most, among=among, helpers=cluster.processes)
    return {name: each.problem for name, each in run_rounds(contestants, options.rounds).items()}
