"""The JSON Schema of the configuration says what the reader says."""

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st

from cortex.configuration import json_schema, read_configuration
from cortex.configuration.__main__ import schema_text
from cortex.domain.errors import InvalidConfiguration

COMMITTED = Path(__file__).parents[2] / "docs" / "cortex.schema.json"

HEAD = "- name: a\n  kind: BatchAPI\n  predictor:\n    type: python\n    path: predictor.py\n"
REALTIME = HEAD.replace("  kind: BatchAPI\n", "")

GOOD = [
    HEAD,
    HEAD + "    config:\n    env:\n  networking:\n  compute:\n",
    HEAD + "    python_path: src\n    config: {a: [1, null, {b: 2}]}\n    env: {A: b}\n",
    HEAD + "  networking: {endpoint: /vision/digits}\n  compute: {cpu: 0.5, mem: 2Gi, gpu: 1}\n",
    HEAD + "  compute: {cpu: 200m, mem: null}\n",
    HEAD + "  job:\n",
    HEAD + "  job: {retries: 2, batch_timeout: 30s, timeout: 0.5, max_failures: 5%, on_failed_batch: isolate}\n",
    HEAD + "  job: {retries: {attempts: 3, backoff: 0, max_backoff: 1m, no_retry: [a.B]}, max_failures: 0}\n",
    HEAD + "  job: {results: {path: s3://bucket/out, format: csv, include_input: true}}\n",
    HEAD + "  job: {retries: null, batch_timeout: null, max_failures: null, on_failed_batch: null, results: null}\n",
    HEAD + HEAD.replace("name: a", "name: b"),
    HEAD + "    processes_per_replica: 1\n    threads_per_process: 1\n",
    HEAD.replace("python", "onnx") + "    model_path: s3://bucket/iris.onnx\n",
    HEAD.replace("python", "onnx") + "    models: [{name: a, model_path: a.onnx, signature_key: null}]\n",
    HEAD.replace("python", "onnx") + "    models: {paths: [{name: a, model_path: a.onnx}]}\n    model_path: null\n",
    HEAD.replace("python", "tensorflow") + "    model_path: /a\n    signature_key: b\n",
    HEAD.replace("python", "tensorflow") + "    models: [{name: a, model_path: a, signature_key: b}]\n",
    HEAD.replace("python", "tensorflow") + "    models: {paths: [{name: a, model_path: a}], signature_key: b}\n",
    REALTIME,
    REALTIME + "    processes_per_replica: 100\n    threads_per_process: 10\n",
    REALTIME.replace("name: a", "name: a\n  kind: RealtimeAPI") + "  networking: {timeout: 5}\n  autoscaling:\n",
    REALTIME + "  autoscaling: {workers_per_replica: 2, threads_per_worker: 3, max_replicas: 1}\n  endpoint: x\n",
    REALTIME + "  autoscaling: {min_replicas: 0, window: 30s, upscale_stabilization_period: 1h30m}\n",
    REALTIME + "  update_strategy: {max_surge: 0, max_unavailable: 100%}\n",
    "- {name: a, kind: TrafficSplitter, apis: [{name: b, weight: 100}]}\n",
]

