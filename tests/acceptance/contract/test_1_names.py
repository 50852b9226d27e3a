"""Section 1 of the contract: names and shapes."""

import json
import os
import re
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import psutil
import pytest
from contract_world import ECHO, REALTIME, AtOperator, files_of
from shell import TIMEOUT_SECONDS, User

import cortex
from operator_process import OperatorProcess
from processes import words_of
from s3_server import S3

KEY = "Rather-long-and-not-guessed"
ENV_VALUE = "what-the-dotenv-file-holds"
AWS_SECRET = "what-the-aws-tools-keep"

CHAIN = """
    import os
    import boto3
    import requests

    class PythonPredictor:
        def __init__(self, config, job_spec):
            self.config = config

        def predict(self, payload):
            if "bucket" in self.config:
                boto3.client("s3").put_object(Bucket=self.config["bucket"], Key="from-a-worker", Body=b"here")
            names = ("CORTEX_OPERATOR_ENDPOINT", "CORTEX_API_NAME", "CORTEX_JOB_ID")
            return {name: os.environ[name] for name in names}

        def on_job_complete(self):
            if self.config.get("is_last"):
                return
            key = os.environ.get("CORTEX_API_KEY")
            print("has a key:", key is not None)
            answer = requests.post(
                f"{os.environ['CORTEX_OPERATOR_ENDPOINT']}/{os.environ['CORTEX_API_NAME']}",
                json={"workers": 1, "item_list": {"items": [1], "batch_size": 1}, "config": {"is_last": True}},
                headers={"Authorization": f"Bearer {key}"} if key else {},
                timeout=30,
            )
            answer.raise_for_status()
            print("next job:", answer.json()["job_id"])
"""


@pytest.fixture(scope="module")
def guarded(s3: S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorProcess]:
    """An operator beyond loopback, behind a proxy, with a key; it reaches S3 with a profile of the AWS tools."""
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "allowed").mkdir()
    (folder / "credentials").write_text(f"[team]\naws_access_key_id = id\naws_secret_access_key = {AWS_SECRET}\n")
    (folder / "config").write_text("[profile team]\nregion = eu-west-1\n")
    env = {
        "AWS_PROFILE": "team",
        "AWS_CONFIG_FILE": str(folder / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(folder / "credentials"),
        "AWS_ENDPOINT_URL_S3": s3.endpoint,
        "NO_PROXY": "127.0.0.1",
    }
    (folder / "key").write_text(f"{KEY}\n")
    (folder / "key").chmod(0o600)
    options = ["--host=0.0.0.0", f"--api-key-file={folder}/key", f"--allow-path={folder}/allowed"]
    options += ["--public-url=https://cortex.example.com"]
    operator = OperatorProcess(folder / "data", *options, env=env).start()
    operator.http.headers["Authorization"] = f"Bearer {KEY}"
    operator.deploy(CHAIN, name="chain", files={".env": f"SECRET={ENV_VALUE}\n"})
    operator.deploy(ECHO, name="echo")
    yield operator
    operator.stop()


def said_by_operator(*options: str) -> str:
    """Start an operator that must refuse to; give what it says."""
    command = [sys.executable, "-m", "cortex", "operator", "--port", "0", *options]
    found = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False)
    assert (found.returncode, found.stdout) == (1, "")
    return found.stderr


def test_the_command_and_the_package_are_called_cortex(at_operator: AtOperator) -> None:
    """Command `cortex`; Python import `cortex` …"""
    at_operator.user.write("predictor.py", ECHO)
    at_operator.user.write(
        "cortex.yaml", "- name: named\n  kind: BatchAPI\n  predictor: {type: python, path: predictor.py}\n"
    )

    assert f"{cortex.__version__}\n" == at_operator.out("--version")
    assert at_operator.out("deploy") == "created named (BatchAPI)\n"
    at_operator.out("delete", "named")


