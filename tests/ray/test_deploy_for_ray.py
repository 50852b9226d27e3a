"""What Ray's own code makes of `deploy`: the autoscaler of KubeRay reads the RayCluster, `ray start` its options."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr
from ray.scripts.scripts import start

DEPLOY = Path(__file__).parents[2] / "deploy"
SERVICES: dict[str, Any] = yaml.safe_load((DEPLOY / "docker-compose.yaml").read_text())["services"]


def test_the_autoscaler_of_kuberay_grows_the_workers_from_none_to_ten_and_never_the_head() -> None:
    objects = yaml.safe_load_all((DEPLOY / "kuberay.yaml").read_text())
    (cluster,) = (each for each in objects if each["kind"] == "RayCluster")
    cluster["metadata"]["namespace"] = "default"  # as the API server tells it

    config = _derive_autoscaling_config_from_ray_cr(cluster)

    kinds = config["available_node_types"]
    assert ("headgroup", 2.0) == (config["head_node_type"], config["idle_timeout_minutes"])
    assert (0, 10) == (kinds["workers"]["min_workers"], kinds["workers"]["max_workers"])
    assert {"CPU": 4, "memory": 8 * 2**30} == kinds["workers"]["resources"]
    assert 0 == kinds["headgroup"]["resources"]["CPU"]


@pytest.mark.parametrize(("name", "address"), [("ray-head", None), ("ray-worker", "ray-head:6379")])
def test_ray_start_takes_what_the_compose_file_gives_it(name: str, address: str | None) -> None:
    program, subcommand, *options = SERVICES[name]["command"]
    given = [re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", option) for option in options]

    context = start.make_context(subcommand, given)

    assert "ray" == program
    assert (address, True) == (context.params["address"], context.params["block"])
