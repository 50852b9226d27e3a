"""Uploads over HTTP: a client that breaks off, an operator that is killed, and what is refused."""

import io
import os
import socket
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from cortex.clients.operator_client import OperatorClient
from cortex.domain.errors import Conflict, InvalidRequest, TooLarge
from operator_process import TIMEOUT_SECONDS, OperatorProcess

ONE = "0123456789abcdef" * 2
MIB = 2**20


def path_of(name: str, upload_id: str = ONE) -> str:
    return f"/_cortex/uploads/{upload_id}/{name}"


def offset(operator: OperatorProcess, name: str) -> int:
    return int(operator.http.head(path_of(name)).headers["Upload-Offset"])


def patch(operator: OperatorProcess, name: str, data: bytes, at: int | str | None = 0) -> httpx.Response:
    headers = {} if at is None else {"Upload-Offset": str(at)}
    return operator.http.patch(path_of(name), content=data, headers=headers)


def kept(operator: OperatorProcess, name: str) -> bytes:
    return (operator.data_dir / "incoming" / ONE / name).read_bytes()


def test_a_file_is_sent_in_parts_and_removed(operator: OperatorProcess) -> None:
    assert offset(operator, "a/b") == 0

    parts = [patch(operator, "a/b", b"first"), patch(operator, "a/b", b" second", 5), patch(operator, "a/b", b"", 12)]

    assert [(204, "5"), (204, "12"), (204, "12")] == [
        (part.status_code, part.headers["Upload-Offset"]) for part in parts
    ]
    assert (offset(operator, "a/b"), kept(operator, "a/b")) == (12, b"first second")
    assert operator.http.get(path_of("a/b")).json() == {"offset": 12}
    assert operator.http.delete(f"/_cortex/uploads/{ONE}").status_code == 204
    assert offset(operator, "a/b") == 0
    assert operator.stop() == ""


def test_a_part_that_does_not_go_on_at_the_end_is_a_conflict_that_tells_where_to_go_on(
    operator: OperatorProcess,
) -> None:
    patch(operator, "a", b"first")

    answer = patch(operator, "a", b"x" * 3 * MIB, 4)

    assert (answer.status_code, answer.json()["kind"]) == (409, "upload.out_of_step")
    assert answer.headers["Upload-Offset"] == "5"
    assert kept(operator, "a") == b"first"


@pytest.mark.parametrize("at", [None, "", "-1", "1.0", "0x1", "٣", "9" * 30])
def test_an_offset_that_is_no_number_is_refused(operator: OperatorProcess, at: str | None) -> None:
    headers = [] if at is None else [(b"Upload-Offset", at.encode())]

    answer = operator.http.patch(path_of("a"), content=b"data", headers=headers)

    assert (answer.status_code, answer.json()["kind"]) == (400, "request.invalid")


@pytest.mark.parametrize(
    "path",
    ["%2e%2e/x", "a/%2e%2e/%2e%2e/%2e%2e/x", "%2Fetc/passwd", "a%00b", "a%0Ab", "%ff", "x" * 300, "a/", "a%5Cb", ""],
)
def test_a_hostile_name_is_refused(operator: OperatorProcess, path: str) -> None:
    # Written by hand: a client tidies its paths up.
    host, port = operator.address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), TIMEOUT_SECONDS) as client:
        head = f"PATCH {path_of(path)} HTTP/1.1\r\nHost: {host}:{port}\r\nUpload-Offset: 0\r\nContent-Length: 4\r\n"
        client.sendall(f"{head}Connection: close\r\n\r\ndata".encode())
        answer = b"".join(iter(lambda: client.recv(MIB), b""))

    assert answer[:13] in (b"HTTP/1.1 400 ", b"HTTP/1.1 404 ")  # a route has no control characters
    assert [] == list((operator.data_dir / "incoming").iterdir())


def test_a_client_goes_on_by_another_connection_although_the_first_one_is_still_there(
    operator: OperatorProcess,
) -> None:
    data = os.urandom(4 * MIB)
    host, port = operator.address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), TIMEOUT_SECONDS) as first:
        head = f"PATCH {path_of('a')} HTTP/1.1\r\nHost: {host}:{port}\r\nUpload-Offset: 0\r\n"
        first.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data[: 3 * MIB])
        while (present := offset(operator, "a")) < 2 * MIB:  # it is written in pieces of about one
            pass

        assert patch(operator, "a", data[present:], present).status_code == 204
        first.sendall(data[3 * MIB :])
        assert first.recv(MIB).startswith(b"HTTP/1.1 409 ")

    assert kept(operator, "a") == data
    assert operator.stop() == ""


