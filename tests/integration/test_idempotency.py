"""A submission that is sent again with its key is one job: at once, at the same time, and to the next operator."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from cortex.clients.operator_client import OperatorClient
from operator_process import TIMEOUT_SECONDS, OperatorProcess

ECHO = """
    class PythonPredictor:
        def __init__(self, config):
            pass

        def predict(self, payload):
            return payload
"""


@pytest.fixture
def server(operator: OperatorProcess) -> OperatorProcess:
    operator.deploy(ECHO)
    return operator


def inline(*items: Any) -> bytes:
    return json.dumps({"workers": 1, "item_list": {"items": items, "batch_size": 1}}).encode()


def submit(server: OperatorProcess, body: bytes, key: str, *, api: str = "api", query: str = "") -> httpx.Response:
    return server.http.post(f"/{api}{query}", content=body, headers={"Idempotency-Key": key})


def jobs(server: OperatorProcess, api: str = "api") -> list[str]:
    return [job["job_id"] for job in server.http.get(f"/{api}").json()["jobs"]]


def test_the_same_key_and_body_are_the_same_job(server: OperatorProcess) -> None:
    first = submit(server, inline(1), "k")
    server.wait(first.json()["job_id"])

    second = submit(server, inline(1), "k")

    assert (200, first.json()) == (second.status_code, second.json())
    assert [first.json()["job_id"]] == jobs(server)


def test_without_a_key_or_with_another_one_it_is_another_job(server: OperatorProcess) -> None:
    submitted = [submit(server, inline(1), key).json()["job_id"] for key in ("k", "K", "k" * 255)]
    submitted += [server.submit([1]), server.submit([1])]

    assert sorted(submitted) == jobs(server)
    assert len(set(submitted)) == 5


def test_the_key_of_one_api_is_not_that_of_another(server: OperatorProcess) -> None:
    server.deploy(ECHO, name="other")
    first, second = (submit(server, inline(1), "k", api=api).json() for api in ("api", "other"))

    assert ([first["job_id"]], [second["job_id"]]) == (jobs(server), jobs(server, "other"))


def test_another_body_with_the_same_key_is_refused(server: OperatorProcess) -> None:
    job = submit(server, inline(1), "k").json()["job_id"]

    refused = submit(server, inline(1) + b"\n", "k")

    assert (409, "submission.key_reused") == (refused.status_code, refused.json()["kind"])
    assert f"the key `k` was used for another request before, which is job `{job}`" in refused.json()["message"]
    assert [job] == jobs(server)


@pytest.mark.parametrize("headers", [[b""], [b"two words"], [b"k" * 256], ["schlüssel".encode()], [b"k", b"k"]])
def test_a_key_is_one_word_of_visible_ascii(server: OperatorProcess, headers: list[bytes]) -> None:
    response = server.http.post("/api", content=inline(1), headers=[(b"Idempotency-Key", header) for header in headers])

    assert (400, "request.invalid") == (response.status_code, response.json()["kind"])
    assert "must be 1 to 255 visible ASCII characters" in response.json()["message"]
    assert jobs(server) == []


def test_a_refused_submission_does_not_use_its_key_up(server: OperatorProcess) -> None:
    refused = submit(server, b'{"workers": 0}', "k")

    taken = submit(server, inline(1), "k")

    assert (400, 200) == (refused.status_code, taken.status_code)


def test_a_dry_run_ignores_its_key(server: OperatorProcess) -> None:
    job = submit(server, inline(1), "k").json()["job_id"]

    tried = [submit(server, inline(2), key, query="?dryRun=true") for key in ("k", "no key")]

    assert [(200, "validations passed")] * 2 == [(each.status_code, each.text) for each in tried]
    assert [job] == jobs(server)


def test_the_next_operator_knows_the_keys(server: OperatorProcess) -> None:
    first = submit(server, inline(1), "k")
    server.kill()
    server.start()

    second = submit(server, inline(1), "k")
    other = submit(server, inline(2), "k")

    assert (200, first.json(), 409) == (second.status_code, second.json(), other.status_code)
    assert [first.json()["job_id"]] == jobs(server)


def test_a_job_of_files_is_answered_as_it_was_at_first(server: OperatorProcess, tmp_path: Path) -> None:
    (tmp_path / "lines.json").write_text("1\n2\n3\n")
    body = json.dumps({"workers": 1, "delimited_files": {"s3_paths": [str(tmp_path / "lines.json")]}}).encode()
    first = submit(server, body, "k")
    ended = server.wait(first.json()["job_id"])
    (tmp_path / "lines.json").unlink()  # what is not looked for again need not be there

    second = submit(server, body, "k")

    assert 3 == ended["total_batch_count"]
    assert (200, first.json()) == (second.status_code, second.json())


def test_submissions_at_the_same_time_are_one_job(server: OperatorProcess, tmp_path: Path) -> None:
    (tmp_path / "lines.json").write_text("1\n")
    # The files are looked for before there is a job: time enough for the others to come.
    body = json.dumps({"workers": 1, "delimited_files": {"s3_paths": [str(tmp_path / "lines.json")]}}).encode()

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: submit(server, body, "k"), range(8)))

    assert {200} == {answer.status_code for answer in answers}
    assert 1 == len({answer.text for answer in answers}) == len(jobs(server))


class LossyProxy(BaseHTTPRequestHandler):
    """Hands requests on to an operator, and loses its first answer."""

    address: str
    answers: list[int]

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        key = {"Idempotency-Key": self.headers["Idempotency-Key"]}
        answer = httpx.post(self.address + self.path, content=body, headers=key, timeout=TIMEOUT_SECONDS)
        self.answers.append(answer.status_code)
        if len(self.answers) > 1:
            self.send_response(answer.status_code)
            self.end_headers()
            self.wfile.write(answer.content)


def test_a_client_whose_answer_is_lost_gets_the_job_that_there_is(server: OperatorProcess) -> None:
    handler = type("Handler", (LossyProxy,), {"address": server.address, "answers": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as proxy:
        serving = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        with OperatorClient(f"http://127.0.0.1:{proxy.server_port}") as client:
            submitted = client.submit(f"{server.address}/api", inline(1))
        proxy.shutdown()
        serving.join()

    assert [200, 200] == handler.answers  # type: ignore[attr-defined]
    assert [submitted["job_id"]] == jobs(server)


def test_a_key_is_forgotten_with_its_api(server: OperatorProcess) -> None:
    first = submit(server, inline(1), "k").json()["job_id"]
    server.http.delete("/_cortex/apis/api")
    server.deploy(ECHO)

    second = submit(server, inline(2), "k")

    assert 200 == second.status_code
    assert [second.json()["job_id"]] == jobs(server) != [first]
