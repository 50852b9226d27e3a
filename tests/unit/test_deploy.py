"""What `deploy` has is valid, says the same everywhere, and names what there is. It is not applied anywhere."""

import json
import re
import tomllib
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from packaging.requirements import Requirement

from cortex import __version__
from cortex.cli.operator import command
from cortex.operator.keys import KEY_VARIABLE
from cortex.settings import parse_channel_address, parse_storage
from cortex.web.openapi import OPERATIONS

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
OBJECTS = list(yaml.safe_load_all((DEPLOY / "kuberay.yaml").read_text()))
BUILT_IN = [each for each in OBJECTS if each["kind"] != "RayCluster"]
KUBERNETES = "1.37"


def of_kind(kind: str) -> dict[str, Any]:
    """Give the object of this kind."""
    (found,) = (each for each in OBJECTS if each["kind"] == kind)
    return found


CLUSTER = of_kind("RayCluster")["spec"]
OPERATOR = of_kind("Deployment")["spec"]["template"]["spec"]["containers"][0]
PODS = {
    "operator": of_kind("Deployment")["spec"]["template"],
    "head": CLUSTER["headGroupSpec"]["template"],
    **{group["groupName"]: group["template"] for group in CLUSTER["workerGroupSpecs"]},
}


def compose(**variables: str) -> dict[str, Any]:
    """Read the compose file with the values that its variables have where nobody sets others."""
    variables = {"CORTEX_API_KEY": "k" * 32, **variables}

    def value(match: re.Match[str]) -> str:
        return variables.get(match["name"]) or match["default"] or ""

    text = (DEPLOY / "docker-compose.yaml").read_text()
    filled = re.sub(r"\$\{(?P<name>\w+)(?::-(?P<default>[^}]*)|:\?[^}]*)?\}", value, text)
    read: dict[str, Any] = yaml.safe_load(filled)
    return read


SERVICES = compose()["services"]


def texts(value: Any) -> Iterator[str]:
    """Give all texts that lie in a value, keys too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from texts(key)
            yield from texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner)


# What they are


def test_the_compose_file_is_one() -> None:
    vendored = files("check_jsonschema").joinpath("builtin_schemas/vendor/compose-spec.json")

    jsonschema.validate(compose(), json.loads(vendored.read_text()))


@pytest.mark.parametrize("found", BUILT_IN, ids=lambda found: found["kind"])
def test_an_object_of_kubernetes_is_one(found: dict[str, Any]) -> None:
    kubernetes_validate.validate(found, KUBERNETES, strict=True)


def test_the_ray_cluster_is_one_of_kuberay() -> None:
    schema = json.loads((ROOT / "tests/fixtures/raycluster.schema.json").read_text())

    jsonschema.validate(of_kind("RayCluster"), schema)


@pytest.mark.parametrize("template", PODS.values(), ids=PODS)
def test_the_pods_of_the_ray_cluster_are_pods_of_kubernetes(template: dict[str, Any]) -> None:
    of_template = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "a"}, "template": template}

    kubernetes_validate.validate(of_template, KUBERNETES, strict=True)


def test_what_the_autoscaler_gets_is_what_a_container_may_have() -> None:
    ours = {"idleTimeoutSeconds", "upscalingMode", "version"}
    container = {key: value for key, value in CLUSTER["autoscalerOptions"].items() if key not in ours}
    pod = {"spec": {"containers": [{"name": "autoscaler", **container}]}}
    of_template = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "a"}, "template": pod}

    kubernetes_validate.validate(of_template, KUBERNETES, strict=True)


def test_a_misspelled_field_would_be_found() -> None:
    deployment = {**of_kind("Deployment"), "spec": {**of_kind("Deployment")["spec"], "replica": 1}}

    with pytest.raises(kubernetes_validate.ValidationError, match="replica"):
        kubernetes_validate.validate(deployment, KUBERNETES, strict=True)


# What they name


def test_every_option_of_the_operator_exists_and_takes_what_it_is_given() -> None:
    context = command.make_context("operator", list(OPERATOR["args"]))

    assert [] == context.args
    assert ("ray", 8888, 8889) == tuple(context.params[name] for name in ("engine", "port", "channel_port"))
    parse_storage(context.params["storage"])
    parse_channel_address(context.params["channel_address"])


def test_every_variable_of_the_operator_exists_and_takes_what_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    named = {name: value for name, value in SERVICES["operator"]["environment"].items() if is_ours(name)}
    for name, value in named.items():
        monkeypatch.setenv(name, value)

    context = command.make_context("operator", [])

    assert set() == named.keys() - {str(option.envvar) for option in command.params if hasattr(option, "envvar")} - {
        KEY_VARIABLE
    }
    assert ("ray", 8888, 8889) == tuple(context.params[name] for name in ("engine", "port", "channel_port"))
    parse_storage(context.params["storage"])
    parse_channel_address(context.params["channel_address"])


def is_ours(name: str) -> bool:
    """Say whether a variable of the environment is one of the operator's."""
    return name.startswith("CORTEX_") or name == "RAY_ADDRESS"


