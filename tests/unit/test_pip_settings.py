"""What pip was told about the package index holds for uv."""

from pathlib import Path

import pytest

from cortex.environments.pip_settings import mask_passwords, uv_variables


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    return {"HOME": str(tmp_path), "XDG_CONFIG_DIRS": str(tmp_path / "xdg")}


def configure(home: dict[str, str], text: str, name: str = ".config/pip/pip.conf") -> Path:
    file = Path(home["HOME"], name)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def test_pips_variables_are_translated(home: dict[str, str], tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    told = {
        "PIP_CONFIG_FILE": "/dev/null",
        "PIP_INDEX_URL": "https://index.example/simple",
        "PIP_EXTRA_INDEX_URL": "https://one.example/simple\n https://two.example/simple",
        "PIP_FIND_LINKS": f"{wheels} https://links.example/",
        "PIP_CONSTRAINT": "/a/one.txt /a/two.txt",
        "PIP_TRUSTED_HOST": "index.example",
        "PIP_CERT": "/a/bundle.pem",
    }

    variables = uv_variables({**home, **told})

    assert variables["UV_DEFAULT_INDEX"] == "https://index.example/simple"
    assert variables["UV_INDEX"] == "https://one.example/simple https://two.example/simple"
    assert variables["UV_INDEX_STRATEGY"] == "unsafe-best-match"
    assert variables["UV_FIND_LINKS"] == f"{wheels},https://links.example/"
    assert variables["UV_CONSTRAINT"] == "/a/one.txt /a/two.txt"
    assert variables["UV_INSECURE_HOST"] == "index.example"
    assert variables["SSL_CERT_FILE"] == "/a/bundle.pem"


def test_a_variable_wins_over_the_configuration_file_and_install_over_global(home: dict[str, str]) -> None:
    chosen = configure(
        home,
        "[global]\nindex-url = https://global.example\nextra_index_url = https://extra.example\n"
        "[install]\nindex-url = https://install.example\n",
        "chosen.conf",
    )
    home["PIP_CONFIG_FILE"] = str(chosen)

    assert uv_variables(home)["UV_DEFAULT_INDEX"] == "https://install.example"
    assert uv_variables(home)["UV_INDEX"] == "https://extra.example"
    assert uv_variables({**home, "PIP_INDEX_URL": "https://v.example"})["UV_DEFAULT_INDEX"] == "https://v.example"


def test_the_users_file_is_read(home: dict[str, str]) -> None:
    configure(home, "[global]\nindex-url = https://user.example\n")

    assert uv_variables(home)["UV_DEFAULT_INDEX"] == "https://user.example"


def test_a_broken_configuration_file_is_passed_over(home: dict[str, str]) -> None:
    configure(home, "index-url = no section\n")

    assert "UV_DEFAULT_INDEX" not in uv_variables({**home, "PIP_INDEX_URL": ""})


def test_what_uv_itself_was_told_wins(home: dict[str, str]) -> None:
    told = {"PIP_INDEX_URL": "https://pip.example", "UV_INDEX_URL": "https://uv.example"}

    variables = uv_variables({**home, **told})

    assert variables["UV_INDEX_URL"] == "https://uv.example"
    assert "UV_DEFAULT_INDEX" not in variables


def test_folders_that_do_not_exist_are_left_out(home: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    told = {
        "PIP_CONFIG_FILE": "/dev/null",
        "PIP_FIND_LINKS": f"/nosuch file:///nosuch file://{tmp_path}/there",
        "PIP_EXTRA_INDEX_URL": "file:///nosuch/simple",
    }

    variables = uv_variables({**home, **told})

    assert variables["UV_FIND_LINKS"] == f"{tmp_path}/there"
    assert "UV_INDEX" not in variables


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("https://joe:secret@host/simple", "https://***@host/simple"),
        ("https://joe:p@ss@host/simple", "https://***@host/simple"),
        ("git+https://token@host/a and http://x/@y", "git+https://***@host/a and http://x/@y"),
    ],
)
def test_passwords_in_urls_are_hidden(text: str, masked: str) -> None:
    assert mask_passwords(text) == masked
