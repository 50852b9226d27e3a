"""What a configuration may say of a TrafficSplitter."""

import pytest

from cortex.configuration import Api, TrafficSplitter, read_configuration
from cortex.domain.errors import InvalidConfiguration

REALTIME = "- {name: NAME, predictor: {type: python, path: predictor.py}}\n"


def splitter(apis: str, more: str = "") -> str:
    return f"- name: all\n  kind: TrafficSplitter\n  apis: {apis}\n{more}"


def read(text: str) -> tuple[Api, ...]:
    return read_configuration(text, "cortex.yaml")


def problems_of(text: str) -> list[str]:
    with pytest.raises(InvalidConfiguration) as refusal:
        read(text)
    return refusal.value.message.splitlines()


def test_a_splitter_leads_to_apis_by_weight():
    text = splitter("[{name: a, weight: 90}, {name: b, weight: 10}, {name: c, weight: 0}]", "  networking:\n")
    (found,) = read(text)

    assert found.endpoint == "/all"
    assert found.model_dump(mode="json") == {
        "name": "all",
        "kind": "TrafficSplitter",
        "networking": {"endpoint": None},
        "apis": [{"name": "a", "weight": 90}, {"name": "b", "weight": 10}, {"name": "c", "weight": 0}],
    }
    assert found == TrafficSplitter.model_validate(found.model_dump(mode="json"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (splitter("[{name: a, weight: 99}]"), ["apis: got weights that are 99 together, must be 100"]),
        (splitter("[{name: a, weight: 60}, {name: b, weight: 60}]"), ["apis: got weights that are 120 together, must"]),
        (
            splitter("[{name: a, weight: 50}, {name: a, weight: 50}]"),
            ["apis.1.name: `a` stands here twice; add up its weights"],
        ),
        (splitter("[{name: a, weight: -1}]"), ["apis.0.weight: got `-1` (integer), must be at least 0"]),
        (splitter("[{name: a, weight: 101}]"), ["apis.0.weight: got `101` (integer), must be at most 100"]),
        (splitter("[{name: a, weight: 0.5}]"), ["apis.0.weight: got `0.5` (number), must be an integer"]),
        (splitter("[{name: A, weight: 100}]"), ["apis.0.name: got `A` (string), must consist of lower-case letters"]),
        (splitter("[{name: a}]"), ["apis.0.weight: missing; it is required. Its share of the requests, in percent."]),
        (splitter("[{name: a, weight: 100, shadow: true}]"), ["apis.0.shadow: unknown field (allowed: name, weight)"]),
        (splitter("[]"), ["apis: got an empty list, must have at least one entry"]),
        (splitter("{a: 100}"), ["apis: got a map, must be a list"]),
        ("- {name: all, kind: TrafficSplitter}", ["apis: missing; it is required. Who answers: RealtimeAPIs, whose"]),
        (
            splitter("[{name: a, weight: 100}]", "  predictor: {}\n"),
            ["predictor: unknown field for this kind of API; a BatchAPI or a RealtimeAPI has it (allowed: apis, "],
        ),
        (
            splitter("[{name: a, weight: 100}]", "  networking: {timeout: 5}\n"),
            ["networking.timeout: unknown field for this kind of API; a RealtimeAPI has it (allowed: endpoint)"],
        ),
    ],
)
def test_a_splitter_that_cannot_be_is_refused_by_its_field(text, expected):
    problems = [problem.partition("all (TrafficSplitter): ")[2] for problem in problems_of(text)]

    assert expected == [problem[: len(said)] for problem, said in zip(problems, expected, strict=True)]


def test_what_a_splitter_leads_to_may_stand_in_the_same_file_before_or_behind_it():
    text = splitter("[{name: a, weight: 50}, {name: b, weight: 50}]")

    assert ["b", "all", "a"] == [
        api.name for api in read(REALTIME.replace("NAME", "b") + text + REALTIME.replace("NAME", "a"))
    ]


@pytest.mark.parametrize(
    ("other", "kind"),
    [
        ("- {name: a, kind: BatchAPI, predictor: {type: python, path: predictor.py}}\n", "BatchAPI"),
        (splitter("[{name: b, weight: 100}]").replace("name: all", "name: a"), "TrafficSplitter"),
    ],
)
def test_a_splitter_leads_to_realtime_apis_only(other, kind):
    expected = f"all (TrafficSplitter): apis.0.name: `a` is a {kind}; a TrafficSplitter leads to RealtimeAPIs"

    assert [f"cortex.yaml:3: {expected}"] == problems_of(splitter("[{name: a, weight: 100}]") + other)


def test_a_splitter_does_not_lead_to_itself():
    assert "`all` is a TrafficSplitter" in problems_of(splitter("[{name: all, weight: 100}]"))[0]
