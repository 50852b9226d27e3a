"""What may be deployed beside what, what a path leads to, and what may be deleted."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from cortex.configuration import read_configuration
from cortex.domain.errors import ApiNotFound, Conflict, EndpointTaken, InvalidConfiguration, InvalidPredictor
from cortex.operator.deployments import Deployed, Deployments
from cortex.operator.machine import Machine
from cortex.serving.versions import restart_key
from cortex.storage.ledger import Version
from cortex.storage.memory import MemoryLedger

PREDICTORS = {
    "python": "class PythonPredictor:\n    def __init__(self, config): ...\n    def predict(self, payload): ...\n",
    "onnx": "class ONNXPredictor:\n    def __init__(self, onnx_client, config): ...\n    def predict(self): ...\n",
}


def batch(name: str, more: str = "") -> str:
    return f"- {{name: {name}, kind: BatchAPI, predictor: {{type: python, path: python.py}}{more}}}\n"


def realtime(name: str, more: str = "") -> str:
    return f"- {{name: {name}, predictor: {{type: python, path: python.py}}{more}}}\n"


def splitter(name: str, more: str = "", **weights: int) -> str:
    apis = ", ".join(f"{{name: {target}, weight: {weight}}}" for target, weight in weights.items())
    return f"- {{name: {name}, kind: TrafficSplitter, apis: [{apis}]{more}}}\n"


class Story:
    """Deployments with the project `p`, which has a predictor of each type."""

    def __init__(self, folder: Path) -> None:
        self.ledger = MemoryLedger()
        self.folder = folder
        self.project("p")
        self.used: set[str] = set()
        self.chance = 0.0
        self.deployments = self.restarted()

    def project(self, project_id: str) -> None:
        home = self.folder / "projects" / project_id
        home.mkdir(parents=True, exist_ok=True)
        for kind, source in PREDICTORS.items():
            (home / f"{kind}.py").write_text(source)

    def restarted(self) -> Deployments:
        """Give the deployments of the next operator."""
        deployments = Deployments(
            ledger=self.ledger,
            root=self.folder / "projects",
            uploads=self.folder / "uploads",
            machine=Machine(cpu_cores=4, mem_bytes=2**30, gpus=1),
            now_ns=lambda: 1,
            background=lambda work, then: (work(), then())[0],
            also_needed=lambda: self.used,
            chance=lambda: self.chance,
        )
        self.used.add("p")  # it came just now
        deployments.recover()
        return deployments

    def deploy(self, text: str, project_id: str = "p") -> list[Deployed]:
        return self.deployments.deploy(read_configuration(text, "cortex.yaml"), project_id)

    def check(self, text: str) -> None:
        self.deployments.check(text, "cortex.yaml", "p")

    def served(self, path: str) -> str | None:
        version = self.deployments.served_at(path)
        return version and version.api_name

    def names(self) -> list[str]:
        return [version.api_name for version in self.deployments.all()]


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path)


def test_splitters_are_deployed_behind_all_others_whatever_the_order_of_the_file(story: Story) -> None:
    deployed = story.deploy(splitter("s", a=100) + batch("b") + realtime("a"))

    assert ["b", "a", "s"] == [one.version.api_name for one in deployed]
    assert ["created b (BatchAPI)", "created a (RealtimeAPI)", "created s (TrafficSplitter)"] == [
        one.message for one in deployed
    ]


def test_what_is_deployed_again_as_it_was_is_up_to_date(story: Story) -> None:
    text = realtime("a") + splitter("s", a=100)
    story.deploy(text)

    assert ["a (RealtimeAPI) is up to date", "s (TrafficSplitter) is up to date"] == [
        one.message for one in story.deploy(text)
    ]
    story.project("q")
    assert ["updated a (RealtimeAPI)", "s (TrafficSplitter) is up to date"] == [
        one.message for one in story.deploy(text, "q")
    ]


# Kinds


@pytest.mark.parametrize(
    ("first", "second"), [(batch, realtime), (realtime, batch)], ids=["batch to realtime", "realtime to batch"]
)
def test_the_kind_of_a_deployed_name_never_changes(story: Story, first, second) -> None:
    (before,) = story.deploy(first("a"))

    with pytest.raises(Conflict, match=r"`a` is deployed as a \w+, and cannot become a \w+") as refused:
        story.deploy(realtime("new") + second("a"))

    assert "`cortex delete a`" in (refused.value.hint or "")
    assert [before.version] == story.deployments.all()


def test_a_splitter_cannot_become_what_it_leads_to(story: Story) -> None:
    story.deploy(realtime("a") + splitter("s", a=100))

    with pytest.raises(Conflict, match="`s` is deployed as a TrafficSplitter, and cannot become a RealtimeAPI"):
        story.deploy(realtime("s"))


# Endpoints


@pytest.mark.parametrize(
    "other",
    [
        batch("b", ", networking: {endpoint: /a}"),
        realtime("b", ", networking: {endpoint: /a/b}"),
        splitter("b", ", networking: {endpoint: /a/b/c}", a=100),
    ],
)
def test_an_endpoint_belongs_to_one_api_of_whatever_kind(story: Story, other: str) -> None:
    story.deploy(realtime("a"))

    with pytest.raises(EndpointTaken, match="`b`: the endpoint"):
        story.deploy(other)
    assert ["a"] == story.names()


def test_apis_of_one_file_may_exchange_their_endpoints(story: Story) -> None:
    story.deploy(realtime("a") + batch("b"))

    story.deploy(realtime("a", ", networking: {endpoint: b}") + batch("b", ", networking: {endpoint: a}"))

    assert ("b", "a") == (story.deployments.at("/a")[0].api_name, story.deployments.at("/b")[0].api_name)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/a", ("a", "")),
        ("/a/", ("a", "")),
        ("/a/job/logs", ("a", "job/logs")),
        ("/x/y", ("deep", "")),
        ("/x/y/z/", ("deep", "z")),
        ("/s/below", ("s", "below")),
    ],
)
def test_a_path_leads_to_the_api_whose_endpoint_it_is_or_lies_below(story: Story, path: str, expected) -> None:
    story.deploy(realtime("a") + batch("deep", ", networking: {endpoint: /x/y}") + splitter("s", a=100))

    version, rest = story.deployments.at(path)

    assert expected == (version.api_name, rest)


@pytest.mark.parametrize("path", ["", "/", "//", "/ab", "/x", "/x/", "/b", "a", "//a"])
def test_any_other_path_leads_nowhere(story: Story, path: str) -> None:
    story.deploy(realtime("a") + batch("deep", ", networking: {endpoint: /x/y}"))

    with pytest.raises(ApiNotFound, match="no API is deployed at"):
        story.deployments.at(path)
    assert story.served(path) is None


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/a", "a"), ("/a/", "a"), ("/a/b", None), ("/a//", None), ("/jobs", None), ("/jobs/", None)],
)
def test_realtime_apis_are_served_at_their_endpoint_and_not_below_it(story: Story, path: str, expected) -> None:
    story.deploy(realtime("a") + batch("jobs"))

    assert expected == story.served(path)


def test_an_endpoint_that_was_left_leads_nowhere_also_after_a_restart(story: Story) -> None:
    story.deploy(realtime("a") + splitter("s", a=100))
    story.deploy(realtime("a", ", networking: {endpoint: /new}"))

    for _ in range(2):
        assert (None, "a", "a") == (story.served("/a"), story.served("/new"), story.served("/s"))
        story.deployments = story.restarted()


# Splitters


def test_a_splitter_serves_by_what_it_leads_to_each_as_often_as_it_weighs(story: Story) -> None:
    story.deploy(realtime("a") + realtime("b") + realtime("c") + splitter("s", a=70, b=30, c=0))
    served: Counter[str | None] = Counter()

    for percent in range(100):
        story.chance = percent / 100
        served[story.served("/s")] += 1

    assert {"a": 70, "b": 30} == served


def test_a_splitter_tells_what_it_leads_to_in_the_version_of_now(story: Story) -> None:
    story.deploy(splitter("s", a=25, b=75) + realtime("a") + realtime("b"))
    (new,) = story.deploy(realtime("b", ", compute: {cpu: 1}"))
    story.chance = 0.99

    splits = story.deployments.api("s")

    assert [("a", 25), ("b", 75)] == [
        (version.api_name, weight) for version, weight in story.deployments.targets(splits)
    ]
    assert new.version == story.deployments.targets(splits)[1][0] == story.deployments.served_at("/s")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (splitter("s", a=50, nowhere=50), "`s` leads to `nowhere`, which is not deployed"),
        (splitter("s", a=50, jobs=50), "`s` leads to `jobs`, which is a BatchAPI"),
        (splitter("s", a=50, other=50), "`s` leads to `other`, which is a TrafficSplitter"),
    ],
)
def test_a_splitter_leads_to_realtime_apis_that_are_there(story: Story, text: str, why: str) -> None:
    story.deploy(realtime("a") + batch("jobs") + splitter("other", a=100))

    with pytest.raises(Conflict, match=why):
        story.deploy(realtime("new") + text)
    assert ["a", "jobs", "other"] == story.names()


def test_a_splitter_does_not_lead_to_what_is_being_deleted(story: Story) -> None:
    story.deploy(realtime("a"))
    story.deployments.begin_delete("a")

    with pytest.raises(Conflict, match="`s` leads to `a`, which is not deployed"):
        story.deploy(splitter("s", a=100))


# Deleting


def test_what_a_splitter_leads_to_cannot_be_deleted_before_it(story: Story) -> None:
    story.deploy(realtime("a") + realtime("b") + splitter("s", a=100) + splitter("t", a=50, b=50))

    with pytest.raises(Conflict, match="`a` cannot be deleted: the TrafficSplitters `s` and `t` lead to it"):
        story.deployments.begin_delete("a")
    with pytest.raises(Conflict, match="`b` cannot be deleted: the TrafficSplitter `t` leads to it") as refused:
        story.deployments.begin_delete("b")

    assert "delete `t` first, or deploy it without `b`" == refused.value.hint
    assert "b" == story.served("/b")  # it is still in service
    story.deploy(splitter("t", a=100))
    story.deployments.begin_delete("b")
    story.deployments.delete("b")
    assert ["a", "s", "t"] == story.names()


def test_a_deleted_splitter_lets_go_of_what_it_led_to(story: Story) -> None:
    story.deploy(realtime("a") + splitter("s", a=100))

    for name in ("s", "a"):
        story.deployments.begin_delete(name)
        assert story.served(f"/{name}") is None
        with pytest.raises(ApiNotFound):
            story.deployments.at(f"/{name}")
        assert story.deployments.is_deployed(name)
        story.deployments.delete(name)
        assert not story.deployments.is_deployed(name)

    assert [] == story.names()


def test_a_project_stays_while_something_of_it_still_runs(story: Story) -> None:
    home = story.folder / "projects"
    story.project("q")
    story.deploy(realtime("a"), "q")
    story.used = {"q"}

    story.deploy(realtime("a"))
    story.deployments.remove_unneeded()
    assert {"p", "q"} == {path.name for path in home.iterdir()}

    story.used = set()
    story.deployments.remove_unneeded()
    assert {"p"} == {path.name for path in home.iterdir()}


def test_a_splitter_needs_no_project(story: Story) -> None:
    story.deploy(realtime("a") + splitter("s", a=100))

    assert {"p", ""} == {version.project_id for version in story.deployments.all()}


# What is checked before


def test_the_source_is_checked_by_the_type_of_its_predictor(story: Story) -> None:
    onnx = "- {name: a, kind: KIND, predictor: {type: onnx, path: FILE.py, model_path: s3://bucket/a.onnx}}\n"

    for kind in ("BatchAPI", "RealtimeAPI"):
        story.check(onnx.replace("KIND", kind).replace("FILE", "onnx"))
        with pytest.raises(InvalidPredictor, match=r"python.py:1: the class `ONNXPredictor` is missing"):
            story.check(onnx.replace("KIND", kind).replace("FILE", "python"))


@pytest.mark.parametrize("make", [batch, realtime])
@pytest.mark.parametrize(
    ("compute", "why"),
    [
        ("{cpu: 5}", "compute.cpu: got `5`, must be at most 4"),
        ("{mem: 2Gi}", "compute.mem: got `2Gi`, must be at most 1024Mi"),
        ("{gpu: 2}", "compute.gpu: got `2`, must be at most 1"),
    ],
)
def test_what_the_machine_never_has_room_for_is_refused(story: Story, make, compute: str, why: str) -> None:
    with pytest.raises(InvalidConfiguration, match=why):
        story.check(make("a", f", compute: {compute}"))
    story.check(make("a", ", compute: {cpu: 4, mem: 1Gi, gpu: 1}"))


@pytest.mark.parametrize("make", [batch, realtime])
def test_a_machine_alone_is_in_no_group_of_nodes(story: Story, make) -> None:
    with pytest.raises(InvalidConfiguration, match="node_groups: this operator runs workers on its own machine"):
        story.check(make("a", ", node_groups: [gpu]"))
    story.check(make("a", ", node_groups: []"))


def test_a_splitter_takes_no_room(story: Story) -> None:
    story.check(splitter("s", a=100))


# What replicas are made of


def versions(story: Story, *texts: str) -> Sequence[Version]:
    return [story.deploy(text)[0].version for text in texts]


def test_replicas_go_on_where_only_how_many_they_are_and_how_they_are_reached_changes(story: Story) -> None:
    first, *others = versions(
        story,
        realtime("a"),
        realtime("a", ", autoscaling: {max_replicas: 2}"),
        realtime("a", ", update_strategy: {max_surge: 1}"),
        realtime("a", ", networking: {endpoint: x, timeout: 5}"),
    )

    assert 4 == len({first.api_id, *(other.api_id for other in others)})
    assert {restart_key(first)} == {restart_key(other) for other in others}


def test_replicas_are_replaced_where_what_they_are_made_of_changes(story: Story) -> None:
    first, *others = versions(
        story,
        realtime("a"),
        realtime("a", ", compute: {cpu: 1}"),
        realtime("a").replace("path: python.py", "path: python.py, config: {b: 1}"),
        realtime("a").replace("path: python.py", "path: python.py, threads_per_process: 2"),
    )
    moved = replace(first, project_id="q")

    assert 5 == len({restart_key(version) for version in (first, moved, *others)})
