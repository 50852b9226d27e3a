"""Reading a job request and cutting its dataset into Batches, without building the objects in it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, Any, Final

import msgspec
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from cortex.domain.batch import MAX_BATCH_BYTES
from cortex.domain.errors import InvalidSubmission, TooLarge

_MAX_NUMBER: Final = 2**31 - 1
_MAX_CONFIG_DEPTH: Final = 100

MAX_REQUEST_BYTES: Final = 10 * 1024 * 1024

_HINT: Final = 'a request looks like {"workers": 1, "item_list": {"items": [...], "batch_size": 10}, "config": {...}}'
_NOT_YET: Final = ("file_path_lister", "delimited_files")


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A valid job request. Each Batch is a JSON array."""

    workers: int
    config: Mapping[str, Any] | None
    batch_size: int
    item_count: int
    batches: Sequence[bytes]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, arbitrary_types_allowed=True)


class ItemList(_Section):
    """A dataset in the request itself."""

    items: Annotated[list[Any], Field(min_length=1)]
    batch_size: Annotated[int, Field(ge=1, le=_MAX_NUMBER)]


class JobRequest(_Section):
    """The fields of a job request."""

    workers: Annotated[int, Field(ge=1, le=_MAX_NUMBER)]
    item_list: ItemList | None = None
    config: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _check_dataset(self) -> "JobRequest":
        if self.item_list is None:
            raise ValueError("the dataset is missing: give `item_list`")
        return self


def read_submission(body: bytes) -> Submission:
    """Check a job request and cut it into Batches.

    Takes about 20 ms for 10 MiB in batches of ten small items, seconds for millions of batches.
    Raises InvalidSubmission, which lists every problem, or TooLarge.
    """
    if len(body) >= MAX_REQUEST_BYTES:
        raise TooLarge(
            f"the request has {len(body)} bytes; it must have less than {MAX_REQUEST_BYTES} (10 MiB)",
            hint="submit the dataset in several jobs",
        )
    request, items = _check(_decode(body))
    if _is_nested_deeper(request.config, _MAX_CONFIG_DEPTH):
        raise InvalidSubmission(f"config: is nested too deeply, must have at most {_MAX_CONFIG_DEPTH} levels")
    if request.item_list is None:
        raise InvalidSubmission("the dataset is missing: give `item_list`", hint=_HINT)
    batch_size = request.item_list.batch_size
    return Submission(
        workers=request.workers,
        config=request.config,
        batch_size=batch_size,
        item_count=len(items),
        batches=list(_cut(items, batch_size)),
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


def _check(fields: dict[str, msgspec.Raw]) -> tuple[JobRequest, list[msgspec.Raw]]:
    """Validate everything but the inside of the items; give the request and the raw items."""
    later = [name for name in _NOT_YET if name in fields]
    if later:
        raise InvalidSubmission(f"{later[0]}: is not supported yet; `item_list` is", hint=_HINT)
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
        return JobRequest.model_validate(plain), items
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
    path = ".".join(str(part)[:80] for part in problem["loc"])
    kind, got = problem["type"], problem.get("input")
    if kind == "extra_forbidden":
        section = ItemList if problem["loc"][0] == "item_list" else JobRequest
        known = list(section.model_fields)
        near = get_close_matches(str(problem["loc"][-1])[:80].lower(), known, 1)
        guess = f"; did you mean `{near[0]}`?" if near else ""
        return f"{path}: unknown field{guess} (allowed: {', '.join(sorted(known))})"
    if kind == "missing":
        return f"{path}: is required"
    if kind == "value_error":
        return str(problem["ctx"]["error"])
    if kind == "too_short":
        return f"{path}: must have at least one item"
    shown = msgspec.json.encode(got).decode()[:80]
    if kind == "greater_than_equal":
        return f"{path}: got `{shown}`, must be at least {problem['ctx']['ge']}"
    wanted = {"int": "a whole number", "list": "a list", "dict": "an object", "model": "an object"}
    allowed = wanted.get(kind.partition("_")[0]) or problem["msg"].removeprefix("Input should be ")
    return f"{path}: got `{shown}`, must be {allowed}"


def _is_nested_deeper(value: Any, depth: int) -> bool:
    """Tell whether objects and lists lie in each other deeper than this: whatever copies a config recurses."""
    level = [value]
    for _ in range(depth + 1):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return bool(level)


def _cut(items: Sequence[msgspec.Raw], batch_size: int) -> Iterator[bytes]:
    for first in range(0, len(items), batch_size):
        batch = b"[" + b",".join(items[first : first + batch_size]) + b"]"
        if len(batch) >= MAX_BATCH_BYTES:
            batch = _compact(batch, first, min(batch_size, len(items) - first))
        yield batch


def _compact(batch: bytes, first: int, count: int) -> bytes:
    """Take out the white space, which does not count; refuse what is still too large."""
    batch = msgspec.json.format(batch, indent=-1)
    if len(batch) >= MAX_BATCH_BYTES:
        which = f"item_list.items[{first}]" if count == 1 else f"item_list.items[{first}] to [{first + count - 1}]"
        advice = "store it elsewhere and submit its URL" if count == 1 else "make `item_list.batch_size` smaller"
        raise InvalidSubmission(
            f"{which}: a batch of {len(batch)} bytes as compact JSON, must be less than {MAX_BATCH_BYTES} (256 KiB)",
            hint=advice,
        )
    return batch
