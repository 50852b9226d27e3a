"""The operator's key, and the tokens of Jobs."""

import asyncio
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.routing import BaseRoute, Mount, Route

from cortex.domain.errors import Forbidden, StartRefused
from cortex.domain.job import Counts, JobStatus
from cortex.operator.keys import Caller, Keys, take_key
from cortex.operator.operator import Operator
from cortex.storage.ledger import Version
from cortex.storage.memory import MemoryLedger
from cortex.storage.uploads import Uploads
from cortex.web.app import create_app
from samples import JOB as SAMPLE

KEY = "Rather-long-and-not-guessed"
JOB = "0123456789abcdef"
API = "image-classifier"


@pytest.fixture
def ledger() -> MemoryLedger:
    """A ledger with one Job in progress."""
    ledger = MemoryLedger()
    version = Version(
        api_id="v1", api_name="api", kind="BatchAPI", endpoint="/api", spec={}, project_id="p", deployed_at_ns=1
    )
    ledger.deploy([version])
    ledger.add_job(
        replace(SAMPLE, id=JOB),
        [],
    )
    return ledger


@pytest.fixture
def keys(ledger: MemoryLedger) -> Keys:
    return Keys(key=KEY, ledger=ledger, is_deployed=lambda name: name == API)


# Callers


def test_the_key_is_that_of_the_owner_and_a_token_that_of_its_job(keys: Keys) -> None:
    assert keys.caller(KEY) is Caller.OWNER
    assert keys.caller(keys.token(JOB)) is Caller.JOB


def test_a_token_holds_for_the_next_operator_with_this_key_only(keys: Keys, ledger: MemoryLedger) -> None:
    token = keys.token(JOB)

    assert Keys(key=KEY, ledger=ledger).caller(token) is Caller.JOB
    with pytest.raises(Forbidden):
        Keys(key=KEY + "2", ledger=ledger).caller(token)


def test_a_token_tells_nothing_of_the_key_and_is_no_other_jobs(keys: Keys) -> None:
    other = keys.token("fedcba9876543210")

    assert KEY not in keys.token(JOB)
    with pytest.raises(Forbidden):
        keys.caller(JOB + other[16:])


def test_the_token_of_a_job_that_is_over_or_gone_is_worth_nothing(keys: Keys, ledger: MemoryLedger) -> None:
    ledger.move(JOB, JobStatus.ENQUEUE_FAILED, at_ns=2, counts=Counts(succeeded=0, failed=0))

    with pytest.raises(Forbidden, match="no longer in progress"):
        keys.caller(keys.token(JOB))
    with pytest.raises(Forbidden, match="no longer in progress"):
        keys.caller(keys.token("fedcba9876543210"))


def test_the_token_of_an_api_holds_while_it_is_deployed(keys: Keys) -> None:
    assert keys.caller(keys.api_token(API)) is Caller.API
    with pytest.raises(Forbidden, match="the token is that of the API `gone`, which is no longer deployed"):
        keys.caller(keys.api_token("gone"))


def test_nobody_is_taken_for_an_api_or_a_job_by_the_token_of_another(ledger: MemoryLedger) -> None:
    keys = Keys(key=KEY, ledger=ledger, is_deployed=lambda _: True)
    signed = keys.token(JOB).partition(".")[2]
    of_api = keys.api_token(JOB).rpartition(".")[2]  # an API may have such a name

    for forged in (f"api.{JOB}.{signed}", f"{JOB}.{of_api}", f"api.other.{of_api}", of_api, f"api..{of_api}"):
        with pytest.raises(Forbidden, match="is not that of this operator"):
            keys.caller(forged)
    assert KEY not in keys.api_token(API)
    assert re.fullmatch(r"[!-~]{16,1024}", keys.api_token("a" * 42))


@given(st.text())
def test_what_is_neither_key_nor_token_is_forbidden(presented: str) -> None:
    keys = Keys(key=KEY, ledger=MemoryLedger())

    with pytest.raises(Forbidden):
        keys.caller(presented)


def test_a_key_is_not_shown_by_those_who_hold_it(keys: Keys) -> None:
    assert KEY not in repr(keys)


# Where it comes from


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("text", [KEY, f"{KEY}\n", f"  {KEY}\r\n"])
def test_a_key_is_read_from_a_file(tmp_path: Path, text: str) -> None:
    assert take_key(write(tmp_path / "key", text), {}) == KEY


def test_a_key_is_taken_out_of_the_environment_and_that_of_the_file_goes_before(tmp_path: Path) -> None:
    variables = {"CORTEX_API_KEY": KEY, "CORTEX_OPERATOR_API_KEY_FILE": "key", "PATH": "/bin"}
    both = dict(variables)

    assert take_key(None, variables) == KEY
    assert take_key(write(tmp_path / "key", "The-one-that-is-in-a-file"), both) == "The-one-that-is-in-a-file"
    assert {"PATH": "/bin"} == variables == both
    assert take_key(None, {}) is None


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o660, 0o644, 0o606])
def test_a_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(StartRefused, match="chmod 600") as refused:
        take_key(write(tmp_path / "key", KEY, mode), {})

    assert KEY not in str(refused.value)


