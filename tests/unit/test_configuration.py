"""What a configuration may say, and what its reader makes of it."""

import pytest

from cortex.configuration import BatchApi, Compute, overlap, read_configuration
from cortex.domain.errors import InvalidConfiguration

SMALLEST = """\
- name: image-classifier
  kind: BatchAPI
  predictor:
    type: python
    path: predictor.py
"""

COMPLETE = """\
- name: image-classifier
  kind: BatchAPI
  predictor:
    type: python
    path: ./src/predictor.py
    python_path: ./src/
    config:
      labels: [cat, dog]
      nested: {threshold: 0.5, model: null}
    env:
      OMP_NUM_THREADS: "1"
  networking:
    endpoint: vision/digits/
  compute:
    cpu: 1
    mem: 2Gi
    gpu: 1
"""


def read(text: str, **options) -> tuple[BatchApi, ...]:
    return read_configuration(text, "cortex.yaml", **options)


def problems_of(text: str, **options) -> list[str]:
    with pytest.raises(InvalidConfiguration) as refusal:
        read(text, **options)
    return refusal.value.message.splitlines()


def predictor(**fields: str) -> str:
    lines = {"type": "python", "path": "predictor.py"} | fields
    return "- name: a\n  kind: BatchAPI\n  predictor:\n" + "".join(f"    {key}: {lines[key]}\n" for key in lines)


def section(name: str, text: str) -> str:
    return f"{SMALLEST}  {name}: {text}\n"


def test_the_defaults_are_those_of_the_reference():
    (api,) = read(SMALLEST)

    assert api.endpoint == "/image-classifier"
    assert api.predictor.config == {}
    assert api.predictor.env == {}
    assert api.predictor.python_path is None
    assert api.compute == Compute(cpu="200m", mem=None, gpu=0)
    assert api.compute.cpu_cores == pytest.approx(0.2)
    assert api.compute.mem_bytes is None


def test_every_field_is_read():
    (api,) = read(COMPLETE)

    assert api.name == "image-classifier"
    assert api.kind == "BatchAPI"
    assert api.endpoint == "/vision/digits"
    assert api.predictor.path == "src/predictor.py"
    assert api.predictor.python_path == "src"
    assert api.predictor.config == {"labels": ["cat", "dog"], "nested": {"threshold": 0.5, "model": None}}
    assert api.predictor.env == {"OMP_NUM_THREADS": "1"}
    assert api.compute.cpu_cores == 1.0
    assert api.compute.mem_bytes == 2 * 2**30
    assert api.compute.gpu == 1


@pytest.mark.parametrize("text", [SMALLEST, COMPLETE, section("compute", "{cpu: null, mem: null}")])
def test_an_api_that_is_dumped_and_loaded_is_the_same(text):
    (api,) = read(text)

    assert BatchApi.model_validate(api.model_dump(mode="json")) == api
    assert BatchApi.model_validate_json(api.model_dump_json()) == api


def test_the_apis_keep_the_order_of_the_file():
    apis = read("\n".join(SMALLEST.replace("image-classifier", name) for name in ("b", "a", "c")))

    assert [api.name for api in apis] == ["b", "a", "c"]


def test_null_means_nothing_said():
    empty = section("networking", "") + "  compute:\n"
    (api,) = read(empty.replace("path: predictor.py", "path: predictor.py\n    config:\n    env: null"))

    assert read(SMALLEST) == (api,)


def test_a_cpu_of_null_reserves_nothing():
    (api,) = read(section("compute", "{cpu: null}"))

    assert api.compute.cpu is None
    assert api.compute.cpu_cores == 0.0


@pytest.mark.parametrize(
    ("endpoint", "written"),
    [("/a", "a"), ("/a", "/a"), ("/a", "/a/"), ("/A/b_c-d.e", "A/b_c-d.e"), ("/docs2", "docs2"), ("/a/docs", "a/docs")],
)
def test_endpoints_begin_with_a_slash_and_end_without_one(endpoint, written):
    (api,) = read(section("networking", f"{{endpoint: {written}}}"))

    assert api.endpoint == endpoint


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("/a", "/a", True),
        ("/a", "/a/b", True),
        ("/a/b", "/a", True),
        ("/a", "/ab", False),
        ("/a/b", "/a/c", False),
    ],
)
def test_endpoints_overlap_where_one_equals_or_lies_below_the_other(first, second, expected):
    assert overlap(first, second) is expected


@pytest.mark.parametrize("name", ["a", "a1", "a-1", "image-classifier", "a" * 42])
def test_names_are_lower_case_letters_digits_and_hyphens(name):
    (api,) = read(SMALLEST.replace("image-classifier", name))

    assert api.name == name


