"""Tables and verdicts: printed as they come, and kept for the JSON."""

import statistics
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.rounds import MB, Series, Spread, ratio


class Report:
    """What a run has found so far."""

    def __init__(self) -> None:
        self.tables: list[dict[str, Any]] = []
        self.verdicts: list[dict[str, Any]] = []
        self.failures: list[str] = []

    def title(self, text: str) -> None:
        """Begin a workload."""
        print(f"\n{text}")

    def note(self, text: str) -> None:
        """Say something beside the figures."""
        print(f"  {text}")

    def failed(self, workload: str, error: Exception) -> None:
        """Say that a workload could not be measured to its end."""
        self.failures.append(f"{workload}: {type(error).__name__}: {error}")
        traceback.print_exception(error)

    def rates(self, what: str, series: Mapping[str, Series], against: str, unit: str = "batches") -> None:
        """Show how many units a second each did, and how many times the rate of one of them that is."""
        print(f"  {what}")
        print(f"  {'':38}{'n':>9} {unit + '/s':>13} {'x ' + against:>34} {'CPU us/unit':>12} {'peak MB (growth)':>18}")
        for each in series.values():
            ratios, rates = ratio(each, series.get(against)), Spread.of(each.rates)
            self._keep(what, each, ratios)
            if rates is None:
                print(f"  {each.name:38}{each.units:>9,} failed: {each.problem}")
                continue
            times = f"{ratios.median:.3g} [{ratios.low:.3g}..{ratios.high:.3g}]" if ratios else ""
            grown = f"{each.peak.pss / MB:.0f} ({each.growth / MB:+.0f})" if each.peak else ""
            cpu_us = 1e6 * statistics.median(each.cpu_seconds) / each.units
            print(f"  {each.name:38}{each.units:>9,} {rates.median:>13,.0f} {times:>34} {cpu_us:>12,.1f} {grown:>18}")

    def times(self, what: str, series: Mapping[str, Series]) -> None:
        """Show what one turn of each took, in milliseconds."""
        print(f"  {what}")
        for each in series.values():
            self._keep(what, each, None)
            spread = Spread.of([1000 * seconds for seconds in each.seconds])
            if spread is None:
                print(f"  {each.name:54} failed: {each.problem}")
            else:
                cpu = statistics.median(1000 * seconds for seconds in each.cpu_seconds)
                times = f"[{spread.low:.2f}..{spread.high:.2f}]"
                print(f"  {each.name:54} {spread.median:>10.2f} ms {times:>22}   CPU {cpu:.2f} ms")

    def figures(self, what: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Show rows of named figures, a column for each name that one of them has."""
        names = list(dict.fromkeys(name for row in rows for name in row))
        cells = [names] + [[_plain(row.get(name, "")) for name in names] for row in rows]
        widths = [max(len(line[column]) for line in cells) for column in range(len(names))]
        print(f"  {what}")
        for line in cells:
            first, *others = (text.ljust(width) for text, width in zip(line, widths, strict=True))
            print(f"  {first}  " + "  ".join(text.strip().rjust(len(text)) for text in others))
        self.tables.append({"what": what, "rows": list(rows)})

    def verdict(
        self, number: int, what: str, found: Spread | float | None, bound: float, *, at_least: bool = True
    ) -> None:
        """Say whether something that must be shown holds; nothing found is a peer that is missing, or has failed."""
        spread = Spread(median=found, low=found, high=found) if isinstance(found, int | float) else found
        holds = None if spread is None else spread.median >= bound if at_least else spread.median <= bound
        verdict = {"number": number, "what": what, "bound": bound, "at_least": at_least, "holds": holds}
        verdict["found"] = spread and {"median": spread.median, "low": spread.low, "high": spread.high}
        self.verdicts.append(verdict)
        print(line_of(verdict))

    def summary(self) -> None:
        """Show all verdicts again, in the order of their numbers."""
        print("\nVerdicts")
        for verdict in sorted(self.verdicts, key=lambda each: each["number"]):
            print(line_of(verdict))
        for failure in self.failures:
            print(f"  not measured to its end: {failure}")

    def _keep(self, what: str, series: Series, times: Spread | None) -> None:
        self.tables.append(
            {
                "what": what,
                "name": series.name,
                "units": series.units,
                "seconds": series.seconds,
                "cpu_seconds": series.cpu_seconds,
                "ratio": times and times.median,
                "peak_pss_mb": series.peak and series.peak.pss / MB,
                "peak_rss_mb": series.peak and series.peak.rss / MB,
                "growth_mb": series.growth_mb,
                "problem": series.problem,
            }
        )


def line_of(verdict: Mapping[str, Any]) -> str:
    """Give the line that shows a verdict."""
    found, what = verdict["found"], f"{verdict['number']}. {verdict['what']}"
    wanted = f"{'at least' if verdict['at_least'] else 'at most'} {verdict['bound']:g}"
    if found is None:
        return f"  {what:66} {'not measured':>28}   {wanted:16} -"
    spread = f"{found['median']:.3g} [{found['low']:.3g}..{found['high']:.3g}]"
    return f"  {what:66} {spread:>28}   {wanted:16} {'holds' if verdict['holds'] else 'DOES NOT HOLD'}"


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
