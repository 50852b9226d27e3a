"""What only a disk has: links, devices, permissions, and folders that may not be read."""

import os
import random
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cortex.domain.errors import FileChanged, FilesError
from cortex.files.files import FileInfo
from cortex.files.folder import FolderFiles

AS_ROOT = os.geteuid() == 0


def urls(prefix: object, *allowed: Path, after: str | None = None) -> list[str]:
    files = FolderFiles(allowed=allowed or None)
    return [file.url for file in files.list(str(prefix), after=after)]


def write(path: Path, data: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


NAMES = st.text(alphabet="ab./!- %é\N{GRINNING FACE}", min_size=1, max_size=6).filter(
    lambda key: not {"", ".", ".."} & set(key.split("/"))
)


@settings(max_examples=60, deadline=None)
@given(keys=st.sets(NAMES, max_size=12), cut=st.integers(0, 6), which=st.randoms(use_true_random=False))
def test_a_folder_is_listed_as_s3_would_list_its_keys(
    tmp_path_factory: pytest.TempPathFactory, keys: set[str], cut: int, which: random.Random
) -> None:
    root = tmp_path_factory.mktemp("folder")
    keys = {key for key in keys if not any(other.startswith(f"{key}/") for other in keys)}
    for key in keys:
        write(root / key)
    prefix = which.choice(sorted(keys))[:cut] if keys else ""

    for base, spell in ((f"{root}/", str), (f"{root.as_uri()}/", quote)):
        expected = sorted((base + spell(key) for key in keys if key.startswith(prefix)), key=str.encode)
        written = base + spell(prefix)
        assert expected == urls(written)
        for index, url in enumerate(expected):
            assert expected[index + 1 :] == urls(written, after=url)


def test_every_url_begins_with_the_prefix_as_it_was_written(tmp_path: Path) -> None:
    write(tmp_path / "d/éa b")
    write(tmp_path / "d/éa/x")

    doubled = f"{tmp_path}//d/../d/éa"
    assert [f"{doubled} b", f"{doubled}/x"] == urls(doubled)
    half_a_character = f"{tmp_path.as_uri()}/%64/%C3"
    assert [f"{half_a_character}%A9a%20b", f"{half_a_character}%A9a/x"] == urls(half_a_character)
    for prefix in (doubled, half_a_character):
        for file in FolderFiles().list(prefix):
            with FolderFiles().open(file) as opened:
                assert b"x" == opened.read()


def test_only_regular_files_are_listed_and_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(tmp_path / "socket"))
    write(tmp_path / "file")
    (tmp_path / "device").symlink_to("/dev/zero")

    assert [f"{tmp_path}/file"] == urls(f"{tmp_path}/")
    for name in ("fifo", "device"):
        with pytest.raises(FileChanged, match="no longer a file"):
            FolderFiles().open(FileInfo(url=f"{tmp_path}/{name}", size_bytes=1, version="1"))


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    write(tmp_path / "data/deep/x")
    (tmp_path / "data/deep/up").symlink_to(tmp_path / "data")
    (tmp_path / "data/same").symlink_to(tmp_path / "data/deep/x")
    (tmp_path / "link").symlink_to(tmp_path / "data")

    assert [f"{tmp_path}/link/deep/x", f"{tmp_path}/link/same"] == urls(f"{tmp_path}/link/")


def test_a_link_to_nothing_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "self").symlink_to(tmp_path / "self")

    with pytest.raises(FilesError, match="dangling` is a link to nothing"):
        urls(f"{tmp_path}/d")
    with pytest.raises(FilesError, match="self` cannot be read: Too many levels of symbolic links"):
        urls(f"{tmp_path}/s")


@pytest.mark.skipif(AS_ROOT, reason="root may read everything")
def test_an_unreadable_folder_is_an_error_that_names_it(tmp_path: Path) -> None:
    write(tmp_path / "locked/x")
    (tmp_path / "locked").chmod(0)

    try:
        with pytest.raises(FilesError, match="locked/` cannot be read: Permission denied"):
            urls(f"{tmp_path}/")
    finally:
        (tmp_path / "locked").chmod(0o700)


