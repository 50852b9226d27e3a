"""Environments, with the real uv and wheels that the tests make themselves."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from cortex.domain.errors import EnvironmentFailed
from cortex.environments import BASE_SET, Environments


class Place:
    """A project, a folder of wheels and an operator's data directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.project = root / "project"
        self.wheels = root / "wheels"
        self.data = root / "data"
        self.log: list[str] = []
        self.variables = {
            "PATH": os.environ["PATH"],
            "HOME": str(root),
            "PIP_CONFIG_FILE": "/dev/null",
            "PIP_FIND_LINKS": str(self.wheels),
            "PIP_NO_INDEX": "1",
        }
        for folder in (self.project, self.wheels):
            folder.mkdir()

    def wheel(self, name: str, version: str = "1.0", *, requires: str = "", folder: Path | None = None) -> Path:
        python = f"cp{sys.version_info.major}{sys.version_info.minor}" if "+" in version else "py3"
        file = (folder or self.wheels) / f"{name}-{version}-{python}-none-any.whl"
        information = f"{name}-{version}.dist-info"
        needs = f"Requires-Dist: {requires}\n" if requires else ""
        with zipfile.ZipFile(file, "w") as content:
            content.writestr(f"{name}.py", f"version = '{version}'\n")
            content.writestr(
                f"{information}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}"
            )
            content.writestr(
                f"{information}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {python}-none-any\n"
            )
            content.writestr(f"{information}/RECORD", "")
        return file

    def requires(self, text: str) -> Path:
        requirements = self.project / "requirements.txt"
        requirements.write_text(text)
        return requirements

    def environments(self, *, uv: Path | None = None, base_set: tuple[str, ...] = ()) -> Environments:
        return Environments(self.data, uv=uv, base_set=base_set, variables=self.variables)

    def ensure(self, environments: Environments | None = None, *, wants_gpu: bool = False) -> Path:
        self.log.clear()
        return asyncio.run(self.ensuring(environments or self.environments(), self.log, wants_gpu=wants_gpu))

    async def ensuring(self, environments: Environments, log: list[str], *, wants_gpu: bool = False) -> Path:
        requirements = self.project / "requirements.txt"
        return await environments.ensure(self.project, requirements, wants_gpu=wants_gpu, log=log.append)

    def key(self, *, wants_gpu: bool = False) -> str:
        return self.environments().key(self.project, self.project / "requirements.txt", wants_gpu=wants_gpu)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def hanging_uv(tmp_path: Path) -> Iterator[Path]:
    """A uv that says its process id through the pipe `started` and then does nothing."""
    started = tmp_path / "started"
    os.mkfifo(started)
    uv = tmp_path / "hanging-uv"
    uv.write_text(f"#!/bin/sh\nsleep 600 &\necho $$ $! > {started}\nwait\n")
    uv.chmod(0o755)
    yield uv
    pids = tmp_path / "pids"
    for pid in pids.read_text().split() if pids.exists() else []:
        if is_running(int(pid)):
            os.kill(int(pid), signal.SIGKILL)


async def announced(root: Path) -> list[int]:
    """Wait until the hanging uv runs, and give its process id and its child's."""
    text = await asyncio.to_thread((root / "started").read_text)
    (root / "pids").write_text(text)
    return [int(pid) for pid in text.split()]


def is_running(pid: int) -> bool:
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def answer(interpreter: Path, source: str) -> str:
    return subprocess.run([interpreter, "-c", source], check=True, capture_output=True, text=True).stdout.strip()


def test_a_projects_requirements_are_installed(place: Place) -> None:
    place.wheel("greeting", "1.2")
    place.requires("greeting\n")

    interpreter = place.ensure()

    assert answer(interpreter, "import greeting; print(greeting.version)") == "1.2"
    assert place.log[:2] == [
        "installing the project's requirements...",
        "resolved 1 package in " + place.log[1].split()[-1],
    ]
    assert place.log[-1].startswith("installed 1 package in ")
    assert place.environments().state(place.key()).status == "ready"


def test_a_finished_environment_is_used_again(place: Place) -> None:
    place.wheel("greeting")
    place.requires("greeting\n")
    first = place.ensure()

    again = place.ensure(place.environments(uv=Path("/nosuch/uv")))

    assert again == first
    assert place.log == []


def test_an_environment_has_bytecode_and_the_base_set_in_the_projects_version(place: Place) -> None:
    place.wheel("base", "1.0")
    place.wheel("base", "2.0")
    place.requires("base<2\n")

    interpreter = place.ensure(place.environments(base_set=("base",)))

    assert answer(interpreter, "import base; print(base.version)") == "1.0"
    assert Path(answer(interpreter, "import base; print(base.__cached__)")).exists()


