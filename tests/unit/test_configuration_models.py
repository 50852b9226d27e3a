"""What a configuration may say of the models of a predictor, and which types have any."""

from pathlib import Path

import pytest

from cortex.configuration import Predictor, read_configuration
from cortex.domain.errors import InvalidConfiguration


def api(kind: str, **fields: str) -> str:
    lines = {"type": "onnx", "path": "predictor.py"} | fields
    return f"- name: a\n  kind: {kind}\n  predictor:\n" + "".join(f"    {key}: {lines[key]}\n" for key in lines)


def read(text: str, project: Path | None = None) -> Predictor:
    (found,) = read_configuration(text, "cortex.yaml", project=project)
    return found.predictor


def problems_of(text: str, project: Path | None = None) -> list[str]:
    with pytest.raises(InvalidConfiguration) as refusal:
        read(text, project)
    return [problem.partition("API): predictor.")[2] for problem in refusal.value.message.splitlines()]


KINDS = pytest.mark.parametrize("kind", ["BatchAPI", "RealtimeAPI"])


@KINDS
@pytest.mark.parametrize(
    ("expected", "written"),
    [
        ("models/iris.onnx", "./models//iris.onnx"),
        ("models/iris", "models/iris/"),
        ("s3://bucket/models/iris/", "s3://bucket/models/iris/"),
        ("gs://bucket/iris", "gs://bucket/iris"),
        ("az://container/iris", "az://container/iris"),
        ("/data/iris.onnx", "/data/iris.onnx"),
        ("file:///data/iris.onnx", "file:///data/iris.onnx"),
    ],
)
def test_a_model_lies_in_the_project_in_a_bucket_or_on_the_machine(kind, expected, written):
    assert expected == read(api(kind, model_path=written)).model_path


@KINDS
@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("../iris.onnx", "must be relative to the folder of the configuration file and inside it"),
        ("~/iris.onnx", "must be relative to the folder"),
        ('""', "must be a file or a folder, such as `models/iris.onnx`"),
        (".", "must be a file or a folder, such as `models/iris.onnx`"),
        ("https://host/iris.onnx", "`https://` is not known; must be s3://"),
        ("s3://", "`s3://` names no bucket"),
        ("s3://bucket", "`s3://bucket` is all there is, must be a file or a folder in it"),
        ("s3://bucket/", "`s3://bucket/` is all there is"),
        ("s3://key:secret@bucket/iris", "`s3://` must not be followed by a user or password"),
        ("/", "`/` is all there is"),
        ("file://elsewhere/iris", "is on another machine, `elsewhere`"),
        ("5", "got `5` (integer), must be a string"),
    ],
)
def test_any_other_place_is_refused_with_what_is_allowed(kind, written, expected):
    (problem,) = problems_of(api(kind, model_path=written))

    assert problem.startswith("model_path: ")
    assert expected in problem
    assert "secret" not in problem


@KINDS
def test_several_models_are_a_list_in_both_ways_that_releases_wrote_it(kind):
    models = "[{name: a, model_path: x/a}, {name: b-2, model_path: s3://b/b, signature_key: mine}]"

    listed = read(api(kind, type="tensorflow", models=models))
    mapped = read(api(kind, type="tensorflow", models=f"{{paths: {models}}}"))
    signed = read(api(kind, type="tensorflow", models=f"{{paths: {models}, signature_key: common}}"))

    assert listed == mapped
    assert [
        {"name": "a", "model_path": "x/a", "signature_key": None},
        {"name": "b-2", "model_path": "s3://b/b", "signature_key": "mine"},
    ] == listed.model_dump()["models"]
    assert ["common", "mine"] == [model.signature_key for model in signed.models or ()]


@KINDS
@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, ["model_path: missing; a predictor of type `onnx` needs it, or `models`"]),
        ({"type": "tensorflow"}, ["model_path: missing; a predictor of type `tensorflow` needs it, or `models`"]),
        (
            {"model_path": "a", "models": "[{name: a, model_path: a}]"},
            ["models: `model_path` is given too; keep one of the two"],
        ),
        ({"model_path": "a", "signature_key": "b"}, ["signature_key: is for `tensorflow`"]),
        (
            {"models": "[{name: a, model_path: a, signature_key: b}]"},
            ["models.0.signature_key: is for `tensorflow`"],
        ),
        (
            {"type": "tensorflow", "models": "[{name: a, model_path: a}]", "signature_key": "b"},
            ["signature_key: is for `model_path`; each of `models` has its own"],
        ),
        (
            {"type": "python", "model_path": "a", "signature_key": "b"},
            [
                "model_path: is for `onnx` and `tensorflow`; a predictor of type `python` loads its models itself",
                "signature_key: is for `onnx` and `tensorflow`; a predictor of type `python` loads its models itself",
            ],
        ),
        (
            {"type": "python", "models": "[{name: a, model_path: a}]"},
            ["models: is for `onnx` and `tensorflow`; a predictor of type `python` loads its models itself"],
        ),
        ({"models": "[]"}, ["models: got an empty list, must have at least one entry"]),
        ({"models": "5"}, ["models: got `5` (integer), must be a list"]),
        ({"models": "[a]"}, ["models.0: got `a` (string), must be a map"]),
        (
            {"models": "[{name: a, path: b}]"},
            [
                "models.0.model_path: missing; it is required. Where it lies, as in `model_path` above.",
                "models.0.path: unknown field (allowed: model_path, name, signature_key)",
            ],
        ),
        (
            {"models": "[{name: a b, model_path: a}, {name: _cortex_default, model_path: a}]"},
            [
                "models.0.name: got `a b` (string), must consist of letters, digits, `_` and `-`",
                "models.1.name: got `_cortex_default` (string), which is reserved; choose another",
            ],
        ),
        (
            {"models": "[{name: a, model_path: a}, {name: b, model_path: a}, {name: a, model_path: b}]"},
            ["models.2.name: `a` is the name of an earlier one already"],
        ),
        (
            {"models": "{paths: [{name: a b, model_path: a}], cache_size: 2}"},
            [
                "models.cache_size: unknown field (allowed: paths, signature_key)",
                "models.paths.0.name: got `a b` (string), must consist of letters, digits, `_` and `-`",
            ],
        ),
        (
            {"models": "{dir: s3://bucket/models/}"},
            [
                "models.dir: unknown field (allowed: paths, signature_key)",
                "models.paths: missing; it is required. The models, each with its name.",
            ],
        ),
    ],
)
def test_the_models_of_a_predictor_go_by_its_type(kind, fields, expected):
    assert expected == sorted(problems_of(api(kind, **fields)))


@KINDS
def test_a_model_of_the_project_must_be_there(kind, tmp_path):
    (tmp_path / "predictor.py").touch()
    (tmp_path / "models" / "iris").mkdir(parents=True)
    (tmp_path / "models" / "iris.onnx").touch()

    for there in ("models/iris", "models/iris.onnx", "s3://bucket/anything", "/nowhere/at/all"):
        assert there == read(api(kind, model_path=there), tmp_path).model_path
    assert ["model_path: the project has no file or folder `models/iris.onx`; did you mean `iris.onnx`?"] == (
        problems_of(api(kind, model_path="models/iris.onx"), tmp_path)
    )
    listed = "[{name: a, model_path: models/iris}, {name: b, model_path: elsewhere}]"
    for models in (listed, f"{{paths: {listed}}}"):
        (problem,) = problems_of(api(kind, models=models), tmp_path)
        assert problem.endswith(".1.model_path: the project has no file or folder `elsewhere`")
