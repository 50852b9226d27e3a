"""What folders take on the disk, as `du` sees it, and what is free when they are removed."""

import os
import shutil
import subprocess
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from cortex.storage.usage import bytes_freed, bytes_on_disk, measure


def du(*paths: Path) -> int:
    told = subprocess.run(["du", "-sc", "--block-size=1", *paths], capture_output=True, text=True, check=True)
    return int(told.stdout.splitlines()[-1].split()[0])


def test_a_folder_takes_what_du_says(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_bytes(b"x" * 100_000)
    (tmp_path / "a" / "other").write_bytes(b"x")
    os.link(tmp_path / "a" / "other", tmp_path / "a" / "b" / "linked")
    (tmp_path / "a" / "pointer").symlink_to(tmp_path / "a" / "b" / "file")
    with (tmp_path / "hole").open("wb") as hole:
        hole.truncate(10**9)

    assert du(tmp_path) == bytes_on_disk([measure(tmp_path)])


def test_what_is_not_there_takes_nothing(tmp_path: Path) -> None:
    assert 0 == bytes_on_disk([measure(tmp_path / "nothing")])


def test_a_file_is_free_when_its_last_name_is(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    (first / "file").write_bytes(b"x" * 100_000)
    os.link(first / "file", second / "file")
    alone, both = [measure(first)], [measure(first), measure(second)]

    assert du(first) - (first / "file").stat().st_blocks * 512 == bytes_freed(alone)
    assert du(first, second) == bytes_freed(both) == bytes_on_disk(both)


@given(
    files=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 20_000)), max_size=8),
    links=st.lists(st.tuples(st.integers(0, 7), st.integers(0, 3)), max_size=8),
    removed=st.sets(st.integers(0, 3)),
)
def test_what_is_said_to_be_free_is_free(tmp_path_factory, files, links, removed) -> None:
    root = tmp_path_factory.mktemp("root")
    folders = [root / str(number) for number in range(4)]
    for folder in folders:
        folder.mkdir()
    paths = []
    for number, (folder, size) in enumerate(files):
        paths.append(folders[folder] / f"file-{number}")
        paths[-1].write_bytes(b"x" * size)
    for number, (of, folder) in enumerate(links):
        if of < len(paths):
            os.link(paths[of], folders[folder] / f"link-{number}")

    before = bytes_on_disk([measure(root)])
    said = bytes_freed(measure(folders[number]) for number in removed)
    for number in removed:
        shutil.rmtree(folders[number])

    assert before - bytes_on_disk([measure(root)]) == said