@pytest.mark.parametrize("name", ["A", "1a", "-a", "a-", "a_b", "a.b", '"a\\n"', '""'])
def test_other_names_are_refused(name):
    (problem,) = problems_of(SMALLEST.replace("image-classifier", name))

    assert "name: got `" in problem
    assert "must consist of lower-case letters, digits and hyphens" in problem


def test_names_have_at_most_42_characters():
    (problem,) = problems_of(SMALLEST.replace("image-classifier", "a" * 43))

    assert problem.endswith("(BatchAPI): name: got 43 characters, must have at most 42")


@pytest.mark.parametrize(
    ("endpoint", "why"),
    [
        ("/", "must name a path below `/`"),
        ('""', "must name a path below `/`"),
        ("a//b", "must not have an empty part"),
        ("a b", "must consist of letters, digits and the characters"),
        ('"/a?b"', "must consist of letters"),
        ("/a/../b", "must not have `.` or `..` as a part"),
        ("/_cortex/x", "must not be `/_cortex` or lie below it"),
        ("healthz", "must not be `/healthz`"),
        ("/metrics/", "must not be `/metrics`"),
        ("/openapi.json", "must not be `/openapi.json`"),
        ("/docs/mine", "must not be `/docs`"),
        ("x" * 1001, "got 1001 characters, must have at most 1000"),
        ("5", "must be a string"),
    ],
)
def test_endpoints_that_cannot_be_served_are_refused(endpoint, why):
    (problem,) = problems_of(section("networking", f"{{endpoint: {endpoint}}}"))

    assert problem.startswith("cortex.yaml:6: image-classifier (BatchAPI): networking.endpoint: got ")
    assert why in problem


def test_a_name_that_is_the_operators_route_needs_another_endpoint():
    text = SMALLEST.replace("image-classifier", "docs")

    (problem,) = problems_of(text)
    (api,) = read(f"{text}  networking: {{endpoint: documents}}\n")

    assert "`/docs`" in problem
    assert "set `networking.endpoint`" in problem
    assert api.endpoint == "/documents"


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/predictor.py", "must be relative to the folder of the configuration file and inside it"),
        ("~/predictor.py", "must be relative"),
        ("../predictor.py", "must be relative"),
        ("a/../../predictor.py", "must be relative"),
        ("a\\b.py", "must be relative"),
        ("predictor", "must be a Python file, such as `predictor.py`"),
        ("predictor.pickle", "must be a Python file"),
        ('""', "must be a Python file"),
        ("null", "must be a string"),
        ("[a.py]", "got a list, must be a string"),
    ],
)
def test_the_predictor_is_a_python_file_inside_the_project(path, why):
    (problem,) = problems_of(predictor(path=path))

    assert problem.startswith("cortex.yaml:5: a (BatchAPI): predictor.path: got ")
    assert why in problem


@pytest.mark.parametrize("python_path", [".", "./", "./.", "/src", "~/src", "../src", "5", '""'])
def test_the_python_path_is_a_folder_inside_the_project(python_path):
    (problem,) = problems_of(predictor(python_path=python_path))

    assert problem.startswith("cortex.yaml:6: a (BatchAPI): predictor.python_path: got ")


@pytest.mark.parametrize(
    ("env", "why"),
    [
        ("{CORTEX_X: a}", "predictor.env.CORTEX_X: names that start with `CORTEX_` are set by Cortex itself"),
        ("{A: 1}", "predictor.env.A: got `1` (integer), must be a string (quote it)"),
        ("{A: on}", "predictor.env.A: got `true` (boolean), must be a string (quote it)"),
        ("{A: null}", "predictor.env.A: got `null`, must be a string"),
        ("{A: {secret: x}}", "predictor.env.A: got a map, must be a string"),
        ("{A=B: x}", "a variable's name must not be empty"),
        ('{"": x}', "a variable's name must not be empty"),
        ('{A: "s\\0cret"}', "predictor.env.A: the value of a variable must not hold a null character"),
        ("[A]", "predictor.env: got a list, must be a map"),
        ("{1: a}", "predictor.env: got `1` (int) as a key; keys must be text (quote it)"),
    ],
)
def test_variables_are_text_and_leave_cortex_its_own(env, why):
    (problem,) = problems_of(predictor(env=env))

    assert why in problem
    assert "cret" not in problem


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ("[a]", "predictor.config: got a list, must be a map"),
        ("{1: a}", "predictor.config: got `1` (int) as a key; keys must be text (quote it)"),
        ("{a: {true: b}}", "predictor.config.a: got `true` (bool) as a key"),
        ("{? [a] : b}", "predictor.config: got a list as a key"),
        ("{a: .nan}", "predictor.config.a: got `.nan`, which is no float that JSON can hold; quote it"),
        ("{a: !!binary aGk=}", "predictor.config.a: the tag `tag:yaml.org,2002:binary` is not supported"),
        ("{a: !mine b}", "predictor.config.a: the tag `!mine` is not supported"),
        ('{a: "\\ud800"}', "predictor.config.a: the text holds half of a surrogate pair"),
    ],
)
def test_the_config_is_what_json_can_hold(config, why):
    (problem,) = problems_of(predictor(config=config))

    assert problem.startswith("cortex.yaml:6: a (BatchAPI): ")
    assert why in problem


