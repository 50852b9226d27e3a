"""A process of a replica, spoken to as the operator speaks to it."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from channel_peer import TIMEOUT_SECONDS
from cortex.domain.frame import Frame
from lone_replica import WORKER, LoneReplica
from waiting import wait_until

ECHO = """
    class PythonPredictor:
        def __init__(self, config):
            print("constructed with", config)

        def predict(self, payload):
            return payload
"""

GATED = """
    import threading

    gates = {name: threading.Event() for name in [b"a", b"b", b"c"]}

    class PythonPredictor:
        def __init__(self, config): ...

        def predict(self, payload):
            if payload.startswith(b"open "):
                gates[payload[5:]].set()
                return "opened"
            gates[payload].wait()
            return b"passed " + payload
"""


def with_predict(body: str, arguments: str = "self, payload", before: str = "") -> str:
    return (
        f"{before}\nclass PythonPredictor:\n    def __init__(self, config): ...\n    def predict({arguments}): {body}\n"
    )


def shown(answer: Frame) -> Any:
    return json.loads(answer["data"])


def test_a_process_says_what_it_is_and_what_it_wants_of_requests(tmp_path):
    with LoneReplica(tmp_path, ECHO, setup={"config": {"a": 1}}) as replica:
        assert {
            "type": "hello",
            "role": "worker",
            "worker": WORKER,
            "serves": True,
            "phase": "ready",
            "error": None,
            "names": ["payload"],
            "busy": [],
        } == replica.hello

        assert "constructed with {'a': 1}" in replica.end()
        assert 0 == replica.process.returncode


def test_an_answer_is_what_predict_returned(tmp_path):
    with LoneReplica(tmp_path, ECHO) as replica:
        answer = replica.ask(b'{"a": [1, null]}', "application/json")

        assert 0 <= answer.pop("seconds") < TIMEOUT_SECONDS
        assert {
            "type": "response",
            "id": 1,
            "status": 200,
            "headers": [["content-type", "application/json"]],
            "more": False,
            "data": b'{"a":[1,null]}',
        } == answer
        assert b"text" == replica.ask(b"text", "text/plain")["data"]
        assert b"" == replica.ask(b"", "image/png")["data"]


def test_predict_gets_query_and_headers_where_it_names_them(tmp_path):
    predict = with_predict("return [query_params['q'], headers['X-A']]", "self, query_params, headers")

    with LoneReplica(tmp_path, predict) as replica:
        answer = replica.ask(query="q=%C3%A4", headers=[["x-a", "1"]])

        assert ["query_params", "headers"] == replica.hello["names"]
        assert ["ä", "1"] == shown(answer)


def test_a_body_that_is_not_what_it_says_is_the_clients_error(tmp_path):
    with LoneReplica(tmp_path, ECHO) as replica:
        answer = replica.ask(b"{", "application/json")

        assert (400, "request.invalid") == (answer["status"], shown(answer)["kind"])
        assert "the body is not JSON, as its Content-Type `application/json` says" in shown(answer)["message"]
        assert b"1" == replica.ask(b"1")["data"]
        assert "ERROR" not in replica.end()


@pytest.mark.parametrize("raised", ["ValueError", "KeyboardInterrupt", "SystemExit", "MemoryError", "StopIteration"])
def test_what_predict_raises_is_in_the_log_and_not_in_the_answer_and_the_process_lives_on(tmp_path, raised):
    with LoneReplica(tmp_path, with_predict(f"\n        if payload:\n            raise {raised}('secret')")) as replica:
        answer = replica.ask(b"1")
        later = replica.ask(b"0")
        printed = replica.end()

    message = f"`predict` raised {raised}; its traceback is in the API's log: `cortex logs classifier`"
    assert (500, {"kind": "predict.failed", "message": message}) == (answer["status"], shown(answer))
    assert (200, b"null") == (later["status"], later["data"])
    assert f"{raised}: secret" in printed
    assert "predictor.py" in printed
    assert "answers.py" not in printed


def test_what_cannot_be_sent_is_a_failure_that_the_log_explains(tmp_path):
    with LoneReplica(tmp_path, with_predict("return object()")) as replica:
        answer = replica.ask()
        printed = replica.end()

    assert (500, "predict.failed") == (answer["status"], shown(answer)["kind"])
    assert "cannot be sent" in shown(answer)["message"]
    assert "predict returned a value that is not JSON" in printed


def test_as_many_requests_as_there_are_threads_are_in_predict_at_once(tmp_path):
    predict = with_predict("return barrier.wait(60) >= 0", before="import threading\nbarrier = threading.Barrier(2)")

    with LoneReplica(tmp_path, predict, threads=2) as replica:
        first, second = replica.request(), replica.request()
        answers = [replica.hear(), replica.hear()]

    assert {first, second} == {answer["id"] for answer in answers}
    assert [b"true", b"true"] == [answer["data"] for answer in answers]


def test_an_answer_does_not_wait_for_the_slower_ones_before_it(tmp_path):
    with LoneReplica(tmp_path, GATED, threads=2) as replica:
        slow, fast = replica.request(b"a"), replica.request(b"open b")

        assert fast == replica.hear()["id"]
        replica.request(b"open a")
        assert {slow: b"passed a", slow + 2: b"opened"} == {
            answer["id"]: answer["data"] for answer in (replica.hear(), replica.hear())
        }


def test_requests_that_wait_are_predicted_in_the_order_in_which_they_came(tmp_path):
    with LoneReplica(tmp_path, ECHO) as replica:
        sent = [replica.request(str(number).encode()) for number in range(200)]

        assert [(identity, str(number).encode()) for number, identity in enumerate(sent)] == [
            (answer["id"], answer["data"]) for answer in (replica.hear() for _ in sent)
        ]


def test_post_predict_runs_after_the_answer_was_sent_and_what_it_raises_is_in_the_log_alone(tmp_path):
    predictor = """
        import threading
        answered = threading.Event()

        class PythonPredictor:
            def __init__(self, config): ...

            def predict(self, payload):
                if payload == b"heard":
                    answered.set()
                return {"got": payload.decode()}

            def post_predict(self, response, payload):
                if payload == b"first":
                    answered.wait()
                    raise ValueError(f"after {response}")
    """
    with LoneReplica(tmp_path, predictor, threads=2) as replica:
        first = replica.ask(b"first")
        second = replica.ask(b"heard")
        printed = replica.end()

    assert [{"got": "first"}, {"got": "heard"}] == [shown(first), shown(second)]
    assert "post_predict failed" in printed
    assert "ValueError: after {'got': 'first'}" in printed


def test_a_long_body_comes_in_pieces(tmp_path):
    with LoneReplica(tmp_path, with_predict("return bytes(payload)")) as replica:
        pieces = [replica.ask(str(20 * 1024 * 1024).encode())]
        while pieces[-1]["more"]:
            pieces.append(replica.hear())

        assert [8 * 1024 * 1024, 8 * 1024 * 1024, 4 * 1024 * 1024] == [len(piece["data"]) for piece in pieces]
        assert {1} == {piece["id"] for piece in pieces}
        assert b"0000" == replica.ask(b"4")["data"].replace(b"\0", b"0")


def test_an_answer_that_is_too_large_is_a_failure(tmp_path):
    with LoneReplica(tmp_path, with_predict("return bytes(payload)")) as replica:
        answer = replica.ask(str(64 * 1024 * 1024 + 1).encode())

        assert (500, "predict.failed") == (answer["status"], shown(answer)["kind"])
        assert "an answer may have 67108864 (64 MiB)" in replica.end()


def test_the_next_operator_hears_what_is_in_predict_or_waits_and_that_it_is_done(tmp_path):
    with LoneReplica(tmp_path, GATED, threads=2) as replica:
        running, waiting = [replica.request(b"a"), replica.request(b"b")], [replica.request(b"c")]
        last = replica.request(b"open a")
        replica.change_operators()
        heard = replica.hello

        assert ("ready", [*running, *waiting, last]) == (heard["phase"], heard["busy"])


def test_requests_of_an_operator_that_is_gone_end_with_the_next_one_and_are_forgotten_then(tmp_path):
    with LoneReplica(tmp_path, GATED, threads=2) as replica:
        running = replica.request(b"a")
        replica.change_operators()
        first_hello = replica.hello
        opened = replica.request(b"open a")
        ended = {replica.hear()["id"], replica.hear()["id"]}
        replica.change_operators()

        assert [running] == first_hello["busy"]
        assert {running, opened} == ended
        assert [] == replica.hello["busy"]
        assert b"opened" == replica.ask(b"open b")["data"]


def test_the_page_tells_which_requests_may_have_begun_and_which_surely_have_not(tmp_path):
    with LoneReplica(tmp_path, GATED, threads=2) as replica:
        assert -1 == replica.begun()
        answered = replica.ask(b"open b")["id"]
        replica.request(b"a")
        last = replica.request(b"a")
        wait_until(lambda: last == replica.begun(), "both threads are in predict")

        waiting = replica.request(b"open a")

        replica.process.kill()
        replica.printed()
        assert (answered + 2, waiting - 1) == (last, replica.begun())


def test_what_waits_is_answered_before_the_process_ends(tmp_path):
    with LoneReplica(tmp_path, ECHO) as replica:
        sent = [replica.request(b"1") for _ in range(50)]
        replica.let_end()

        assert sent == [replica.hear()["id"] for _ in sent]
        replica.printed()
        assert 0 == replica.process.returncode


def test_a_predict_that_never_returns_does_not_keep_the_process_from_being_stopped(tmp_path):
    predict = with_predict("print('in predict') or threading.Event().wait()", before="import threading")
    with LoneReplica(tmp_path, predict) as replica:
        replica.request()
        replica.let_end()
        assert replica.process.stdout is not None
        while "in predict" not in replica.process.stdout.readline():
            continue

        replica.interrupt(is_meant=True)
        replica.printed()

    assert -signal.SIGTERM == replica.process.returncode


def test_a_sigterm_that_is_not_meant_for_it_leaves_a_process_as_it_is(tmp_path):
    with LoneReplica(tmp_path, ECHO) as replica:
        replica.interrupt(is_meant=False)

        assert b"1" == replica.ask(b"1")["data"]
        replica.end()
        assert 0 == replica.process.returncode


def test_a_predictor_that_cannot_be_constructed_says_why_and_waits_for_its_end(tmp_path):
    with LoneReplica(
        tmp_path, with_predict("...").replace("config): ...", "config): raise ValueError('no')")
    ) as replica:
        assert ("failed", "ValueError: no", []) == tuple(replica.hello[key] for key in ("phase", "error", "busy"))
        replica.change_operators()
        assert "failed" == replica.hello["phase"]

        assert "ValueError: no" in replica.end()
        assert 1 == replica.process.returncode


def test_what_predict_prints_is_seen_when_the_request_is_answered(tmp_path):
    with LoneReplica(tmp_path, with_predict("print('no line end', end='')")) as replica:
        replica.ask()
        printed = replica.process.stdout

        assert printed is not None
        assert "loading the predictor" in printed.readline()
        assert "no line end" == printed.read(11)


def test_lines_that_several_threads_print_never_mix(tmp_path):
    before = """
import threading
both_have_begun = threading.Barrier(2)
"""
    body = """
        print(payload, end="")
        both_have_begun.wait()
        print(payload)
        both_have_begun.wait()
"""
    with LoneReplica(tmp_path, with_predict(body, before=before), threads=2) as replica:
        for _ in range(2):
            replica.request(b"1")
            replica.request(b"2")
        for _ in range(4):
            replica.hear()

        assert ["11", "11", "22", "22"] == sorted(line for line in replica.end().splitlines() if ":cortex:" not in line)


def test_what_a_thread_of_predict_has_begun_to_print_is_seen_at_the_end(tmp_path):
    body = """
        other = threading.Thread(target=print, args=["no line end"], kwargs={"end": ""})
        other.start()
        other.join()
"""
    with LoneReplica(tmp_path, with_predict(body, before="import threading")) as replica:
        replica.ask()

        assert replica.end().endswith("no line end")


def test_a_process_has_the_name_of_its_api(tmp_path):
    predict = with_predict("return os.environ['CORTEX_API_NAME'], os.getcwd()", before="import os")

    with LoneReplica(tmp_path, predict) as replica:
        assert ["classifier", str(Path(tmp_path, "project"))] == shown(replica.ask())
