"""Models come from where users keep them: looked up each time, fetched once for each content, whole or not at all."""

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cortex.child_process.children import Children
from cortex.domain.errors import ModelFailed
from cortex.fetching.fetch import read_all
from cortex.fetching.process import Fetchers
from processes import children_named
from s3_server import S3


class Place:
    """A data directory, and fetchers of it: one operator after the other."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "uploads").mkdir(parents=True)
        self.log: list[str] = []
        self.allowed: list[Path] | None = None

    def fetchers(self, children: Children) -> Fetchers:
        return Fetchers(
            children=children,
            models=self.root / "models",
            unfinished=self.root / "uploads",
            log=self.root / "fetching.log",
            allowed=self.allowed,
        )

    def fetch(self, url: str, predictor_type: str = "onnx") -> Path:
        """Fetch as an operator does that was just started."""
        return asyncio.run(self._fetch_all([url], predictor_type))[0]

    def fetch_together(self, url: str, count: int) -> list[Path]:
        return asyncio.run(self._fetch_all([url] * count, "onnx"))

    async def _fetch_all(self, urls: list[str], predictor_type: str) -> list[Path]:
        children = Children()
        fetchers = self.fetchers(children)
        try:
            return await asyncio.gather(*(fetchers.fetch(predictor_type, url, self.log.append) for url in urls))
        finally:
            await children.close()

    def kept(self) -> list[str]:
        """Give the keys of all that was fetched."""
        return sorted(home.name for home, _ in read_all(self.root / "models"))

    def unfinished(self) -> list[str]:
        return [path.name for path in (self.root / "uploads").iterdir()]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "data")


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def gets(s3: S3, key: str) -> int:
    """Count the requests for the content of an object."""
    return sum(method == "GET" and where.split("?")[0].endswith(key) for method, where, _ in s3.faults.requests)


def test_a_file_is_fetched_once_for_each_content(place: Place, s3: S3) -> None:
    s3.put("m/iris.onnx", body=b"one")
    first = place.fetch(s3.url("m/iris.onnx"))
    again = place.fetch(s3.url("m/iris.onnx"))
    s3.put("m/iris.onnx", body=b"two")
    changed = place.fetch(s3.url("m/iris.onnx"))

    assert (b"one", b"two") == (first.read_bytes(), changed.read_bytes())
    assert first == again
    assert "iris.onnx" == first.name
    assert 2 == len(place.kept())
    assert 2 == gets(s3, "m/iris.onnx")


def test_a_folder_is_fetched_with_all_that_is_in_it_and_nothing_of_its_neighbours(place: Place, s3: S3) -> None:
    s3.put("m/net/saved_model.pb", "m/net/variables/variables.index", body=b"net")
    s3.put("m/net-2/saved_model.pb", "m/net.txt", body=b"no")

    found = [place.fetch(s3.url(path), "tensorflow") for path in ("m/net", "m/net/")]

    assert {"saved_model.pb": b"net", "variables/variables.index": b"net"} == files_below(found[0])
    assert found[0] == found[1]


def test_of_versions_only_the_highest_is_fetched(place: Place, s3: S3) -> None:
    s3.put("m/1/a.onnx", "m/9/b.onnx", "m/10/c.onnx")

    found = place.fetch(s3.url("m"))

    assert "10/c.onnx" == "/".join(found.parts[-2:])
    assert (0, 0, 1) == (gets(s3, "a.onnx"), gets(s3, "b.onnx"), gets(s3, "c.onnx"))


def test_those_who_ask_at_the_same_time_share_one_fetch(place: Place, s3: S3) -> None:
    s3.put("m.onnx")

    found = place.fetch_together(s3.url("m.onnx"), 5)

    assert 1 == len(set(found))
    assert 1 == gets(s3, "m.onnx")
    assert 5 == place.log.count(f"fetched model {s3.url('m.onnx')}")


def test_the_log_tells_what_is_fetched_and_nothing_of_what_is_here(place: Place, s3: S3) -> None:
    s3.put("m.onnx", body=b"x" * 2**20)
    url = s3.url("m.onnx")

    place.fetch(url)
    place.fetch(url)

    assert [f"fetching model {url} (1.0 MB)", f"fetched model {url}"] == place.log


@pytest.mark.parametrize(
    ("key", "predictor_type", "message"),
    [
        ("m/", "onnx", "there are 2 `.onnx` files in `s3://{bucket}/m/`: `a.onnx`, `b.onnx`"),
        ("m", "tensorflow", "there is no `saved_model.pb` in `s3://{bucket}/m/`; found `a.onnx`, `b.onnx`"),
        ("m/a.onnx", "tensorflow", "`s3://{bucket}/m/a.onnx` is a file that is no such model"),
        ("text", "onnx", "`s3://{bucket}/text` is a file that is no such model"),
        ("nothing", "onnx", "there is nothing at `s3://{bucket}/nothing`"),
        ("up", "onnx", "`s3://{bucket}/up` has a file that cannot be one on a disk: `../../../../evil`"),
    ],
)
def test_what_is_no_model_is_refused_and_leaves_nothing(
    place: Place, s3: S3, key: str, predictor_type: str, message: str
) -> None:
    s3.put("m/a.onnx", "m/b.onnx", "text", "up/a.onnx", "up/../../../../evil")

    with pytest.raises(ModelFailed) as failure:
        place.fetch(s3.url(key), predictor_type)

    assert f"model {s3.url(key)}: {message.format(bucket=s3.bucket)}" == failure.value.message
    assert failure.value.hint
    assert ([], []) == (place.kept(), place.unfinished())


def test_a_bucket_that_is_not_there_is_named(place: Place, s3: S3) -> None:
    with pytest.raises(ModelFailed, match="no-such-bucket"):
        place.fetch("s3://no-such-bucket/m.onnx")


def test_a_connection_that_breaks_is_tried_again(place: Place, s3: S3) -> None:
    s3.put("m.onnx", body=bytes(range(256)) * 4096)
    s3.faults.cut(100_000, times=2, matching="m.onnx")

    assert bytes(range(256)) * 4096 == place.fetch(s3.url("m.onnx")).read_bytes()


def test_a_model_that_changes_while_it_is_fetched_is_fetched_as_it_is_then(place: Place, s3: S3) -> None:
    s3.put("m/a.onnx", "m/b.bin", body=b"old")
    s3.faults.before(lambda: s3.put("m/a.onnx", "m/b.bin", body=b"new"), matching="b.bin")

    found = place.fetch(s3.url("m"))

    assert {"a.onnx": b"new", "b.bin": b"new"} == files_below(found.parent)
    assert [] == place.unfinished()


def kill_fetching() -> None:
    (process,) = children_named("cortex-fetch")
    process.send_signal(signal.SIGKILL)


def test_a_fetch_that_is_killed_leaves_nothing_and_another_one_goes_on(place: Place, s3: S3) -> None:
    s3.put("m/a.onnx", "m/b.bin", body=b"whole")
    s3.faults.before(kill_fetching, matching="b.bin")

    found = place.fetch(s3.url("m"))

    assert {"a.onnx": b"whole", "b.bin": b"whole"} == files_below(found.parent)
    assert f"the process that fetches model {s3.url('m')} was killed by signal 9 (SIGKILL), and is started again" in (
        place.log
    )
    assert (1, []) == (len(place.kept()), place.unfinished())


def test_a_fetch_that_keeps_dying_is_given_up_and_leaves_nothing(place: Place, s3: S3) -> None:
    s3.put("m.onnx")
    s3.faults.before(kill_fetching, times=4, matching="m.onnx")

    with pytest.raises(ModelFailed, match=r"was killed by signal 9 \(SIGKILL\), 4 times"):
        place.fetch(s3.url("m.onnx"))

    assert ([], []) == (place.kept(), place.unfinished())


def test_where_the_storage_does_not_answer_what_was_fetched_last_is_used(
    place: Place, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.put("m.onnx", body=b"first")
    place.fetch(s3.url("m.onnx"))
    s3.put("m.onnx", body=b"second")
    second = place.fetch(s3.url("m.onnx"))
    place.log.clear()
    for name in s3.env:
        if name.startswith("AWS_ENDPOINT_URL"):
            monkeypatch.setenv(name, "http://127.0.0.1:1")

    with ThreadPoolExecutor(1) as others:  # each is asked for again and again, which takes a while
        other = others.submit(place.fetch, s3.url("never fetched.onnx"))
        found = place.fetch(s3.url("m.onnx"))

    assert second == found
    (line,) = place.log
    assert line.startswith(f"using model {s3.url('m.onnx')} as it was fetched before, because it cannot be looked up: ")
    assert isinstance(other.exception(), ModelFailed)


def test_who_is_not_waited_for_any_more_is_ended(place: Place, s3: S3) -> None:
    s3.put("m.onnx")

    async def give_up_within() -> str:
        children = Children()
        fetchers = place.fetchers(children)
        asked = asyncio.Event()
        loop = asyncio.get_running_loop()
        s3.faults.before(lambda: loop.call_soon_threadsafe(asked.set), method="HEAD")
        s3.faults.before(lambda: loop.call_soon_threadsafe(asked.set))
        task = asyncio.create_task(fetchers.fetch("onnx", s3.url("m.onnx"), place.log.append))
        await asked.wait()
        task.cancel()
        await asyncio.wait([task])
        await children.close()
        return fetchers.state("onnx", s3.url("m.onnx")).status

    assert "pending" == asyncio.run(give_up_within())
    assert [] == children_named("cortex-fetch")
    assert [] == place.unfinished()


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder of this machine with a model in it."""
    folder = tmp_path / "here"
    (folder / "3").mkdir(parents=True)
    (folder / "3" / "m.onnx").write_bytes(b"x")
    return folder


