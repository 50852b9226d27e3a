"""An S3 server of the tests' own (moto), one for each test process, with a fresh bucket for each test."""

import logging
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from s3_faults import Faults


@dataclass(frozen=True, slots=True, kw_only=True)
class S3:
    """A bucket on a server that runs, and how to reach it."""

    endpoint: str
    bucket: str
    env: Mapping[str, str]  # for processes that are to reach it; this process has it, too
    client: Any  # of boto3: the AWS SDK's own view
    faults: Faults  # what is to go wrong

    def put(self, *keys: str, body: bytes = b"x") -> None:
        """Put objects, all of one content."""
        for key in keys:
            self.client.put_object(Bucket=self.bucket, Key=key, Body=body)

    def fill(self, keys: Iterable[str]) -> None:
        """Put empty objects, thousands in a second: past HTTP."""
        from moto.core import DEFAULT_ACCOUNT_ID
        from moto.s3.models import s3_backends

        for key in keys:
            s3_backends[DEFAULT_ACCOUNT_ID]["aws"].put_object(self.bucket, key, b"")

    def keys(self, prefix: str) -> list[str]:
        """Give the URLs with a prefix, as the AWS SDK lists them."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        return [f"s3://{self.bucket}/{entry['Key']}" for page in pages for entry in page.get("Contents", ())]

    def url(self, key: str) -> str:
        return f"s3://{self.bucket}/{key}"


@contextmanager
def run_s3_server() -> Iterator[tuple[str, Faults]]:
    """Run a server; give its address, and what makes it fail."""
    # moto takes a second to import: only tests that want S3 are to pay for it.
    from moto.moto_server.werkzeug_app import MotoRequestHandler
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    faults = Faults(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, faults, threaded=True, request_handler=MotoRequestHandler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", faults
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def environment(endpoint: str) -> dict[str, str]:
    """Give the AWS settings of a process that is to use a server, and nothing of this machine's."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test-secret",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1",
    }


@contextmanager
def fresh_bucket(endpoint: str, faults: Faults) -> Iterator[S3]:
    """Make a bucket on a server."""
    import boto3
    from botocore.config import Config

    env = environment(endpoint)
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name=env["AWS_REGION"],
        aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
        config=Config(request_checksum_calculation="when_required"),
    )
    bucket = f"bucket-{uuid4().hex[:12]}"
    client.create_bucket(Bucket=bucket)
    try:
        yield S3(endpoint=endpoint, bucket=bucket, env=env, client=client, faults=faults)
    finally:
        faults.clear()
        client.close()
