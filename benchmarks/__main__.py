"""Run workloads beside the peers that are installed; see docs/benchmarks.md."""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from benchmarks import scale
from benchmarks.machine import describe_machine, show_machine
from benchmarks.options import Options
from benchmarks.peers import all_peers
from benchmarks.report import Report
from benchmarks.workloads import WORKLOADS


def main() -> None:
    """Run what was asked for, print tables and verdicts, and write the JSON."""
    if sys.argv[1:2] == ["scale"]:  # a simulation, beside nobody: see docs/scaling.md
        scale.main(sys.argv[2:])
        return
    choices = parse_choices()
    wanted = choices.workloads or list(WORKLOADS)
    with tempfile.TemporaryDirectory(prefix="benchmarks-", dir=choices.folder) as name:
        chosen = None if choices.peers is None else frozenset(choices.peers.split(","))
        options = Options(folder=Path(name), rounds=choices.rounds, is_quick=choices.quick, peers=chosen)
        machine = describe_machine(options.folder)
        show_machine(machine)
        for key, peer in all_peers().items():
            if options.takes(key) and (lack := peer.missing()):
                print(f"without {peer.name}: {lack}")
        report = Report()
        for workload in wanted:
            try:
                WORKLOADS[workload](report, options)
            except Exception as error:  # the others are wanted all the same
                report.failed(workload, error)
        report.summary()
    if choices.json:
        found = {"machine": machine, "rounds": choices.rounds, "is_quick": choices.quick, "workloads": wanted}
        found |= {"tables": report.tables, "verdicts": report.verdicts, "failures": report.failures}
        choices.json.write_text(json.dumps(found, indent=1))
    sys.exit(1 if report.failures else 0)


def parse_choices() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").strip())
    parser.add_argument("workloads", nargs="*", metavar="W", help=f"{' '.join(WORKLOADS)} (default: all)")
    parser.add_argument("--rounds", type=int, default=5, help="how many turns each contestant has (default: 5)")
    parser.add_argument("--quick", action="store_true", help="small workloads: to see that it runs, not for figures")
    parser.add_argument("--peers", metavar="NAMES", help=f"only these, as in {','.join(all_peers())}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all that was measured there")
    parser.add_argument(
        "--folder", type=Path, help="where data and operators lie while it runs (default: a temporary one)"
    )
    choices = parser.parse_args()
    if unknown := set(choices.workloads) - set(WORKLOADS):
        parser.error(f"there is no workload {', '.join(sorted(unknown))}; there are {', '.join(WORKLOADS)}")
    if choices.peers is not None and (unknown := set(choices.peers.split(",")) - set(all_peers()) - {""}):
        parser.error(f"there is no peer {', '.join(sorted(unknown))}; there are {', '.join(all_peers())}")
    return choices


if __name__ == "__main__":
    main()
