"""Reading a job request and cutting its dataset into Batches, without building the objects in it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Annotated, Any, Final

import msgspec
from pydantic import AfterValidator, Field, ValidationError, model_validator

from cortex.configuration import JobOptions
from cortex.configuration.section import Section, section_at
from cortex.domain.batch import MAX_REQUEST_BYTES
from cortex.domain.errors import InvalidSubmission, TooLarge
from cortex.domain.output import Output
from cortex.domain.policy import Policy
from cortex.domain.source import FileSource, SourceKind
from cortex.domain.submission_key import SubmissionKey
from cortex.enqueuing.cut import BatchTooLarge, join_batches
from cortex.files.address import read_address
from cortex.files.globs import Globs
from cortex.operator.submitting.asked_workers import Workers
from cortex.operator.submitting.options import (
    LACKS_PARQUET,
    PARQUET_HINT,
    can_write,
    output_of,
    policy_of,
    with_defaults,
)

_MAX_NUMBER: Final = 2**31 - 1
_MAX_CONFIG_DEPTH: Final = 100

UPLOAD: Final = re.compile(r"upload://(?P<id>[0-9a-f]{32})(?:/(?P<name>.*))?", re.DOTALL)
"""A file that the client has sent before, or a prefix of some."""

_HINT: Final = 'a request looks like {"workers": 1, "item_list": {"items": [...], "batch_size": 10}, "config": {...}}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A valid job request. Each Batch is a JSON array."""

    workers: int
    workers_min: int | None = None  # of an elastic Job
    config: Mapping[str, Any] | None
    policy: Policy = field(default_factory=Policy)
    output: Output | None = None  # where its results are written besides
    batch_size: int
    item_count: int = 0
    batches: Sequence[bytes] = ()
    source: FileSource | None = None  # where the items come from, if not from the request
    key: SubmissionKey | None = None  # by which it is known when it is sent again


class ItemList(Section):
    """A dataset in the request itself."""

    items: Annotated[list[Any], Field(min_length=1)]
    batch_size: Annotated[int, Field(ge=1, le=_MAX_NUMBER)]


def _check_path(path: str) -> str:
    upload = UPLOAD.fullmatch(path)
    read_address(f"/{upload['name'] or ''}" if upload else path)
    return path


def _check_glob(pattern: str) -> str:
    Globs([pattern])
    return pattern


def _check_globs(patterns: list[str]) -> list[str]:
    Globs(patterns)  # each is fine, but together they may be too many
    return patterns


Path = Annotated[str, AfterValidator(_check_path)]
Patterns = Annotated[list[Annotated[str, AfterValidator(_check_glob)]], AfterValidator(_check_globs)]


class FilePathLister(Section):
    """A dataset of files: each item is the URL of one."""

    s3_paths: Annotated[list[Path], Field(min_length=1)]
    includes: Patterns = Field(default=[])
    excludes: Patterns = Field(default=[])
    batch_size: Annotated[int, Field(ge=1, le=_MAX_NUMBER)]


class DelimitedFiles(FilePathLister):
    """A dataset in files: each item is a line of one."""

    batch_size: Annotated[int, Field(ge=1, le=_MAX_NUMBER)] = 1


class JobRequest(JobOptions):
    """The fields of a job request."""

    workers: Workers
    item_list: ItemList | None = None
    file_path_lister: FilePathLister | None = None
    delimited_files: DelimitedFiles | None = None
    config: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _check_dataset(self) -> "JobRequest":
        given = [name for name in _DATASETS if getattr(self, name) is not None]
        if len(given) != 1:
            got = " and ".join(f"`{name}`" for name in given) or "none"
            allowed = ", ".join(f"`{name}`" for name in _DATASETS)
            raise ValueError(f"the dataset must be exactly one of {allowed}; got {got}")
        return self

    @property
    def source(self) -> FileSource | None:
        """The files of the dataset."""
        for kind in SourceKind:
            section: FilePathLister | None = getattr(self, kind)
            if section is not None:
                return FileSource(
                    kind=kind,
                    paths=tuple(section.s3_paths),
                    includes=tuple(section.includes),
                    excludes=tuple(section.excludes),
                    batch_size=section.batch_size,
                )
        return None


_DATASETS: Final[Mapping[str, type[Section]]] = {
    "item_list": ItemList,
    "file_path_lister": FilePathLister,
    "delimited_files": DelimitedFiles,
}


def read_submission(body: bytes, defaults: Mapping[str, Any] | None = None) -> Submission:
    """Check a job request and cut it into Batches; the defaults are the options that its API has for it.

    Takes about 20 ms for 10 MiB in batches of ten small items, seconds for millions of batches.
    Raises InvalidSubmission, which lists every problem, or TooLarge.
    """
    if len(body) >= MAX_REQUEST_BYTES:
        raise TooLarge(
            f"the request has {len(body)} bytes; it must have less than {MAX_REQUEST_BYTES} (10 MiB)",
            hint="submit the dataset in several jobs",
        )
    request, items = _check(_decode(body), defaults or {})
    if _is_nested_deeper(request.config, _MAX_CONFIG_DEPTH):
        raise InvalidSubmission(f"config: is nested too deeply, must have at most {_MAX_CONFIG_DEPTH} levels")
    if not can_write(request.results):
        raise InvalidSubmission(f"results.format: {LACKS_PARQUET}", hint=PARQUET_HINT)
    source = request.source
    batch_size = source.batch_size if source else request.item_list.batch_size if request.item_list else 1
    return Submission(
        workers=request.workers.max,
        workers_min=request.workers.elastic_min,
        config=request.config,
        policy=policy_of(request),
        output=output_of(request.results),
        batch_size=batch_size,
        item_count=len(items),
        batches=() if source else _cut(items, batch_size),
        source=source,
    )