BAD = [
    "[]",
    "name: a",
    "- 1",
    "- name: a\n  kind: BatchAPI\n",
    HEAD.replace("name: a", "name: A"),
    HEAD.replace("name: a", f"name: {'a' * 43}"),
    HEAD.replace("BatchAPI", "SyncAPI"),
    HEAD.replace("python", "onnx"),
    HEAD.replace("python", "onnx") + "    model_path: a\n    models: [{name: a, model_path: a}]\n",
    HEAD.replace("python", "onnx") + "    models: []\n",
    HEAD.replace("python", "onnx") + "    models: {dir: a}\n",
    HEAD.replace("python", "onnx") + "    model_path: a\n    signature_key: b\n",
    HEAD.replace("python", "onnx") + "    models: [{name: a, model_path: a, signature_key: b}]\n",
    HEAD.replace("python", "onnx") + "    models: {paths: [{name: a, model_path: a}], signature_key: b}\n",
    HEAD.replace("python", "tensorflow") + "    models: [{name: a, model_path: a}]\n    signature_key: b\n",
    HEAD + "    model_path: a\n",
    HEAD + "    models: [{name: a, model_path: a}]\n",
    HEAD + "    signature_key: a\n",
    HEAD + "    processes_per_replica: 2\n",
    HEAD + "    threads_per_process: 2\n",
    HEAD + "  networking: {timeout: 5}\n",
    HEAD + "  endpoint: x\n",
    REALTIME + "  job: {}\n",
    REALTIME + "    processes_per_replica: 101\n",
    REALTIME + "    threads_per_process: 0\n",
    REALTIME + "  networking: {timeout: 0}\n",
    REALTIME + "  autoscaling: {min_replicas: -1}\n",
    REALTIME + "  autoscaling: {threads_per_worker: 0}\n",
    REALTIME + "  autoscaling: {max_replica_concurrency: 65536}\n",
    REALTIME + "  autoscaling: {max_downscale_factor: 1}\n",
    REALTIME + "  autoscaling: {max_upscale_factor: 1}\n",
    REALTIME + "  autoscaling: {window: soon}\n",
    REALTIME + "  autoscaling: {tolerance: 1}\n",
    REALTIME + "  update_strategy: {max_surge: 101%}\n",
    REALTIME + "  update_strategy: {max_surge: 0.5}\n",
    "- {name: a, kind: TrafficSplitter}\n",
    "- {name: a, kind: TrafficSplitter, apis: []}\n",
    "- {name: a, kind: TrafficSplitter, apis: [{name: b, weight: 101}]}\n",
    "- {name: a, kind: TrafficSplitter, apis: [{name: b}]}\n",
    HEAD.replace("predictor.py", "predictor.pickle"),
    HEAD.replace("predictor.py", "/predictor.py"),
    HEAD + "    confg: {}\n",
    HEAD + "    config: [a]\n",
    HEAD + "    env: {A: 1}\n",
    HEAD + "    env: {CORTEX_A: b}\n",
    HEAD + "    python_path: /src\n",
    HEAD + "  autoscaling: {max_replicas: 1}\n",
    HEAD + "  networking: {endpoint: a b}\n",
    HEAD + "  compute: {cpu: true}\n",
    HEAD + "  compute: {mem: 512}\n",
    HEAD + "  compute: {gpu: -1}\n",
    HEAD + "  compute: {gpu: one}\n",
    HEAD + "  job: []\n",
    HEAD + "  job: {retry: 1}\n",
    HEAD + "  job: {retries: -1}\n",
    HEAD + "  job: {retries: 1000}\n",
    HEAD + "  job: {retries: twice}\n",
    HEAD + "  job: {retries: {backoff: 1s}}\n",
    HEAD + "  job: {retries: {attempts: 0}}\n",
    HEAD + "  job: {retries: {attempts: 2, no_retry: ValueError}}\n",
    HEAD + "  job: {batch_timeout: soon}\n",
    HEAD + "  job: {timeout: 0}\n",
    HEAD + "  job: {max_failures: 1.5}\n",
    HEAD + "  job: {max_failures: some}\n",
    HEAD + "  job: {on_failed_batch: skip}\n",
    HEAD + "  job: {results: s3://bucket/out}\n",
    HEAD + "  job: {results: {path: s3://bucket/out, format: xml}}\n",
]


@pytest.fixture(scope="module")
def validator():
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_committed_schema_is_current():
    assert COMMITTED.read_text(encoding="utf-8") == schema_text(), "run `python -m cortex.configuration`"


@pytest.mark.parametrize("text", GOOD)
def test_what_the_reader_accepts_the_schema_accepts(validator, text):
    assert read_configuration(text, "cortex.yaml")
    assert list(validator.iter_errors(yaml.safe_load(text))) == []


@pytest.mark.parametrize("text", BAD)
def test_what_the_schema_refuses_the_reader_refuses(validator, text):
    with pytest.raises(InvalidConfiguration):
        read_configuration(text, "cortex.yaml")
    assert not validator.is_valid(yaml.safe_load(text))


def test_every_field_has_a_description_and_an_example_that_is_valid():
    definitions = json_schema()["$defs"]

    for section in definitions.values():
        assert section["additionalProperties"] is False
        for name, field in section["properties"].items():
            referred = definitions.get(field.get("$ref", "").rpartition("/")[2], {})
            assert field.get("description") or referred.get("description"), name
            assert field["examples"], name
            whole = {"$defs": definitions, **field}
            for example in field["examples"]:
                jsonschema.validate(example, whole, cls=jsonschema.Draft202012Validator)


# Configurations as they may come

ONLY_THE_READER_KNOWS = (
    "must be at most `max_replicas`",  # order of numbers
    "must be from `min_replicas`",
    "must be at most `max_replica_concurrency`",
    "must be at least `10s` and a multiple of it",
    "must not be 0 where `max_surge` is 0 too",
    "must be 1 where `compute.gpu` is not 0",
    "together, must be 100",  # sums
    "stands here twice",
    "is the name of an earlier one already",
    "is a TrafficSplitter; a TrafficSplitter leads",
)
"""What is wrong with fields beside each other, but for those of the models, is beyond a schema."""