def test_a_project_may_refer_to_its_own_files(place: Place) -> None:
    (place.project / "wheels").mkdir()
    place.wheel("local", "3.0", folder=place.project / "wheels")
    place.wheel("greeting", "1.0")
    place.wheel("greeting", "2.0")
    (place.project / "more.txt").write_text("greeting\n")
    (place.project / "limits.txt").write_text("greeting<2\n")
    place.requires("-r more.txt\n-c limits.txt\n./wheels/local-3.0-py3-none-any.whl\n")

    interpreter = place.ensure()

    assert answer(interpreter, "import greeting, local; print(greeting.version, local.version)") == "1.0 3.0"


def test_a_package_that_does_not_exist_is_named_with_a_hint(place: Place) -> None:
    place.requires("nosuchpackage\n")

    with pytest.raises(EnvironmentFailed, match="nosuchpackage was not found") as failure:
        place.ensure()

    assert failure.value.message.startswith("the project's requirements cannot be installed\n\n")
    assert "check the name" in str(failure.value.hint)
    assert "Using Python" not in failure.value.message
    assert "\x1b" not in failure.value.message
    assert list((place.data / "environments").glob("*/*")) == []


def test_a_failure_is_not_kept(place: Place) -> None:
    place.requires("greeting\n")
    environments = place.environments()
    with pytest.raises(EnvironmentFailed):
        place.ensure(environments)
    failed = environments.state(place.key())

    place.wheel("greeting")
    place.ensure(environments)

    assert failed.status == "failed"
    assert "greeting" in failed.message
    assert environments.state(place.key()).status == "ready"


def test_callers_who_need_the_same_share_one_build(place: Place) -> None:
    place.wheel("greeting")
    place.requires("greeting\n")
    environments = place.environments()
    logs: list[list[str]] = [[], []]

    async def both() -> list[Path]:
        return await asyncio.gather(*(place.ensuring(environments, log) for log in logs))

    first, second = asyncio.run(both())

    assert first == second
    assert logs[0][0] == "installing the project's requirements..."
    assert logs[1][0].startswith("waiting for the project's requirements")
    assert logs[0][1:] == logs[1][1:]


def test_callers_of_a_build_that_fails_all_learn_why(place: Place) -> None:
    place.requires("nosuchpackage\n")
    environments = place.environments()

    async def both() -> list[Path | BaseException]:
        return await asyncio.gather(*(place.ensuring(environments, []) for _ in range(2)), return_exceptions=True)

    assert all("nosuchpackage" in str(failure) for failure in asyncio.run(both()))


def test_the_last_caller_who_is_cancelled_kills_uv(place: Place, hanging_uv: Path) -> None:
    place.requires("greeting\n")
    environments = place.environments(uv=hanging_uv)

    async def cancel_one_after_the_other() -> tuple[list[bool], list[bool]]:
        first, second = (asyncio.create_task(place.ensuring(environments, [])) for _ in range(2))
        pids = await announced(place.root)
        first.cancel()
        await asyncio.wait([first])
        after_first = [is_running(pid) for pid in pids]
        second.cancel()
        await asyncio.wait([second])
        return after_first, [await ended(pid) for pid in pids]

    async def ended(pid: int) -> bool:
        while is_running(pid):  # the killed child is pid 1's to bury
            await asyncio.sleep(0.01)
        return True

    after_first, after_second = asyncio.run(cancel_one_after_the_other())

    assert after_first == [True, True]
    assert after_second == [True, True]
    assert environments.state(place.key()).status == "pending"
    assert list((place.data / "environments").glob("*/*")) == []


def test_a_build_that_a_crash_left_unfinished_is_built_again(place: Place, hanging_uv: Path) -> None:
    place.wheel("greeting")
    place.requires("greeting\n")
    operator = f"""
import asyncio, os
from pathlib import Path
from cortex.environments import Environments
root, uv, project = (Path(name) for name in {[str(place.data), str(hanging_uv), str(place.project)]!r})
environments = Environments(root, uv=uv, base_set=(), variables={place.variables!r})
asyncio.run(environments.ensure(project, project / "requirements.txt", wants_gpu=False, log=print))
"""
    with subprocess.Popen([sys.executable, "-c", operator], stdout=subprocess.DEVNULL) as process:
        asyncio.run(announced(place.root))
        process.kill()
    leftover = place.data / "environments" / place.key() / "leftover"
    leftover.mkdir()

    interpreter = place.ensure()

    assert answer(interpreter, "import greeting; print(greeting.version)") == "1.0"
    assert not leftover.exists()