@pytest.mark.parametrize("kind", ["BatchAPI", "RealtimeAPI", "TrafficSplitter", None])
def test_the_kinds_are_known_and_one_without_is_a_realtime_api(at_operator: AtOperator, kind: str | None) -> None:
    """Command `cortex`; Python import `cortex` …: the three kinds, and what is without one."""
    line = f"  kind: {kind}\n" if kind else ""
    at_operator.user.write("cortex.yaml", f"- name: x\n{line}  predictor: {{type: python, path: nowhere.py}}\n")

    said = at_operator.cortex("deploy")

    assert f"x ({kind or 'RealtimeAPI'})" in said.err + said.out
    assert "got `" not in said.err


def test_realtime_apis_answer_at_once_and_a_splitter_leads_to_them(at_operator: AtOperator) -> None:
    """Command `cortex`; Python import `cortex` …: a RealtimeAPI, one without a kind, and a TrafficSplitter."""
    at_operator.user.write("predictor.py", REALTIME)
    of_name = "predictor: {type: python, path: predictor.py, config: {name: NAME}}"
    at_operator.user.write(
        "kinds.yaml",
        f"- name: first\n  kind: RealtimeAPI\n  {of_name.replace('NAME', 'a')}\n"
        f"- name: second\n  {of_name.replace('NAME', 'b')}\n"
        "- name: both\n  kind: TrafficSplitter\n  apis: [{name: first, weight: 50}, {name: second, weight: 50}]\n",
    )

    created = at_operator.out("deploy", "kinds.yaml")
    answers = [json.loads(at_operator.cortex("predict", name, "-", stdin="[1]").out) for name in ("first", "second")]
    split = {json.loads(at_operator.cortex("predict", "both", "-", stdin="1").out)["name"] for _ in range(20)}
    in_use = at_operator.cortex("delete", "first")
    tables = at_operator.out("get")
    for name in ("both", "first", "second"):
        at_operator.out("delete", name)

    assert "created first (RealtimeAPI)\ncreated second (RealtimeAPI)\ncreated both (TrafficSplitter)\n" == created
    assert [{"name": "a", "payload": [1]}, {"name": "b", "payload": [1]}] == answers
    assert {"a", "b"} == split  # by chance: all to one happens once in half a million times
    assert (1, "") == (in_use.code, in_use.out)
    assert "`both`" in in_use.err
    assert "realtime api   status" in tables
    assert "traffic splitter   apis " in tables


def test_an_environment_is_a_name_for_an_address(user: User, operator: OperatorProcess) -> None:
    """The server is the *operator* …"""
    user.cortex("env", "delete", "local")
    first = user.cortex("env", "list").out
    user.cortex("env", "configure", "there", "--operator-endpoint", operator.address)
    found = user.cortex("get", "echo", "--env", "there").out
    in_home = user.shell(
        f"unset CORTEX_CLI_CONFIG_DIR; cortex env configure a --operator-endpoint {operator.address}; ls -d ~/.cortex"
    )

    assert first.startswith("local (default)\n")
    assert f"endpoint: {operator.address}/echo" in found
    assert in_home.endswith(f"{user.home}/.cortex\n")


def test_every_command_takes_the_name_of_an_environment(at_operator: AtOperator) -> None:
    """The server is the *operator* …: `-e/--env NAME`."""
    commands = [
        "deploy",
        "get",
        "logs",
        "submit",
        "results",
        "failures",
        "delete",
        "version",
        "cluster up",
        "cluster down",
    ]

    missing = [each for each in commands if "-e, --env NAME" not in at_operator.out(*each.split(), "--help")]

    assert [] == missing


