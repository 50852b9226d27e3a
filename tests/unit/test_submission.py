import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cortex.domain.batch import MAX_BATCH_BYTES
from cortex.domain.errors import InvalidSubmission, TooLarge
from cortex.domain.source import FileSource, SourceKind
from cortex.operator.submitting.submission import MAX_REQUEST_BYTES, Submission, read_submission
from cortex.predictor import merge_config

ITEM_LIST = {"items": [1], "batch_size": 1}
VALID: dict[str, Any] = {"workers": 1, "item_list": ITEM_LIST}

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
NEARLY_REQUESTS = st.fixed_dictionaries(
    {},
    optional={
        "workers": st.integers() | JSON,
        "config": st.dictionaries(st.text(), JSON, max_size=3) | JSON,
        "item_list": JSON
        | st.fixed_dictionaries(
            {},
            optional={"items": st.lists(JSON, max_size=5) | JSON, "batch_size": st.integers(0, 6) | JSON, "item": JSON},
        ),
        "worker": JSON,
        "delimited_files": JSON,
    },
)
LITTLE_MISTAKES = st.sampled_from(list('{}[]",:0123456789eE+-.\\ \nutnfa\x00')) | st.just("\\ud800") | st.just("1e999")


def files(section: Any, kind: str = "delimited_files") -> dict[str, Any]:
    return {"workers": 1, kind: section}


def read(request: Any) -> Submission:
    return read_submission(json.dumps(request).encode())


def message_of(body: bytes) -> str:
    with pytest.raises(InvalidSubmission) as refused:
        read_submission(body)
    return refused.value.message


def test_a_request_becomes_batches_of_json_arrays():
    submission = read({"workers": 3, "item_list": {"items": [1, "b", {"c": []}], "batch_size": 2}, "config": {"k": 1}})

    assert submission == Submission(
        workers=3, config={"k": 1}, batch_size=2, item_count=3, batches=[b'[1,"b"]', b'[{"c": []}]']
    )


@pytest.mark.parametrize(
    ("expected", "workers"), [((3, None), 3), ((8, 2), {"min": 2, "max": 8}), ((4, None), {"min": 4, "max": 4})]
)
def test_a_job_has_one_number_of_workers_or_is_elastic(expected: tuple[int, int | None], workers: Any):
    submission = read({**VALID, "workers": workers})

    assert expected == (submission.workers, submission.workers_min)


def test_a_request_may_name_files():
    lister = {"s3_paths": ["s3://b/k", "/data"], "includes": ["**.jpg"], "excludes": ["**_3.jpg"], "batch_size": 2}
    upload = f"upload://{'0a' * 16}/items.jsonl"

    listed = read(files(lister, "file_path_lister")).source
    delimited = read(files({"s3_paths": [upload]})).source

    assert listed == FileSource(
        kind=SourceKind.FILE_PATH_LISTER,
        paths=("s3://b/k", "/data"),
        includes=("**.jpg",),
        excludes=("**_3.jpg",),
        batch_size=2,
    )
    assert delimited == FileSource(kind=SourceKind.DELIMITED_FILES, paths=(upload,), batch_size=1)


@given(st.lists(JSON, min_size=1, max_size=20), st.integers(1, 25))
def test_every_item_is_in_one_batch_in_input_order(items, batch_size):
    submission = read({"workers": 1, "item_list": {"items": items, "batch_size": batch_size}})

    batches = [json.loads(batch) for batch in submission.batches]
    assert items == [item for batch in batches for item in batch]
    assert len(items) == submission.item_count
    assert all(len(batch) == batch_size for batch in batches[:-1])
    assert 1 <= len(batches[-1]) <= batch_size


@pytest.mark.parametrize(
    "item",
    [
        "123456789012345678901234567890",
        "-0.0",
        "1e-400",
        "0.1234567890123456789012345",
        '"\\u00e4"',
        "1E5",
        '{"a":1,"a":2}',
    ],
)
def test_an_item_keeps_its_bytes(item):
    body = f'{{"workers":1,"item_list":{{"items":[{item}],"batch_size":1}}}}'

    assert read_submission(body.encode()).batches == [f"[{item}]".encode()]


def test_white_space_anywhere_is_fine():
    body = b' \n{ "workers" : 1 , "item_list"\t:\r\n { "items" : [ 1 ,\n 2 ] , "batch_size" : 2 } } \n'

    assert [json.loads(batch) for batch in read_submission(body).batches] == [[1, 2]]


@pytest.mark.parametrize("config", [None, {}, {"a": {"b": [1, 123456789012345678901234567890, "ä"]}}])
def test_the_config_is_kept_as_it_was_given(config):
    assert config == read({**VALID, "config": config}).config


