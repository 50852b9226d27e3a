"""The environments of the command line, and the commands that manage them."""

import stat
from pathlib import Path
from threading import Thread

import pytest
from stub_operator import Refusal, StubOperator, cortex

from cortex.clients.connect import local_operator
from cortex.clients.environments import (
    Environment,
    Environments,
    parse_endpoint,
    read_environments,
    write_environments,
)
from cortex.domain.errors import InvalidRequest, NotFound


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CORTEX_CLI_CONFIG_DIR", str(tmp_path / "configuration"))
    return tmp_path / "configuration"


def test_without_a_file_there_is_local_alone_and_it_is_the_default(directory: Path) -> None:
    environments = read_environments()

    assert environments.find(None).name == "local"
    assert [environment.name for environment in environments.known] == ["local"]
    assert not directory.exists()


def test_what_is_written_is_read_again() -> None:
    prod = Environment(name="prod", operator_endpoint="https://cortex.example", api_key="k" * 20)
    environments = Environments().with_environment(prod).with_default("prod")

    write_environments(environments)

    assert environments == read_environments()


def test_nobody_else_may_read_the_file(directory: Path) -> None:
    write_environments(Environments())

    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE((directory / "cli.yaml").stat().st_mode) == 0o600
    assert [directory / "cli.yaml"] == list(directory.iterdir())


def test_a_reader_never_finds_half_a_file() -> None:
    written = [
        Environments().with_environment(Environment(name="prod", operator_endpoint=f"http://{host * 500}"))
        for host in "ab"
    ]
    write_environments(written[0])
    writer = Thread(target=lambda: [write_environments(written[number % 2]) for number in range(50)])

    writer.start()
    while writer.is_alive():
        assert read_environments() in written
    writer.join()


def test_an_unknown_name_lists_the_known_ones() -> None:
    environments = Environments().with_environment(Environment(name="prod", operator_endpoint="http://prod"))

    with pytest.raises(NotFound, match="there is no environment `staging`; there is `local`, `prod`"):
        environments.find("staging")


def test_local_is_neither_configured_nor_deleted() -> None:
    with pytest.raises(InvalidRequest, match="cortex starts that operator itself"):
        Environments().with_environment(Environment(name="local", operator_endpoint="http://elsewhere"))
    with pytest.raises(InvalidRequest, match="`local` cannot be deleted"):
        Environments().without("local")


@pytest.mark.parametrize("name", ["", "a b", "-e", "a\n", "a/b"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest, match="is no name for an environment"):
        Environments().with_environment(Environment(name=name, operator_endpoint="http://elsewhere"))


@pytest.mark.parametrize("text", ["environments: 3", "environments: [{name: x}]", "- a", "a: [", "environments: [x]"])
def test_a_damaged_file_is_named(directory: Path, text: str) -> None:
    directory.mkdir()
    (directory / "cli.yaml").write_text(text)

    result = cortex("env", "list")

    assert result.exit_code == 1
    assert f"error: `{directory / 'cli.yaml'}` cannot be read" in result.stderr


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("http://127.0.0.1:8888/", "http://127.0.0.1:8888"),
        (" https://cortex.example ", "https://cortex.example"),
        ("http://[::1]:8888", "http://[::1]:8888"),
        ("https://example.org/cortex/", "https://example.org/cortex"),
    ],
)
def test_an_address_is_kept_without_its_slash(text: str, address: str) -> None:
    assert address == parse_endpoint(text)


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1:8888",
        "localhost",
        "",
        "ftp://host",
        "http://",
        "http://h:port",
        "http://h:99999",
        "http://a b",
        "http://h?x=1",
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="is not the address of an operator"):
        parse_endpoint(text)


def test_a_password_in_an_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(InvalidRequest) as refusal:
        parse_endpoint("http://me:secret@host")

    assert "secret" not in str(refusal.value)


def test_configure_keeps_the_environment_and_says_who_answers() -> None:
    with StubOperator() as operator:
        operator.answers["GET /_cortex/apis"] = []
        result = cortex("env", "configure", "here", "--operator-endpoint", operator.address, "--api-key", "the-key")

    assert result.exit_code == 0
    assert result.stdout == "configured here environment\n"
    assert f"operator 0.1.0 answers at {operator.address}\n" == result.stderr
    assert operator.requests[0].headers["Authorization"] == "Bearer the-key"
    assert operator.address == read_environments().find("here").operator_endpoint