def test_local_starts_an_operator_when_a_command_needs_one(user: User) -> None:
    """In `local`, any command that needs an operator starts one …"""
    with ExitStack() as stack:
        with suppress(OSError):  # then somebody else has taken the port
            stack.enter_context(socket.create_server(("127.0.0.1", 8888)))
        got = user.cortex("get")
    data = user.home / "cortex" / "local"
    address = json.loads((data / "operator.json").read_text())["address"]
    again, info = user.cortex("get"), user.cortex("cluster", "info")
    down, up = user.cortex("cluster", "down"), user.cortex("cluster", "up")

    assert f"started the operator at {address} " in got.err
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", address)
    assert not address.endswith(":8888")
    assert again.err == ""
    assert re.search(rf"^address: +{address}$", info.out, re.MULTILINE)
    assert f"stopped the operator at {address}" in down.out
    assert "started the operator at" in up.out + up.err


def test_an_operator_in_the_foreground_takes_its_options_from_the_environment(tmp_path: Path) -> None:
    """In `local`, any command that needs an operator starts one …: `cortex operator`, and its options."""
    variables = {"HOST": "localhost", "PORT": "0", "DATA_DIR": str(tmp_path / "data")}
    env = {**os.environ, **{f"CORTEX_OPERATOR_{name}": value for name, value in variables.items()}}
    env["CORTEX_API_KEY"] = KEY
    command = [sys.executable, "-m", "cortex", "operator"]

    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().removeprefix("listening on ").strip()
        codes = [httpx.get(f"{address}{path}").status_code for path in ("/healthz", "/_cortex/info")]
        process.terminate()
    env["CORTEX_OPERATOR_ENGINE"] = "nosuch"
    refused = subprocess.run(command, env=env, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False)
    text = " ".join(subprocess.run([*command, "--help"], capture_output=True, text=True, check=True).stdout.split())

    assert re.fullmatch(r"http://(localhost|127\.0\.0\.1):\d+", address)
    assert [200, 401] == codes  # with the key that the environment has
    assert (tmp_path / "data").is_dir()
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "`nosuch`" in refused.stderr
    assert "[default: 127.0.0.1]" in text
    assert "[default: 8888;" in text


def test_all_that_the_operator_remembers_is_in_its_data_directory(tmp_path: Path) -> None:
    """Everything the operator must remember lives under `--data-dir` …"""
    first = OperatorProcess(tmp_path / "first").start()
    first.deploy(ECHO)
    job = first.submit([1, "two"])
    before = first.wait(job)
    second = said_by_operator("--data-dir", str(first.data_dir))
    first.stop()
    first.data_dir.rename(tmp_path / "moved")

    moved = OperatorProcess(tmp_path / "moved").start()
    found = [moved.status(job), moved.rows(job), moved.wait(moved.submit([1]))["status"]]
    moved.stop()

    assert "another operator runs on the data directory" in second
    assert [before, [1, "two"], "status_succeeded"] == found


def test_a_worker_finds_its_operator_and_a_hook_submits_the_next_job(operator: OperatorProcess) -> None:
    """Workers find `CORTEX_OPERATOR_ENDPOINT` …"""
    operator.deploy(CHAIN, name="chain")
    job = operator.submit([1], api="chain")
    status, log = operator.wait(job, api="chain"), operator.log(job, api="chain")

    assert status["status"] == "status_succeeded", log
    variables = {"CORTEX_OPERATOR_ENDPOINT": operator.address, "CORTEX_API_NAME": "chain", "CORTEX_JOB_ID": job}
    assert [variables] == operator.rows(job, api="chain")
    assert "has a key: False" in log
    following = log.partition("next job: ")[2].split()[0]
    assert operator.wait(following, api="chain")["status"] == "status_succeeded"


def test_a_worker_has_a_token_of_its_job_where_keys_are_in_use(guarded: OperatorProcess) -> None:
    """Workers find `CORTEX_OPERATOR_ENDPOINT` …: and `CORTEX_API_KEY`."""
    job = guarded.submit([1], api="chain")
    status, log = guarded.wait(job, api="chain"), guarded.log(job, api="chain")

    assert status["status"] == "status_succeeded", log
    assert "has a key: True" in log
    following = log.partition("next job: ")[2].split()[0]
    assert guarded.wait(following, api="chain")["status"] == "status_succeeded"


