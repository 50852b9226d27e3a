"""What can be done to a Job by a POST below it: rerun it, pause it, resume it."""

import asyncio
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from cortex.domain.errors import MethodNotAllowed
from cortex.domain.job import Job
from cortex.domain.submission_key import SubmissionKey
from cortex.operator.operator import Operator
from cortex.operator.status import submitted
from cortex.operator.submitting.rerun import RerunRequest, read_rerun
from cortex.web.body import Intake
from cortex.web.connections import while_connected
from cortex.web.idempotency import Turns, submission_key

ACTIONS: Final = frozenset({"rerun", "pause", "resume"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Actions:
    """See the module."""

    operator: Operator
    intake: Intake
    turns: Turns

    async def answer(self, request: Request, job: Job, action: str) -> Response:
        """Do what is asked of a Job: one of `ACTIONS`."""
        if request.method != "POST":
            raise MethodNotAllowed(f"{request.method} is not allowed here: POST does it")
        match action:
            case "pause":
                self.operator.jobs.pause_job(job.id)
                return JSONResponse({"message": f"paused job {job.id}"})
            case "resume":
                self.operator.jobs.resume_job(job.id)
                return JSONResponse({"message": f"resumed job {job.id}"})
            case _:
                return await self._rerun(request, job)

    async def _rerun(self, request: Request, job: Job) -> Response:
        async with self.intake.body(request) as body:
            wanted = read_rerun(body)
            # The same body for another Job is another request.
            key = submission_key(request, b"rerun %b\n%b" % (job.id.encode(), body))
        async with self.turns.turn(request, job.api_name, key):
            if key is not None and (found := self.operator.submitted_before(job.api_name, key)):
                return _made(found)
            return _made(await self._make(request, job, wanted, key))

    async def _make(self, request: Request, job: Job, wanted: RerunRequest, key: SubmissionKey | None) -> Job:
        reruns, draining = self.operator.reruns, self.operator.draining
        draining.refuse_if_begun()
        self.operator.check_room()
        with reruns.begin(job, wanted) as rerun:
            if job.output:
                await while_connected(request, self.operator.datasets.check_output(job.output))
            await asyncio.to_thread(rerun.make_folder)
            draining.refuse_if_begun()
            made = reruns.record(rerun, key)
        # The answer does not wait for this, but nothing comes between.
        asyncio.get_running_loop().call_soon(self.operator.jobs.enqueue, made)
        return made


def _made(job: Job) -> Response:
    return JSONResponse({**submitted(job), "rerun_of": job.rerun_of})