def test_every_variable_of_a_node_is_one_that_stations_look_at() -> None:
    of_nodes = [*environment(PODS["workers"]["spec"]["containers"][0]), *SERVICES["ray-worker"]["environment"]]

    for name in filter(is_ours, of_nodes):
        assert f'"{name}"' in "".join(path.read_text() for path in (ROOT / "src/cortex/station").glob("*.py")), name


def environment(container: dict[str, Any]) -> dict[str, Any]:
    """Give the variables of a container by their names."""
    return {each["name"]: each.get("value", each.get("valueFrom")) for each in container["env"]}


def test_what_is_probed_is_there_and_open_to_all() -> None:
    probed = {OPERATOR[kind]["httpGet"]["path"] for kind in ("startupProbe", "readinessProbe", "livenessProbe")}
    operation = next(each for each in OPERATIONS if each.path == "/healthz")

    assert {"/healthz"} == probed
    assert SERVICES["operator"]["healthcheck"]["test"][-1].endswith(":8888/healthz")
    assert (True, "get") == (operation.is_open, operation.method)


# What they must have in common


def test_the_operator_and_all_nodes_have_one_image() -> None:
    assert {f"cortex:{__version__}"} == {
        container["image"] for template in PODS.values() for container in template["spec"]["containers"]
    }
    assert {"cortex"} == {each["image"] for name, each in SERVICES.items() if name != "storage"}


def test_the_version_of_ray_is_the_one_that_is_installed_into_the_image() -> None:
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["ray"]
    (pinned,) = re.findall(r"^ray==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)

    assert Requirement(extra[0]).specifier.contains(pinned)
    assert pinned == CLUSTER["rayVersion"]
    assert "--constraint constraints.txt '.[ray]'" in DOCKERFILE


def test_everybody_asks_for_rays_token_and_finds_it_where_it_is_mounted() -> None:
    expected = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": "/etc/ray-token/ray-token"}
    containers = [template["spec"]["containers"][0] for template in PODS.values()]

    for container in [*containers, CLUSTER["autoscalerOptions"]]:
        assert expected.items() <= environment(container).items()
        assert "/etc/ray-token" in [mount["mountPath"] for mount in container["volumeMounts"]]
    for name in ("operator", "ray-head", "ray-worker"):
        assert "token" == SERVICES[name]["environment"]["RAY_AUTH_MODE"]
        assert [SERVICES[name]["environment"]["RAY_AUTH_TOKEN_PATH"]] == [
            f"/run/secrets/{secret}" for secret in SERVICES[name]["secrets"]
        ]


def test_the_operator_and_the_nodes_know_the_same_storage() -> None:
    of_operator, of_node = (SERVICES[name]["environment"] for name in ("operator", "ray-worker"))
    containers = [PODS[name]["spec"]["containers"][0] for name in ("operator", "workers")]

    settings = [name for name in of_operator if name.startswith("AWS_")]
    assert [of_operator[name] for name in settings] == [of_node[name] for name in settings]
    assert [True, True] == [
        {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} <= environment(container).keys() for container in containers
    ]
    assert containers[0]["envFrom"] == containers[1]["envFrom"]


def test_no_pod_is_given_variables_that_the_operator_would_take_for_its_options() -> None:
    assert {False} == {template["spec"]["enableServiceLinks"] for template in PODS.values()}


def test_the_cluster_has_no_worker_until_one_is_needed() -> None:
    (group,) = CLUSTER["workerGroupSpecs"]

    assert CLUSTER["enableInTreeAutoscaling"]
    assert (0, 0) == (group["replicas"], group["minReplicas"])
    assert {"num-cpus": "0"}.items() <= CLUSTER["headGroupSpec"]["rayStartParams"].items()
    assert "--num-cpus=0" in SERVICES["ray-head"]["command"]


def test_no_secret_is_written_down() -> None:
    assert {""} == set(of_kind("Secret")["stringData"].values())
    assert {"key", "token"} <= {word for text in texts(of_kind("Secret")) for word in re.split(r"\W", text)}
    assert ":?" in (DEPLOY / "docker-compose.yaml").read_text().split("CORTEX_API_KEY: ")[1].splitlines()[0]


def test_what_the_image_is_made_of_is_there() -> None:
    copied = [name for line in re.findall(r"^COPY (.+)$", DOCKERFILE, re.MULTILINE) for name in line.split()[:-1]]
    sent = (DEPLOY / "Dockerfile.dockerignore").read_text().split()

    assert [] == [name for name in copied if not (ROOT / name).exists() or f"!{name}" not in sent]
