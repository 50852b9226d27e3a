"""W6: jobs of 10,000 to 10,000,000 batches of one short number: time, memory and disk for each batch; a restart.

Memory is that of the operator and all its processes, above what it is before the job. Disk is what lies in the data
directory beside payload, results and the log, and is looked at while the job runs as well. The restart is of the
largest job, when a third of it has ended: the operator is killed with -9, once alone and once with all its processes;
the clock runs from the start of the next one until its status shows more ended batches than at first.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from benchmarks.load import Load, numbers
from benchmarks.options import Options
from benchmarks.report import Report
from benchmarks.rounds import MB
from benchmarks.service import NOTHING, Service, lines_of, running_service
from benchmarks.tree import Peak, cpu_seconds

SIZES, QUICK_SIZES = (10**4, 10**5, 10**6, 10**7), (10**4, 10**5)
NOT_COUNTED = (".payload", ".rows", ".index")
LOOK_SECONDS = 0.25
MUST_MEMORY, MUST_DISK, MUST_RESTART_SECONDS = 8.0, 16.0, 2.0


def run(report: Report, options: Options) -> None:
    """Run each size once, and kill the largest."""
    report.title("W6 growth: batches of one short number, empty predict")
    sizes = QUICK_SIZES if options.is_quick else SIZES
    rows = [grow(options.folder, numbers(options.folder, size)) for size in sizes]
    report.figures("one run each", rows)
    first, last = rows[0], rows[-1]
    more = last["batches"] - first["batches"]
    memory = (last["memory bytes"] - first["memory bytes"]) / more
    disk = (last["disk bytes"] - first["disk bytes"]) / more
    report.verdict(
        6, f"W6 bytes of memory for each of {last['batches']:,} batches", memory, MUST_MEMORY, at_least=False
    )
    report.verdict(6, f"W6 bytes on disk for each of {last['batches']:,} batches", disk, MUST_DISK, at_least=False)
    for what, all_die in (("operator alone killed", False), ("workers killed too", True)):
        listening, going_on = restart(options.folder, numbers(options.folder, sizes[-1]), all_die=all_die)
        report.note(f"restart, {what}: listens after {listening:.2f} s, batches end again after {going_on:.2f} s")
        line = f"W6 seconds to restart {last['batches']:,} batches, {what}"
        report.verdict(6, line, going_on, MUST_RESTART_SECONDS, at_least=False)


def grow(folder: Path, load: Load) -> dict[str, float]:
    """Run one job; give its figures."""
    with running_service(folder, NOTHING) as service:
        disk_before, cpu_before = disk_bytes(service.process.data_dir), cpu_seconds()
        disk = [0]
        with Peak(service.pid, LOOK_SECONDS) as peak:
            began_at = time.perf_counter()
            job = service.submit(lines_of(load))
            while is_going_on(service, job):
                disk.append(disk_bytes(service.process.data_dir))
                time.sleep(LOOK_SECONDS)
            service.wait(job)
            seconds = time.perf_counter() - began_at
        disk.append(disk_bytes(service.process.data_dir))
        return {
            "batches": load.batches,
            "seconds": seconds,
            "batches/s": load.batches / seconds,
            "CPU us/batch": 1e6 * (cpu_seconds() - cpu_before) / load.batches,
            "memory bytes": peak.growth,
            "memory MB at its peak": peak.highest.pss / MB,
            "disk bytes": max(disk) - disk_before,
        }


def is_going_on(service: Service, job: str) -> bool:
    """Say whether a job has not ended."""
    return service.status(job)["status"] in {"status_enqueuing", "status_running"}


def disk_bytes(data_dir: Path) -> int:
    """Count what a data directory has, without payload, results and logs."""
    total = 0
    for path in data_dir.rglob("*"):
        try:
            if path.is_file() and path.name != "log" and path.suffix not in NOT_COUNTED:
                total += 512 * path.stat().st_blocks
        except FileNotFoundError:
            continue
    return total


def restart(folder: Path, load: Load, *, all_die: bool) -> tuple[float, float]:
    """Kill the operator in the middle of a job; give the seconds until the next one listens, and has batches end."""
    with running_service(folder, NOTHING) as service:
        job = service.submit(lines_of(load))
        wait_until(lambda: ended(service, job) > load.batches // 3)
        workers = service.process.worker_processes() if all_die else []
        service.http.close()
        service.process.kill()
        for process in workers:
            with suppress(psutil.NoSuchProcess):  # they end with one another
                process.kill()
        began_at = time.perf_counter()
        service.start()
        listening = time.perf_counter() - began_at
        first = ended(service, job)
        wait_until(lambda: ended(service, job) > first or not is_going_on(service, job))
        return listening, time.perf_counter() - began_at


def ended(service: Service, job: str) -> int:
    """Count the batches that have ended."""
    return int(service.status(job)["batch_metrics"]["succeeded"])


def wait_until(holds: Callable[[], bool], patience_seconds: float = 300) -> None:
    """Look until something holds."""
    give_up_at = time.monotonic() + patience_seconds
    while not holds():
        if time.monotonic() > give_up_at:
            raise TimeoutError(f"nothing came of it in {patience_seconds} s")
        time.sleep(0.01)
