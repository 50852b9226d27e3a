"""The route that removes what is not needed any more."""

from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Final

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from cortex.configuration.durations import OptionalDelay
from cortex.configuration.section import Section
from cortex.domain.duration import read_duration
from cortex.domain.retention import KeepJobs
from cortex.operator.operator import Operator
from cortex.operator.submitting.request_body import read_body
from cortex.operator.upkeep.prune import Wanted
from cortex.web.body import Intake

_MAX_NUMBER: Final = 2**31 - 1
_HINT: Final = 'a request looks like {"older_than": "7d", "keep": 100, "environments": false, "dry_run": true}'


class PruneRequest(Section):
    """What is to be removed. Without `older_than` and `keep`, no job is."""

    older_than: OptionalDelay = Field(default=None, description="Ended jobs that ended so long ago.")
    keep: int | None = Field(
        default=None, ge=0, le=_MAX_NUMBER, description="Ended jobs of an API beyond so many that ended last."
    )
    environments: bool = Field(
        default=False, description="Also environments and models that are not in use, and downloaded packages."
    )
    dry_run: bool = Field(default=False, description="Say only what would be removed.")


@dataclass(frozen=True, slots=True)
class PruneRoute:
    """See the module."""

    operator: Operator
    intake: Intake

    async def __call__(self, request: Request) -> Response:
        """Remove what is asked for and not in use; the answer comes when it is gone."""
        async with self.intake.body(request) as body:
            asked = read_body(body, PruneRequest, hint=_HINT)
        wanted = Wanted(jobs=_keep(asked), all_environments=asked.environments)
        removed = await self.operator.prune.prune(wanted, is_dry_run=asked.dry_run)
        return JSONResponse(
            {
                "dry_run": asked.dry_run,
                "removed": [asdict(one) for one in removed],
                "bytes": sum(one.bytes for one in removed),
            }
        )


def _keep(asked: PruneRequest) -> KeepJobs:
    age = None if asked.older_than is None else timedelta(seconds=read_duration(asked.older_than))
    return KeepJobs(age=age, count=asked.keep)
