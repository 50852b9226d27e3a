"""Jobs and replicas on the nodes of a real Ray cluster."""

import io
import json
import zipfile
from collections import Counter
from pathlib import Path

import psutil
import pytest

from cluster import Node, RayCluster, wait_until
from operator_process import OperatorProcess
from record import CPUS, RECORDER, assert_each_once, start_job, told, visible, wait_until_held

pytestmark = pytest.mark.timeout(180)


def a_wheel(name: str) -> bytes:
    """Make a package with nothing in it but its name."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(f"{name}.py", f"name = '{name}'\n")
        archive.writestr(f"{name}-1.0.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(
            f"{name}-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{name}-1.0.dist-info/RECORD", "")
    return content.getvalue()


def test_a_job_runs_on_all_nodes_with_an_environment_made_once_on_each(
    operator: OperatorProcess, nodes: tuple[Node, Node], folder: Path
) -> None:
    wheel = "wheels/greeting-1.0-py3-none-any.whl"
    files = {wheel: a_wheel("greeting"), "requirements.txt": f"./{wheel}\n"}
    source = RECORDER.replace("import json,", "import greeting, json,")
    operator.deploy(source, files=files, config={"folder": str(folder)}, compute={"cpu": 1})

    job = operator.submit(list(range(400)), workers=2 * CPUS)

    assert_each_once(operator, job, folder, range(400), range(400))
    log = told(operator, job)
    names = [node.name for node in nodes]
    assert set(names) == {row["node"] for row in operator.rows(job)}
    assert {f"constructed on {name}": CPUS for name in names} == Counter(
        line for line in log.splitlines() if line.startswith("constructed on ")
    ), log
    assert len(nodes) == log.count("installing the project's requirements...")
    for node in nodes:
        assert 1 == len([path for path in (node.node_folder / "environments").iterdir() if path.is_dir()])


def test_files_that_only_the_operator_has_are_read_and_large_batches_pass_both_ways(
    operator: OperatorProcess, nodes: tuple[Node, Node], tmp_path: Path
) -> None:
    predictor = """
        import os

        class PythonPredictor:
            def __init__(self, config):
                assert not os.path.exists(config["folder"])

            def predict(self, payload):
                return [{"number": row["number"], "text": row["text"] * 20} for row in payload]
    """
    operator.deploy(predictor, config={"folder": str(tmp_path)}, compute={"cpu": 1})
    rows = [{"number": number, "text": str(number) * (60_000 if number % 10 == 0 else 10)} for number in range(300)]
    lines = tmp_path / "rows.jsonl"
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows))

    answer = operator.http.post(
        "/api", json={"workers": 2 * CPUS, "delimited_files": {"s3_paths": [str(lines)], "batch_size": 10}}
    )
    assert answer.status_code == 200, answer.text
    job = answer.json()["job_id"]

    assert "status_succeeded" == operator.wait(job)["status"], told(operator, job)
    assert operator.rows(job) == [{**row, "text": row["text"] * 20} for row in rows]


def test_a_job_that_is_stopped_leaves_nothing_on_the_nodes(
    operator: OperatorProcess, nodes: tuple[Node, Node], folder: Path
) -> None:
    job = start_job(operator, folder, 200, held=100)
    wait_until_held(folder, *nodes, held=100)

    assert operator.http.delete(f"/api/{job}").status_code == 200

    for node in nodes:
        wait_until(lambda node=node: not node.stations(), f"no worker is left on {node.name}")
        assert [] == [path for path in (node.node_folder / "stations").iterdir() if path.is_dir()]
    assert "status_stopped" == operator.wait(job)["status"]
    assert list(range(100)) == visible(operator, job)


def test_an_elastic_job_grows_with_the_cluster_and_goes_on_with_what_is_left_of_it(
    operator: OperatorProcess, nodes: tuple[Node, Node], folder: Path
) -> None:
    def workers_now(job: str) -> int:
        return int(operator.status(job)["workers_now"])

    nodes[1].kill()
    operator.deploy(RECORDER, config={"folder": str(folder), "held": 100}, compute={"cpu": 1})
    job = operator.submit(list(range(200)), workers={"min": 1, "max": 2 * CPUS})
    wait_until(lambda: CPUS == workers_now(job), "all work that there is room for")
    nodes[1].start()
    wait_until(lambda: 2 * CPUS == workers_now(job), "it has grown")
    nodes[1].kill()
    wait_until(lambda: CPUS == workers_now(job), "it is smaller again")
    (folder / "gate").touch()

    assert_each_once(operator, job, folder, range(200))
    assert 2 * CPUS == operator.status(job)["workers"]


def test_replicas_on_nodes_answer_and_are_replaced_with_their_node(
    operator: OperatorProcess, nodes: tuple[Node, Node]
) -> None:
    predictor = """
        import socket

        class PythonPredictor:
            def __init__(self, config):
                pass

            def predict(self, payload):
                return {"node": socket.gethostname(), "payload": payload}
    """
    scale = {"min_replicas": 2, "max_replicas": 2, "init_replicas": 2}
    operator.deploy_realtime(predictor, compute={"cpu": CPUS}, sections={"autoscaling": scale})

    def answering(count: int = 20) -> set[str]:
        answers = [operator.http.post("/api", json=number) for number in range(count)]
        assert {200} >= {answer.status_code for answer in answers} - {502, 503}
        return {answer.json()["node"] for answer in answers if answer.status_code == 200}

    wait_until(lambda: {"first", "second"} == answering(), "both nodes answer")
    nodes[1].kill()
    wait_until(lambda: {"first"} == answering(), "only the other one answers")
    nodes[1].start()
    wait_until(lambda: {"first", "second"} == answering(), "both nodes answer again")


HOG = """
    import os, time

    class PythonPredictor:
        def __init__(self, config):
            self.config = config

        def predict(self, payload):
            kept = []
            for _ in range(self.config["pieces"]):
                kept.append(b"x" * 50_000_000)
                time.sleep(0.02)
            return payload
"""


def test_a_worker_over_its_mem_reads_as_out_of_memory_on_a_node_too(
    operator: OperatorProcess, nodes: tuple[Node, Node]
) -> None:
    operator.deploy(HOG, config={"pieces": 20}, compute={"cpu": 1, "mem": "200Mi"})

    job = operator.submit([1])
    status = operator.wait(job)

    assert "status_worker_oom" == status["status"], told(operator, job)
    assert "ran out of memory: it is limited to 200Mi (compute.mem)" in told(operator, job)


def test_a_worker_that_rays_memory_monitor_kills_reads_as_out_of_memory(
    shared_cluster: RayCluster, operator: OperatorProcess, nodes: tuple[Node, Node]
) -> None:
    memory = psutil.virtual_memory()
    limit = (memory.total - memory.available + 1.5e9) / memory.total
    watched = shared_cluster.add_node(
        "watched",
        cpus=CPUS + 1,  # more than the others have, so that the worker has to be here
        env={"RAY_memory_usage_threshold": f"{limit:.3f}", "RAY_memory_monitor_refresh_ms": "100"},
    )
    try:
        operator.deploy(HOG, config={"pieces": 80}, compute={"cpu": CPUS + 1})

        job = operator.submit([1])
        status = operator.wait(job)

        assert "status_worker_oom" == status["status"], told(operator, job)
        assert "ran out of memory: " in told(operator, job)
        assert "Ray killed it" in told(operator, job)
    finally:
        watched.kill()
