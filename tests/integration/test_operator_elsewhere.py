"""An operator whose workers run on other machines: how they reach it, and what it lets them ask for."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from operator_process import OperatorProcess

STATION_OPERATOR = str(Path(__file__).parents[1] / "station_operator.py")


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorProcess]:
    """An operator that is reached by another name than its own."""
    data = tmp_path_factory.mktemp("elsewhere") / "data"
    started = OperatorProcess(data, "--channel-address", "operator.example", program=(STATION_OPERATOR,)).start()
    yield started
    assert "" == started.stop()


def test_workers_ask_it_by_the_name_that_they_are_told(operator: OperatorProcess) -> None:
    port = operator.address.rpartition(":")[2]

    assert 200 == operator.http.get("/_cortex/info", headers={"Host": f"operator.example:{port}"}).status_code
    assert 403 == operator.http.get("/_cortex/info", headers={"Host": f"other.example:{port}"}).status_code


def test_what_is_larger_than_its_own_machine_may_be_deployed_and_named_for_a_group(operator: OperatorProcess) -> None:
    predictor = "class PythonPredictor:\n    def __init__(self, config): ...\n    def predict(self, payload): ...\n"

    deployed = operator.try_to_deploy(predictor, compute={"cpu": 512, "mem": "4Ti"}, sections={"node_groups": ["big"]})
    refused = operator.try_to_deploy(predictor, compute={"mem": "1P"})

    assert (200, 400) == (deployed.status_code, refused.status_code)
    assert "compute.mem: got `1P`, must be at most 128Ti: no machine has more" in refused.text
