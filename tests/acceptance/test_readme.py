"""The README is true: what it shows is what happens."""

from pathlib import Path

from shell import User
from transcript import files, job_ids, shows, steady, steps

README = (Path(__file__).parents[2] / "README.md").read_text()


def test_the_first_job_of_the_readme(user: User) -> None:
    for name, text in files(README).items():
        user.write(name, text)
    real: dict[str, str] = {}

    commands = []
    for step in steps(README):
        command = step.command
        for shown, meant in real.items():
            command = command.replace(shown, meant)
        written = user.shell(command)

        assert shows(step.output, written), f"$ {step.command}\n{steady(step.output)}\n--- but it was:\n{written}"
        real |= zip(job_ids(step.output), job_ids(written), strict=False)
        commands.append(command)

    written_files = {"predictor.py", "cortex.yaml", "job.json", "pipeline.py", "realtime.yaml"}
    assert written_files == {path.name for path in user.folder.iterdir()}
    assert commands[-1] == "cortex cluster down"
