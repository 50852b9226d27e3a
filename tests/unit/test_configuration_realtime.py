"""What a configuration may say of a RealtimeAPI, under the names of today and of earlier releases."""

import pytest

from cortex.configuration import RealtimeApi, read_configuration
from cortex.domain.errors import InvalidConfiguration

SMALLEST = """\
- name: iris
  predictor:
    type: python
    path: predictor.py
"""

COMPLETE = """\
- name: iris
  kind: RealtimeAPI
  predictor:
    type: python
    path: predictor.py
    processes_per_replica: 2
    threads_per_process: 3
  networking:
    endpoint: /flowers/iris
    timeout: 1m30s
  compute:
    cpu: 1
    mem: 1Gi
  autoscaling:
    min_replicas: 2
    max_replicas: 8
    init_replicas: 3
    max_replica_concurrency: 50
    target_replica_concurrency: 2.5
    window: 30s
    downscale_stabilization_period: 1h30m
    upscale_stabilization_period: 0
    max_downscale_factor: 0
    max_upscale_factor: 10
    downscale_tolerance: 0.1
    upscale_tolerance: 2
  update_strategy:
    max_surge: 2
    max_unavailable: 0%
"""


def read(text: str) -> RealtimeApi:
    (api,) = read_configuration(text, "cortex.yaml")
    assert isinstance(api, RealtimeApi)
    return api


def problems_of(text: str) -> list[str]:
    with pytest.raises(InvalidConfiguration) as refusal:
        read(text)
    return refusal.value.message.splitlines()


def with_section(name: str, text: str) -> str:
    return f"{SMALLEST}  {name}: {text}\n"


def test_what_says_no_kind_is_a_realtime_api_with_the_defaults_of_the_reference():
    spec = read(SMALLEST).model_dump(mode="json")

    assert spec == {
        "name": "iris",
        "kind": "RealtimeAPI",
        "predictor": {
            "type": "python",
            "path": "predictor.py",
            "config": {},
            "python_path": None,
            "env": {},
            "model_path": None,
            "models": None,
            "signature_key": None,
            "processes_per_replica": 1,
            "threads_per_process": 1,
        },
        "networking": {"endpoint": None, "timeout": None},
        "compute": {"cpu": "200m", "mem": None, "gpu": 0},
        "node_groups": None,
        "autoscaling": {
            "min_replicas": 1,
            "max_replicas": 100,
            "init_replicas": 1,
            "max_replica_concurrency": 1024,
            "target_replica_concurrency": 1.0,
            "window": 60.0,
            "downscale_stabilization_period": 300.0,
            "upscale_stabilization_period": 60.0,
            "max_downscale_factor": 0.75,
            "max_upscale_factor": 1.5,
            "downscale_tolerance": 0.05,
            "upscale_tolerance": 0.05,
        },
        "update_strategy": {"max_surge": "25%", "max_unavailable": "25%"},
    }


def test_every_field_is_read_and_durations_are_seconds():
    api = read(COMPLETE)

    assert api.endpoint == "/flowers/iris"
    assert api.networking.timeout == 90.0
    assert (api.predictor.processes_per_replica, api.predictor.threads_per_process) == (2, 3)
    assert api.autoscaling.model_dump() == {
        "min_replicas": 2,
        "max_replicas": 8,
        "init_replicas": 3,
        "max_replica_concurrency": 50,
        "target_replica_concurrency": 2.5,
        "window": 30.0,
        "downscale_stabilization_period": 5400.0,
        "upscale_stabilization_period": 0.0,
        "max_downscale_factor": 0.0,
        "max_upscale_factor": 10.0,
        "downscale_tolerance": 0.1,
        "upscale_tolerance": 2.0,
    }
    assert api.update_strategy.model_dump() == {"max_surge": 2, "max_unavailable": "0%"}


@pytest.mark.parametrize("text", [SMALLEST, COMPLETE, with_section("autoscaling", "{min_replicas: 0}")])
def test_an_api_that_is_dumped_and_loaded_is_the_same(text):
    api = read(text)

    assert api == RealtimeApi.model_validate(api.model_dump(mode="json"))
    assert api == RealtimeApi.model_validate_json(api.model_dump_json())


def test_null_means_nothing_said():
    sections = ("networking", "compute", "autoscaling", "update_strategy")

    assert read(SMALLEST) == read(SMALLEST + "".join(f"  {name}:\n" for name in sections))
    assert read(SMALLEST) == read(
        with_section("autoscaling", "{init_replicas: null, target_replica_concurrency: null}")
        + "  networking: {endpoint: null, timeout: null}\n"
    )