def test_what_came_before_a_client_went_away_is_kept(operator: OperatorProcess) -> None:
    data = os.urandom(3 * MIB)
    host, port = operator.address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), TIMEOUT_SECONDS) as client:
        head = f"PATCH {path_of('a')} HTTP/1.1\r\nHost: {host}:{port}\r\nUpload-Offset: 0\r\n"
        client.sendall(f"{head}Content-Length: {4 * MIB}\r\n\r\n".encode() + data)
        while offset(operator, "a") < 2 * MIB:
            pass

    assert operator.stop() == ""
    assert len(kept(operator, "a")) >= 2 * MIB
    assert data.startswith(kept(operator, "a"))


def test_an_upload_has_a_limit(start_operator: Callable[..., OperatorProcess]) -> None:
    operator = start_operator("--max-upload", "3MiB")

    answer = patch(operator, "a", b"x" * 20 * MIB)

    assert (answer.status_code, answer.json()["kind"]) == (413, "request.too_large")
    assert "--max-upload" in answer.json()["message"]
    assert 0 < offset(operator, "a") <= 3 * MIB


# The client


@pytest.mark.parametrize("size", [0, 1, 20 * MIB + 1])
def test_the_client_sends_a_file_and_tells_how_far_it_is(operator: OperatorProcess, size: int) -> None:
    data = os.urandom(size)
    told: list[int] = []

    with OperatorClient(operator.address) as client:
        client.upload(ONE, "folder/ä b", io.BytesIO(data), size, told.append)
        client.upload(ONE, "folder/ä b", io.BytesIO(data), size, told.append)

    assert data == kept(operator, "folder/ä b")
    assert 2 * size == sum(told)
    assert min(told) >= 0


class Tripwire(io.BytesIO):
    """A file that does something the first time that it is read at this place."""

    def __init__(self, data: bytes, place: int, act: Callable[[], Any]) -> None:
        super().__init__(data)
        self._place, self._act = place, act

    def read(self, size: int | None = -1) -> bytes:
        if self.tell() >= self._place:
            self._place = len(self.getvalue()) + 1
            self._act()
        return super().read(size)


def test_the_client_goes_on_when_the_operator_was_killed_meanwhile(operator: OperatorProcess) -> None:
    data = os.urandom(20 * MIB)
    told: list[int] = []

    def restart() -> None:
        operator.kill()
        operator.start()

    with OperatorClient(operator.address) as client:
        client.upload(ONE, "a", Tripwire(data, 10 * MIB, restart), len(data), told.append)

    assert data == kept(operator, "a")
    assert len(data) == sum(told)


def test_the_client_goes_on_where_an_earlier_run_has_come_to(operator: OperatorProcess) -> None:
    data = os.urandom(10 * MIB)
    patch(operator, "a", data[: 3 * MIB])
    told: list[int] = []

    with OperatorClient(operator.address) as client:
        client.upload(ONE, "a", io.BytesIO(data), len(data), told.append)

    assert data == kept(operator, "a")
    assert told[0] == 3 * MIB


def test_the_client_raises_what_the_operator_says(start_operator: Callable[..., OperatorProcess]) -> None:
    operator = start_operator("--max-upload", "1MiB")
    patch(operator, "longer", b"12345")

    with OperatorClient(operator.address) as client:
        with pytest.raises(TooLarge, match="--max-upload"):
            client.upload(ONE, "a", io.BytesIO(b"x" * 9 * MIB), 9 * MIB)
        with pytest.raises(InvalidRequest, match="cannot be the name"):
            client.upload(ONE, "..\\b", io.BytesIO(b"x"), 1)
        with pytest.raises(Conflict, match="changed meanwhile"):
            client.upload(ONE, "longer", io.BytesIO(b"1234"), 4)
        with pytest.raises(InvalidRequest, match="shorter"):
            client.upload(ONE, "shorter", io.BytesIO(b"123"), 4)
