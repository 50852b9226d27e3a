"""How the reader of a configuration reports what is wrong: everything, once, with its line."""

import pytest

from cortex.configuration import read_configuration
from cortex.domain.errors import InvalidConfiguration

EVERYTHING_WRONG = """\
- name: image-classifier
  kind: BatchAPI
  predictor:
    type: pyhton
    confg: {a: 1}
    env:
      CORTEX_X: a
      FLAG: yes
  endpoint: /foo
  autoscaling:
    max_replicas: 2
  compute:
    cpu: 10m
    mem: 512
- kind: BatchAPI
  predictor:
    path: ../predictor.py
    type: python
    image: registry/image
- 7
"""


def refusal_of(text: str) -> InvalidConfiguration:
    with pytest.raises(InvalidConfiguration) as refusal:
        read_configuration(text, "cortex.yaml")
    return refusal.value


def problems_of(text: str) -> list[str]:
    return refusal_of(text).message.splitlines()


def api(name: str, endpoint: str = "") -> str:
    networking = f"\n  networking: {{endpoint: {endpoint}}}" if endpoint else ""
    return f"- name: {name}\n  kind: BatchAPI\n  predictor: {{type: python, path: predictor.py}}{networking}\n"


def test_all_problems_are_reported_at_once_in_the_order_of_their_lines():
    top = "(allowed: compute, job, kind, name, networking, node_groups, predictor)"
    below = (
        "(allowed: config, env, model_path, models, path, processes_per_replica, python_path, signature_key, "
        "threads_per_process, type)"
    )
    rule = "relative to the folder of the configuration file and inside it, with `/` between its parts"

    assert problems_of(EVERYTHING_WRONG) == [
        (
            "cortex.yaml:3: image-classifier (BatchAPI): predictor.path: missing; it is required. "
            "The Python file with the class `PythonPredictor`, `ONNXPredictor` or `TensorFlowPredictor`, "
            "relative to the folder of this file."
        ),
        (
            "cortex.yaml:4: image-classifier (BatchAPI): predictor.type: "
            "got `pyhton` (string), must be `python`, `onnx` or `tensorflow`; did you mean `python`?"
        ),
        f"cortex.yaml:5: image-classifier (BatchAPI): predictor.confg: unknown field; did you mean `config`? {below}",
        (
            "cortex.yaml:7: image-classifier (BatchAPI): predictor.env.CORTEX_X: "
            "names that start with `CORTEX_` are set by Cortex itself; choose another"
        ),
        (
            "cortex.yaml:8: image-classifier (BatchAPI): predictor.env.FLAG: "
            "got `true` (boolean), must be a string (quote it)"
        ),
        (
            "cortex.yaml:9: image-classifier (BatchAPI): endpoint: "
            f"unknown field here; it belongs under `networking` {top}"
        ),
        (
            "cortex.yaml:10: image-classifier (BatchAPI): autoscaling: "
            f"unknown field for this kind of API; a RealtimeAPI has it {top}"
        ),
        "cortex.yaml:13: image-classifier (BatchAPI): compute.cpu: got `10m`, must be at least `20m`",
        (
            "cortex.yaml:14: image-classifier (BatchAPI): compute.mem: "
            "got `512` (integer), must be text with a unit, such as `512Mi`, `2Gi` or `129M`"
        ),
        (
            "cortex.yaml:15: API number 2 (BatchAPI): name: missing; it is required. "
            "The name of the API: lower-case letters, digits and hyphens."
        ),
        f"cortex.yaml:17: API number 2 (BatchAPI): predictor.path: got `../predictor.py` (string), must be {rule}",
        (
            "cortex.yaml:19: API number 2 (BatchAPI): predictor.image: "
            f"unknown field, which earlier releases knew: name what the predictor needs in `requirements.txt` {below}"
        ),
        "cortex.yaml:20: API number 3: got `7` (integer), must be a map with the fields of an API",
    ]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "cortex.yaml:1: the file is empty; it must be a list of APIs"),
        ("# nothing yet\n", "cortex.yaml:1: the file is empty; it must be a list of APIs"),
        ("[]", "cortex.yaml:1: the list is empty; it must name at least one API"),
        ("# mine\nname: a\n", "cortex.yaml:2: got a map; the file must be a list of APIs"),
        ("hello", "cortex.yaml:1: got `hello` (string); the file must be a list of APIs"),
        ("- 1\n" * 1001, "cortex.yaml:1: got 1001 APIs, must be at most 1000 in one file"),
    ],
)
def test_a_file_that_is_no_list_of_apis_is_refused_with_a_hint(text, what):
    refusal = refusal_of(text)

    assert refusal.message == what
    assert "start each API with `- name: …`" in (refusal.hint or "")


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("- name: a\n  kind: b: c\n", "cortex.yaml:2: this is not valid YAML: mapping values are not allowed here"),
        ("- name: a\n\tkind: b\n", "cortex.yaml:2: this is not valid YAML: "),
        ("- name: a\n- 'b\n", "cortex.yaml:3: this is not valid YAML: while scanning a quoted scalar"),
        ("- name: *x\n", "cortex.yaml:1: this is not valid YAML: found undefined alias 'x'"),
        ("- a\n- \x01\n", "cortex.yaml:2: this is not valid YAML: the character U+0001 is not allowed"),
        ("- a\n---\n- b\n", "cortex.yaml:2: this is not valid YAML: expected a single document"),
        ("- &a [*a]\n", "cortex.yaml:1: this is not valid YAML: an alias stands inside its own anchor"),
        ("[" * 3000, "cortex.yaml: lists and maps are nested too deeply"),
        ("#" * (1024 * 1024 + 1), "cortex.yaml: must be at most 1048576 characters; got 1048577"),
    ],
)
def test_what_is_no_yaml_names_the_line(text, where):
    assert refusal_of(text).message.startswith(where)


