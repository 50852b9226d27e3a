"""An archive from elsewhere becomes a project, or nothing at all."""

import io
import struct
import warnings
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cortex.domain.errors import InvalidProject
from cortex.project import pack, unpack

LINK = 0o120777 << 16
DEVICE = 0o060666 << 16
FILE = 0o100644 << 16
EXECUTABLE = 0o100755 << 16
FOLDER = 0o040755 << 16

parts = st.text(alphabet=st.characters(exclude_categories=["C"], exclude_characters="/\\:"), min_size=1, max_size=5)
paths = st.lists(parts.filter(lambda part: not part.startswith((".", "cortex"))), min_size=1, max_size=3).map("/".join)
trees = st.dictionaries(paths, st.tuples(st.binary(max_size=50), st.booleans()), max_size=6).filter(
    lambda tree: not any(other.startswith(f"{path}/") for path in tree for other in tree)
)


def archive_of(*entries: tuple[str | zipfile.ZipInfo, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w", compression) as archive:
        warnings.simplefilter("ignore")  # duplicate names are what we want
        for entry, content in entries:
            archive.writestr(entry, content)
    return file.getvalue()


def entry(name: str, attributes: int = FILE) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = attributes
    return info


def renamed(before: bytes, after: bytes, archive: bytes) -> bytes:
    """Write a name into an archive that `zipfile` itself would not write."""
    assert len(before) == len(after)
    return archive.replace(before, after)


def unpack_bytes(content: bytes, folder: Path) -> str:
    file = folder.with_name("project.zip")
    file.write_bytes(content)
    return unpack(file, folder)


def refusal_of(content: bytes, tmp_path: Path) -> str:
    folder = tmp_path / "jail" / "project"
    folder.parent.mkdir(exist_ok=True)
    with pytest.raises(InvalidProject) as refusal:
        unpack_bytes(content, folder)
    assert {"project.zip"} == {path.name for path in folder.parent.iterdir()}, "the folder is removed"
    assert {"jail"} == {path.name for path in tmp_path.iterdir()}, "nothing is written outside"
    return refusal.value.message


def contents_of(folder: Path) -> dict[str, tuple[bytes, bool]]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): (path.read_bytes(), bool(path.stat().st_mode & 0o100)) for path in files
    }


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(tree=trees)
def test_what_is_packed_is_unpacked_and_its_id_depends_on_nothing_but_the_content(tree):
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "cortex.yaml").touch()
        expected = {path: kept for path, kept in tree.items() if not path.endswith((".pyc", ".pyo", ".pyd"))}
        for path, (content, is_executable) in expected.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
            (folder / path).chmod(0o755 if is_executable else 0o644)

        with pack(folder / "cortex.yaml") as project:
            project_id = unpack_bytes(project.file.read(), folder / "unpacked")
        other_way = [(entry(path, EXECUTABLE if kept[1] else FILE), kept[0]) for path, kept in expected.items()]
        same_id = unpack_bytes(archive_of(*reversed(other_way), compression=zipfile.ZIP_STORED), folder / "again")

        assert contents_of(folder / "unpacked") == expected
        assert project_id == same_id


def test_an_id_is_a_sha256_that_changes_with_path_content_and_executable_bit(tmp_path):
    variants = [
        [(entry("a"), b"x")],
        [(entry("b"), b"x")],
        [(entry("a"), b"y")],
        [(entry("a", EXECUTABLE), b"x")],
        [(entry("a"), b"x"), (entry("b"), b"x")],
        [],
    ]

    ids = [unpack_bytes(archive_of(*entries), tmp_path / str(at)) for at, entries in enumerate(variants)]

    assert len(set(ids)) == len(variants)
    assert all(len(found) == 64 and int(found, 16) >= 0 for found in ids)


def test_archives_of_other_tools_are_taken(tmp_path):
    plain = archive_of(("a/b.txt", b"x"))
    with_folders = archive_of((entry("a/", FOLDER), b""), (entry("a/b.txt", 0), b"x"), (entry("empty/", 0x10), b""))

    assert unpack_bytes(plain, tmp_path / "1") == unpack_bytes(with_folders, tmp_path / "2")
    assert contents_of(tmp_path / "2") == {"a/b.txt": (b"x", False)}


def test_an_empty_folder_may_be_there_and_another_one_is_left_alone(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()

    unpack_bytes(archive_of(("a", b"x")), tmp_path / "empty")
    with pytest.raises(FileExistsError):
        unpack_bytes(archive_of(("a", b"x")), tmp_path / "full")

    assert [tmp_path / "full" / "mine"] == list((tmp_path / "full").iterdir())


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("/etc/passwd", "its path is not relative"),
        ("../outside", "its path has an empty part, `.` or `..`"),
        ("a/../../outside", "its path has an empty part, `.` or `..`"),
        ("..", "its path has an empty part, `.` or `..`"),
        ("./a", "its path has an empty part, `.` or `..`"),
        ("a//b", "its path has an empty part, `.` or `..`"),
        ("a\\..\\b", "its name has a backslash"),
        ("C:/a", "its path is not relative"),
        ("C:a", "its path is not relative"),
        ("a\nb", "its name has control characters"),
        ("a\x1b[2Jb", "its name has control characters"),
        ("a" * 256, "its path is too long"),
        ("/".join(["a" * 200] * 6), "its path is too long"),
        ("../", "its path has an empty part, `.` or `..`"),
        ("/", "its path has an empty part, `.` or `..`"),
    ],
)
def test_paths_that_lead_elsewhere_are_refused(tmp_path, name, why):
    refusal = refusal_of(archive_of(("good", b"x"), (entry(name), b"x")), tmp_path)

    assert refusal.startswith("the project's archive cannot be taken: `")
    assert why in refusal
    assert refusal.isprintable()