def test_a_name_that_is_not_utf8_is_listed_by_file_urls_only(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff")).write_bytes(b"odd")

    with pytest.raises(FilesError, match="is not UTF-8"):
        urls(f"{tmp_path}/")
    (file,) = FolderFiles().list(f"{tmp_path.as_uri()}/")
    assert f"{tmp_path.as_uri()}/%FF" == file.url
    with FolderFiles().open(file) as opened:
        assert b"odd" == opened.read()


def test_a_path_deeper_than_python_recurses_is_listed(tmp_path: Path) -> None:
    deepest = f"{tmp_path}/{'d/' * 250}"
    subprocess.run(["mkdir", "-p", deepest], check=True)  # neither os nor pathlib can
    Path(deepest, "x").write_bytes(b"")

    usual = sys.getrecursionlimit()
    sys.setrecursionlimit(200)  # each level is resolved anew: as many as Python's own 1000 take half a minute
    try:
        listed = urls(f"{tmp_path}/")
    finally:
        sys.setrecursionlimit(usual)

    assert [f"{deepest}x"] == listed
    subprocess.run(["rm", "-r", f"{tmp_path}/d"], check=True)


def test_a_file_that_changes_while_it_is_read_is_told_at_its_end(tmp_path: Path) -> None:
    path = write(tmp_path / "x", b"x" * 3 * 2**20)
    (file,) = FolderFiles().list(str(path))

    with FolderFiles().open(file) as opened:
        opened.read(10)
        with path.open("ab") as end:
            end.write(b"more")
        with pytest.raises(FileChanged, match="has changed"):
            opened.read()


def test_a_file_that_is_being_written_is_not_listed(tmp_path: Path) -> None:
    write(tmp_path / ".0123.cortex-part")
    FolderFiles().write(f"{tmp_path}/x", b"x")

    assert [f"{tmp_path}/x"] == urls(f"{tmp_path}/")
    assert [".0123.cortex-part", "x"] == sorted(path.name for path in tmp_path.iterdir())


def test_nothing_is_left_of_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()

    with pytest.raises(FilesError, match="folder` cannot be written"):
        FolderFiles().write(f"{tmp_path}/folder", b"x")
    assert [tmp_path / "folder"] == list(tmp_path.iterdir())


# What is allowed.


def test_nothing_outside_the_allowed_folders_is_listed(tmp_path: Path) -> None:
    allowed = tmp_path / "images"
    for name in ("images/x", "images-private/x", "images.txt", "other/x"):
        write(tmp_path / name)

    assert [f"{allowed}/x"] == urls(allowed, allowed) == urls(f"{allowed}/", allowed) == urls(tmp_path / "im", allowed)
    assert [f"{allowed}/x"] == urls("/", allowed)
    assert [f"{tmp_path}/images/x", f"{tmp_path}/other/x"] == urls(f"{tmp_path}/", allowed, tmp_path / "other")


@pytest.mark.parametrize("prefix", ["{0}/other", "{0}/other/x", "{0}/images-", "{0}/images/../other/", "/etc/", "{1}"])
def test_a_prefix_outside_is_refused_with_the_option_that_allows_it(tmp_path: Path, prefix: str) -> None:
    write(tmp_path / "images/x")
    write(tmp_path / "other/x")
    prefix = prefix.format(tmp_path, (tmp_path / "other").as_uri())

    with pytest.raises(FilesError, match="is outside") as refused:
        urls(prefix, tmp_path / "images")
    assert "--allow-path" in (refused.value.hint or "")


def test_a_link_that_leads_outside_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "images/x")
    secret = write(tmp_path / "secret/s")
    (tmp_path / "images/file").symlink_to(secret)
    (tmp_path / "images/yfolder").symlink_to(secret.parent)

    for prefix in ("images/f", "images/y", "images/yfolder/s", "images/"):
        with pytest.raises(FilesError, match="is outside"):
            urls(tmp_path / prefix, tmp_path / "images")


def test_what_was_listed_is_refused_once_it_leads_outside(tmp_path: Path) -> None:
    inside = write(tmp_path / "images/x")
    secret = write(tmp_path / "secret/x")
    files = FolderFiles(allowed=(tmp_path / "images",))
    (unfenced,) = FolderFiles().list(str(secret))
    (listed,) = files.list(str(inside))
    inside.unlink()
    inside.symlink_to(secret)
    spelled = FileInfo(url=f"{tmp_path}/images/../secret/x", size_bytes=1, version=unfenced.version)

    for file in (listed, unfenced, spelled):
        with pytest.raises(FilesError, match="is outside"):
            files.open(file)


def test_a_link_inside_and_a_link_to_an_allowed_folder_are_followed(tmp_path: Path) -> None:
    write(tmp_path / "images/x")
    (tmp_path / "images/y").symlink_to("x")
    (tmp_path / "link").symlink_to("images")

    assert [f"{tmp_path}/link/x", f"{tmp_path}/link/y"] == urls(f"{tmp_path}/link/", tmp_path / "link")
    assert [f"{tmp_path}/link/x", f"{tmp_path}/link/y"] == urls(f"{tmp_path}/link/", tmp_path / "images")


@pytest.mark.parametrize("name", ["other/new", "images/../other/new", "images/out/new", "images-x", "images/out"])
def test_nothing_is_written_outside(tmp_path: Path, name: str) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "images").mkdir()
    (tmp_path / "images/out").symlink_to(tmp_path / "other")

    with pytest.raises(FilesError, match="is outside"):
        FolderFiles(allowed=(tmp_path / "images",)).write(f"{tmp_path}/{name}", b"x")
    assert [] == list((tmp_path / "other").iterdir())
