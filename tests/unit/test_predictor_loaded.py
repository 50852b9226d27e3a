"""The user's class in a worker: loaded, constructed, and called with what it names."""

import itertools
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import cortex
from cortex.domain.errors import InvalidPredictor
from cortex.predictor import construct, load


@pytest.fixture
def written(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.delitem(sys.modules, "cortex_predictor", raising=False)

    def write(source: str) -> str:
        path = tmp_path / "predictor.py"
        path.write_text(textwrap.dedent(source))
        return str(path)

    yield write
    sys.modules.pop("cortex_predictor", None)


def class_with(*methods: str) -> str:
    return "class PythonPredictor:\n" + "".join(textwrap.indent(f"{method}\n", "    ") for method in methods)


def loaded_with(written, predict: str):
    cls = load(written(class_with("def __init__(self, config): ...", predict)))
    return construct(cls, config={}, job_spec=None)


@pytest.mark.parametrize(
    ("arguments", "returned", "expected"),
    [
        ("self", "'nothing'", "nothing"),
        ("self, payload", "payload", [1, 2]),
        ("self, batch_id", "batch_id", "b"),
        ("self, payload, batch_id", "(payload, batch_id)", ([1, 2], "b")),
        ("self, batch_id, payload", "(payload, batch_id)", ([1, 2], "b")),
        ("self, *, payload", "payload", [1, 2]),
        ("self, payload=None, **others", "(payload, others)", ([1, 2], {})),
        ("self, payload, query_params, headers", "(payload, query_params, headers)", ([1, 2], None, None)),
        ("self, headers, batch_id", "(headers, batch_id)", (None, "b")),
        ("self, headers", "headers", None),
    ],
)
def test_predict_gets_what_it_names(written, arguments, returned, expected):
    predictor = loaded_with(written, f"def predict({arguments}): return {returned}")

    assert predictor.predict([1, 2], "b") == expected


@pytest.mark.parametrize("size", range(5))
def test_a_request_is_answered_with_what_predict_names_of_it(written, size):
    available = {"payload": "P", "query_params": "Q", "headers": "H", "batch_id": None}
    for named in itertools.combinations(available, size):
        arguments, returned = ", ".join(["self", *named]), "[" + ", ".join(named) + "]"

        predictor = loaded_with(written, f"def predict({arguments}): return {returned}")

        assert [available[name] for name in named] == predictor.answer("P", "Q", "H")
        assert [name for name in ("payload", "query_params", "headers") if name in named] == predictor.names
        assert predictor.post_predict is None


@pytest.mark.parametrize("size", range(5))
def test_post_predict_gets_what_it_names_and_that_is_wanted_of_the_request(written, size):
    available = {"response": "R", "payload": "P", "query_params": "Q", "headers": "H"}
    for named in itertools.combinations(available, size):
        arguments, returned = ", ".join(["self", *named]), "[" + ", ".join(named) + "]"
        after = f"def post_predict({arguments}): return {returned}"
        cls = load(written(class_with("def __init__(self, config): ...", "def predict(self, headers): ...", after)))

        predictor = construct(cls, config={}, job_spec=None)

        assert predictor.post_predict is not None
        assert [available[name] for name in named] == predictor.post_predict("R", "P", "Q", "H")
        wanted = {"headers", *named}
        assert [name for name in ("payload", "query_params", "headers") if name in wanted] == predictor.names


def test_a_post_predict_that_was_taken_away_is_none(written):
    cls = load(written(class_with("def __init__(self, config): ...", "def predict(self): ...", "post_predict = None")))

    assert construct(cls, config={}, job_spec=None).post_predict is None


@pytest.mark.parametrize(
    ("predictor_type", "class_name", "client"),
    [("onnx", "ONNXPredictor", "onnx_client"), ("tensorflow", "TensorFlowPredictor", "tensorflow_client")],
)
def test_a_predictor_of_models_gets_their_client(written, predictor_type, class_name, client):
    init = f"def __init__(self, {client}, config): self.got = {client}, config"
    source = class_with(init, "def predict(self): return self.got").replace("PythonPredictor", class_name)

    predictor = construct(load(written(source), predictor_type), config={"a": 1}, job_spec=None, client="C")

    assert ("C", {"a": 1}) == predictor.answer(None, None, None)


def test_a_predictor_of_models_must_take_their_client(written):
    source = class_with("def __init__(self, config): ...", "def predict(self): ...")
    path = written(source.replace("PythonPredictor", "ONNXPredictor"))

    with pytest.raises(InvalidPredictor) as refusal:
        load(path, "onnx")

    write = "write `def __init__(self, onnx_client, config)`"
    assert f"{path}: ONNXPredictor.__init__: must have the argument `onnx_client`; {write}" == refusal.value.message


def test_a_class_of_another_type_is_not_taken(written):
    path = written(class_with("def __init__(self, config): ...", "def predict(self): ..."))

    with pytest.raises(InvalidPredictor, match="the class `TensorFlowPredictor` is missing"):
        load(path, "tensorflow")


@pytest.mark.parametrize(
    ("arguments", "returned", "expected"),
    [
        ("self, config", "config", {"a": 1}),
        ("self, config, job_spec", "config, job_spec", ({"a": 1}, {"job_id": "x"})),
        ("self, job_spec, config", "config, job_spec", ({"a": 1}, {"job_id": "x"})),
        ("self, config, **others", "others", {}),
    ],
)
def test_the_constructor_gets_what_it_names(written, arguments, returned, expected):
    init = f"def __init__({arguments}): self.got = {returned}"
    cls = load(written(class_with(init, "def predict(self): return self.got")))

    predictor = construct(cls, config={"a": 1}, job_spec={"job_id": "x"})

    assert predictor.predict([], "b") == expected
    assert predictor.instance.got == expected


def test_the_hook_is_known_and_called(written):
    hook = "def on_job_complete(self): return 'done'"
    cls = load(written(class_with("def __init__(self, config): ...", "def predict(self): ...", hook)))

    predictor = construct(cls, config={}, job_spec=None)

    assert predictor.has_on_job_complete
    assert predictor.on_job_complete() == "done"


def test_without_a_hook_there_is_nothing_to_call(written):
    predictor = loaded_with(written, "def predict(self): ...")

    assert not predictor.has_on_job_complete
    assert predictor.on_job_complete() is None


def test_decorated_methods_are_called_with_what_the_decorated_function_names(written):
    source = """
        import functools

        def traced(function):
            @functools.wraps(function)
            def call(*args, **kwargs):
                return ["traced", function(*args, **kwargs)]
            return call

        class PythonPredictor:
            def __init__(self, config): ...

            @traced
            def predict(self, payload):
                return payload
    """

    assert construct(load(written(source)), config={}, job_spec=None).predict([1], "b") == ["traced", [1]]


def test_inherited_methods_count(written):
    source = """
        class Base:
            def __init__(self, config):
                self.config = config

            def predict(self, payload):
                return [self.config["a"], *payload]

        class PythonPredictor(Base):
            pass
    """

    assert construct(load(written(source)), config={"a": 0}, job_spec=None).predict([1], "b") == [0, 1]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("", "the class `PythonPredictor` is missing; write `class PythonPredictor:`"),
        ("def PythonPredictor(): ...", "`PythonPredictor` is not a class; write `class PythonPredictor:`"),
        (
            class_with("def predict(self): ..."),
            "PythonPredictor.__init__: is missing; write `def __init__(self, config)`",
        ),
        (
            class_with("def __init__(self, config): ..."),
            "PythonPredictor.predict: is missing; write `def predict(self, payload)`",
        ),
        (
            class_with("def __init__(self): ...", "def predict(self): ..."),
            "PythonPredictor.__init__: must have the argument `config`; write `def __init__(self, config)`",
        ),
        (
            class_with("def __init__(self, config): ...", "@classmethod\ndef predict(cls): ..."),
            (
                "PythonPredictor.predict: must not be a static method or a class method; "
                "write `def predict(self, payload)`"
            ),
        ),
        (
            class_with("def __init__(self, config): ...", "async def predict(self): ..."),
            "PythonPredictor.predict: must not be `async`, since nobody awaits it; write `def predict(self, payload)`",
        ),
        (
            class_with("def __init__(self, config): ...", "def predict(self):\n    yield"),
            "PythonPredictor.predict: must not `yield`, since its body would never run; build a list and return it",
        ),
        (
            class_with("def __init__(self, config): ...", "predict = print.__call__"),
            "PythonPredictor.predict: its first argument must be `self`; write `def predict(self, payload)`",
        ),
        (
            class_with("def __init__(self, config): ...", "predict = 5"),
            "PythonPredictor.predict: does not tell its arguments; write `def predict(self, payload)`",
        ),
        (
            "class PythonPredictor(dict):\n    def predict(self): ...",
            "PythonPredictor.__init__: must have the argument `config`; write `def __init__(self, config)`",
        ),
    ],
)
def test_a_class_that_cannot_be_called_is_refused(written, source, expected):
    path = written(source)

    with pytest.raises(InvalidPredictor) as refusal:
        load(path)

    assert refusal.value.message == f"{path}: {expected}"


