"""Which files of a folder are sent, and which folders are not sent at all."""

import os
import socket
import zipfile
from pathlib import Path

import pytest

from cortex.domain.errors import InvalidProject
from cortex.project import pack


@pytest.fixture
def project(tmp_path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    write(folder, "cortex.yaml", "predictor.py")
    return folder


def write(folder: Path, *paths: str, content: str = "x") -> None:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content)


def packed(folder: Path, config_file: str = "cortex.yaml") -> list[str]:
    with pack(folder / config_file) as project, zipfile.ZipFile(project.file) as archive:
        return archive.namelist()


def refusal_of(folder: Path, config_file: str = "cortex.yaml") -> InvalidProject:
    with pytest.raises(InvalidProject) as refusal:
        pack(folder / config_file)
    return refusal.value


def test_everything_below_the_configuration_file_is_sent_except_itself(project):
    write(project, "requirements.txt", "models/a/weights.bin", "models/cortex.yaml", "other.yaml")

    assert packed(project) == [
        "models/a/weights.bin",
        "models/cortex.yaml",
        "other.yaml",
        "predictor.py",
        "requirements.txt",
    ]
    assert "cortex.yaml" in packed(project, "other.yaml")


@pytest.mark.parametrize(
    "path",
    [
        ".hidden",
        ".git/config",
        "a/.hidden",
        "a/.env",
        "__pycache__/predictor.txt",
        "a/__pycache__/b",
        "a.pyc",
        "a.pyo",
        "a/b.pyd",
        "cortex-debug-1.json",
        "a/cortex-debug-2/b",
        ".cortexignore",
        ".env/bin/python",
    ],
)
def test_hidden_files_bytecode_and_debugging_files_stay(project, path):
    write(project, path, content="")

    assert packed(project) == ["predictor.py"]


def test_the_variables_of_the_root_are_sent_although_hidden_and_even_if_ignored(project):
    write(project, ".env")
    write(project, ".cortexignore", content="*\n")

    assert packed(project) == [".env"]


@pytest.mark.parametrize(
    ("rules", "kept"),
    [
        ("*.bin\n", ["a/keep.txt", "data/b/c.txt", "predictor.py"]),
        ("/data\n", ["a/data.bin", "a/keep.txt", "predictor.py"]),
        ("data/\n# a comment\n\n", ["a/data.bin", "a/keep.txt", "predictor.py"]),
        ("*.txt\n!keep.txt\n", ["a/data.bin", "a/keep.txt", "data/a.bin", "predictor.py"]),
        ("data/*\n!data/b\n", ["a/data.bin", "a/keep.txt", "data/b/c.txt", "predictor.py"]),
        ("data\n!data/b/c.txt\n", ["a/data.bin", "a/keep.txt", "predictor.py"]),
        ("**/c.txt\r\n", ["a/data.bin", "a/keep.txt", "data/a.bin", "predictor.py"]),
    ],
)
def test_cortexignore_has_the_rules_of_gitignore(project, rules, kept):
    write(project, "a/keep.txt", "a/data.bin", "data/a.bin", "data/b/c.txt")
    (project / ".cortexignore").write_bytes(rules.encode())

    assert packed(project) == kept


def test_the_same_files_give_the_same_bytes(project, tmp_path):
    write(project, "a/b.txt", "run.sh")
    (project / "run.sh").chmod(0o755)
    copy = tmp_path / "copy"
    for path in ("run.sh", "predictor.py", "a/b.txt", "cortex.yaml"):
        write(copy, path)
        os.utime(copy / path, (1_000_000_000, 1_000_000_000))
    (copy / "run.sh").chmod(0o700)

    with pack(project / "cortex.yaml") as first, pack(copy / "cortex.yaml") as second:
        assert first.file.read() == second.file.read()


def test_the_executable_bit_is_kept(project):
    write(project, "run.sh")
    (project / "run.sh").chmod(0o755)

    with pack(project / "cortex.yaml") as found, zipfile.ZipFile(found.file) as archive:
        modes = {info.filename: info.external_attr >> 16 for info in archive.infolist()}

    assert modes == {"predictor.py": 0o100644, "run.sh": 0o100755}


def test_files_and_bytes_are_counted(project):
    write(project, "a.txt", content="12345")

    with pack(project / "cortex.yaml") as found:
        assert (found.file_count, found.total_bytes) == (2, 6)