def test_a_name_that_a_null_character_cuts_short_is_refused(tmp_path):
    assert "control characters" in refusal_of(
        renamed(b"good?evil", b"good\0evil", archive_of(("good?evil", b"x"))), tmp_path
    )


@pytest.mark.parametrize("attributes", [LINK, DEVICE, 0o010644 << 16, 0o140644 << 16, FOLDER])
def test_only_plain_files_are_taken(tmp_path, attributes):
    refusal = refusal_of(archive_of((entry("a", attributes), b"/etc/passwd")), tmp_path)

    assert "it is neither a plain file nor a folder" in refusal


def test_a_name_that_is_there_twice_is_refused(tmp_path):
    assert "`a`: it is there twice" in refusal_of(archive_of(("a", b"x"), ("a", b"y")), tmp_path)


@pytest.mark.parametrize("names", [["a", "a/b"], ["a/b", "a/b/c/d"], ["a", "a/"]])
def test_a_name_that_is_a_file_and_a_folder_is_refused(tmp_path, names):
    assert "it is a file and a folder" in refusal_of(archive_of(*((name, b"") for name in names)), tmp_path)


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_unusual_compression_is_refused(tmp_path, compression):
    assert "is not supported" in refusal_of(archive_of(("a", b"x"), compression=compression), tmp_path)


def test_encrypted_files_are_refused(tmp_path):
    content = bytearray(archive_of(("a", b"x")))
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1

    assert "it is encrypted" in refusal_of(bytes(content), tmp_path)


def test_too_many_files_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("cortex.project.unpacking.MAX_FILES", 3)

    assert "has 4 files" in refusal_of(archive_of(*((str(number), b"") for number in range(4))), tmp_path)


def test_a_directory_of_millions_of_entries_is_refused_unread(tmp_path):
    content = bytearray(archive_of(("a", b"x")))
    struct.pack_into("<L", content, content.index(b"PK\x05\x06") + 12, 10_000 * 2048 + 1)

    assert "more than 10,000 files" in refusal_of(bytes(content), tmp_path)


def test_the_large_form_of_an_archive_is_refused_unread(tmp_path):
    content = archive_of(("a", b"x"))
    end = content.index(b"PK\x05\x06")
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, end, 1)

    assert "more than 10,000 files" in refusal_of(content[:end] + locator + content[end:], tmp_path)


def test_an_archive_that_says_that_it_is_too_large_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("cortex.project.unpacking.MAX_BYTES", 2**20)

    assert "more than 1.0 MiB" in refusal_of(archive_of(("a", bytes(2**20)), ("b", b"x")), tmp_path)


@pytest.mark.parametrize("claimed", [0, 10, 2**20 + 1])
def test_an_archive_that_lies_about_its_size_is_refused(tmp_path, claimed):
    content = bytearray(archive_of(("a", bytes(2**20))))
    struct.pack_into("<L", content, content.index(b"PK\x01\x02") + 24, claimed)

    assert "is damaged" in refusal_of(bytes(content), tmp_path)


def test_a_wrong_checksum_is_refused(tmp_path):
    content = archive_of(("a", b"hello"), compression=zipfile.ZIP_STORED)

    assert "is damaged" in refusal_of(content.replace(b"hello", b"jello"), tmp_path)


@pytest.mark.parametrize("content", [b"", b"PK", b"not a zip file", b"PK\x05\x06", bytes(100_000)])
def test_what_is_no_zip_file_is_refused(tmp_path, content):
    assert refusal_of(content, tmp_path) == "the project's archive is damaged: it is not a zip file"


SAMPLE = archive_of((entry("a/b"), b"hello" * 20), (entry("c", EXECUTABLE), b""))


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(at=st.integers(0, len(SAMPLE) - 1), value=st.integers(0, 255), keep=st.integers(0, len(SAMPLE)))
@example(at=0, value=80, keep=0)
def test_a_damaged_archive_is_unpacked_or_refused_and_nothing_else_happens(at, value, keep):
    content = bytearray(SAMPLE)
    content[at] = value
    with TemporaryDirectory() as name:
        folder = Path(name) / "jail" / "project"
        folder.parent.mkdir()
        try:
            unpack_bytes(bytes(content[:keep] if keep else content), folder)
        except InvalidProject:
            assert not folder.exists()

        assert [path.name for path in Path(name).iterdir()] == ["jail"]