def test_what_the_file_raises_passes_unchanged_and_leaves_no_module(written):
    path = written("import a_module_that_is_not_here")

    with pytest.raises(ModuleNotFoundError, match="a_module_that_is_not_here"):
        load(path)

    assert "cortex_predictor" not in sys.modules


def test_what_the_constructor_raises_passes_unchanged(written):
    cls = load(written(class_with("def __init__(self, config): config['missing']", "def predict(self): ...")))

    with pytest.raises(KeyError, match="missing"):
        construct(cls, config={}, job_spec=None)


def test_the_module_can_be_found_by_its_name(written):
    source = "class Row: ...\n" + class_with("def __init__(self, config): ...", "def predict(self): return Row()")
    predictor = construct(load(written(source)), config={}, job_spec=None)

    row = pickle.loads(pickle.dumps(predictor.predict([], "b")))  # noqa: S301 (made a moment ago)

    assert type(row).__module__ == "cortex_predictor"


def test_a_file_that_is_no_python_is_refused():
    with pytest.raises(InvalidPredictor, match="not a Python file"):
        load("predictor.txt")


def test_the_standard_library_is_enough():
    source = Path(cortex.__file__).parents[1]
    script = f"import sys; sys.path.insert(0, {str(source)!r}); import cortex.predictor"

    subprocess.run([sys.executable, "-I", "-S", "-c", script], check=True, timeout=30)