def test_the_concurrency_that_is_aimed_at_is_by_default_what_a_replica_can_do_at_once():
    text = SMALLEST + "    processes_per_replica: 4\n    threads_per_process: 8\n"

    assert read(text).autoscaling.target_replica_concurrency == 32.0


@pytest.mark.parametrize("least", [0, 1, 7])
def test_at_first_there_are_as_few_replicas_as_may_be(least):
    assert read(with_section("autoscaling", f"{{min_replicas: {least}}}")).autoscaling.init_replicas == least


@pytest.mark.parametrize(
    ("autoscaling", "expected"),
    [
        ("{min_replicas: -1}", "min_replicas: got `-1` (integer), must be at least 0"),
        ("{min_replicas: one}", "min_replicas: got `one` (string), must be an integer"),
        ("{min_replicas: true}", "min_replicas: got `true` (boolean), must be an integer"),
        ("{max_replicas: 0, min_replicas: 0}", "max_replicas: got `0` (integer), must be at least 1"),
        (
            "{min_replicas: 3, max_replicas: 2}",
            "min_replicas: got `3`, must be at most `max_replicas`, which is `2`",
        ),
        ("{min_replicas: 101}", "min_replicas: got `101`, must be at most `max_replicas`, which is `100`"),
        (
            "{min_replicas: 2, init_replicas: 1}",
            "init_replicas: got `1`, must be from `min_replicas` (2) to `max_replicas` (100)",
        ),
        (
            "{max_replicas: 4, init_replicas: 5}",
            "init_replicas: got `5`, must be from `min_replicas` (1) to `max_replicas` (4)",
        ),
        ("{target_replica_concurrency: 0}", "target_replica_concurrency: got `0` (integer), must be more than 0"),
        ("{target_replica_concurrency: 1s}", "target_replica_concurrency: got `1s` (string), must be a number"),
        (
            "{target_replica_concurrency: 11, max_replica_concurrency: 10}",
            "target_replica_concurrency: got `11`, must be at most `max_replica_concurrency`, which is `10`",
        ),
        ("{max_replica_concurrency: 0}", "max_replica_concurrency: got `0` (integer), must be at least 1"),
        ("{max_replica_concurrency: 65536}", "max_replica_concurrency: got `65536` (integer), must be at most 65535"),
        ("{window: 5s}", "window: got `5s`, must be at least `10s` and a multiple of it"),
        ("{window: 25}", "window: got `25s`, must be at least `10s` and a multiple of it"),
        ("{window: soon}", "window: got `soon`, must be a number of seconds, or text such as"),
        ("{window: null}", "window: got `null`, must be a number of seconds, or text such as"),
        ("{upscale_stabilization_period: -1}", "upscale_stabilization_period: got `-1`, must not be negative"),
        ("{downscale_stabilization_period: []}", "downscale_stabilization_period: got a list, must be a number of"),
        ("{max_downscale_factor: 1}", "max_downscale_factor: got `1` (integer), must be less than 1"),
        ("{max_downscale_factor: -0.1}", "max_downscale_factor: got `-0.1` (number), must be at least 0"),
        ("{max_upscale_factor: 1}", "max_upscale_factor: got `1` (integer), must be more than 1"),
        ("{downscale_tolerance: 1.0}", "downscale_tolerance: got `1.0` (number), must be less than 1"),
        ("{downscale_tolerance: -1}", "downscale_tolerance: got `-1` (integer), must be at least 0"),
        ("{upscale_tolerance: -0.5}", "upscale_tolerance: got `-0.5` (number), must be at least 0"),
        ("{upscale_tolerance: true}", "upscale_tolerance: got `true` (boolean), must be a number"),
        ("{max_replica: 2}", "max_replica: unknown field; did you mean `max_replicas`? (allowed: downscale_stab"),
    ],
)
def test_autoscaling_that_cannot_be_is_refused_by_its_field(autoscaling, expected):
    (problem,) = problems_of(with_section("autoscaling", autoscaling))

    assert problem.startswith(f"cortex.yaml:5: iris (RealtimeAPI): autoscaling.{expected}")


