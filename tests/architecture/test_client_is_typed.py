"""A user's program is checked against the types of the installed package."""

import subprocess
import sys
from pathlib import Path

PROGRAM = """\
import asyncio
from pathlib import Path

import cortex


def run(words: list[str]) -> dict[str, int]:
    with cortex.client("local") as client:
        client.deploy(Path("cortex.yaml"))
        job: cortex.Job = client.submit(
            "measure",
            items=(word for word in words),
            batch_size=2,
            retries={"attempts": 3, "backoff": "2s"},
            max_failures="5%",
            timeout=None,
            on_failed_batch="isolate",
            results={"path": "s3://bucket/out", "format": "csv"},
        )
        status = job.wait(progress=lambda status: print(status["status"]), timeout=60.0, check=True)
        if status["batch_metrics"]["failed"]:
            job = job.rerun(workers=2)
        for failure in job.failures(follow=True):
            print(failure["type"].upper(), failure["items"] + 1)
        return {str(row): len(row) for row in job.results()}


async def main() -> None:
    async with cortex.async_client() as client:
        job: cortex.AsyncJob = await client.submit("measure", files="s3://bucket/images/", batch_size=16)
        lines: list[str] = [line async for line in job.logs(follow=True)]
        print(lines, (await job.status())["status"])
        try:
            await job.wait(check=True)
        except cortex.JobFailed as error:
            print(error.message, error.hint)


asyncio.run(main())
"""

MISTAKES = """\
import cortex

client = cortex.client(1)
client.submit("measure", items=[1], batchsize=1)
client.submit("measure", items=[1], on_failed_batch="ignore")
client.job("measure", "1").wait(progress=1)
cortex.nothing
"""


def check(folder: Path, program: str) -> str:
    (folder / "program.py").write_text(program)
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--hide-error-context", "program.py"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False).stdout


def test_a_strict_program_passes_and_mistakes_do_not(tmp_path: Path) -> None:
    passes, fails = check(tmp_path, PROGRAM), check(tmp_path, MISTAKES)

    assert "" == passes
    assert [3, 4, 5, 6, 7] == [int(line.split(":")[1]) for line in fails.splitlines() if ": error:" in line]
