"""A Job, a setup of Workers and a predictor, as tests want them: what matters to a test, it changes."""

from pathlib import Path

from cortex.domain.job import Job, JobStatus
from cortex.engines.engine import Program
from cortex.operator.run.workers import WorkerSetup

JOB = Job(
    id=f"{1:016x}",
    api_name="api",
    api_id="v1",
    workers=1,
    config=None,
    batch_size=1,
    item_count=1,
    total_batch_count=1,
    status=JobStatus.ENQUEUING,
    created_at_ns=1,
)

SETUP = WorkerSetup(
    program=Program(
        python=Path(), project=Path(), predictor_path="predictor.py", python_path=None, inherited={}, env={}
    ),
    config={},
    job_spec={},
    policy={"attempts": 1, "no_retry": [], "isolate": False},
    names_batches=JOB.id,
    places=9,
)

# Batch 7 uses far more memory than it may.
HOG = """
    class PythonPredictor:
        def __init__(self, config):
            pass

        def predict(self, payload):
            if payload == [7]:
                hoard = [bytearray(b"x" * 2**20) for _ in range(600)]
            return payload
"""
