"""An operator that answers what a test has told it to, over real HTTP on loopback."""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from click.testing import CliRunner, Result

from cortex.cli.main import main
from cortex.clients.environments import Environment, Environments, write_environments


@dataclass(frozen=True)
class Request:
    line: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Refusal:
    code: int
    kind: str
    message: str


class Then:
    """Answers that are given one after the other, the last one for good."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)

    def next(self) -> Any:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


class StubOperator:
    """`answers` maps request lines (`GET /healthz`) to JSON values, bytes, Refusals, functions, or a Then of them."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {"GET /healthz": {"status": "ok", "version": "0.1.0"}}
        self.requests: list[Request] = []
        self.uploads: dict[str, bytes] = {}  # by the path of the route
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self.address = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "StubOperator":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def api(self, name: str = "image-classifier", jobs: tuple[dict[str, Any], ...] = (), **changes: Any) -> str:
        """Deploy an API with these jobs; returns its endpoint."""
        endpoint = f"{self.address}/{name}"
        deployed = {"name": name, "kind": "BatchAPI", "endpoint": endpoint, "api_id": "v1"}
        self.answers["GET /_cortex/apis"] = [
            {
                **deployed,
                "last_updated": "2020-07-20T01:00:00Z",
                "running_jobs": sum("end_time" not in job for job in jobs),
                "latest_job": {key: jobs[0][key] for key in ("job_id", "created_time")} if jobs else None,
            }
        ]
        self.answers[f"GET /_cortex/apis/{name}"] = {
            "spec": {"name": name, "kind": "BatchAPI"},
            "api_id": "v1",
            "endpoint": endpoint,
            "last_updated": "2020-07-20T01:00:00Z",
            "environment": {"status": "none", "message": ""},
            "job_statuses": list(jobs),
            **changes,
        }
        for job in jobs:
            self.job(job, api=name)
        return endpoint

    def realtime_api(self, name: str = "iris", **changes: Any) -> str:
        """Deploy a RealtimeAPI with one replica; returns its endpoint."""
        endpoint = self.api(name)
        served = {"kind": "RealtimeAPI", **served_by(1), **changes}
        self.answers["GET /_cortex/apis"][0] |= served
        self.answers[f"GET /_cortex/apis/{name}"] |= {**served, "spec": {"name": name, "kind": "RealtimeAPI"}}
        return endpoint

    def job(self, *states: dict[str, Any], api: str = "image-classifier") -> None:
        """Answer for a job, with each of its states in turn."""
        endpoint = f"{self.address}/{api}"
        bodies = [{"job_status": state, "endpoint": endpoint} for state in states]
        self.answers[f"GET /{api}/{states[0]['job_id']}"] = Then(*bodies)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                line = f"{self.command} {self.path}"
                stub.requests.append(Request(line, dict(self.headers), body))
                line = line.partition("?wait=")[0]  # it never lets anybody wait
                refusal = Refusal(404, "route.not_found", f"nothing is served at `{line}`")
                is_upload = self.path.startswith("/_cortex/uploads/") and line not in stub.answers
                value = self.upload(body) if is_upload else stub.answers.get(line, refusal)
                value = value.next() if isinstance(value, Then) else value
                if callable(value):
                    value(self)
                    return
                code = value.code if isinstance(value, Refusal) else 200
                if isinstance(value, Refusal):
                    value = {"kind": value.kind, "message": value.message}
                data = value if isinstance(value, bytes) else json.dumps(value).encode()
                self.send_response(code)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def upload(self, body: bytes) -> Any:
                """Append to a file, or tell how far it is."""
                if self.command == "PATCH":
                    stub.uploads[self.path] = stub.uploads.get(self.path, b"") + body
                return {"offset": len(stub.uploads.get(self.path, b""))}

            do_GET = do_POST = do_PATCH = do_DELETE = answer  # noqa: N815 - http.server's names

        return Handler


def served_by(
    ready: int = 1,
    requested: int = 1,
    *,
    stale: int = 0,
    failed: int = 0,
    status: str = "live",
    message: str = "",
    counts: tuple[int, int, int] = (0, 0, 0),
    latency: float | None = None,
) -> dict[str, Any]:
    """Give status and metrics of a RealtimeAPI."""
    none = dict.fromkeys(("pending", "initializing", "ready", "failed", "stalled", "terminating"), 0)
    replicas = {"requested": requested, "updated": none | {"ready": ready, "failed": failed}}
    replicas["stale"] = none | {"ready": stale}
    stats = dict(zip(("code_2xx", "code_4xx", "code_5xx"), counts, strict=True))
    return {
        "status": {"status_code": f"status_{status}", "message": message, "replica_counts": replicas},
        "metrics": {"network_stats": {"total": sum(counts), **stats, "latency": latency, "in_flight": 0, "queued": 0}},
    }


def answer_with(body: bytes, content_type: str, code: int = 200) -> Callable[[BaseHTTPRequestHandler], None]:
    """Answer as a predictor does."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        handler.send_header("Content-Type", content_type)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def cut_off(*chunks: bytes) -> Callable[[BaseHTTPRequestHandler], None]:
    """Send a chunked body and hang up before its end, as an operator does that is killed."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        begin_chunks(handler)
        for chunk in chunks:
            send_chunk(handler, chunk)

    return answer


def begin_chunks(handler: BaseHTTPRequestHandler) -> None:
    """Begin an answer that comes bit by bit; without an empty chunk at its end it is cut off."""
    handler.protocol_version = "HTTP/1.1"
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    handler.close_connection = True


def send_chunk(handler: BaseHTTPRequestHandler, chunk: bytes) -> None:
    """Send a bit."""
    handler.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))


def use(stub: StubOperator) -> None:
    """Make the stub the default environment of the command line."""
    environment = Environment(name="stub", operator_endpoint=stub.address)
    write_environments(Environments(default="stub", known=(*Environments().known, environment)))


def cortex(*words: str, **options: Any) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(main, words, prog_name="cortex", **options)
