"""What the options of `cortex operator` become."""

from pathlib import Path

import pytest
from stub_operator import cortex

from cortex.domain.errors import StartRefused
from cortex.premises import address_of, check_host, host_from_here
from cortex.settings import Settings, parse_public_url

KEY = "Rather-long-and-not-guessed"


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """The settings that operators would have been started with."""
    started: list[Settings] = []
    monkeypatch.setattr("cortex.cli.operator.run_operator", started.append)
    return started


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_text(KEY)
    path.chmod(0o600)
    return path


def test_on_loopback_everything_is_allowed_and_nothing_asked_for(started: list[Settings]) -> None:
    assert cortex("operator").exit_code == 0

    (settings,) = started
    assert (None, None, None) == (settings.api_key, settings.public_url, settings.allowed_paths)
    assert settings.max_upload_bytes == 10 * 10**9


def test_beyond_loopback_no_path_is_allowed_but_those_that_are_named(
    started: list[Settings], key_file: Path, tmp_path: Path
) -> None:
    words = ("operator", "--host", "0.0.0.0", "--api-key-file", str(key_file))

    cortex(*words)
    cortex(*words, "--allow-path", str(tmp_path / "a" / ".." / "b"), "--allow-path", "/data")
    cortex("operator", "--allow-path", "/data")

    assert [(), (tmp_path / "b", Path("/data")), (Path("/data"),)] == [settings.allowed_paths for settings in started]
    assert [KEY, KEY, None] == [settings.api_key for settings in started]


def test_the_environment_names_several_paths(started: list[Settings], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORTEX_OPERATOR_ALLOW_PATH", "/data:/more data")
    monkeypatch.setenv("CORTEX_OPERATOR_PUBLIC_URL", "https://cortex.example.com/")
    monkeypatch.setenv("CORTEX_OPERATOR_MAX_UPLOAD", "1MiB")

    cortex("operator")

    (settings,) = started
    assert (Path("/data"), Path("/more data")) == settings.allowed_paths
    assert (settings.public_url, settings.max_upload_bytes) == ("https://cortex.example.com", 2**20)


def test_how_long_processes_may_be_silent_is_an_option_or_a_variable(
    started: list[Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    cortex("operator")
    cortex("operator", "--heartbeat", "2.5")
    monkeypatch.setenv("CORTEX_OPERATOR_HEARTBEAT", "60")
    cortex("operator")

    assert [30, 2.5, 60] == [settings.heartbeat_seconds for settings in started]


def test_processes_may_be_silent_for_at_least_a_beat(started: list[Settings]) -> None:
    said = cortex("operator", "--heartbeat", "0.9")

    assert (2, []) == (said.exit_code, started)
    assert "--heartbeat" in said.stderr


def test_a_link_that_is_allowed_means_what_it_points_to(started: list[Settings], tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/data")

    cortex("operator", "--allow-path", str(tmp_path / "link"))

    assert (Path("/data"),) == started[0].allowed_paths


def test_a_key_that_is_refused_starts_nothing(started: list[Settings], key_file: Path) -> None:
    key_file.chmod(0o644)

    said = cortex("operator", "--api-key-file", str(key_file))

    assert (said.exit_code, started) == (1, [])
    assert f"chmod 600 {key_file}" in said.stderr
    assert KEY not in said.stderr


def test_settings_do_not_show_their_key() -> None:
    assert KEY not in repr(Settings(data_dir=Path("/data"), api_key=KEY))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "example.org", ""])
def test_a_host_beyond_loopback_needs_a_key(host: str) -> None:
    check_host(Settings(data_dir=Path("/data"), host=host, api_key=KEY))
    with pytest.raises(StartRefused, match="token_urlsafe"):
        check_host(Settings(data_dir=Path("/data"), host=host))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.0.0.2"])
def test_a_host_on_loopback_needs_none(host: str) -> None:
    check_host(Settings(data_dir=Path("/data"), host=host))


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("http://127.0.0.1:1", "0.0.0.0"),
        ("http://[::1]:1", "::"),
        ("http://192.168.1.7:1", "192.168.1.7"),
        ("http://[2001:db8::1]:1", "2001:db8::1"),
    ],
)
def test_workers_are_told_an_address_that_they_can_reach(address: str, host: str) -> None:
    assert address == address_of(host_from_here(host), 1)


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("https://cortex.example.com", "https://Cortex.example.com/"),
        ("http://10.0.0.1:8888", " http://10.0.0.1:8888"),
        ("https://[::1]:8443", "https://[::1]:8443"),
    ],
)
def test_a_public_url_is_that_of_a_server(url: str, text: str) -> None:
    assert url == parse_public_url(text)


@pytest.mark.parametrize(
    "text",
    [
        "", "cortex.example.com", "//cortex.example.com", "ftp://cortex.example.com", "https://", "https://h/prefix",
        "https://h?q", "https://h#f", "https://user:secret@h", "https://h:0", "https://h:x", "https://[::1",
        "https://a b", "https://h:99999", "https://[:::]",
    ],
)  # fmt: skip
def test_what_is_no_url_of_a_server_is_refused(text: str) -> None:
    with pytest.raises(StartRefused, match="--public-url") as refused:
        parse_public_url(text)

    assert "secret" not in str(refused.value)


def test_what_the_engine_of_other_machines_is_told(started: list[Settings], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.9:6379")
    monkeypatch.setenv("CORTEX_OPERATOR_CHANNEL_PORT", "8889")

    cortex("operator", "--engine", "ray", "--channel-host", "10.0.0.5", "--storage", "/shared")

    (settings,) = started
    assert ("ray", "10.0.0.9:6379") == (settings.engine, settings.ray_address)
    assert ("10.0.0.5", 8889, None) == (settings.channel_host, settings.channel_port, settings.channel_address)
    assert {"kind": "directory", "path": "/shared"} == settings.storage