@pytest.mark.parametrize(("code", "kind"), [(401, "request.unauthorized"), (403, "request.forbidden")])
def test_configure_says_that_a_key_is_missing_or_wrong_and_how_to_give_another(code: int, kind: str) -> None:
    with StubOperator() as operator:
        operator.answers["GET /_cortex/apis"] = Refusal(code, kind, "not this key\n\nhint: --api-key KEY")
        result = cortex("env", "configure", "here", "--operator-endpoint", operator.address, "--api-key", "the-key")

    assert result.exit_code == 0
    assert "warning: not this key\n\nhint: " in result.stderr
    assert f"cortex env configure here --operator-endpoint {operator.address} --api-key KEY" in result.stderr


def test_configure_works_although_nobody_answers_and_says_so() -> None:
    with StubOperator() as operator:
        gone = operator.address

    result = cortex("env", "configure", "gone", "--operator-endpoint", gone)

    assert result.exit_code == 0
    assert result.stdout == "configured gone environment\n"
    assert f"warning: no operator answers at `{gone}`" in result.stderr
    assert gone == read_environments().find("gone").operator_endpoint


def test_configure_without_an_endpoint_and_without_a_terminal_is_a_usage_error() -> None:
    result = cortex("env", "configure", "here")

    assert result.exit_code == 2
    assert "--operator-endpoint" in result.stderr


def test_list_shows_the_default_and_masks_keys() -> None:
    environments = Environments()
    for name, key in (("prod", "0123456789abcdef"), ("lab", "short"), ("open", None)):
        environments = environments.with_environment(
            Environment(name=name, operator_endpoint=f"http://{name}", api_key=key)
        )
    write_environments(environments.with_default("prod"))
    expected = """\
local
operator endpoint: started when a command needs it

prod (default)
operator endpoint: http://prod
api key:           ****cdef

lab
operator endpoint: http://lab
api key:           ****

open
operator endpoint: http://open
"""

    result = cortex("env", "list")
    as_json = cortex("env", "list", "-o", "json")

    assert expected == result.stdout
    assert "0123456789" not in as_json.stdout
    assert '"api_key": "****cdef"' in as_json.stdout


def test_the_default_moves_and_falls_back_to_local() -> None:
    write_environments(Environments().with_environment(Environment(name="prod", operator_endpoint="http://prod")))

    first, again, deleted, unknown = (
        cortex("env", *words).output
        for words in (["default", "prod"], ["default", "prod"], ["delete", "prod"], ["default", "prod"])
    )

    assert first == "set prod as the default environment\n"
    assert again == "prod is already the default environment\n"
    assert deleted == "deleted the prod environment configuration\nset local as the default environment\n"
    assert unknown.startswith("error: there is no environment `prod`; there is `local`\n")
    assert Environments() == read_environments()


def test_commands_use_the_default_environment_and_say_which() -> None:
    with StubOperator() as operator:
        operator.api()
        cortex("env", "configure", "here", "--operator-endpoint", operator.address)
        cortex("env", "default", "here")

        implied = cortex("get", "image-classifier")
        named = cortex("get", "image-classifier", "-e", "here")
        unknown = cortex("get", "image-classifier", "--env", "there")

    assert implied.stderr == "using here environment\n"
    assert named.stderr == ""
    assert implied.stdout == named.stdout
    assert unknown.exit_code == 1
    assert unknown.stderr.startswith("error: there is no environment `there`; there is `local`, `here`")


def test_local_may_have_its_workers_run_by_a_ray() -> None:
    result = cortex("env", "configure", "local", "--ray-address", "10.0.0.9:6379")
    assert (0, "configured local environment\n") == (result.exit_code, result.stdout)
    assert "10.0.0.9:6379" == read_environments().find("local").ray_address == local_operator().ray_address
    assert "ray address:       10.0.0.9:6379" in cortex("env", "list").stdout

    assert 0 == cortex("env", "configure", "local", "--ray-address", "").exit_code
    assert Environments() == read_environments()


def test_the_workers_of_an_operator_elsewhere_are_not_for_us_to_place() -> None:
    result = cortex("env", "configure", "prod", "--ray-address", "10.0.0.9:6379")

    assert 2 == result.exit_code
    assert "--ray-address is for `local` alone" in result.stderr