@pytest.fixture(params=[str, Path.as_uri], ids=["path", "url"])
def written(request: pytest.FixtureRequest) -> Iterator[Callable[[Path], str]]:
    """How a path is written."""
    return request.param


def test_a_model_of_this_machine_is_used_where_it_lies(
    place: Place, here: Path, written: Callable[[Path], str]
) -> None:
    assert here / "3" / "m.onnx" == place.fetch(written(here))
    assert here / "3" / "m.onnx" == place.fetch(written(here / "3" / "m.onnx"))
    assert ([], []) == (place.kept(), place.log)


def test_a_model_outside_the_allowed_folders_is_refused(
    place: Place, here: Path, written: Callable[[Path], str]
) -> None:
    place.allowed = [here.parent / "other"]

    with pytest.raises(ModelFailed, match="is outside the folders that this operator may use"):
        place.fetch(written(here))

    place.allowed = [here]
    assert here / "3" / "m.onnx" == place.fetch(written(here))


def test_a_link_that_leads_out_of_the_allowed_folders_is_refused(place: Place, here: Path, tmp_path: Path) -> None:
    (tmp_path / "allowed").mkdir()
    (tmp_path / "allowed" / "m.onnx").symlink_to(here / "3" / "m.onnx")
    place.allowed = [tmp_path / "allowed"]

    with pytest.raises(ModelFailed, match="is outside the folders"):
        place.fetch(str(tmp_path / "allowed" / "m.onnx"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_model_of_this_machine_that_cannot_be_read_is_refused(place: Place, here: Path) -> None:
    (here / "3" / "m.onnx").chmod(0)

    with pytest.raises(ModelFailed, match="Permission denied"):
        place.fetch(str(here))
