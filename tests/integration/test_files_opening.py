"""Text is decompressed while it is read, and damage is told from an end."""

import gzip
import tracemalloc
import zlib
from pathlib import Path
from typing import BinaryIO

import pytest
import zstandard

from cortex.domain.errors import FilesError
from cortex.files.files import FileInfo
from cortex.files.folder import FolderFiles
from cortex.files.opening import open_text

TEXT = b"".join(b'{"number": %d}\n' % number for number in range(100_000))


def zst(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True).compress(data)  # as the zstd tool does


def read(path: Path, data: bytes) -> bytes:
    path.write_bytes(data)
    files = FolderFiles()
    (file,) = files.list(str(path))
    with open_text(files, file) as opened:
        return opened.read()


COMPRESSED = [("x.json.gz", gzip.compress), ("x.zst", zst)]


@pytest.mark.parametrize(("name", "compress"), [("x.json", bytes), *COMPRESSED])
def test_text_is_given_as_it_was_before_it_was_compressed(tmp_path: Path, name, compress) -> None:
    assert TEXT == read(tmp_path / name, compress(TEXT))
    assert b"" == read(tmp_path / name, compress(b""))
    assert b"" == read(tmp_path / name, b"")


@pytest.mark.parametrize(("name", "compress"), COMPRESSED)
def test_members_and_frames_one_after_another_are_one_text(tmp_path: Path, name, compress) -> None:
    parts = [b"a\n", b"", TEXT, *[b"%d" % number for number in range(500)]]

    assert b"".join(parts) == read(tmp_path / name, b"".join(map(compress, parts)))


def gzip_with_all_fields(data: bytes) -> bytes:
    """Compress it below the longest header that there is: extra field, name, comment and checksum."""
    header = b"\x1f\x8b\x08\x1e" + bytes(6) + b"\x04\x00abcd" + b"name\0" + b"comment\0"
    plain = gzip.compress(data)
    return header + (zlib.crc32(header) & 0xFFFF).to_bytes(2, "little") + plain[10:]


class Slow(FolderFiles):
    """Gives files a few bytes at a time."""

    def open(self, file: FileInfo) -> BinaryIO:
        opened = super().open(file)
        whole = opened.read
        opened.read = lambda size=-1: whole(min(size, 3))  # type: ignore[method-assign]
        return opened


@pytest.mark.parametrize(("name", "compress"), [*COMPRESSED, ("x.gz", gzip_with_all_fields)])
def test_what_comes_a_few_bytes_at_a_time_is_read(tmp_path: Path, name, compress) -> None:
    (tmp_path / name).write_bytes(compress(b"first\n") * 3 + compress(TEXT[:1000]))
    (file,) = Slow().list(str(tmp_path / name))

    with open_text(Slow(), file) as opened:
        assert b"first\n" * 3 + TEXT[:1000] == opened.read()


def test_zeros_behind_a_member_are_padding(tmp_path: Path) -> None:
    padded = gzip.compress(b"first\n") + bytes(10_000) + gzip.compress(TEXT) + bytes(1)

    assert b"first\n" + TEXT == read(tmp_path / "x.gz", padded)
    with pytest.raises(FilesError, match=r"x.gz` is no gzip data"):
        read(tmp_path / "x.gz", bytes(10_000))


def test_a_frame_that_does_not_tell_its_size_is_read(tmp_path: Path) -> None:
    writer = zstandard.ZstdCompressor().compressobj()

    assert TEXT == read(tmp_path / "x.zst", writer.compress(TEXT) + writer.flush())


@pytest.mark.parametrize(("name", "compress"), COMPRESSED)
@pytest.mark.parametrize("kept", [5, 1000, -1])
def test_truncated_data_is_an_error_that_names_the_file(tmp_path: Path, name, compress, kept) -> None:
    with pytest.raises(FilesError, match=f"{name}` ends in the middle"):
        read(tmp_path / name, compress(TEXT)[:kept])
    with pytest.raises(FilesError, match=f"{name}` ends in the middle"):
        read(tmp_path / name, compress(b"first\n") + compress(TEXT)[:kept])


@pytest.mark.parametrize(("name", "compress"), COMPRESSED)
def test_damaged_data_is_an_error_that_names_the_file(tmp_path: Path, name, compress) -> None:
    data = bytearray(compress(TEXT))
    data[1000:1200] = b"\xff" * 200

    for damaged in (bytes(data), b'{"not": "compressed"}\n', compress(b"first\n") + b"rubbish"):
        with pytest.raises(FilesError, match=f"{name}` is no"):
            read(tmp_path / name, damaged)


@pytest.mark.parametrize(("name", "compress"), COMPRESSED)
def test_data_that_expands_a_thousandfold_does_not_fill_the_memory(tmp_path: Path, name, compress) -> None:
    (tmp_path / name).write_bytes(compress(bytes(400 * 2**20)))
    files = FolderFiles()
    (file,) = files.list(str(tmp_path / name))
    count = 0

    with open_text(files, file) as opened:
        tracemalloc.start()
        while piece := opened.read(2**16):
            count += len(piece)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()

    assert 400 * 2**20 == count
    assert peak < 100 * 2**20
