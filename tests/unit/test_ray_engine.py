"""The engine `ray` where Ray is not installed, and what its processes are told of tokens."""

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

from cortex.domain.ending import Exit
from cortex.domain.errors import StartRefused
from cortex.engines.ray.bridge_process import variables
from cortex.engines.ray.causes import ending_of
from cortex.settings import Settings
from cortex.wiring import run_operator


def test_without_ray_the_operator_does_not_start_and_says_how_it_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find(name: str) -> importlib.metadata.Distribution:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr("cortex.engines.ray.client.distribution", find)

    with pytest.raises(StartRefused, match="the engine `ray` needs Ray, which is not installed") as refused:
        run_operator(Settings(data_dir=tmp_path / "data", engine="ray"))

    assert "pip install 'cortex[ray]'" == refused.value.hint
    assert not (tmp_path / "data").exists()


def test_no_other_engine_is_known(tmp_path: Path) -> None:
    with pytest.raises(StartRefused, match="there is no engine `slurm`"):
        run_operator(Settings(data_dir=tmp_path / "data", engine="slurm"))


def test_an_operator_imports_no_ray() -> None:
    program = "import sys, cortex.wiring, cortex.cli.operator; sys.exit('ray' in sys.modules)"

    assert 0 == subprocess.run([sys.executable, "-P", "-c", program], check=False).returncode


@pytest.mark.parametrize(
    ("expected", "given", "has_file"),
    [
        ("disabled", {}, False),
        ("token", {}, True),
        ("token", {"RAY_AUTH_TOKEN": "t"}, False),
        ("token", {"RAY_AUTH_TOKEN_PATH": "/token"}, False),
        ("disabled", {"RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN": "t"}, True),
    ],
)
def test_whether_ray_asks_for_a_token_is_always_said(
    expected: str, given: dict[str, str], *, has_file: bool, tmp_path: Path
) -> None:
    if has_file:
        (tmp_path / ".ray").mkdir()
        (tmp_path / ".ray" / "auth_token").write_text("t")

    assert expected == variables(given, tmp_path)["RAY_AUTH_MODE"]


def test_what_is_set_of_ray_stays_but_for_the_address_which_is_told() -> None:
    given = {"RAY_ADDRESS": "elsewhere", "RAY_gcs_rpc_server_reconnect_timeout_s": "60", "HOME": "/home"}

    assert {"RAY_gcs_rpc_server_reconnect_timeout_s": "60", "HOME": "/home", "RAY_AUTH_MODE": "disabled"} == variables(
        given, Path("/nowhere")
    )


@pytest.mark.parametrize(
    ("expected", "gone"),
    [
        (("was lost with its node 10.0.0.7", False, False), {"cause": "node lost"}),
        (("was killed with what ran it on its node 10.0.0.7", False, False), {"cause": "killed"}),
        (("was withdrawn", False, False), {"cause": "withdrawn"}),
        (("could not be started: no cortex there", False, True), {"cause": "refused", "error": "no cortex there"}),
        (
            ("ran out of memory: its node 10.0.0.7 had no more, and Ray killed it", True, True),
            {"cause": "out of memory"},
        ),
        (("ended with its station", False, False), {"cause": "ended", "status": 0}),
    ],
)
def test_an_end_is_charged_to_what_may_have_caused_it(
    expected: tuple[str, bool, bool], gone: dict[str, object]
) -> None:
    ending: Exit = ending_of(gone, "10.0.0.7")

    assert expected == (ending.cause, ending.is_out_of_memory, ending.is_charged)