def test_more_at_once_than_there_may_be_is_refused_also_where_nothing_was_said_of_it():
    text = SMALLEST + "    threads_per_process: 20\n  autoscaling: {max_replica_concurrency: 10}\n"

    assert problems_of(text) == [
        (
            "cortex.yaml:6: iris (RealtimeAPI): autoscaling.target_replica_concurrency: got `20` "
            "(`processes_per_replica` times `threads_per_process`), "
            "must be at most `max_replica_concurrency`, which is `10`"
        )
    ]


@pytest.mark.parametrize("amount", ["0%", "100%", "7%", "0", "1", "1000"])
def test_a_surge_is_a_number_or_a_share(amount):
    api = read(with_section("update_strategy", f"{{max_surge: {amount}}}"))

    assert str(api.update_strategy.max_surge) == amount


@pytest.mark.parametrize("amount", ["-1", "101%", "1.5", "half", "2.5%", "null", "true", "[1]", "'1'", "-5%", "'%'"])
def test_any_other_surge_is_refused_with_what_is_allowed(amount):
    (problem,) = problems_of(with_section("update_strategy", f"{{max_unavailable: {amount}}}"))

    assert problem.startswith("cortex.yaml:5: iris (RealtimeAPI): update_strategy.max_unavailable: got ")
    assert problem.endswith(", must be a number of replicas, or a share of them (`0%` to `100%`)")


@pytest.mark.parametrize(("surge", "unavailable"), [("0", "0"), ("0%", "0"), ("0", "00%")])
def test_an_update_needs_room(surge, unavailable):
    (problem,) = problems_of(with_section("update_strategy", f"{{max_surge: {surge}, max_unavailable: {unavailable}}}"))

    assert "update_strategy.max_unavailable: got `" in problem
    assert problem.endswith("must not be 0 where `max_surge` is 0 too: no replica could be replaced")


@pytest.mark.parametrize(
    ("timeout", "expected"),
    [
        ("0", "got `0`, must be more than 0; leave it out for no limit"),
        ("later", "got `later`, must be a number of seconds, or text such as"),
        ("true", "got `true` (boolean), must be a number of seconds, or text such as"),
    ],
)
def test_a_timeout_is_a_span_of_time(timeout, expected):
    (problem,) = problems_of(with_section("networking", f"{{timeout: {timeout}}}"))

    assert problem.startswith(f"cortex.yaml:5: iris (RealtimeAPI): networking.timeout: {expected}")


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("processes_per_replica: 0", "processes_per_replica: got `0` (integer), must be at least 1"),
        ("processes_per_replica: 101", "processes_per_replica: got `101` (integer), must be at most 100"),
        ("processes_per_replica: 1.0", "processes_per_replica: got `1.0` (number), must be an integer"),
        ("threads_per_process: 0", "threads_per_process: got `0` (integer), must be at least 1"),
        ("threads_per_process: two", "threads_per_process: got `two` (string), must be an integer"),
    ],
)
def test_processes_and_threads_are_counted_from_one(field, expected):
    assert problems_of(f"{SMALLEST}    {field}\n") == [f"cortex.yaml:5: iris (RealtimeAPI): predictor.{expected}"]


def test_processes_that_would_have_to_share_a_gpu_are_refused():
    text = SMALLEST + "    processes_per_replica: 2\n  compute: {gpu: 1}\n"

    assert problems_of(text) == [
        (
            "cortex.yaml:5: iris (RealtimeAPI): predictor.processes_per_replica: got `2`, must be 1 where "
            "`compute.gpu` is not 0: processes do not share a GPU"
        )
    ]
    assert read(text.replace("replica: 2", "replica: 1")).compute.gpu == 1


# What other kinds have


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (with_section("job", "{}"), "job: unknown field for this kind of API; a BatchAPI has it (allowed: autoscaling"),
        (with_section("apis", "[]"), "apis: unknown field for this kind of API; a TrafficSplitter has it (allowed: a"),
        (with_section("timeout", "5"), "timeout: unknown field here; it belongs under `networking` (allowed: auto"),
        (with_section("monitoring", "{}"), "monitoring: unknown field, which earlier releases knew: predictions are"),
        (with_section("tracker", "{}"), "tracker: unknown field, which earlier releases knew: predictions are not"),
    ],
)
def test_a_field_of_another_kind_or_place_or_release_is_told_as_such(text, expected):
    (problem,) = problems_of(text)

    assert problem.startswith(f"cortex.yaml:5: iris (RealtimeAPI): {expected}")