def some(**fields: Any) -> st.SearchStrategy[dict[str, Any]]:
    """Give maps with some of these fields, each with one of its values."""
    return st.fixed_dictionaries({}, optional={name: st.sampled_from(values) for name, values in fields.items()})


COUNTS = (0, 1, 2, 7, -1, 101, 1.5, "2", True, None)
SHARES = (0, 0.5, 1, 1.5, -0.5, 70000, "1", False, None)
SPANS = (0, 10, 15, 60.0, "30s", "1h30m", "90", "1x", -10, True, None)
AMOUNTS = (0, 1, "0%", "25%", "100%", "101%", "1", 0.5, -1, None)
MODELS = st.lists(
    some(name=("a", "b", "a b"), model_path=("a", "s3://b/c", 5), signature_key=(None, "s"), more=(1,)), max_size=2
)
PREDICTORS = st.builds(
    lambda fields, models: fields | ({} if models is None else {"models": models}),
    some(
        type=("python", "onnx", "tensorflow", "java"),
        path=("predictor.py", "/predictor.py", 5),
        model_path=(None, "a.onnx"),
        signature_key=(None, "s"),
        processes_per_replica=COUNTS,
        threads_per_process=COUNTS,
        env=({}, None, {"A": "b"}, {"A": 1}),
    ),
    st.none()
    | MODELS
    | st.builds(lambda paths, other: {"paths": paths} | other, MODELS, some(signature_key=(None, "s"))),
)
AUTOSCALINGS = some(
    min_replicas=COUNTS,
    max_replicas=COUNTS,
    init_replicas=COUNTS,
    target_replica_concurrency=SHARES,
    max_replica_concurrency=SHARES,
    window=SPANS,
    downscale_stabilization_period=SPANS,
    upscale_stabilization_period=SPANS,
    max_downscale_factor=SHARES,
    max_upscale_factor=SHARES,
    downscale_tolerance=SHARES,
    upscale_tolerance=SHARES,
    threads_per_worker=COUNTS,
    processes_per_replica=COUNTS,
)
TARGETS = st.lists(some(name=("a", "b", "B"), weight=(0, 50, 100, 101, 0.5)), max_size=3)
PARTS: dict[str, st.SearchStrategy[Any]] = {
    "kind": st.sampled_from(["BatchAPI", "RealtimeAPI", "TrafficSplitter"]),
    "predictor": PREDICTORS,
    "autoscaling": AUTOSCALINGS,
    "update_strategy": some(max_surge=AMOUNTS, max_unavailable=AMOUNTS),
    "networking": some(endpoint=(None, "/x", "a b", 5), timeout=SPANS),
    "compute": some(cpu=(None, 1, 0.5, "200m", True), mem=(None, "1Gi", 5), gpu=COUNTS),
    "job": some(retries=(1, -1), timeout=SPANS),
    "apis": TARGETS,
    "endpoint": st.sampled_from(["/x", "x/y", "a b", 5]),
}
GOOD_PARTS: dict[str, Any] = {
    "BatchAPI": {"predictor": {"type": "python", "path": "a.py"}},
    "RealtimeAPI": {"predictor": {"type": "onnx", "path": "a.py", "model_path": "a.onnx"}},
    "TrafficSplitter": {"apis": [{"name": "a", "weight": 40}, {"name": "b", "weight": 60}]},
}


@st.composite
def entries(draw: st.DrawFn) -> dict[str, Any]:
    """Give an API that is right but for a part or two, which may be right as well."""
    kind = draw(st.sampled_from([*GOOD_PARTS]))
    entry = {"name": "z", "kind": kind, **GOOD_PARTS[kind]}
    for name in draw(st.lists(st.sampled_from([*PARTS]), max_size=2, unique=True)):
        part = draw(PARTS[name])
        entry[name] = {**entry[name], **part} if name in entry and isinstance(part, dict) else part
    return entry


@given(entry=entries())
def test_the_schema_says_what_the_reader_says_but_for_fields_that_do_not_fit_each_other(validator, entry):
    problems: list[str] = []
    try:
        read_configuration(yaml.safe_dump([entry]), "cortex.yaml")
    except InvalidConfiguration as refusal:
        problems = refusal.message.splitlines()

    assume(not any("keep `" in text for text in problems))  # of a field with two names, the reader has read one only
    told_by_the_reader = [text for text in problems if not any(known in text for known in ONLY_THE_READER_KNOWS)]
    assert bool(told_by_the_reader) != validator.is_valid([entry]), problems