def _decode(body: bytes) -> dict[str, msgspec.Raw]:
    try:
        body.decode()
        return msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except UnicodeDecodeError as error:
        raise InvalidSubmission(f"the request is not UTF-8: {error}", hint=_HINT) from error
    except msgspec.ValidationError as error:
        raise InvalidSubmission("the request must be a JSON object", hint=_HINT) from error
    except msgspec.DecodeError as error:
        raise InvalidSubmission(f"the request is not JSON: {error}", hint=_HINT) from error
    except RecursionError as error:
        raise InvalidSubmission("the request is nested too deeply", hint=_HINT) from error


def _check(fields: dict[str, msgspec.Raw], defaults: Mapping[str, Any]) -> tuple[JobRequest, list[msgspec.Raw]]:
    """Validate everything but the inside of the items; give the request and the raw items."""
    plain: dict[str, Any] = {}
    items: list[msgspec.Raw] = []
    for name, raw in fields.items():
        if name == "item_list" and bytes(raw).lstrip().startswith(b"{"):
            section = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
            plain[name] = {key: _value(f"{name}.{key}", each) for key, each in section.items() if key != "items"}
            if "items" in section:
                plain[name]["items"], items = _items(section["items"])
        else:
            plain[name] = _value(name, raw)
    try:
        return JobRequest.model_validate(with_defaults(plain, defaults)), items
    except ValidationError as error:
        raise InvalidSubmission("\n".join(_describe(problem) for problem in error.errors()), hint=_HINT) from error


def _items(raw: msgspec.Raw) -> tuple[Any, list[msgspec.Raw]]:
    try:
        items = msgspec.json.decode(raw, type=list[msgspec.Raw])
    except msgspec.ValidationError:
        return _value("item_list.items", raw), []
    return items, items


def _value(path: str, raw: msgspec.Raw) -> Any:
    try:
        return msgspec.json.decode(raw)
    except msgspec.ValidationError as error:
        raise InvalidSubmission(f"{path}: {str(error).partition(' - ')[0].lower()}", hint=_HINT) from error


def _describe(problem: Any) -> str:
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part[:80]}" for part in problem["loc"]).lstrip(".")
    kind, got = problem["type"], problem.get("input")
    if kind == "extra_forbidden":
        known = list(section_at(problem["loc"][:-1], JobRequest).model_fields)
        near = get_close_matches(str(problem["loc"][-1])[:80].lower(), known, 1)
        guess = f"; did you mean `{near[0]}`?" if near else ""
        return f"{path}: unknown field{guess} (allowed: {', '.join(sorted(known))})"
    if kind == "missing":
        # `cortex submit --results-format csv` leaves the place to cortex.yaml, which need not have one.
        is_option = problem["loc"][0] in JobOptions.model_fields
        return f"{path}: is required{', here or under `job` in cortex.yaml' if is_option else ''}"
    if kind == "value_error":
        reason = str(problem["ctx"]["error"])
        return f"{path}: {reason}" if path else reason
    if kind == "too_short":
        return f"{path}: must have at least one {'path' if path.endswith('s3_paths') else 'item'}"
    shown = msgspec.json.encode(got).decode()[:80]
    if kind == "greater_than_equal":
        return f"{path}: got `{shown}`, must be at least {problem['ctx']['ge']}"
    if kind == "less_than_equal":
        return f"{path}: got `{shown}`, must be at most {problem['ctx']['le']}"
    if kind == "literal_error":
        return f"{path}: got `{shown}`, must be {problem['ctx']['expected'].replace(chr(39), '`')}"
    wanted = {
        "bool": "`true` or `false`",
        "dict": "an object",
        "int": "a whole number",
        "list": "a list",
        "model": "an object",
        "string": "text",
    }
    allowed = wanted.get(kind.partition("_")[0]) or problem["msg"].removeprefix("Input should be ")
    return f"{path}: got `{shown}`, must be {allowed}"


def _is_nested_deeper(value: Any, depth: int) -> bool:
    """Tell whether objects and lists lie in each other deeper than this: whatever copies a config recurses."""
    level = [value]
    for _ in range(depth + 1):
        if not level:
            return False
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return bool(level)


def _cut(items: Sequence[msgspec.Raw], batch_size: int) -> list[bytes]:
    try:
        return join_batches(items, batch_size)
    except BatchTooLarge as error:
        which = f"item_list.items[{error.first}]"
        if error.count == 1:
            raise InvalidSubmission(f"{which}: {error}", hint="store it elsewhere and submit its URL") from error
        which += f" to [{error.first + error.count - 1}]"
        raise InvalidSubmission(f"{which}: {error}", hint="make `item_list.batch_size` smaller") from error