@pytest.mark.parametrize(
    ("compute", "why"),
    [
        ("{cpu: 10m}", "compute.cpu: got `10m`, must be at least `20m`"),
        ("{cpu: 0.01}", "compute.cpu: got `0.01`, must be at least `20m`"),
        ("{cpu: 0}", "compute.cpu: got `0`, must be at least `20m`"),
        ("{cpu: -1}", "compute.cpu: got `-1`, must not be negative"),
        ("{cpu: two}", "compute.cpu: got `two`, must be a number of cores, such as `1`, `0.5` or `200m`"),
        ("{cpu: true}", "compute.cpu: got `true` (boolean), must be a number of cores"),
        ("{cpu: [1]}", "compute.cpu: got a list, must be a number of cores"),
        ("{mem: 512}", "compute.mem: got `512` (integer), must be text with a unit, such as `512Mi`, `2Gi` or `129M`"),
        ("{mem: 129e6}", "compute.mem: got `129000000.0` (number), must be text with a unit"),
        ('{mem: "512"}', "compute.mem: got `512` (512 bytes), must be at least `20Mi`"),
        ("{mem: 2GB}", "compute.mem: got `2GB`, must be a number of bytes with its unit"),
        ("{gpu: -1}", "compute.gpu: got `-1` (integer), must be at least 0"),
        ("{gpu: 1.5}", "compute.gpu: got `1.5` (number), must be an integer"),
        ('{gpu: "1"}', "compute.gpu: got `1` (string), must be an integer"),
        ("{gpu: true}", "compute.gpu: got `true` (boolean), must be an integer"),
        ("4", "compute: got `4` (integer), must be a map"),
    ],
)
def test_compute_has_minimums_and_units(compute, why):
    (problem,) = problems_of(section("compute", compute))

    assert problem == f"cortex.yaml:6: image-classifier (BatchAPI): {problem.split(': ', 2)[2]}"
    assert why in problem


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("BatchApi", "got `BatchApi` (string), must be KINDS; did you mean `BatchAPI`?"),
        ("realtimeapi", "got `realtimeapi` (string), must be KINDS; did you mean `RealtimeAPI`?"),
        ("TraficSplitter", "got `TraficSplitter` (string), must be KINDS; did you mean `TrafficSplitter`?"),
        ("SyncAPI", "got `SyncAPI` (string), must be KINDS"),
        ("null", "got `null`, must be KINDS"),
        ("[BatchAPI]", "got a list, must be KINDS"),
    ],
)
def test_a_kind_that_is_none_is_told_with_the_nearest_one(kind, expected):
    problems = problems_of(predictor().replace("BatchAPI", kind))

    kinds = "`BatchAPI`, `RealtimeAPI` or `TrafficSplitter`"
    assert expected.replace("KINDS", kinds) in [problem.partition(": kind: ")[2] for problem in problems]


def test_beside_a_mistyped_kind_the_other_problems_of_the_right_one_are_told_too():
    problems = problems_of(section("update_strategy", "{}").replace("BatchAPI", "BatchApi"))

    assert ["kind", "update_strategy"] == [problem.split(": ")[2] for problem in problems]


def test_with_the_project_at_hand_its_paths_must_exist(tmp_path):
    (tmp_path / "predictor.py").touch()
    (tmp_path / "src").mkdir()

    good = read(predictor(python_path="src"), project=tmp_path)
    problems = problems_of(predictor(path="predictr.py", python_path="source"), project=tmp_path)

    assert len(good) == 1
    assert problems == [
        (
            "cortex.yaml:5: a (BatchAPI): predictor.path: "
            "the project has no file `predictr.py`; did you mean `predictor.py`?"
        ),
        "cortex.yaml:6: a (BatchAPI): predictor.python_path: the project has no folder `source`",
    ]
