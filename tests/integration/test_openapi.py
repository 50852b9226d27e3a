"""The OpenAPI document: it describes every route, and no answer is another than it says."""

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import CHECKS
from starlette.routing import BaseRoute, Mount, Route

from cortex.web.app import create_app
from cortex.web.openapi import OPERATIONS, document
from operator_process import OperatorProcess

PREDICTOR = """
    class PythonPredictor:
        def __init__(self, config):
            pass

        def predict(self, payload):
            if payload == [0]:
                raise ValueError("as asked")
            return payload
"""

NAMES = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)

schema = schemathesis.openapi.from_dict(dict(document()))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorProcess]:
    server = OperatorProcess(tmp_path_factory.mktemp("operator") / "data").start()
    server.deploy(PREDICTOR)
    yield server
    assert server.stop() == ""  # what the operator cannot answer, it writes to stderr
    server.http.close()


@pytest.fixture(scope="module")
def job(server: OperatorProcess) -> str:
    """A job that has ended, and of which a batch has failed."""
    job = server.submit([0, 1, {"a": None}])
    server.wait(job)
    return job


def test_every_route_is_described() -> None:
    app = create_app(None, None, addresses=["http://127.0.0.1:1"], about={})  # type: ignore[arg-type]

    served = {(method, path) for method, path in routes(app.routes) if not path.startswith("/{path")}

    described = {(operation.method.upper(), operation.path) for operation in OPERATIONS}
    assert served - described == set()
    assert all(path.startswith("/{endpoint}") for _, path in described - served)


def routes(tree: list[BaseRoute], above: str = "") -> Iterator[tuple[str, str]]:
    for route in tree:
        if isinstance(route, Mount):
            yield from routes(route.routes, above + route.path)
        elif isinstance(route, Route):
            path = f"{above}{route.path}".replace(":path}", "}") if route.path != "/{path:path}" else route.path
            methods = set(route.methods or ())
            for method in methods - {"HEAD"} if "GET" in methods else methods:
                if path != "/healthz" or method == "GET":  # the others are there to be refused
                    yield method, path


def test_the_document_and_its_page_are_served(server: OperatorProcess) -> None:
    assert document() == server.http.get("/openapi.json").json()
    page = server.http.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert all(operation.path in page.text for operation in OPERATIONS)


@schema.parametrize()
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_request_is_answered_otherwise_than_described(case: Any, server: OperatorProcess, job: str) -> None:
    parameters = case.path_parameters
    # Half of the requests are for what is there: who guesses names sees nothing but 404.
    if "endpoint" in parameters and len(str(parameters["endpoint"])) % 2:
        parameters["endpoint"] = "api"
        if "job_id" in parameters:
            parameters["job_id"] = job

    response = case.call(base_url=server.address)

    case.validate_response(response, checks=[CHECKS.get_one(name) for name in NAMES])
