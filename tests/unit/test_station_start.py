"""What a station is started with, and what it makes of the start of its Worker."""

import json
from pathlib import Path

import pytest

from cortex.domain.layout import JobFolder
from cortex.domain.station_order import StationOrder
from cortex.domain.ticket import Ticket, is_signed, sign
from cortex.station.node import node_folder
from cortex.station.start_frame import Ready, rewrite_start
from lone_station import FOLDER, JOB, PROJECT, start_frame

TICKET = Ticket(
    worker=f"{JOB}-w1",
    job_id=JOB,
    project_id=Path(PROJECT).name,
    folder=FOLDER,
    log=f"{FOLDER}/log",
    log_limit_bytes=1,
    log_rotates=False,
    serves=False,
)

HERE = JobFolder(Path("/node/stations/w"))
READY = Ready(
    python=Path("/node/env/bin/python"),
    project=Path("/node/projects/p1"),
    models={"/srv/models/m": Path("/node/models/k/m")},
)


def rewritten(frame: object, **environ: str) -> tuple[dict[str, object], dict[str, object]]:
    told, setup = rewrite_start(frame, READY, folder=HERE, channel=HERE.root / "channel", environ=environ)  # type: ignore[arg-type]
    return told, json.loads(setup)


def test_a_ticket_is_what_was_signed() -> None:
    text = TICKET.to_json()

    assert TICKET == Ticket.from_json(text)
    assert is_signed("secret", text, sign("secret", text))
    assert not is_signed("secret", text, sign("another", text))
    assert not is_signed("secret", text.replace("w1", "w2"), sign("secret", text))
    assert not is_signed("secret", text, "\udc80")


@pytest.mark.parametrize("text", ["[]", "{}", '{"worker":1}', TICKET.to_json().replace("false", "0")])
def test_what_is_no_ticket_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no ticket"):
        Ticket.from_json(text)


def test_an_order_is_read_as_it_was_written_and_does_not_show_its_signature() -> None:
    order = StationOrder(
        ticket=TICKET.to_json(), signature="5ec", host="h", port=1, heartbeat_seconds=3.0, storage={"url": "s3://b"}
    )

    assert order == StationOrder.from_json(order.to_json())
    assert "5ec" not in repr(order)
    with pytest.raises(ValueError, match="no order"):
        StationOrder.from_json("{}")


def test_the_operators_paths_become_those_of_the_node() -> None:
    told, _ = rewritten(start_frame())

    text = json.dumps(told)
    assert "/srv/" not in text
    assert (str(READY.python), str(HERE.log)) == (told["python"], told["log"])
    assert {"folder": str(HERE.root), "channel": str(HERE.root / "channel"), "project": str(READY.project)} == {
        name: told["order"][name]  # type: ignore[index]
        for name in ("folder", "channel", "project")
    }


def test_models_are_where_the_project_or_a_bundle_has_them() -> None:
    paths = [f"{PROJECT}/own.onnx", "/srv/models/m", "/srv/models/m/1/saved", "/shared/disk"]
    models = [{"name": path, "path": path, "signature_key": None} for path in paths]

    _, setup = rewritten(start_frame(setup={"models": models}))

    assert ["/node/projects/p1/own.onnx", "/node/models/k/m", "/node/models/k/m/1/saved", "/shared/disk"] == [
        model["path"]
        for model in setup["models"]  # type: ignore[attr-defined]
    ]


def test_variables_are_the_nodes_but_for_those_that_are_not_meant_for_workers() -> None:
    told, _ = rewritten(start_frame(), PATH="/bin", LANG="C", RAY_X="1", PYTHONPATH="x", VIRTUAL_ENV="v", CORTEX_Y="1")

    assert {
        "ORT_DISABLE_TELEMETRY": "1",
        "PATH": "/node/env/bin:/bin",
        "LANG": "C",
        "CORTEX_JOB_ID": JOB,
        "MINE": "1",
        "CUDA_VISIBLE_DEVICES": "",
    } == told["env"]


def test_a_worker_with_gpus_sees_those_that_its_station_was_given() -> None:
    told, _ = rewritten(start_frame(wants_gpu=True), CUDA_VISIBLE_DEVICES="3")

    assert "3" == told["env"]["CUDA_VISIBLE_DEVICES"]  # type: ignore[index]
    assert "CUDA_VISIBLE_DEVICES" not in told["order"]["env"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("environ", "folder"),
    [
        ({"CORTEX_NODE_FOLDER": "/n", "XDG_CACHE_HOME": "/c"}, Path("/n")),
        ({"XDG_CACHE_HOME": "/c"}, Path("/c/cortex/node")),
        ({}, Path.home() / ".cache/cortex/node"),
    ],
    ids=["named", "cache", "home"],
)
def test_a_node_has_its_folder_where_it_is_named_or_in_the_users_cache(environ: dict[str, str], folder: Path) -> None:
    assert folder == node_folder(environ)
