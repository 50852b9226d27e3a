"""Build one environment with uv."""

import re
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from socket import gethostname

from cortex.domain.errors import EnvironmentFailed
from cortex.environments.install import CommandError, run_uv
from cortex.environments.recipe import Recipe
from cortex.environments.torch_build import Attempt, attempts, describe

_PROGRESS = re.compile(
    r"Using Python|Resolved|Prepared|Installed|Audited|Bytecode compiled"
    r"|\s*(?:Downloading|Downloaded|Building|Built|Updating|Updated) | [+~-] "
)
_WORTH_TELLING = re.compile(r"\s*(?P<line>(?:Resolved|Downloading|Building|Updating|warning:) .*)")
_INSTALLED = re.compile(r" \+ (?P<name>[^=\s]+)(?:==(?P<version>\S+))?")

# These would turn uv away from the environment that it is told to fill.
_MISLEADING = {"UV_PYTHON", "UV_SYSTEM_PYTHON", "UV_BREAK_SYSTEM_PACKAGES", "UV_CONSTRAINT", "PYTHONPATH", "PYTHONHOME"}


async def build_environment(
    recipe: Recipe, folder: Path, *, uv: Path, cache: Path, tell: Callable[[str], None]
) -> dict[str, str]:
    """Make a virtual environment in a new folder, install what the recipe says, and give the packages' versions.

    The base set and the project's requirements are resolved together and the base set asks for no versions, so the
    project's versions win. Raises `EnvironmentFailed`; the folder is then of no use.
    """
    started = time.monotonic()
    try:
        await _make_empty(recipe, folder, uv=uv, cache=cache)
        packages = await _fill(recipe, folder, uv=uv, cache=cache, tell=tell)
    except CommandError as failure:
        raise _explain(str(failure)) from None
    noun = "package" if len(packages) == 1 else "packages"
    tell(f"installed {len(packages)} {noun} in {time.monotonic() - started:.1f}s")
    for line in describe(packages, wants_gpu=recipe.wants_gpu):
        tell(line)
    return packages


async def _make_empty(recipe: Recipe, folder: Path, *, uv: Path, cache: Path) -> None:
    await run_uv(
        [uv, "venv", *_common(cache), "--no-project", "--python", _base_interpreter(), folder.absolute()],
        folder=recipe.project,
        variables=_variables(recipe.variables),
        observe=lambda _: None,
    )


async def _fill(recipe: Recipe, folder: Path, *, uv: Path, cache: Path, tell: Callable[[str], None]) -> dict[str, str]:
    async def install(attempt: Attempt) -> dict[str, str]:
        packages: dict[str, str] = {}

        def observe(line: str) -> None:
            if told := _WORTH_TELLING.match(line):
                tell(told["line"][0].lower() + told["line"][1:])
            elif installed := _INSTALLED.match(line):
                packages[installed["name"]] = installed["version"] or ""

        command = [uv, "pip", "install", *_common(cache), "--python", folder.absolute() / "bin" / "python"]
        command += ["--compile-bytecode", "--requirements", recipe.requirements.absolute(), *recipe.base_set]
        command += _additions(attempt, recipe, folder)
        await run_uv(command, folder=recipe.project, variables=_variables(recipe.variables), observe=observe)
        return packages

    *hopeful, last = attempts(recipe.variables, recipe.requirements, wants_gpu=recipe.wants_gpu)
    for attempt in hopeful:
        with suppress(CommandError):
            return await install(attempt)
    return await install(last)  # what it says is about the project's own requirements


def _common(cache: Path) -> tuple[str | Path, ...]:
    return ("--cache-dir", cache.absolute(), "--color", "never", "--no-progress")


def _additions(attempt: Attempt, recipe: Recipe, folder: Path) -> list[str | Path]:
    # uv has an option for this and no variable.
    arguments = ["--no-index"] if recipe.variables.get("UV_NO_INDEX") else []
    constraints: list[str | Path] = [*recipe.own_constraints()]
    if attempt.constraint:
        constraints.append(folder.absolute() / "torch.txt")
        (folder / "torch.txt").write_text(attempt.constraint + "\n", encoding="utf-8")
    return [*arguments, *attempt.arguments, *(word for file in constraints for word in ("--constraints", file))]


def _variables(variables: Mapping[str, str]) -> dict[str, str]:
    # Packages' build scripts run with these: the operator's own settings, its key among them, are not for them.
    kept = {n: v for n, v in variables.items() if n not in _MISLEADING and not n.startswith("CORTEX_")}
    return {**kept, "UV_PYTHON_DOWNLOADS": "never", "GIT_TERMINAL_PROMPT": "0"}


def _base_interpreter() -> Path:
    """Find the Python that the operator's own environment is made of, which outlives that environment."""
    base = Path(sys.base_prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}")
    return base if base.exists() else Path(sys.executable)


def _explain(output: str) -> EnvironmentFailed:
    message = "\n".join(line for line in output.splitlines() if not _PROGRESS.match(line)).strip()
    return EnvironmentFailed(
        f"the project's requirements cannot be installed\n\n{message or output}", hint=_hint(message)
    )


def _hint(message: str) -> str:
    if "not found in the" in message or "no version" in message:
        return (
            "check the name and the version in `requirements.txt`; a package from an index of your own needs that "
            "index in pip's or uv's settings where it is installed (`PIP_INDEX_URL`, `PIP_EXTRA_INDEX_URL`)"
        )
    if "Failed to fetch" in message or "error sending request" in message:
        return f"the package index cannot be reached from `{gethostname()}`: check its network, or name another index"
    if "Failed to build" in message:
        return "a package has no wheel for this machine and its build failed: ask for a version that has one"
    return "correct `requirements.txt` and deploy again"
