"""Processes of the operator's own: forked or fresh, each answers its call, and nothing of it stays."""

import asyncio
import math
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from cortex.child_process import children as children_module
from cortex.child_process import fork_server
from cortex.child_process.children import Call, ChildDied, Children
from processes import children_named
from stub_room.words import WORDS, Asked

SERVER, CHILD = "cortex-forks", "stub-room"

forked_or_fresh = pytest.mark.parametrize("children", ["forked", "fresh"], indirect=True)


@pytest.fixture(params=["forked"])
def children(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Children:
    """Those that fork, or cannot."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))  # where the room lies
    return Children(_fresh_until={"forked": 0.0, "fresh": math.inf}[request.param])


@pytest.fixture
def ask(tmp_path: Path, children: Children) -> Callable[..., Coroutine[Any, Any, list[str]]]:
    """Have a process do something, and give what it has told."""

    async def ask(
        action: str, *, file: str = "", heard: Callable[[str], object] = lambda _: None, size: int = 0
    ) -> list[str]:
        request = WORDS.write_request(Asked(file=file, padding="x" * size))
        call = Call(module="stub_room", action=action, request=request, log=tmp_path / "log")
        told: list[str] = []
        async with aclosing(children.events(WORDS, call)) as events:
            async for event in events:
                told.append(event.text)
                heard(event.text)
        return told

    return ask


Ask = Callable[..., Coroutine[Any, Any, list[str]]]


def run(children: Children, story: Coroutine[Any, Any, Any]) -> Any:
    """Run a story, to the end; nothing is left of it."""

    async def to_the_end() -> Any:
        try:
            return await story
        finally:
            await children.close()

    result = asyncio.run(to_the_end())
    assert [] == children_named(SERVER) + children_named(CHILD)
    return result


def server() -> psutil.Process:
    (found,) = children_named(SERVER)
    return found


async def until(condition: Callable[[], Any]) -> Any:
    """Wait for a fact that nobody announces; give it."""
    async with asyncio.timeout(60):
        while not (found := condition()):
            await asyncio.sleep(0.01)
    return found


@forked_or_fresh
def test_a_call_is_told_all_to_the_last_word(children: Children, ask: Ask) -> None:
    assert ["1", "2", "3", "the last"] == run(children, ask("count"))


@forked_or_fresh
def test_a_large_request_arrives_whole(children: Children, ask: Ask) -> None:
    assert [str(10_000_000)] == run(children, ask("measure", size=10_000_000))


def test_calls_that_follow_each_other_are_forked_from_one_process(children: Children, ask: Ask) -> None:
    async def story() -> tuple[list[str], list[int]]:
        told, servers = [], []
        for _ in range(3):
            told += await ask("parent")
            servers.append(server().pid)
        return told, servers

    told, servers = run(children, story())

    assert 1 == len(set(servers))
    assert list(map(str, servers)) == told


def test_many_calls_at_once_do_not_mix(children: Children, ask: Ask) -> None:
    async def story() -> list[list[str]]:
        return await asyncio.gather(*(ask("measure", size=number) for number in range(40)))

    assert [[str(number)] for number in range(40)] == run(children, story())


@forked_or_fresh
def test_what_is_printed_and_what_is_raised_goes_to_the_log(tmp_path: Path, children: Children, ask: Ask) -> None:
    told = run(children, ask("raise"))

    log = (tmp_path / "log").read_text()
    assert ["ValueError: as asked"] == told
    assert "printed\n" in log
    assert 'raise ValueError("as asked")' in log


@forked_or_fresh
@pytest.mark.parametrize(("action", "how"), [("exit", "exited with code 3"), ("die", "signal 9 (SIGKILL)")])
def test_how_a_process_died_is_told(children: Children, ask: Ask, action: str, how: str) -> None:
    with pytest.raises(ChildDied) as died:
        run(children, ask(action))

    assert died.value.how.endswith(how)


@forked_or_fresh
def test_a_cancelled_call_leaves_neither_its_process_nor_what_that_has_started(children: Children, ask: Ask) -> None:
    async def story() -> None:
        heard: asyncio.Queue[str] = asyncio.Queue()
        call = asyncio.create_task(ask("start_another", heard=heard.put_nowait))
        child, started = map(int, (await heard.get()).split())
        assert (True, True) == (_is_alive(child), _is_alive(started))
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert not psutil.pid_exists(child)
        await until(lambda: not _is_alive(started))

    run(children, story())


def test_what_a_process_has_started_ends_with_it(children: Children, ask: Ask) -> None:
    async def story() -> None:
        heard: list[str] = []
        with pytest.raises(ChildDied):
            await ask("start_another_and_die", heard=heard.append)
        await until(lambda: not _is_alive(int(heard[0])))

    run(children, story())


def _is_alive(pid: int) -> bool:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def test_a_call_that_has_told_nothing_outlives_the_server(tmp_path: Path, children: Children, ask: Ask) -> None:
    os.mkfifo(tmp_path / "begun")

    async def story() -> list[str]:
        call = asyncio.create_task(ask("wait_to_be_asked_twice", file=str(tmp_path / "begun")))
        await asyncio.to_thread((tmp_path / "begun").read_bytes)
        first = server()
        first.kill()
        told = await call
        assert first != server()
        return told

    assert ["asked twice"] == run(children, story())


def test_a_call_that_has_told_something_dies_with_the_server(children: Children, ask: Ask) -> None:
    async def story() -> None:
        heard: asyncio.Queue[str] = asyncio.Queue()
        call = asyncio.create_task(ask("hang", heard=heard.put_nowait))
        child = int(await heard.get())
        server().kill()
        with pytest.raises(ChildDied, match=r"was killed by signal 9 \(SIGKILL\)"):
            await call
        await until(lambda: not _is_alive(child))

    run(children, story())


def test_a_server_that_dies_again_and_again_is_done_without(
    children: Children, ask: Ask, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stub = tmp_path / "python"
    stub.write_text(f'#!/bin/sh\ncase "$*" in *child_process*) kill -9 $$;; esac\nexec {sys.executable} "$@"\n')
    stub.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(stub))

    assert [str(os.getpid())] == run(children, ask("parent"))


def test_a_server_with_a_thread_forks_nothing(children: Children, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUB_ROOM_THREAD", "1")

    async def story() -> list[str]:
        return [*await ask("parent"), *await ask("parent")]

    assert [str(os.getpid())] * 2 == run(children, story())


def test_a_module_that_cannot_be_imported_is_told_by_the_log(tmp_path: Path, children: Children) -> None:
    async def story() -> None:
        call = Call(module="no_such_room", action="", request=b"", log=tmp_path / "log")
        async with aclosing(children.events(WORDS, call)) as events:
            await anext(events)

    with pytest.raises(ChildDied, match="exited with code 1"):
        run(children, story())

    assert "No module named 'no_such_room'" in (tmp_path / "log").read_text()


def test_a_server_that_is_stopped_holds_up_nobody(
    children: Children, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> list[str]:
        await ask("count")
        server().suspend()
        monkeypatch.setattr(fork_server, "_SILENT_SECONDS", 0.1)
        return await ask("count")

    assert ["1", "2", "3", "the last"] == run(children, story())


def test_a_server_that_nobody_needs_ends(children: Children, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children_module, "_IDLE_SECONDS", 0.01)

    async def story() -> list[str]:
        await ask("count")
        await until(lambda: not children_named(SERVER))
        return await ask("count")

    assert ["1", "2", "3", "the last"] == run(children, story())


def test_a_server_leaves_signals_that_all_processes_get_to_the_operator(children: Children, ask: Ask) -> None:
    async def story() -> tuple[int, int]:
        await ask("count")
        before = server()
        for number in (signal.SIGTERM, signal.SIGINT):
            before.send_signal(number)
        await ask("count")
        return before.pid, server().pid

    before, after = run(children, story())

    assert before == after
