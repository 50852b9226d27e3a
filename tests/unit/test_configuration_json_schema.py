"""The JSON Schema of the configuration says what the reader says."""

from pathlib import Path

import jsonschema
import pytest
import yaml

from cortex.configuration import json_schema, read_configuration
from cortex.configuration.__main__ import schema_text
from cortex.domain.errors import InvalidConfiguration

COMMITTED = Path(__file__).parents[2] / "docs" / "cortex.schema.json"

HEAD = "- name: a\n  kind: BatchAPI\n  predictor:\n    type: python\n    path: predictor.py\n"

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
]

BAD = [
    "[]",
    "name: a",
    "- 1",
    "- name: a\n  kind: BatchAPI\n",
    HEAD.replace("name: a", "name: A"),
    HEAD.replace("name: a", f"name: {'a' * 43}"),
    HEAD.replace("  kind: BatchAPI\n", ""),
    HEAD.replace("BatchAPI", "RealtimeAPI"),
    HEAD.replace("python", "onnx"),
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
