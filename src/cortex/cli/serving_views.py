"""What `cortex get` shows of APIs that answer at once. Pure: answers of the operator in, text out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from cortex.answers import ApiInfo, ApiSummary, Served, ServingMetrics, ServingStatus
from cortex.cli.tables import table
from cortex.clients.facts import serving_text
from cortex.clients.times import format_age, parse_instant

_NOTHING = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Column:
    """A column about the status or the requests of an API; one that is optional shows where any API has a count."""

    header: str
    cell: Callable[[ServingStatus, ServingMetrics], object]
    is_optional: bool = False


_BEFORE_UPDATE = (
    _Column(header="status", cell=lambda status, _: serving_text(status)),
    _Column(header="up-to-date", cell=lambda status, _: status["replica_counts"]["updated"]["ready"]),
    _Column(header="stale", cell=lambda status, _: status["replica_counts"]["stale"]["ready"], is_optional=True),
    _Column(header="requested", cell=lambda status, _: status["replica_counts"]["requested"]),
    _Column(header="failed", cell=lambda status, _: status["replica_counts"]["updated"]["failed"], is_optional=True),
)
_AFTER_UPDATE = (
    _Column(header="avg request", cell=lambda _, metrics: _latency(metrics["network_stats"]["latency"])),
    _Column(header="2XX", cell=lambda _, metrics: metrics["network_stats"]["code_2xx"] or _NOTHING),
    _Column(header="4XX", cell=lambda _, metrics: metrics["network_stats"]["code_4xx"], is_optional=True),
    _Column(header="5XX", cell=lambda _, metrics: metrics["network_stats"]["code_5xx"], is_optional=True),
)


def realtime_table(apis: Sequence[tuple[str, ApiSummary]], now: datetime, *, with_environments: bool) -> str:
    """List RealtimeAPIs, each with the name of its environment."""
    first = 0 if with_environments else 1
    rows = [([environment, api["name"]][first:], api, _age(api["last_updated"], now)) for environment, api in apis]
    return _served_table(["env", "realtime api"][first:], rows)


def splitter_table(apis: Sequence[tuple[str, ApiSummary]], now: datetime, *, with_environments: bool) -> str:
    """List TrafficSplitters, each with the name of its environment."""
    first = 0 if with_environments else 1
    rows = [
        [environment, api["name"], _weights(api), _age(api["last_updated"], now)][first:] for environment, api in apis
    ]
    return table(["env", "traffic splitter", "apis", "last update"][first:], rows)


def realtime_view(api: ApiInfo, now: datetime) -> list[str]:
    """Show how a RealtimeAPI stands, and why, where there is a why."""
    # What is wrong with its environment stands below, whole.
    message = "" if api["environment"]["status"] == "failed" else api["status"]["message"]
    return [_served_table([], [([], api, _age(api["last_updated"], now))]), *([message] if message else [])]


def splitter_view(api: ApiInfo, now: datetime) -> list[str]:
    """Show between which APIs a TrafficSplitter splits."""
    rows = [[target["name"], f"{target['weight']}%"] for target in api["apis"]]
    return [table(["api", "weight"], rows), f"last update: {_age(api['last_updated'], now)} ago"]


def example_curl(endpoint: str) -> str:
    """Give a command that sends a request."""
    return f'example curl: curl {endpoint} -X POST -H "Content-Type: application/json" -d @sample.json'


def _served_table(headers: list[str], rows: Sequence[tuple[list[str], Served, str]]) -> str:
    """Lay out how APIs are served, between what stands before that and when each was updated."""
    apis = [api for _, api, _ in rows]
    before, after = _shown(_BEFORE_UPDATE, apis), _shown(_AFTER_UPDATE, apis)
    titles = [*headers, *(each.header for each in before), "last update", *(each.header for each in after)]
    return table(titles, [[*lead, *_cells(before, api), age, *_cells(after, api)] for lead, api, age in rows])


def _shown(columns: Sequence[_Column], apis: Sequence[Served]) -> list[_Column]:
    return [
        column
        for column in columns
        if not column.is_optional or any(column.cell(api["status"], api["metrics"]) for api in apis)
    ]


def _cells(columns: Sequence[_Column], api: Served) -> list[object]:
    cells = [(column, column.cell(api["status"], api["metrics"])) for column in columns]
    return [_NOTHING if column.is_optional and not cell else cell for column, cell in cells]


def _latency(milliseconds: float | None) -> str:
    if milliseconds is None:
        return _NOTHING
    return f"{milliseconds / 1000:.6g} s" if milliseconds >= 1000 else f"{milliseconds:.6g} ms"


def _weights(api: ApiSummary) -> str:
    return " ".join(f"{target['name']}:{target['weight']}" for target in api["apis"])


def _age(instant: str, now: datetime) -> str:
    return format_age(now - parse_instant(instant))