def test_beyond_loopback_nobody_is_let_in_without_a_key(guarded: OperatorProcess, user: User, tmp_path: Path) -> None:
    """Listening beyond loopback needs an API key …"""
    without = said_by_operator("--host", "0.0.0.0", "--data-dir", str(tmp_path / "data"))
    codes = [
        httpx.get(f"{guarded.address}/echo", headers=headers).status_code
        for headers in ({}, {"Authorization": "Bearer another-key-than-that"}, {"Authorization": f"Bearer {KEY}"})
    ]
    user.cortex("env", "configure", "far", "--operator-endpoint", guarded.address, "--api-key", KEY)

    assert "error: `0.0.0.0` can be reached from other machines, and there is no API key" in without
    assert "hint: " in without
    assert "--api-key-file" in without
    assert [401, 403, 200] == codes
    assert user.cortex("get", "echo", "-e", "far").code == 0
    assert KEY not in user.cortex("env", "list").out


def test_no_secret_is_written_anywhere(guarded: OperatorProcess) -> None:
    """Listening beyond loopback needs an API key …: keys, `.env` values and AWS secrets never appear."""
    job = guarded.submit([1], api="chain", config={"is_last": True})
    guarded.wait(job, api="chain")
    paths = ("/_cortex/info", "/_cortex/apis/chain", "/chain", f"/chain/{job}", f"/chain/{job}/logs", "/docs")
    written = {path: guarded.http.get(path).content for path in paths}
    written |= {str(path): path.read_bytes() for path in guarded.data_dir.rglob("*") if path.is_file()}
    written["stderr"] = guarded._errors.read_bytes()
    assert guarded.process is not None
    ours = [psutil.Process(guarded.process.pid), *guarded.worker_processes()]
    written["commands"] = " ".join(word for process in ours for word in words_of(process)).encode()

    assert f"/chain/{job}" in written
    for secret in (KEY, AWS_SECRET, ENV_VALUE):
        found = {place for place, content in written.items() if secret.encode() in content}
        assert {place for place in found if "/projects/" not in place} == set()  # there lies what the user has sent


@pytest.mark.parametrize(
    "headers",
    [{"origin": "http://evil.example.com"}, {"origin": "null"}, {"host": "evil.example.com"}, {"host": "127.0.0.1:1"}],
    ids=str,
)
def test_a_page_from_elsewhere_gets_403(operator: OperatorProcess, headers: dict[str, str]) -> None:
    """On loopback too, a request with a foreign `Origin` …"""
    for method, path in (("POST", "/_cortex/deploy"), ("GET", "/echo"), ("POST", "/echo")):
        answer = operator.http.request(method, path, headers=headers)

        assert (answer.status_code, answer.json()["kind"]) == (403, "request.forbidden")


def test_the_public_url_is_let_in(guarded: OperatorProcess) -> None:
    """On loopback too, a request with a foreign `Origin` …: nor `--public-url`."""
    public, other = (
        guarded.http.get("/echo", headers={"host": host, "origin": f"https://{host}"})
        for host in ("cortex.example.com", "other.example.com")
    )

    assert (200, "https://cortex.example.com/echo") == (public.status_code, public.json()["endpoint"])
    assert other.status_code == 403


def test_the_data_directory_is_its_owners_alone(operator: OperatorProcess) -> None:
    """On loopback too, a request with a foreign `Origin` …: the data directory is 0700."""
    assert stat.S_IMODE(operator.data_dir.stat().st_mode) == 0o700