def test_an_environment_whose_python_is_gone_is_built_again(place: Place) -> None:
    place.wheel("greeting")
    place.requires("greeting\n")
    gone = place.ensure()
    gone.unlink()

    assert place.ensure().exists()


def test_the_cpu_build_of_torch_is_taken_where_one_fits(place: Place) -> None:
    place.wheel("torch", "2.1")
    place.wheel("torch", "2.0+cpu")
    place.wheel("model", requires="torch")
    place.requires("model\n")

    interpreter = place.ensure()

    assert answer(interpreter, "import torch; print(torch.version)") == "2.0+cpu"
    assert place.log[-1] == "torch 2.0+cpu is the CPU build"


def test_a_worker_with_a_gpu_gets_the_ordinary_build_of_torch(place: Place) -> None:
    place.wheel("torch", "2.1", requires="nvidia_things")
    place.wheel("torch", "2.0+cpu")
    place.wheel("nvidia_things")
    place.requires("torch\n")

    place.ensure(wants_gpu=True)

    assert place.log[-1] == "torch 2.1 is the CUDA build"


def test_the_requirements_win_over_the_cpu_build_of_torch(place: Place) -> None:
    place.wheel("torch", "2.1", requires="nvidia_things")
    place.wheel("torch", "2.0+cpu")
    place.wheel("nvidia_things")
    place.requires("torch==2.1\n")

    place.ensure()

    assert place.log[-1] == "torch 2.1 is the CUDA build: no CPU build that fits the requirements was found"


def test_passwords_never_show(place: Place) -> None:
    del place.variables["PIP_NO_INDEX"]
    place.variables |= {"PIP_INDEX_URL": "http://joe:s3cret@127.0.0.1:9/simple", "UV_HTTP_RETRIES": "0"}
    place.requires("thing @ http://ann:hidd3n@127.0.0.1:9/thing-1.0-py3-none-any.whl\nother\n")

    with pytest.raises(EnvironmentFailed) as failure:
        place.ensure()

    shown = f"{failure.value} {place.log} {list((place.data / 'environments').rglob('*'))}"
    assert "127.0.0.1" in shown
    assert "s3cret" not in shown
    assert "hidd3n" not in shown


def test_the_key_follows_what_goes_in(place: Place) -> None:
    (place.project / "wheels").mkdir()
    wheel = place.wheel("local", folder=place.project / "wheels")
    (place.project / "more.txt").write_text("greeting\n")
    (place.project / "predictor.py").write_text("")
    place.requires(f"-r more.txt\n./wheels/{wheel.name}\n")
    keys = [place.key()]

    (place.project / "more.txt").write_text("greeting<2\n")
    keys.append(place.key())
    wheel.write_bytes(b"other")
    keys.append(place.key())
    place.requires(f"-r more.txt\n./wheels/{wheel.name}\nsix\n")
    keys.append(place.key())
    keys.append(place.key(wants_gpu=True))
    place.variables["PIP_INDEX_URL"] = "https://joe:one@index.example/simple"
    keys.append(place.key())

    assert len(set(keys)) == len(keys)
    place.variables["PIP_INDEX_URL"] = "https://joe:two@index.example/simple"
    (place.project / "predictor.py").write_text("# another version")
    assert place.key() == keys[-1]


def test_a_package_in_the_project_is_part_of_the_key_and_what_building_leaves_beside_it_is_not(place: Place) -> None:
    (place.project / "lib").mkdir()
    (place.project / "lib" / "module.py").write_text("")
    place.requires("./lib\n" + 300 * "x" + "\n")
    before = place.key()

    (place.project / "lib" / "build").mkdir()
    (place.project / "lib" / "build" / "module.py").write_text("")
    built = place.key()
    (place.project / "lib" / "module.py").write_text("# changed")
    changed = place.key()

    assert built == before
    assert changed != before


def test_the_base_set_is_what_cortex_itself_depends_on() -> None:
    depends_on = {re.split(r"[^\w-]", requirement)[0] for requirement in metadata.requires("cortex") or []}

    assert set(BASE_SET) <= depends_on


def test_the_base_set_is_importable_beside_the_projects_packages(place: Place) -> None:
    """The one test here that needs a package index."""
    place.variables = dict(os.environ)
    place.requires("requests==2.32.3\n")

    try:
        interpreter = place.ensure(place.environments(base_set=BASE_SET))
    except EnvironmentFailed as failure:
        if "cannot be reached" in str(failure.hint) and "CI" not in os.environ:
            pytest.skip("no package index")
        raise

    imports = "import boto3, numpy, PIL, yaml, msgspec, orjson, requests; print(requests.__version__)"
    assert answer(interpreter, imports) == "2.32.3"
