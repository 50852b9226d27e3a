"""What a container leaves us of its machine, on recorded files of both versions of control groups."""

from pathlib import Path

import pytest

from cortex.engines.share import our_cores, our_memory_bytes

GIB = 2**30


def recorded(tmp_path: Path, own: str, files: dict[str, str]) -> dict[str, Path]:
    for name, text in files.items():
        (tmp_path / "cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "cgroup" / name).write_text(text)
    (tmp_path / "own").write_text(own)
    return {"root": tmp_path / "cgroup", "own": tmp_path / "own"}


def test_without_limits_all_of_the_machine_is_ours(tmp_path: Path) -> None:
    nowhere = {"root": tmp_path, "own": tmp_path / "none"}
    unlimited = recorded(
        tmp_path, "0::/a\n", {"a/cpu.max": "max 100000\n", "a/memory.max": "max\n", "memory.max": "max\n"}
    )

    for files in (nowhere, unlimited):
        assert our_cores(8, **files) == 8
        assert 64 * GIB == our_memory_bytes(64 * GIB, **files)


def test_the_limits_of_version_2_hold_and_those_of_the_groups_above(tmp_path: Path) -> None:
    files = recorded(
        tmp_path,
        "0::/pod/container\n",
        {
            "pod/cpu.max": "250000 100000\n",
            "pod/container/cpu.max": "max 100000\n",
            "pod/memory.max": f"{8 * GIB}\n",
            "pod/container/memory.max": f"{4 * GIB}\n",
        },
    )

    assert our_cores(8, **files) == 2
    assert 4 * GIB == our_memory_bytes(64 * GIB, **files)


def test_the_limits_of_version_1_hold_where_the_container_sees_its_own_group_only(tmp_path: Path) -> None:
    files = recorded(
        tmp_path,
        "5:memory:/docker/0a1b\n4:cpu,cpuacct:/docker/0a1b\n0::/\n",
        {
            "cpu,cpuacct/cpu.cfs_quota_us": "50000\n",
            "cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            "memory/memory.limit_in_bytes": f"{2 * GIB}\n",
        },
    )

    assert our_cores(8, **files) == 1
    assert 2 * GIB == our_memory_bytes(64 * GIB, **files)


@pytest.mark.parametrize(("quota", "cores"), [("-1", 8), ("400000", 4), ("1600000", 8)])
def test_a_quota_is_never_more_than_the_machine(tmp_path: Path, quota: str, cores: int) -> None:
    files = recorded(tmp_path, "4:cpu:/\n", {"cpu/cpu.cfs_quota_us": f"{quota}\n", "cpu/cpu.cfs_period_us": "100000\n"})

    assert cores == our_cores(8, **files)