@pytest.mark.parametrize("section", ["autoscaling", "update_strategy"])
def test_a_batch_api_has_no_replicas(section):
    (problem,) = problems_of(with_section(section, "{}").replace("predictor:", "kind: BatchAPI\n  predictor:", 1))

    assert f": {section}: unknown field for this kind of API; a RealtimeAPI has it (allowed: " in problem


@pytest.mark.parametrize("field", ["processes_per_replica", "threads_per_process"])
def test_a_worker_of_a_batch_api_is_one_process_with_one_batch(field):
    text = SMALLEST.replace("predictor:", "kind: BatchAPI\n  predictor:", 1) + f"    {field}: "

    (api,) = read_configuration(f"{text}1\n", "cortex.yaml")
    (problem,) = problems_of(f"{text}2\n")

    assert getattr(api.predictor, field) == 1
    assert problem == (
        f"cortex.yaml:6: iris (BatchAPI): predictor.{field}: got `2` (integer), must be 1: "
        "a RealtimeAPI may have more; the `workers` of a job are its own"
    )


# Earlier names

PRESENT = SMALLEST + "    processes_per_replica: 2\n    threads_per_process: 3\n  autoscaling: {max_replicas: 1}\n"


@pytest.mark.parametrize(
    "autoscaling",
    [
        "{max_replicas: 1, workers_per_replica: 2, threads_per_worker: 3}",
        "{max_replicas: 1, processes_per_replica: 2, threads_per_process: 3}",
        "{processes_per_replica: 2, max_replicas: 1, threads_per_worker: 3}",
    ],
)
def test_processes_and_threads_may_be_named_and_placed_as_the_guides_do(autoscaling):
    assert read(with_section("autoscaling", autoscaling)) == read(PRESENT)


def test_the_endpoint_may_stand_where_it_stood_first():
    expected = read(with_section("networking", "{endpoint: /x}"))

    assert expected == read(with_section("endpoint", "x"))
    assert expected == read(with_section("endpoint", "x") + "  networking:\n")
    assert "timeout" in read(with_section("endpoint", "x") + "  networking: {timeout: 5}\n").networking.model_fields_set


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            with_section("autoscaling", "{threads_per_worker: 0}"),
            ["autoscaling.threads_per_worker: got `0` (integer), must be at least 1"],
        ),
        (with_section("endpoint", "5"), ["endpoint: got `5` (integer), must be a string (quote it)"]),
        (
            SMALLEST + "    threads_per_process: 2\n  autoscaling: {threads_per_worker: 3}\n",
            [
                (
                    "autoscaling.threads_per_worker: the earlier name of `predictor.threads_per_process`, which "
                    "is given too; keep `predictor.threads_per_process` only"
                )
            ],
        ),
        (
            with_section("autoscaling", "{workers_per_replica: 2, processes_per_replica: 2}"),
            [
                (
                    "autoscaling.processes_per_replica: the earlier name of `predictor.processes_per_replica`, and so "
                    "is `autoscaling.workers_per_replica`; keep `predictor.processes_per_replica` only"
                )
            ],
        ),
        (
            with_section("endpoint", "a") + "  networking: {endpoint: b}\n",
            [
                (
                    "endpoint: the earlier name of `networking.endpoint`, which is given too; keep "
                    "`networking.endpoint` only"
                )
            ],
        ),
        ("- {name: iris, autoscaling: {threads_per_worker: 1}}", ["predictor: missing; it is required. The code that"]),
        (with_section("autoscaling", "{workers_per_replicas: 1}"), ["autoscaling.workers_per_replicas: unknown field"]),
    ],
)
def test_what_is_wrong_with_an_earlier_name_is_told_where_it_stands(text, expected):
    problems = [problem.partition("(RealtimeAPI): ")[2] for problem in problems_of(text)]

    assert expected == [problem[: len(said)] for problem, said in zip(problems, expected, strict=True)]


def test_endpoints_clash_where_one_stands_at_its_earlier_place():
    text = with_section("endpoint", "a") + SMALLEST.replace("iris", "b") + "  endpoint: /a/b\n"

    assert problems_of(text) == [
        (
            "cortex.yaml:10: b (RealtimeAPI): endpoint: `/a/b` is taken: the API on line 1 has `/a`, and no "
            "endpoint may equal or lie below another"
        )
    ]


def test_a_batch_api_has_no_earlier_names():
    text = SMALLEST.replace("predictor:", "kind: BatchAPI\n  predictor:", 1) + "  endpoint: /x\n"

    assert "endpoint: unknown field here; it belongs under `networking`" in problems_of(text)[0]