def test_off_loopback_folders_for_results_need_to_be_allowed(guarded: OperatorProcess) -> None:
    """On loopback too, a request with a foreign `Origin` …: off loopback, `file://` outputs need `--allow-path`."""
    root = guarded.data_dir.parent
    places = [f"file://{root}/allowed/out", f"{root}/allowed/out", f"file://{root}/out", f"{root}/allowed/../out"]

    answers = [
        guarded.http.post(
            "/echo", json={"workers": 1, "item_list": {"items": [1], "batch_size": 1}, "results": {"path": place}}
        )
        for place in places
    ]

    assert [200, 200, 400, 400] == [answer.status_code for answer in answers]
    for refused in answers[2:]:
        assert refused.json()["message"].startswith("results.path: ")
        assert "--allow-path" in refused.json()["message"]
    assert not (root / "out").exists()


def test_off_loopback_files_of_the_machine_need_to_be_allowed(guarded: OperatorProcess) -> None:
    """On loopback too, a request with a foreign `Origin` …: off loopback, `file://` sources need `--allow-path`."""
    allowed = guarded.data_dir.parent / "allowed" / "lines.json"
    allowed.write_text("1\n")
    forbidden = guarded.data_dir.parent / "credentials"

    answers = [
        guarded.http.post("/echo?dryRun=true", json=files_of("file_path_lister", f"file://{path}", batch_size=1))
        for path in (allowed, forbidden)
    ]

    assert [200, 400] == [answer.status_code for answer in answers]
    assert "--allow-path" in answers[1].json()["message"]


def test_off_loopback_results_are_written_only_where_that_is_allowed(guarded: OperatorProcess) -> None:
    """On loopback too, a request with a foreign `Origin` …: off loopback, `file://` outputs need `--allow-path`."""
    request = {"workers": 1, "item_list": {"items": [1], "batch_size": 1}}
    folders = (guarded.data_dir.parent / "allowed" / "out", guarded.data_dir.parent / "out")

    answers = [
        guarded.http.post("/echo?dryRun=true", json={**request, "results": {"path": f"file://{folder}"}})
        for folder in folders
    ]

    assert [200, 400] == [answer.status_code for answer in answers]
    assert "--allow-path" in answers[1].json()["message"]


@pytest.mark.parametrize("path", ["/_cortex/info", "/healthz", "/openapi.json", "/docs"])
def test_the_operator_has_routes_of_its_own(operator: OperatorProcess, path: str) -> None:
    """The operator's own routes live under `/_cortex/` …"""
    assert operator.http.get(path).status_code == 200


@pytest.mark.parametrize(
    "endpoint", ["/_cortex", "/_cortex/x", "/healthz", "/metrics", "/openapi.json", "/docs", "/echo", "/echo/below"]
)
def test_no_api_lies_where_another_or_the_operator_does(at_operator: AtOperator, endpoint: str) -> None:
    """The operator's own routes live under `/_cortex/` …: an API's endpoint may not lie there, nor below another's."""
    at_operator.user.write("predictor.py", ECHO)
    at_operator.user.write(
        "cortex.yaml",
        "- name: x\n  kind: BatchAPI\n  predictor: {type: python, path: predictor.py}\n"
        f"  networking: {{endpoint: {endpoint}}}\n",
    )

    said = at_operator.cortex("deploy")

    assert (said.code, said.out) == (1, "")
    assert endpoint.removesuffix("/below").removesuffix("/x") in said.err


def test_s3_is_reached_with_a_profile_and_workers_inherit_it(guarded: OperatorProcess, s3: S3) -> None:
    """S3 is reached as every AWS tool reaches it …"""
    s3.put("names/a.json", body=b"1\n")

    listed = guarded.http.post("/echo?dryRun=true", json=files_of("delimited_files", s3.url("names/")))
    job = guarded.submit([1], api="chain", config={"is_last": True, "bucket": s3.bucket})
    status = guarded.wait(job, api="chain")

    assert f"{s3.url('names/a.json')}\nvalidations passed" == listed.text
    assert status["status"] == "status_succeeded", guarded.log(job, api="chain")
    assert [s3.url("from-a-worker")] == s3.keys("from-a-worker")