@pytest.mark.parametrize(
    "body", [b"", b"{", b"nul", b"{}x", b'{"a":NaN}', b"{'a':1}", b"\xef\xbb\xbf{}", b'{"workers":"a\nb"}']
)
def test_what_is_no_json_is_refused(body):
    assert message_of(body).startswith("the request is not JSON: ")


@pytest.mark.parametrize(
    "body", [b'{"workers":"\xff"}', b'{"item_list":{"items":["\xc3\x28"]}}', b"\xff\xfe{\x00}\x00"]
)
def test_what_is_not_utf8_is_refused(body):
    assert message_of(body).startswith("the request is not UTF-8: ")


@pytest.mark.parametrize("body", [b"null", b"[]", b"1", b'"workers"', b"true"])
def test_what_is_no_object_is_refused(body):
    assert message_of(body) == "the request must be a JSON object"


@pytest.mark.parametrize("depth", [2_000, 100_000])
@pytest.mark.parametrize(
    "body",
    [
        '{"workers":1,"item_list":{"items":[DEEP],"batch_size":1}}',
        '{"workers":1,"item_list":{"items":[1],"batch_size":1},"config":{"a":DEEP}}',
        '{"workers":DEEP}',
        '{"unknown":DEEP}',
        "DEEP",
    ],
)
def test_what_is_nested_too_deeply_is_refused(body, depth):
    nested = body.replace("DEEP", "[" * depth + "]" * depth).encode()

    assert message_of(nested) in ("the request is nested too deeply", "the request must be a JSON object")


@pytest.mark.parametrize(
    ("said", "request_"),
    [
        ("workers: is required", {"item_list": ITEM_LIST}),
        ("workers: got `0`, must be at least 1", {**VALID, "workers": 0}),
        ("workers: got `-1`, must be at least 1", {**VALID, "workers": -1}),
        ('workers: got `"2-8"`, must be a whole number, or such as `{"min"', {**VALID, "workers": "2-8"}),
        ("workers.min: is required", {**VALID, "workers": {"max": 8}}),
        ("workers.min: got `0`, must be at least 1", {**VALID, "workers": {"min": 0, "max": 8}}),
        ("workers.max: got `2147483648`, must be at most", {**VALID, "workers": {"min": 1, "max": 2**31}}),
        ("workers: `min` is `8`, must be at most `max`, which is `2`", {**VALID, "workers": {"min": 8, "max": 2}}),
        ("workers.mx: unknown field; did you mean `max`?", {**VALID, "workers": {"min": 1, "max": 2, "mx": 3}}),
        ("workers: got `1.5`, must be", {**VALID, "workers": 1.5}),
        ("workers: got `1.0`, must be", {**VALID, "workers": 1.0}),
        ("workers: got `true`, must be", {**VALID, "workers": True}),
        ('workers: got `"2"`, must be', {**VALID, "workers": "2"}),
        ("workers: got `null`, must be", {**VALID, "workers": None}),
        ("config: got `[1]`, must be", {**VALID, "config": [1]}),
        (
            "the dataset must be exactly one of `item_list`, `file_path_lister`, `delimited_files`; got none",
            {"workers": 1},
        ),
        ("`delimited_files`; got none", {"workers": 1, "item_list": None}),
        ("got `item_list` and `delimited_files`", {**VALID, "delimited_files": {"s3_paths": ["s3://bucket"]}}),
        ("item_list: got `[1]`, must be", {"workers": 1, "item_list": [1]}),
        ("item_list.items: is required", {"workers": 1, "item_list": {"batch_size": 1}}),
        ("item_list.items: must have at least one item", {"workers": 1, "item_list": {"items": [], "batch_size": 1}}),
        ("item_list.items: got `null`, must be", {"workers": 1, "item_list": {"items": None, "batch_size": 1}}),
        ('item_list.items: got `{"a":1}`, must be', {"workers": 1, "item_list": {"items": {"a": 1}, "batch_size": 1}}),
        ("item_list.batch_size: is required", {"workers": 1, "item_list": {"items": [1]}}),
        ("item_list.batch_size: got `0`, must be", {"workers": 1, "item_list": {"items": [1], "batch_size": 0}}),
        ('item_list.batch_size: got `"1"`, must be', {"workers": 1, "item_list": {"items": [1], "batch_size": "1"}}),
        ("delimited_files: got `7`, must be an object", files(7)),
        ("delimited_files.s3_paths: is required", files({})),
        ("delimited_files.s3_paths: must have at least one path", files({"s3_paths": []})),
        ('delimited_files.s3_paths: got `"s3://b"`, must be a list', files({"s3_paths": "s3://b"})),
        ("delimited_files.s3_paths[1]: got `1`, must be text", files({"s3_paths": ["/a", 1]})),
        ("delimited_files.s3_paths[1]: `a/b` is not absolute; must be s3://", files({"s3_paths": ["/a", "a/b"]})),
        ("delimited_files.s3_paths[0]: `s3://` names no bucket", files({"s3_paths": ["s3://"]})),
        ("delimited_files.s3_paths[0]: `ftp://` is not known; must be s3://", files({"s3_paths": ["ftp://a/b"]})),
        ("delimited_files.s3_paths[0]: `upload://` is not known", files({"s3_paths": ["upload://short/x"]})),
        ("delimited_files.s3_paths[0]: `upload://` is not known", files({"s3_paths": [f"upload://{'0a' * 16}x"]})),
        ("delimited_files.s3_paths[0]: has 16385 characters", files({"s3_paths": [f"/{'a/' * 8192}"]})),
        (
            "delimited_files.s3_paths[0]: has 16385 characters",
            files({"s3_paths": [f"upload://{'0a' * 16}/{'a' * 16384}"]}),
        ),
        ("delimited_files.s3_paths[0]: `s3://` must not be followed by a user", files({"s3_paths": ["s3://a:b@c/d"]})),
        ("delimited_files.includes[1]: character 1: `[` is not closed", files({"includes": ["**", "["]})),
        ("delimited_files.excludes[0]: got `null`, must be text", files({"excludes": [None]})),
        ('delimited_files.includes: got `"**"`, must be a list', files({"includes": "**"})),
        ("delimited_files.batch_size: got `0`, must be at least 1", files({"batch_size": 0})),
        ("file_path_lister.batch_size: is required", files({"s3_paths": ["/a"]}, "file_path_lister")),
    ],
)
def test_a_problem_is_named_by_its_path_with_what_was_got_and_what_is_allowed(said, request_):
    assert said in message_of(json.dumps(request_).encode())


