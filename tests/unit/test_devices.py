"""Which GPUs there are to give."""

from pathlib import Path

import pytest

from cortex.engines.devices import gpus_of_machine


@pytest.mark.parametrize(
    ("expected", "visible"),
    [
        (("0", "1"), "0,1"),
        (("GPU-5d1c", "3"), " GPU-5d1c , 3"),
        ((), ""),
        ((), "-1"),
        (("2",), "2,-1,3"),
        (("2", "3"), "2,3,2"),
    ],
)
def test_the_gpus_are_those_that_the_operator_may_use(expected: tuple[str, ...], visible: str, tmp_path: Path) -> None:
    (tmp_path / "nvidia0").touch()

    assert expected == gpus_of_machine({"CUDA_VISIBLE_DEVICES": visible}, tmp_path)


def test_where_nobody_has_said_which_all_there_are_are_numbered_as_cuda_does(tmp_path: Path) -> None:
    for name in ("nvidia2", "nvidia7", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()

    assert ("0", "1") == gpus_of_machine({}, tmp_path)
    assert () == gpus_of_machine({}, tmp_path / "nothing")
