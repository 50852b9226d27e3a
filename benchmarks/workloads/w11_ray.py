"""W11: W1, W2 and W3 on a Ray cluster of two nodes with one CPU each, with all workers on its nodes.

The operator and the drivers of the peers are beside the same cluster, which is there before any clock starts. Clocks
are those of W1 to W3: cortex's has the start of its workers in it, but in W2, where it starts with the first
`processing batch` line, and where the peers' processes have their model before. A first small job warms cortex as it
does the peers: what Ray has started on the nodes is kept, workers are not. W2 is also run by the operator's own engine
for one machine, beside the idle cluster.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

from benchmarks.forest import PREDICTOR, Prepared
from benchmarks.load import Load, flowers, large_lines, small_lines
from benchmarks.options import Options
from benchmarks.peers import RAY_DATA, Peer, chosen_peers_on
from benchmarks.ray_cluster import RayCluster, missing, running_cluster
from benchmarks.report import Report
from benchmarks.rounds import Contestant, Run, Series, ratio, run_rounds
from benchmarks.service import NOTHING, items_of, lines_of, running_service
from benchmarks.turns import CORTEX, peers
from benchmarks.workloads.w2_model import ready_model

LOCALLY: Final = "cortex, without Ray"
ONE_CPU: Final = {"compute": {"cpu": 1}}
"""So that each worker has a node of its own."""

AT_MOST: Final = {"ray": 10**9, "rayactors": 20_000, "rayactors16": 10**9}
MUST, MUST_MODEL, MUST_OF_LOCAL = 5.0, 1.0, 1.3


def run(report: Report, options: Options) -> None:
    """Run the three on one cluster."""
    report.title("W11 Ray: W1, W2 and W3 on a cluster of two nodes with one CPU each")
    if lack := missing():
        report.note(f"not measured: {lack}")
        return
    with running_cluster(options.folder) as cluster:
        field = Field(cluster=cluster, peers=chosen_peers_on(cluster.address, options), report=report, options=options)
        field.dispatch()
        field.model()
        field.lines()


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """The cluster, and who runs on it."""

    cluster: RayCluster
    peers: dict[str, Peer]
    report: Report
    options: Options

    def dispatch(self) -> None:
        """Run W1: what a batch costs, in a small job and in a large one."""
        for batches in (self.options.batches(20_000, 2000), self.options.batches(200_000, 5000)):
            load = small_lines(self.options.folder, batches, 10)
            series = self._compare("W1", load, "nothing", [self._cortex(load)])
            self._verdict(f"W1, {batches:,} batches", series, MUST)

    def model(self) -> None:
        """Run W2: a model, also by the engine for one machine."""
        load = flowers(self.options.folder, self.options.batches(5000, 500), 32)
        ours = [
            self._contestant(CORTEX, load, partial(ready_model, self._prepared(*self._engine()), load)),
            self._contestant(LOCALLY, load, partial(ready_model, self._prepared(), load)),
        ]
        series = self._compare("W2", load, "forest", ours)
        self._verdict("W2", series, MUST_MODEL)
        times = ratio(series[LOCALLY], series[CORTEX])
        self.report.verdict(11, "W2 on Ray, of the time without Ray", times, MUST_OF_LOCAL, at_least=False)

    def lines(self) -> None:
        """Run W3: a large file."""
        load = large_lines(self.options.folder, self.options.batches(20_000, 2000), 100)
        series = self._compare("W3", load, "parse", [self._cortex(load)])
        self._verdict("W3", series, MUST)

    def _compare(self, what: str, load: Load, task: str, ours: list[Contestant]) -> dict[str, Series]:
        helpers = self.cluster.processes
        theirs = peers(load, task, self.options, AT_MOST, among=self.peers, helpers=helpers)
        series = run_rounds([*ours, *theirs], self.options.rounds)
        self.report.rates(f"{what} on Ray, {load.batches:,} batches", series, RAY_DATA)
        return series

    def _verdict(self, what: str, series: dict[str, Series], bound: float) -> None:
        found = ratio(series[CORTEX], series.get(RAY_DATA))
        self.report.verdict(11, f"{what}, x {RAY_DATA}", found, bound)

    def _engine(self) -> tuple[str, ...]:
        return ("--engine", "ray", "--ray-address", self.cluster.address)

    def _prepared(self, *engine: str) -> Prepared:
        return Prepared(self.options.folder, PREDICTOR, *engine, **ONE_CPU)

    def _cortex(self, load: Load) -> Contestant:
        return self._contestant(CORTEX, load, partial(self._ready, load))

    @contextmanager
    def _ready(self, load: Load) -> Iterator[Run]:
        with running_service(self.options.folder, NOTHING, *self._engine(), **ONE_CPU) as service:
            service.run(items_of([[0.1, 0.2, 0.3, 0.4]] * 20))
            service.list_files(lines_of(load))
            yield lambda: service.run(lines_of(load))

    def _contestant(self, name: str, load: Load, ready: Callable[[], AbstractContextManager[Run]]) -> Contestant:
        return Contestant(name=name, units=load.batches, ready=ready, helpers=self.cluster.processes)
