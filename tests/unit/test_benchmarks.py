"""The benchmarks say what is so: how ratios, bounds and verdicts are taken."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from benchmarks.greedy import greedy_seconds
from benchmarks.http_rate import Endpoint
from benchmarks.ideal import slept
from benchmarks.load import large_lines, small_lines
from benchmarks.peers.peer import WARM_BATCHES, warm
from benchmarks.report import Report
from benchmarks.rounds import Contestant, Run, Series, ratio, run_rounds
from benchmarks.work import Ended


def test_the_greedy_bound_gives_each_batch_in_its_order_to_whoever_is_free_first() -> None:
    assert 4.0 == greedy_seconds([1.0, 3.0, 1.0, 2.0], workers=2)


def test_a_ratio_is_taken_within_each_round_so_that_a_slow_round_is_slow_for_both() -> None:
    ours = Series(name="ours", units=10, seconds=[1.0, 5.0, 1.0])
    theirs = Series(name="theirs", units=5, seconds=[1.0, 5.0, 2.0])

    found = ratio(ours, theirs)

    assert found is not None
    assert (2.0, 2.0, 4.0) == (found.median, found.low, found.high)


def test_contestants_take_turns_and_one_that_fails_has_no_more_of_them(tmp_path: Path) -> None:
    turns = tmp_path / "turns"  # each is in a process of its own

    def contestant(name: str, *, fails: bool = False) -> Contestant:
        @contextmanager
        def ready() -> Iterator[Run]:
            with turns.open("a") as file:
                file.write(name)
            if fails:
                raise RuntimeError("it has no broker")
            yield lambda: 2.0

        return Contestant(name=name, units=10, ready=ready)

    series = run_rounds([contestant("a"), contestant("b", fails=True), contestant("c")], 2)

    assert "abcac" == turns.read_text()
    assert [5.0, 5.0] == series["a"].rates
    assert "RuntimeError: it has no broker" == series["b"].problem


def test_what_plain_processes_sleep_is_given_in_the_order_of_the_sleeps() -> None:
    sleeps = [0.02, 0.0, 0.0, 0.03, 0.01]

    taken = slept(sleeps)

    assert [True] * 5 == [seconds >= wanted for seconds, wanted in zip(taken, sleeps, strict=True)]


def test_the_clock_of_a_peer_waits_until_each_of_its_workers_has_had_a_batch(tmp_path: Path) -> None:
    ended, sent = Ended(tmp_path / "ended"), [0]

    def send(_: Any) -> None:
        """Be two workers; the second one comes up when the first has had 30 batches."""
        sent[0] += 1
        (tmp_path / f"ended.{1 + (sent[0] > 30)}").touch()
        with (tmp_path / "ended").open("a") as file:
            file.write(".")

    warm("nothing", send, ended)

    assert 2 * WARM_BATCHES == sent[0]


@pytest.mark.parametrize(
    ("found", "at_least", "expected"),
    [(2.0, True, "holds"), (1.9, True, "DOES NOT HOLD"), (1.9, False, "holds"), (None, True, "not measured")],
)
def test_a_verdict_says_whether_the_bound_holds(
    capsys: pytest.CaptureFixture[str], found: float | None, at_least: bool, expected: str
) -> None:
    Report().verdict(1, "a figure", found, 2.0, at_least=at_least)

    assert expected in capsys.readouterr().out


def test_peers_get_the_lines_of_the_file_batch_by_batch(tmp_path: Path) -> None:
    load = small_lines(tmp_path, batches=301, batch_size=10)

    assert load.path.read_bytes() == b"".join(load.lines())
    assert [10] * 301 == [len(batch) for batch in load.items()]
    assert 7 == len(list(load.cut(7).lines()))


def test_the_large_lines_are_a_hundred_bytes_each(tmp_path: Path) -> None:
    load = large_lines(tmp_path, batches=20, batch_size=100)

    assert 2000 == load.path.read_bytes().count(b"\n")
    assert 100 == pytest.approx(load.path.stat().st_size / 2000, rel=0.2)


@contextmanager
def answering(*answers: bytes, is_chunked: bool) -> Iterator[str]:
    """Serve these answers, one after the other, and the last one again and again; give the URL."""
    left = list(answers)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            answer = left.pop(0) if len(left) > 1 else left[0]
            self.send_response(200)
            if is_chunked:
                self.send_header("Transfer-Encoding", "chunked")
                answer = b"%x\r\n%b\r\n0\r\n\r\n" % (len(answer), answer)
            else:
                self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/predict"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("is_chunked", [False, True])
def test_the_load_counts_as_many_answers_as_were_asked_for(is_chunked: bool) -> None:
    with answering(json.dumps([1]).encode(), is_chunked=is_chunked) as url:
        rate = Endpoint.find(url, {"a": 1}, [1]).measure(50, connections=4)

    assert 50 == len(rate.times)


def test_an_answer_that_is_not_the_expected_one_is_no_figure() -> None:
    with answering(b"[1]", b"[2, 3]", is_chunked=False) as url, pytest.raises(RuntimeError, match=r"\[2, 3\]"):
        Endpoint.find(url, {"a": 1}, [1]).measure(5, connections=1)
