"""What a predictor's source must look like is told when it is deployed, with the line and what to write instead."""

import textwrap

import pytest

from cortex.domain.errors import InvalidPredictor
from cortex.predictor import MAX_SOURCE_BYTES, check_source

BOTH = "def __init__(self, config): ...\n    def predict(self, payload): ..."


def problems_of(source: str | bytes) -> list[str]:
    with pytest.raises(InvalidPredictor) as refusal:
        check_source(source, "predictor.py")
    return refusal.value.message.splitlines()


def with_methods(*methods: str) -> str:
    return "class PythonPredictor:\n" + "".join(textwrap.indent(f"{method}\n", "    ") for method in methods)


def with_init(init: str) -> str:
    return with_methods(init, "def predict(self, payload): ...")


def with_predict(predict: str) -> str:
    return with_methods("def __init__(self, config): ...", predict)


@pytest.mark.parametrize(
    "source",
    [
        f"class PythonPredictor:\n    {BOTH}",
        f"class PythonPredictor(object):\n    {BOTH}",
        f"import torch_that_is_not_here\nclass PythonPredictor:\n    {BOTH}",
        f"if True:\n    pass\nelse:\n    class PythonPredictor:\n        {BOTH.replace('    ', '        ')}",
        with_init("def __init__(self, config, job_spec): ..."),
        with_init("def __init__(self, config, job_spec=None): ..."),
        with_init("def __init__(self, job_spec, config): ..."),
        with_init("def __init__(self, *, config): ..."),
        with_init("def __init__(self, config, *args, **kwargs): ..."),
        with_predict("def predict(self): ..."),
        with_predict("def predict(self, payload, batch_id): ..."),
        with_predict("def predict(self, batch_id, payload): ..."),
        with_predict("def predict(self, payload, batch_id, query_params, headers): ..."),
        with_predict("def predict(self, *, payload=None): ..."),
        with_predict("@torch.inference_mode()\ndef predict(self, anything): ..."),
        with_predict("def predict(self, payload):\n    def rows():\n        yield 1\n    return list(rows())"),
        with_predict("def predict(self, payload):\n    return lambda: (yield)"),
        with_predict("predict = None"),
        with_predict("from other import predict"),
        with_predict("if True:\n    def predict(self, payload): ..."),
        with_methods("def __init__(self, config): ...", "predict, other = 1, 2"),
        with_init("__init__ = None"),
        f"class PythonPredictor:\n    {BOTH}\n    def on_job_complete(self): ...",
        f"class PythonPredictor:\n    {BOTH}\n    def helper(self, anything, at_all): ...",
    ],
)
def test_a_class_that_can_be_called_is_accepted(source):
    check_source(source, "predictor.py")


@pytest.mark.parametrize(
    "source",
    [
        "from other import PythonPredictor",
        "from other import Base as PythonPredictor",
        "from other import *",
        "import other as PythonPredictor",
        "PythonPredictor = make()",
        "PythonPredictor: type = make()",
        "try:\n    from fast import PythonPredictor\nexcept ImportError:\n    class PythonPredictor: ...",
        "class PythonPredictor: ...\nPythonPredictor = complete(PythonPredictor)",
        "def PythonPredictor(): ...",
        "class PythonPredictor(Base): ...",
        "class PythonPredictor(metaclass=Meta): ...",
        "@dataclass\nclass PythonPredictor:\n    config: dict",
    ],
)
def test_what_cannot_be_judged_from_the_source_is_left_to_the_worker(source):
    check_source(source, "predictor.py")


def test_of_a_derived_class_what_is_there_is_judged():
    source = "class PythonPredictor(Base):\n    def predict(self, payloads): ..."

    assert problems_of(source) == [
        (
            "predictor.py:2: PythonPredictor.predict: nobody passes the argument `payloads`; did you mean `payload`? "
            "(allowed: self, payload, batch_id, query_params, headers)"
        )
    ]