@pytest.mark.parametrize(
    ("said", "request_"),
    [
        (
            "worker: unknown field; did you mean `workers`? (allowed: batch_timeout, config, delimited_files,",
            {**VALID, "worker": 1},
        ),
        ("Config: unknown field; did you mean `config`?", {**VALID, "Config": {}}),
        ("WORKERS: unknown field; did you mean `workers`?", {**VALID, "WORKERS": 1}),
        ("itemList: unknown field; did you mean `item_list`?", {**VALID, "itemList": {}}),
        (
            "zzz: unknown field (allowed: batch_timeout, config, delimited_files, file_path_lister, item_list, max_fa",
            {**VALID, "zzz": 1},
        ),
        (
            "item_list.item: unknown field; did you mean `items`? (allowed: batch_size, items)",
            {"workers": 1, "item_list": {**ITEM_LIST, "item": 1}},
        ),
        (
            "item_list.batchSize: unknown field; did you mean `batch_size`?",
            {"workers": 1, "item_list": {**ITEM_LIST, "batchSize": 1}},
        ),
    ],
)
def test_an_unknown_field_is_named_with_the_nearest_known_one(said, request_):
    assert said in message_of(json.dumps(request_).encode())


def test_every_problem_is_told_at_once():
    lines = message_of(b'{"workers":0,"worker":1,"item_list":{"items":[],"batchsize":1},"config":[]}').splitlines()

    assert ["config", "item_list.batch_size", "item_list.batchsize", "item_list.items", "worker", "workers"] == sorted(
        line.split(":")[0] for line in lines
    )


def test_what_was_got_is_quoted_within_reason():
    message = message_of(json.dumps({**VALID, "workers": "x" * 1000, "y" * 100_000: 1}).encode())

    assert len(message) < 1000


@pytest.mark.parametrize(
    ("number", "field"),
    [
        ("1e999", '{"workers":NUMBER,"item_list":{"items":[1],"batch_size":1}}'),
        ("9" * 5000, '{"workers":NUMBER,"item_list":{"items":[1],"batch_size":1}}'),
        (str(2**63), '{"workers":NUMBER,"item_list":{"items":[1],"batch_size":1}}'),
        ("1e999", '{"workers":1,"item_list":{"items":[1],"batch_size":NUMBER}}'),
        ("9" * 5000, '{"workers":1,"item_list":{"items":[1],"batch_size":NUMBER}}'),
        (str(2**63), '{"workers":1,"item_list":{"items":[1],"batch_size":NUMBER}}'),
        ("9" * 5000, '{"workers":1,"item_list":{"items":[1],"batch_size":1},"config":{"a":NUMBER}}'),
        ("1e999", '{"workers":1,"item_list":{"items":[1],"batch_size":1},"config":{"a":[NUMBER]}}'),
        ("1e999", '{"workers":1,"item_list":{"items":NUMBER,"batch_size":1}}'),
        ("1e999", '{"workers":1,"other":NUMBER}'),
    ],
    ids=lambda value: value[:60],
)
def test_a_number_that_no_one_can_hold_is_refused(number, field):
    message_of(field.replace("NUMBER", number).encode())