@pytest.mark.parametrize(
    "text", ["", "\n", "too short", "with a space in the middle", "on two\nlines of the file", "ä" * 20]
)
def test_an_empty_short_or_unsendable_key_is_refused_without_being_told(tmp_path: Path, text: str) -> None:
    path = write(tmp_path / "key", text)

    for file, variables in ((path, {}), (None, {"CORTEX_API_KEY": text})):
        with pytest.raises(StartRefused, match="token_urlsafe") as refused:
            take_key(file, variables)
        assert not text.strip() or text.strip() not in str(refused.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StartRefused, match=r"missing.*No such file"):
        take_key(tmp_path / "missing", {})


# The routes

ADDRESS = "http://127.0.0.1:8888"


@pytest.fixture
def app(keys: Keys, tmp_path: Path) -> Starlette:
    """The application of an operator; nothing gets as far as to the operator itself."""
    uploads = Uploads(root=tmp_path / "incoming", limit_bytes=1000)
    uploads.recover()
    return create_app(cast(Operator, None), uploads, addresses=[ADDRESS], about={}, keys=keys)


def paths(routes: Sequence[BaseRoute], before: str = "") -> Iterator[str]:
    """Give a path that leads to each route."""
    for route in routes:
        if isinstance(route, Mount):
            yield from paths(route.routes, before + route.path)
        else:
            assert isinstance(route, Route)
            yield before + re.sub(r"{[^}]*}", "a" * 32, route.path)


def ask(app: Starlette, *requests: tuple[str, str], key: str | None = None) -> list[httpx.Response]:
    """Send requests straight to the application, which must not fail."""

    async def ask_all() -> list[httpx.Response]:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url=ADDRESS, headers=headers) as client:
            return [await client.request(method, path) for method, path in requests]

    return asyncio.run(ask_all())


METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")


def test_every_route_asks_for_the_key_but_that_of_health(app: Starlette) -> None:
    known = [path for path in paths(app.routes) if path != "/healthz"]
    wanted = [(method, path) for method in METHODS for path in [*known, "/", "/_cortex", "/_cortex/", "/metrics"]]

    without, wrong = ask(app, *wanted), ask(app, *wanted, key="Another-one-that-is-long-too")

    assert {"/_cortex/deploy", "/_cortex/info", "/openapi.json"} < set(known)
    assert {(401, "Bearer")} == {(answer.status_code, answer.headers.get("www-authenticate")) for answer in without}
    assert {403} == {answer.status_code for answer in wrong}
    assert all(answer.json()["kind"] == "request.unauthorized" for answer in without if answer.content)
    assert 200 == ask(app, ("GET", "/healthz"))[0].status_code


def test_how_a_path_is_written_does_not_open_it(app: Starlette) -> None:
    written = [
        "/healthz%3F",
        "/healthz%3F/_cortex/info",
        "/healthz%23",
        "/healthz/",
        "//healthz",
        "/healthz/../_cortex/info",
    ]

    answers = ask(app, *(("GET", path) for path in written))

    assert [401] * len(written) == [answer.status_code for answer in answers]


@pytest.mark.parametrize("token", [lambda keys: keys.token(JOB), lambda keys: keys.api_token(API)], ids=["job", "API"])
def test_no_token_lets_deploy_delete_upload_or_change_anything_of_the_operators_own(
    app: Starlette, keys: Keys, token: Callable[[Keys], str]
) -> None:
    own = [path for path in paths(app.routes) if path.startswith("/_cortex")]
    changes = [(method, path) for method in METHODS if method != "GET" for path in own]
    looks = [("GET", path) for path in own if path.startswith("/_cortex/uploads")]

    answers = ask(app, *changes, *looks, key=token(keys))

    assert {403} == {answer.status_code for answer in answers}
    assert all("the token of a job" in answer.json()["message"] for answer in answers if answer.content)


@pytest.mark.parametrize("token", [lambda keys: keys.token(JOB), lambda keys: keys.api_token(API)], ids=["job", "API"])
def test_every_token_lets_look_and_use_the_endpoints_of_apis(
    app: Starlette, keys: Keys, token: Callable[[Keys], str]
) -> None:
    allowed = [("GET", "/_cortex/apis"), ("GET", "/openapi.json"), *((method, "/api") for method in METHODS)]

    answers = ask(app, *allowed, key=token(keys))

    assert {401, 403}.isdisjoint(answer.status_code for answer in answers)