def test_a_closed_project_leaves_nothing_behind(project, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    pack(project / "cortex.yaml").close()

    assert [project] == list(tmp_path.iterdir())


def test_links_inside_the_project_are_followed(project):
    write(project, "models/v1/weights.bin", ".cache/big.bin", content="y")
    (project / "weights.bin").symlink_to("models/v1/weights.bin")
    (project / "cached.bin").symlink_to(project / ".cache" / "big.bin")
    (project / "latest").symlink_to("models/v1")

    with pack(project / "cortex.yaml") as found, zipfile.ZipFile(found.file) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}

    assert contents == {
        "cached.bin": b"y",
        "latest/weights.bin": b"y",
        "models/v1/weights.bin": b"y",
        "predictor.py": b"x",
        "weights.bin": b"y",
    }


def test_what_cannot_be_sent_is_listed_completely(project, tmp_path):
    write(tmp_path, "secret", "outside/a")
    write(project, "a/b", "back\\slash", "new\nline")
    (project / "secret").symlink_to("../secret")
    (project / "folder").symlink_to(tmp_path / "outside")
    (project / "nothing").symlink_to("nowhere")
    (project / "a" / "circle").symlink_to("..")
    (project / "self").symlink_to("self")
    os.mkfifo(project / "pipe")

    refusal = refusal_of(project)

    assert refusal.message.splitlines() == [
        "the project cannot be deployed:",
        "`a/circle`: the link leads to a folder that it lies in",
        "`back\\\\slash`: its name has a backslash",
        f"`folder`: it is a link to `{tmp_path}/outside`, outside of the project",
        "`new\\nline`: its name has control characters",
        "`nothing`: it cannot be read (No such file or directory)",
        "`pipe`: it is neither a file nor a folder",
        "`secret`: it is a link to `../secret`, outside of the project",
        f"`self`: it cannot be read (Symlink loop from '{project}/self')",
    ]
    assert "`.cortexignore`" in (refusal.hint or "")


def test_what_is_ignored_need_not_be_sendable(project, tmp_path):
    (project / "venv").mkdir()
    (project / "venv" / "python").symlink_to(tmp_path)
    (project / ".socket").symlink_to("nowhere")
    write(project, ".cortexignore", content="venv/\n")

    assert packed(project) == ["predictor.py"]


def test_many_problems_are_counted(project):
    for number in range(25):
        (project / f"link{number:02}").symlink_to("/etc/hosts")

    lines = refusal_of(project).message.splitlines()

    assert len(lines) == 22
    assert lines[-1] == "... and 5 more"


def test_the_home_folder_and_the_root_are_not_deployed(project, monkeypatch):
    monkeypatch.setenv("HOME", str(project))

    assert "everything below it would be sent" in refusal_of(project).message
    assert "everything below it would be sent" in refusal_of(Path("/")).message


def test_too_many_files_name_the_folders_that_hold_them(project, monkeypatch):
    monkeypatch.setattr("cortex.project.packing.MAX_FILES", 9)
    write(project, *(f"data/train/{number}.txt" for number in range(6)), "docs/a", "docs/b", "docs/c")

    refusal = refusal_of(project)

    assert refusal.message.splitlines() == [
        "the project is too large: it has 10 files and 0.0 MiB; at most 9 files and 512.0 MiB can be sent",
        "  data/train/: 6 files, 0.0 MiB",
        "  docs/: 3 files, 0.0 MiB",
    ]
    assert "`.cortexignore`" in (refusal.hint or "")


def test_too_many_bytes_name_the_folders_that_hold_them(project, monkeypatch):
    monkeypatch.setattr("cortex.project.packing.MAX_BYTES", 2 * 2**20)
    write(project, "docs/a", "docs/b")
    write(project, "models/large.bin", content="x" * 3 * 2**20)

    assert refusal_of(project).message.splitlines() == [
        "the project is too large: it has 4 files and 3.0 MiB; at most 10,000 files and 2.0 MiB can be sent",
        "  models/: 1 files, 3.0 MiB",
        "  docs/: 2 files, 0.0 MiB",
    ]


def test_a_folder_without_other_files_is_a_project_too(project):
    (project / "predictor.py").unlink()

    assert packed(project) == []


def test_sockets_are_no_files(project, monkeypatch):
    monkeypatch.chdir(project)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("server.sock")

        assert "`server.sock`: it is neither a file nor a folder" in refusal_of(project).message
