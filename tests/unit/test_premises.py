"""What an operator holds while it runs."""

import shutil
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from cortex.domain.errors import StartRefused
from cortex.premises import data_directory, entrance
from cortex.settings import Settings


def test_an_operator_whose_folder_was_removed_leaves_the_note_of_the_next_one(tmp_path: Path) -> None:
    path = tmp_path / "data"
    note = path / "operator.json"
    first, second = data_directory(path), data_directory(path)

    with first:
        shutil.rmtree(path)
        second.__enter__()
        note.touch()

    assert note.exists()

    second.__exit__(None, None, None)
    assert not note.exists()


def test_stations_find_the_next_operator_at_the_port_of_the_last_one(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)

    with entrance(settings) as first:
        assert "127.0.0.1" == first.host
        assert first.port == first.listening.getsockname()[1]
    with entrance(settings) as second:
        assert first.port == second.port
        with entrance(settings) as other:  # while it is taken
            assert first.port != other.port


def test_stations_are_told_another_address_where_that_leads_to_the_operator(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, channel_address="[fd00::7]:9000")

    with entrance(settings) as told:
        assert ("fd00::7", 9000) == (told.host, told.port)
    with entrance(replace(settings, channel_address="operator.example.com")) as told:
        assert ("operator.example.com", told.listening.getsockname()[1]) == (told.host, told.port)


@pytest.mark.parametrize("address", ["127.0.0.1:6379", "ray://127.0.0.1:10001"])
def test_who_listens_everywhere_tells_the_address_that_ray_is_reached_from(address: str, tmp_path: Path) -> None:
    with entrance(Settings(data_dir=tmp_path, host="0.0.0.0", ray_address=address)) as told:
        assert "127.0.0.1" == told.host


def test_a_port_for_stations_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = pytest.raises(StartRefused, match=f"cannot listen on 127.0.0.1:{port} for workers on other machines")
        with refused, entrance(Settings(data_dir=tmp_path, channel_port=port)):
            pass


def test_an_operator_on_loopback_listens_for_stations_where_ray_is_reached_from(tmp_path: Path) -> None:
    here = Settings(data_dir=tmp_path, ray_address="127.0.0.2:6379")
    with entrance(here) as told:  # that address, too, is this machine's
        assert told.host == told.listening.getsockname()[0] == "127.0.0.1"
    with entrance(replace(here, channel_host="127.0.0.3")) as told:
        assert told.host == told.listening.getsockname()[0] == "127.0.0.3"
    with entrance(replace(here, ray_address="there.is.no.such.host.invalid:1")) as told:
        assert "127.0.0.1" == told.host
