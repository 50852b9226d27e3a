"""The body of a small request: JSON, checked by the section that describes it."""

from typing import Any, TypeVar

from pydantic import ValidationError

from cortex.configuration.section import Section, section_at
from cortex.configuration.wording import describe_value, did_you_mean
from cortex.domain.errors import InvalidRequest

Body = TypeVar("Body", bound=Section)


def read_body(body: bytes, shape: type[Body], *, hint: str) -> Body:
    """Read a body, which may be empty. Raises InvalidRequest, which lists every problem."""
    try:
        return shape.model_validate_json(body.strip() or b"{}")
    except ValidationError as error:
        problems = [_describe(problem, shape) for problem in error.errors()]
        raise InvalidRequest("\n".join(problems), hint=hint) from error


def _describe(problem: Any, shape: type[Section]) -> str:
    path, kind, got = ".".join(map(str, problem["loc"])), problem["type"], problem["input"]
    match kind:
        case "json_invalid":
            return f"the request is not JSON: {problem['ctx']['error']}"
        case "model_type":
            return "the request must be a JSON object"
        case "extra_forbidden":
            fields = sorted(section_at(problem["loc"][:-1], shape).model_fields)
            near = did_you_mean(str(problem["loc"][-1])[:80], fields)
            return f"{path[:80]}: unknown field{near} (allowed: {', '.join(fields)})"
        case "missing":
            return f"{path}: is required"
        case "value_error":
            return f"{path}: {problem['ctx']['error']}"
        case "enum":
            allowed = problem["ctx"]["expected"].replace("'", "`")
        case "greater_than_equal":
            allowed = f"at least {problem['ctx']['ge']}"
        case _:
            allowed = problem["msg"].removeprefix("Input should be ")
    return f"{path}: got {describe_value(got)}, must be {allowed}"
