"""The benchmarks run: a change that they have not followed is seen before someone wants figures."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("number", [5, 9])
def test_a_workload_without_peers_runs_the_real_service(number: int, tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    options = ["--quick", "--rounds", "1", "--peers", "", "--json", figures]
    command = [sys.executable, "-m", "benchmarks", f"W{number}", *options]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert "" == done.stderr
    assert "failed:" not in done.stdout, done.stdout
    assert f'"number": {number}' in figures.read_text()


def test_an_operator_with_simulated_workers_ends_its_job_although_it_is_killed_in_its_midst(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    options = ["--workers", "5", "--batches", "200", "--hosts", "1", "--json", figures]
    command = [sys.executable, "-m", "benchmarks", "scale", *options]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert "" == done.stderr
    (measured,) = json.loads(figures.read_text())
    assert [] == measured["notes"]
    assert measured["restart_seconds"] > 0
