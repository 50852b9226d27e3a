"""Memory limits: what is written to control groups and read from them, and the watchdog where there are none."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cortex.worker.cgroups import Groups, GroupsVersion1, GroupsVersion2, candidates, find_groups
from cortex.worker.memory import memory_limits
from cortex.worker.watchdog import Watchdog

MIB = 2**20

# As kernels of version 2 write them, before and after a Worker was ended.
EVENTS_BEFORE = "low 0\nhigh 0\nmax 12\noom 0\noom_kill 0\noom_group_kill 0\n"
EVENTS_AFTER = "low 0\nhigh 0\nmax 4711\noom 1\noom_kill 3\noom_group_kill 1\n"


class Recorded(GroupsVersion2):
    """Groups of version 2 in a plain folder, with the files that a kernel fills them with."""

    __slots__ = ()
    files = ("memory.max", "memory.swap.max", "memory.oom.group")

    def make(self, group: Path) -> None:
        super().make(group)
        for name in (*self.files, "cgroup.procs"):
            (group / name).touch()
        (group / "memory.events").write_text(EVENTS_BEFORE)

    def remove(self, group: Path) -> None:
        shutil.rmtree(group)


class WithoutSwap(Recorded):
    """What a kernel without swap accounting shows."""

    __slots__ = ()
    files = ("memory.max",)


def test_a_group_of_version_2_is_limited_and_ended_as_one(tmp_path: Path) -> None:
    groups = Recorded(tmp_path, 7)

    joined_by = groups.admit("j-w", 100 * MIB)

    group = tmp_path / "cortex-7-j-w"
    assert str(group / "cgroup.procs") == joined_by
    written = {name: (group / name).read_text() for name in Recorded.files}
    assert {"memory.max": "104857600", "memory.swap.max": "0", "memory.oom.group": "1"} == written


def test_a_group_of_version_2_tells_who_has_run_out(tmp_path: Path) -> None:
    groups = Recorded(tmp_path, 7)
    for worker in ("a", "b"):
        groups.admit(worker, 100 * MIB)

    (tmp_path / "cortex-7-a" / "memory.events").write_text(EVENTS_AFTER)

    assert [True, False] == [groups.has_run_out(worker) for worker in ("a", "b")]
    assert ["a"] == groups.over_limit({"a": 1, "b": 2, "unlimited": 3})
    groups.dismiss("a")
    assert not groups.has_run_out("a")
    assert ["cortex-7-b"] == [group.name for group in tmp_path.iterdir()]


def test_a_kernel_may_lack_what_is_not_the_limit_itself(tmp_path: Path) -> None:
    groups = WithoutSwap(tmp_path, 7)

    groups.admit("w", MIB)

    assert "1048576" == (tmp_path / "cortex-7-w" / "memory.max").read_text()


def test_a_worker_whose_limit_cannot_be_set_is_not_admitted(tmp_path: Path) -> None:
    class WithoutMemory(Recorded):
        __slots__ = ()
        files = ()

    groups = WithoutMemory(tmp_path, 7)

    with pytest.raises(FileNotFoundError):
        groups.admit("w", MIB)

    assert [] == list(tmp_path.iterdir())
    assert not groups.do_work()


def test_a_group_that_is_not_empty_yet_is_removed_later(tmp_path: Path) -> None:
    class Busy(Recorded):
        __slots__ = ()
        busy = True

        def remove(self, group: Path) -> None:
            if Busy.busy:
                raise OSError(16, "Device or resource busy")
            super().remove(group)

    groups = Busy(tmp_path, 7)
    groups.admit("a", MIB)
    groups.dismiss("a")
    left = [group.name for group in tmp_path.iterdir()]

    while_busy = groups.clear_up()
    Busy.busy = False

    assert ["cortex-7-a"] == left
    assert [False, True] == [while_busy, groups.clear_up()]
    assert [] == list(tmp_path.iterdir())


def test_what_is_left_of_dead_supervisors_is_removed_and_nothing_else(tmp_path: Path) -> None:
    proc, parent = tmp_path / "proc", tmp_path / "parent"
    for pid, state in ((7, "Z"), (8, "S")):
        (proc / f"{pid}" / "task" / f"{pid}").mkdir(parents=True)
        (proc / f"{pid}" / "task" / f"{pid}" / "stat").write_text(f"{pid} (cortex-superv) {state} 1 1 1")
    parent.mkdir()
    for pid in (6, 7, 8):
        Recorded(parent, pid).admit("w", MIB)
    (parent / "cortex-unit.service").mkdir()

    Recorded(parent, 9).remove_leftovers(proc)

    assert ["cortex-8-w", "cortex-unit.service"] == sorted(group.name for group in parent.iterdir())


def test_groups_are_looked_for_below_our_own(tmp_path: Path) -> None:
    (tmp_path / "memory" / "a" / "b").mkdir(parents=True)
    (tmp_path / "unified" / "c").mkdir(parents=True)
    (tmp_path / "unified" / "c" / "cgroup.subtree_control").write_text("")

    found = list(candidates("5:cpu,cpuacct:/x\n4:memory:/a/b\n0::/c\n", root=tmp_path, pid=7))

    expected = [(GroupsVersion1, tmp_path / "memory" / "a" / "b"), (GroupsVersion2, tmp_path / "unified" / "c")]
    assert expected == [(type(groups), groups.parent) for groups in found]
    assert "+memory" == (tmp_path / "unified" / "c" / "cgroup.subtree_control").read_text()


def test_in_a_container_our_own_group_is_in_place_of_the_root(tmp_path: Path) -> None:
    (own,) = candidates("0::/docker/4f1d\n", root=tmp_path, pid=7)

    assert (GroupsVersion2, tmp_path) == (type(own), own.parent)


def test_where_no_group_can_be_made_none_is_found(tmp_path: Path) -> None:
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "self" / "cgroup").write_text("4:memory:/\n0::/\n")

    assert find_groups(root=tmp_path / "cgroup", proc=tmp_path / "proc", pid=7) is None
    assert find_groups(root=tmp_path / "cgroup", proc=tmp_path / "nothing", pid=7) is None


def test_the_watchdog_can_be_asked_for() -> None:
    assert isinstance(memory_limits({"CORTEX_MEMORY_LIMITS": "watchdog"}), Watchdog)
    assert isinstance(memory_limits({}), Groups | Watchdog)


@pytest.fixture(params=[{}, {"process_group": 0}, {"start_new_session": True}], ids=["inside", "group", "session"])
def user_of_100_mib(request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[bytes]]:
    """A process with a group of its own, whose child, in or outside of it, holds 100 MiB."""
    hoard = "b = b'x' * 100 * 2**20; print('there', flush=True); import sys; sys.stdin.read()"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {hoard!r}], **{request.param})"
    with subprocess.Popen(
        [sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"there\n"
        yield process
        process.communicate()


def test_the_watchdog_counts_what_a_worker_has_started(user_of_100_mib: subprocess.Popen[bytes]) -> None:
    watchdog = Watchdog(Path("/proc"))
    for worker, limit in (("narrow", 50 * MIB), ("wide", 200 * MIB)):
        assert watchdog.admit(worker, limit) is None

    over = watchdog.over_limit({"narrow": user_of_100_mib.pid, "wide": user_of_100_mib.pid, "unlimited": os.getpid()})

    assert ["narrow"] == over
    assert [True, False] == [watchdog.has_run_out(worker) for worker in ("narrow", "wide")]
    watchdog.dismiss("narrow")
    assert not watchdog.has_run_out("narrow")


def test_what_workers_share_counts_in_parts(tmp_path: Path) -> None:
    process = tmp_path / "41"
    process.mkdir()
    pages = 100 * MIB // os.sysconf("SC_PAGE_SIZE")
    (process / "stat").write_text(f"41 (a (strange) name) S 1 41 41 {'0 ' * 17}{pages} 0\n")
    (process / "smaps_rollup").write_text("5601 ---p [rollup]\nRss: 102400 kB\nPss:   30720 kB\nPss_Dirty: 9 kB\n")
    watchdog = Watchdog(tmp_path)
    watchdog.admit("w", 50 * MIB)

    before = watchdog.over_limit({"w": 41})
    (process / "smaps_rollup").write_text("5601 ---p [rollup]\nRss: 102400 kB\nPss:   61440 kB\nPss_Dirty: 9 kB\n")

    assert [[], ["w"]] == [before, watchdog.over_limit({"w": 41})]