def test_aliases_cannot_stand_for_billions_of_values():
    levels = [
        f"- &{name} [{', '.join([f'*{before}'] * 10)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
    ]

    assert "more than 100000 values" in refusal_of("- &a [1, 2]\n" + "".join(levels)).message


def test_a_key_that_stands_twice_names_both_lines():
    text = api("a").replace("kind: BatchAPI\n", "kind: BatchAPI\n  name: b\n")

    assert problems_of(text) == ["cortex.yaml:3: a (BatchAPI): name: stands here twice; first on line 1"]


def test_anchors_and_merge_keys_serve_as_in_any_yaml():
    text = """\
- name: a
  kind: BatchAPI
  predictor: &shared
    type: python
    path: a.py
    config: {threshold: 0.5}
- name: b
  kind: BatchAPI
  predictor:
    <<: *shared
    path: b.py
- name: c
  kind: BatchAPI
  predictor: {<<: [{path: c.py}, *shared]}
"""
    first, second, third = read_configuration(text, "cortex.yaml")

    assert (first.predictor.path, second.predictor.path, third.predictor.path) == ("a.py", "b.py", "c.py")
    assert first.predictor.config == second.predictor.config == third.predictor.config


def test_a_wrong_value_that_is_merged_names_the_line_where_it_is_written():
    text = api("a").replace("{type: python", "&p {typ: python, type: python") + api("b").replace(
        "{type: python, path: predictor.py}", "{<<: *p}"
    )

    assert [problem.split(":")[1] for problem in problems_of(text)] == ["3", "3"]


def test_merging_what_is_no_map_is_refused():
    assert "`<<` merges maps only" in problems_of(api("a").replace("{type", "{<<: 5, type"))[0]


@pytest.mark.parametrize(
    ("expected", "written"),
    [
        (0.001, "1e-3"),
        (0.5, ".5"),
        (1.5, "1.5"),
        (True, "yes"),
        (False, "off"),
        (None, "~"),
        (255, "0xff"),
        (1000, "1_000"),
        ("12:30", "12:30"),
        ("2020-07-20", "2020-07-20"),
        ("089", "089"),
        ("1", "'1'"),
        ("1", "!!str 1"),
        ("=", "="),
    ],
)
def test_values_of_config_keep_the_meaning_that_earlier_releases_gave_them(expected, written):
    (found,) = read_configuration(api("a").replace("{type", f"{{config: {{a: {written}}}, type"), "cortex.yaml")

    assert found.predictor.config == {"a": expected}
    assert type(found.predictor.config["a"]) is type(expected)


def test_a_name_is_given_once_in_a_file():
    expected = "cortex.yaml:4: a (BatchAPI): name: `a` is already the name of the API on line 1"

    assert problems_of(api("a") + api("a", "elsewhere")) == [expected]


@pytest.mark.parametrize(("first", "second"), [("/x", "x/"), ("/x", "/x/y"), ("/x/y", "/x")])
def test_no_endpoint_of_a_file_equals_or_lies_below_another(first, second):
    (problem,) = problems_of(api("a", first) + api("b", second))

    assert problem.startswith(f"cortex.yaml:8: b (BatchAPI): networking.endpoint: `/{second.strip('/')}` is taken: ")
    assert f"the API on line 1 has `{first}`" in problem


def test_the_endpoint_of_a_file_may_be_the_name_of_another_api_only_if_that_one_lies_elsewhere():
    assert len(read_configuration(api("a", "/b") + api("b", "/a"), "cortex.yaml")) == 2
    assert "`/a` is taken" in problems_of(api("a") + api("b", "/a"))[0]


def test_clashes_are_found_between_apis_that_have_other_problems_too():
    text = api("a", "/x").replace("type: python", "type: pyhton") + api("a", "/y/z") + api("b", "/y")

    assert [problem.split(": ")[2] for problem in problems_of(text)] == [
        "predictor.type",
        "name",
        "networking.endpoint",
    ]
