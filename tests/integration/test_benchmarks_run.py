"""The benchmarks run: a change that they have not followed is seen before someone wants figures."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_workload_without_peers_runs_the_real_service(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    command = [sys.executable, "-m", "benchmarks", "W5", "--quick", "--rounds", "1", "--peers", "", "--json", figures]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert "" == done.stderr
    assert "failed:" not in done.stdout, done.stdout
    assert '"number": 5' in figures.read_text()