def test_a_class_below_a_star_import_is_judged_whole():
    assert (
        "the method `predict` is missing"
        in problems_of("from numpy import *\nclass PythonPredictor:\n    def __init__(self, config): ...")[0]
    )


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("", "predictor.py:1: the class `PythonPredictor` is missing; write `class PythonPredictor:`"),
        (
            "import os\n\nclass Predictor: ...",
            "predictor.py:3: the class `PythonPredictor` is missing; rename `Predictor` to `PythonPredictor`",
        ),
        (
            "class PythonPredictr: ...\nclass Other: ...",
            "predictor.py:1: the class `PythonPredictor` is missing; rename `PythonPredictr` to `PythonPredictor`",
        ),
        (
            "class pythonPredictor: ...",
            "predictor.py:1: the class `PythonPredictor` is missing; rename `pythonPredictor` to `PythonPredictor`",
        ),
        (
            "class ONNXPredictor: ...",
            "predictor.py:1: the class `PythonPredictor` is missing; rename `ONNXPredictor` to `PythonPredictor`",
        ),
        (
            "def f():\n    class PythonPredictor: ...",
            "predictor.py:1: the class `PythonPredictor` is missing; write `class PythonPredictor:`",
        ),
    ],
)
def test_a_missing_class_is_named_with_what_looks_like_it(source, expected):
    assert problems_of(source) == [expected]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (
            with_methods("def predict(self, payload): ..."),
            "predictor.py:1: PythonPredictor: the method `__init__` is missing; write `def __init__(self, config)`",
        ),
        (
            with_methods("def _init_(self, config): ...", "def predict(self, payload): ..."),
            "predictor.py:1: PythonPredictor: the method `__init__` is missing; rename `_init_` to `__init__`",
        ),
        (
            with_predict("def predicts(self, payload): ..."),
            "predictor.py:1: PythonPredictor: the method `predict` is missing; rename `predicts` to `predict`",
        ),
        (
            with_predict("pass"),
            "predictor.py:1: PythonPredictor: the method `predict` is missing; write `def predict(self, payload)`",
        ),
    ],
)
def test_a_missing_method_is_named_with_what_looks_like_it(source, expected):
    assert problems_of(source) == [expected]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (
            with_init("def __init__(self): ..."),
            "2: PythonPredictor.__init__: must have the argument `config`; write `def __init__(self, config)`",
        ),
        (
            with_init("def __init__(self, config, jobspec): ..."),
            (
                "2: PythonPredictor.__init__: nobody passes the argument `jobspec`; did you mean `job_spec`? "
                "(allowed: self, config, job_spec)"
            ),
        ),
        (
            with_init("def __init__(self, config, verbose=False): ..."),
            "2: PythonPredictor.__init__: nobody passes the argument `verbose` (allowed: self, config, job_spec)",
        ),
        (
            with_init("def __init__(config): ..."),
            "2: PythonPredictor.__init__: its first argument must be `self`; write `def __init__(self, config)`",
        ),
        (
            with_init("def __init__(self, config, /): ..."),
            (
                "2: PythonPredictor.__init__: arguments are passed by name, so `config` must not stand before a `/`; "
                "write `def __init__(self, config)`"
            ),
        ),
        (
            with_predict("def predict(payload): ..."),
            "3: PythonPredictor.predict: its first argument must be `self`; write `def predict(self, payload)`",
        ),
        (
            with_predict("def predict(*args): ..."),
            "3: PythonPredictor.predict: its first argument must be `self`; write `def predict(self, payload)`",
        ),
        (
            with_predict("async def predict(self, payload): ..."),
            (
                "3: PythonPredictor.predict: must not be `async`, since nobody awaits it; "
                "write `def predict(self, payload)`"
            ),
        ),
        (
            with_predict("def predict(self, payload):\n    for row in payload:\n        yield row"),
            "3: PythonPredictor.predict: must not `yield`, since its body would never run; build a list and return it",
        ),
        (
            with_predict("@staticmethod\ndef predict(payload): ..."),
            (
                "4: PythonPredictor.predict: must not be a static method or a class method; "
                "write `def predict(self, payload)`"
            ),
        ),
        (
            with_predict("def predict(self, payload): ...\ndef on_job_complete(self, job_id): ..."),
            "4: PythonPredictor.on_job_complete: nobody passes the argument `job_id` (allowed: self)",
        ),
    ],
)
def test_a_signature_that_cannot_be_called_is_named_with_its_line(source, expected):
    assert problems_of(source) == [f"predictor.py:{expected}"]