@pytest.mark.parametrize("size", [MAX_REQUEST_BYTES, MAX_REQUEST_BYTES + 1])
def test_a_request_of_10_mib_is_too_large(size):
    with pytest.raises(TooLarge, match=f"the request has {size} bytes"):
        read_submission(b" " * size)


def test_the_largest_request_is_read():
    shell = b'{"workers":1,"item_list":{"items":[%s],"batch_size":4096}}'
    count = (MAX_REQUEST_BYTES - len(shell)) // 2
    body = (shell % b",".join([b"1"] * count)).ljust(MAX_REQUEST_BYTES - 1)

    assert count == read_submission(body).item_count


@pytest.mark.parametrize("depth", [50, 200, 400, 480, 500, 700, 900])
def test_a_config_that_is_taken_is_not_nested_too_deeply_for_what_is_done_with_it(depth):
    nested = "[" * depth + "]" * depth

    submission = read_if_valid(
        f'{{"config":{{"a":{nested}}},"workers":1,"item_list":{json.dumps(ITEM_LIST)}}}'.encode()
    )

    if submission is not None:
        assert json.loads(json.dumps(submission.config)) == merge_config({}, submission.config)


def item_list(items: list[str], batch_size: int) -> bytes:
    return f'{{"workers":1,"item_list":{{"items":[{",".join(items)}],"batch_size":{batch_size}}}}}'.encode()


def test_a_batch_of_less_than_256_kib_is_taken():
    largest = '"' + "x" * (MAX_BATCH_BYTES - 1 - len('[""]')) + '"'

    assert [MAX_BATCH_BYTES - 1] == [len(batch) for batch in read_submission(item_list([largest], 1)).batches]


def test_an_item_of_256_kib_is_refused_by_its_place():
    too_large = '"' + "x" * (MAX_BATCH_BYTES - len('[""]')) + '"'

    message = message_of(item_list(["1", too_large], 1))

    assert message.startswith(f"item_list.items[1]: a batch of {MAX_BATCH_BYTES} bytes")


def test_a_batch_of_256_kib_is_refused_by_its_place_with_what_to_do():
    half = '"' + "x" * (MAX_BATCH_BYTES // 2) + '"'

    with pytest.raises(InvalidSubmission) as refused:
        read_submission(item_list(["1", "2", half, half], 2))

    assert refused.value.message.startswith("item_list.items[2] to [3]: a batch of ")
    assert refused.value.hint == "make `item_list.batch_size` smaller"


def test_white_space_between_values_does_not_count():
    spacious = "[" + "1, " * 1000 + " " * MAX_BATCH_BYTES + '" a  b "]'

    (batch,) = read_submission(item_list([spacious], 1)).batches

    assert len(batch) < MAX_BATCH_BYTES
    assert json.loads(batch) == [[*[1] * 1000, " a  b "]]


def read_if_valid(body: bytes) -> Submission | None:
    try:
        return read_submission(body)
    except InvalidSubmission:
        return None


@given(NEARLY_REQUESTS)
def test_any_object_is_either_read_or_refused_with_a_reason(request_):
    read_if_valid(json.dumps(request_, ensure_ascii=False).encode())


@given(st.binary(max_size=200))
def test_any_bytes_are_either_read_or_refused_with_a_reason(body):
    assert read_if_valid(body) is None


@given(st.lists(JSON, min_size=1, max_size=4), st.data())
def test_what_is_read_is_json_to_everyone_and_the_same(items, data):
    body = json.dumps({"workers": 1, "item_list": {"items": items, "batch_size": 2}}, ensure_ascii=False)
    place = data.draw(st.integers(0, len(body)))
    removed = data.draw(st.integers(0, 2))
    body = body[:place] + data.draw(LITTLE_MISTAKES) + body[place + removed :]

    submission = read_if_valid(body.encode())

    if submission is not None:
        expected = json.loads(body)["item_list"]["items"]
        assert expected == [item for batch in submission.batches for item in json.loads(batch)]
