"""Deployments as a real operator answers them: several kinds of APIs in a file, all of them or none."""

import io
import json
import zipfile
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from operator_process import OperatorProcess

PREDICTOR = """\
class PythonPredictor:
    def __init__(self, config):
        self.answer = config.get("answer")

    def predict(self, payload):
        return self.answer
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorProcess]:
    server = OperatorProcess(tmp_path_factory.mktemp("operator") / "data").start()
    yield server
    assert server.stop() == ""
    server.http.close()


@pytest.fixture(autouse=True)
def nothing_is_deployed(server: OperatorProcess) -> Iterator[None]:
    yield
    kinds = {api["name"]: api["kind"] for api in server.http.get("/_cortex/apis").json()}
    for name in sorted(kinds, key=lambda name: kinds[name] != "TrafficSplitter"):
        assert server.http.delete(f"/_cortex/apis/{name}").status_code == 200


def deploy(server: OperatorProcess, *apis: dict[str, Any]) -> httpx.Response:
    project = io.BytesIO()
    with zipfile.ZipFile(project, "w") as archive:
        archive.writestr("predictor.py", PREDICTOR)
    upload = {"config": ("cortex.yaml", json.dumps(apis)), "project": ("project.zip", project.getvalue())}
    return server.http.post("/_cortex/deploy", files=upload)


def api(name: str, kind: str = "RealtimeAPI", answer: Any = None, **fields: Any) -> dict[str, Any]:
    predictor = {"type": "python", "path": "predictor.py", "config": {"answer": answer}}
    if kind == "RealtimeAPI":
        fields = {"autoscaling": {"min_replicas": 0}, **fields}  # where nobody asks it, nothing starts
    return {"name": name, "kind": kind, "predictor": predictor, **fields}


def splitter(name: str, **weights: int) -> dict[str, Any]:
    apis = [{"name": target, "weight": weight} for target, weight in weights.items()]
    return {"name": name, "kind": "TrafficSplitter", "apis": apis}


def names(server: OperatorProcess) -> list[str]:
    return [api["name"] for api in server.http.get("/_cortex/apis").json()]


def refusal(response: httpx.Response) -> tuple[int, str, str]:
    answer = response.json()
    return response.status_code, answer["kind"], answer["message"]


def test_a_file_may_have_all_kinds_in_any_order_and_a_splitter_answers_by_its_apis(server: OperatorProcess) -> None:
    answer = deploy(
        server, splitter("all", a=0, b=100), api("jobs", "BatchAPI"), api("a", answer=1), api("b", answer=2)
    )

    assert answer.status_code == 200, answer.text
    assert ["jobs", "a", "b", "all"] == [each["api"]["name"] for each in answer.json()]
    assert [1, 2, 2] == [server.http.post(path, json=0).json() for path in ("/a", "/b", "/all")]


def test_a_configuration_of_the_oldest_releases_is_served(server: OperatorProcess) -> None:
    old = api("iris", answer=[1], endpoint="flowers", autoscaling={"workers_per_replica": 2, "threads_per_worker": 3})
    del old["kind"]

    assert deploy(server, old).status_code == 200

    spec = server.http.get("/_cortex/apis/iris").json()["spec"]
    assert (2, 3) == (spec["predictor"]["processes_per_replica"], spec["predictor"]["threads_per_process"])
    assert [1] == server.http.post("/flowers", content=b"0").json()


@pytest.mark.parametrize(
    ("second", "status", "said"),
    [
        (api("jobs"), 409, "`jobs` is deployed as a BatchAPI, and cannot become a RealtimeAPI"),
        (splitter("jobs", a=100), 409, "`jobs` is deployed as a BatchAPI, and cannot become a TrafficSplitter"),
        (splitter("all", a=50, nowhere=50), 409, "`all` leads to `nowhere`, which is not deployed"),
        (splitter("all", a=50, jobs=50), 409, "`all` leads to `jobs`, which is a BatchAPI"),
        (splitter("all", new=99), 400, "cortex.yaml:1: all (TrafficSplitter): apis: got weights that are 99 together"),
        (splitter("all", all=100), 400, "apis.0.name: `all` is a TrafficSplitter; a TrafficSplitter leads to Realtime"),
        (
            api("b", compute={"cpu": 4096}),
            400,
            "cortex.yaml: b (RealtimeAPI): compute.cpu: got `4096`, must be at most",
        ),
        (api("b", networking={"endpoint": "/a/b"}), 409, "`b`: the endpoint `/a/b` is, or lies below or above, `/a`"),
        (api("b", job={}), 400, "b (RealtimeAPI): job: unknown field for this kind of API; a BatchAPI has it"),
        (api("b", "BatchAPI", autoscaling={}), 400, "autoscaling: unknown field for this kind of API; a RealtimeAPI"),
        (
            api("b", autoscaling={"min_replicas": 9, "max_replicas": 8}),
            400,
            "autoscaling.min_replicas: got `9`, must be",
        ),
    ],
)
def test_what_cannot_be_deployed_is_refused_with_its_reason_and_so_is_the_rest_of_its_file(
    server: OperatorProcess, second: dict[str, Any], status: int, said: str
) -> None:
    assert deploy(server, api("a"), api("jobs", "BatchAPI")).status_code == 200

    refused, kind, message = refusal(deploy(server, api("new"), second))

    kinds = {400: ["configuration.invalid"], 409: ["conflict", "api.endpoint_taken"]}
    assert refused == status
    assert kind in kinds[status]
    assert said in message
    assert ["a", "jobs"] == names(server)


def test_what_a_splitter_leads_to_is_deleted_behind_it_only(server: OperatorProcess) -> None:
    assert deploy(server, api("a", answer=1), splitter("all", a=100)).status_code == 200

    status, kind, message = refusal(server.http.delete("/_cortex/apis/a"))

    assert (409, "conflict") == (status, kind)
    assert "`a` cannot be deleted: the TrafficSplitter `all` leads to it" in message
    assert 1 == server.http.post("/all", json=0).json()
    assert server.http.delete("/_cortex/apis/all").status_code == 200
    assert server.http.delete("/_cortex/apis/a").status_code == 200
    assert [] == names(server)
