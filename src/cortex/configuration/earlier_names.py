"""What earlier releases called a field, or where it stood: read as what it is called now."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from cortex.domain.api_kind import ApiKind

Path = tuple[str | int, ...]

RENAMED: Final[Mapping[Path, Path]] = {
    ("autoscaling", "workers_per_replica"): ("predictor", "processes_per_replica"),  # until 0.17
    ("autoscaling", "processes_per_replica"): ("predictor", "processes_per_replica"),  # where the guides put it
    ("autoscaling", "threads_per_worker"): ("predictor", "threads_per_process"),
    ("autoscaling", "threads_per_process"): ("predictor", "threads_per_process"),
    ("endpoint",): ("networking", "endpoint"),
}
"""For RealtimeAPIs, which is all that these releases had."""

_MODELS: Final = ("predictor", "models")
_OF_MODELS: Final = ("paths", "signature_key")


@dataclass(slots=True)
class Modern:
    """The fields of an API under the names that they have now, and where the file has them."""

    fields: dict[str, Any]
    moved: dict[Path, Path] = field(default_factory=dict)
    """By the path that a field has now, the one that it has in the file, where that is another."""
    problems: list[tuple[Path, str]] = field(default_factory=list)
    """What is wrong with the earlier names: the path in the file, and what to say."""

    def in_file(self, path: Path) -> Path:
        """Give the path in the file of what has this path now."""
        for now, before in self.moved.items():
            if path[: len(now)] == now:
                return before + path[len(now) :]
        return path


def modernize(fields: Mapping[str, Any], kind: str) -> Modern:
    """Give the fields of an API, which need not be valid, under the names that they have now."""
    modern = Modern(fields={name: dict(value) if isinstance(value, dict) else value for name, value in fields.items()})
    if kind == ApiKind.REALTIME:
        for before, now in RENAMED.items():
            _move(modern, before, now)
    _take_out_models(modern)
    return modern


def _move(modern: Modern, before: Path, now: Path) -> None:
    source = modern.fields if len(before) == 1 else modern.fields.get(str(before[0]))
    section, name, earlier = str(now[0]), str(now[-1]), str(before[-1])
    if not isinstance(source, dict) or earlier not in source:
        return
    value = source.pop(earlier)
    if modern.fields.get(section) is None and section == "networking":  # which may be left out
        modern.fields[section] = {}
    target = modern.fields.get(section)
    if not isinstance(target, dict):  # which is told of the section
        return
    if name in target:
        given, new = _name(modern.in_file(now)), _name(now)
        other = "" if given == new else f", and so is `{given}`"
        text = f"the earlier name of `{new}`{other or ', which is given too'}; keep `{new}` only"
        modern.problems.append((before, text))
        return
    target[name] = value
    modern.moved[now] = before


def _take_out_models(modern: Modern) -> None:
    """Read `models: {paths: […]}` as the list; its `signature_key` is that of each entry that has none."""
    predictor = modern.fields.get("predictor")
    models = predictor.get("models") if isinstance(predictor, dict) else None
    if not isinstance(predictor, dict) or not isinstance(models, dict):
        return
    unknown = [name for name in models if name not in _OF_MODELS]
    modern.problems += [((*_MODELS, name), f"unknown field (allowed: {', '.join(_OF_MODELS)})") for name in unknown]
    if "paths" not in models:
        modern.problems.append(((*_MODELS, "paths"), "missing; it is required. The models, each with its name."))
    paths, key = models.get("paths", []), models.get("signature_key")
    if isinstance(paths, list) and key is not None:
        paths = [{"signature_key": key, **entry} if isinstance(entry, dict) else entry for entry in paths]
    predictor["models"] = paths
    modern.moved[_MODELS] = (*_MODELS, "paths")


def _name(path: Path) -> str:
    return ".".join(map(str, path))