def test_all_problems_are_reported_at_once():
    source = with_methods("def __init__(self, cfg): ...", "async def predict(this, payload): ...")

    assert [problem.split(": ")[:2] for problem in problems_of(source)] == [
        ["predictor.py:2", "PythonPredictor.__init__"],
        ["predictor.py:2", "PythonPredictor.__init__"],
        ["predictor.py:3", "PythonPredictor.predict"],
        ["predictor.py:3", "PythonPredictor.predict"],
    ]


@pytest.mark.parametrize(
    ("source", "start"),
    [
        ("class PythonPredictor:\n    def predict(self, payload)\n", "predictor.py:2: this is not valid Python: "),
        ("x = 1\n  y = 2\n", "predictor.py:2: this is not valid Python: unexpected indent"),
        ("def f():\n    pass\nreturn 1\n", "predictor.py:3: this is not valid Python: 'return' outside function"),
        ("x = '\0'", "predictor.py:1: this is not valid Python: "),
        ("(" * 500, "predictor.py:1: this is not valid Python: "),
        ("x = " + "-" * 100_000 + "1", "predictor.py:1: this is not valid Python: "),
        (b"# coding: nonsense\n", "predictor.py:1: this is not valid Python: "),
        (b"x = '\xff'\n", "predictor.py:1: this is not valid Python: "),
    ],
)
def test_what_is_no_python_names_the_line(source, start):
    (problem,) = problems_of(source)

    assert problem.startswith(start)


def test_long_sources_are_judged_too():
    long = "x = 0\n" + "if x: pass\n" + "elif x: pass\n" * 90 + "s = " + " + ".join(["'a'"] * 900) + "\n"

    check_source(
        long + with_predict(f"def predict(self, payload):\n    return {' + '.join(['1'] * 900)}"), "predictor.py"
    )


def test_old_escapes_are_no_error():
    check_source('PATTERN = "\\d"\n' + with_predict("def predict(self, payload): ..."), "predictor.py")


def test_bytes_are_read_as_python_reads_them():
    check_source(("# coding: latin-1\nX = 'ä'\n" + with_predict("def predict(self): ...")).encode("latin-1"), "p.py")


def test_a_source_that_would_take_long_to_parse_is_refused():
    source = f"class PythonPredictor:\n    {BOTH}\n#"

    check_source(source.ljust(MAX_SOURCE_BYTES, "x"), "predictor.py")

    assert problems_of(source.ljust(MAX_SOURCE_BYTES + 1, "x")) == [
        "predictor.py: is larger than 1 MiB; keep data in files of their own and read them"
    ]


def test_a_predictor_that_answers_requests_may_look_at_its_answers_afterwards():
    check_source(
        with_methods(
            "def __init__(self, config): ...",
            "def predict(self, payload, query_params, headers): ...",
            "def post_predict(self, response, payload, query_params, headers): ...",
        ),
        "predictor.py",
    )


def test_post_predict_must_not_name_what_nobody_passes():
    source = with_methods(
        "def __init__(self, config): ...", "def predict(self): ...", "def post_predict(self, responses): ..."
    )

    (problem,) = problems_of(source)
    what, _, allowed = problem.partition("; ")
    assert "predictor.py:4: PythonPredictor.post_predict: nobody passes the argument `responses`" == what
    assert "did you mean `response`? (allowed: self, response, payload, query_params, headers)" == allowed


@pytest.mark.parametrize(
    ("predictor_type", "class_name", "client"),
    [("onnx", "ONNXPredictor", "onnx_client"), ("tensorflow", "TensorFlowPredictor", "tensorflow_client")],
)
def test_a_predictor_of_models_is_judged_by_its_type(predictor_type, class_name, client):
    python = with_predict("def predict(self, payload): ...")
    renamed = python.replace("PythonPredictor", class_name)

    check_source(renamed.replace("config", f"{client}, config"), "predictor.py", predictor_type)
    with pytest.raises(InvalidPredictor) as missing:
        check_source(python, "predictor.py", predictor_type)
    with pytest.raises(InvalidPredictor) as without_client:
        check_source(renamed, "predictor.py", predictor_type)

    write = f"write `def __init__(self, {client}, config)`"
    assert missing.value.message.startswith(f"predictor.py:1: the class `{class_name}` is missing")
    assert without_client.value.message == (
        f"predictor.py:2: {class_name}.__init__: must have the argument `{client}`; {write}"
    )
