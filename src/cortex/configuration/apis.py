"""The kinds of APIs, each with its fields: the JSON Schema, the messages and the documentation derive from these."""

from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from cortex.configuration.api_name import ApiName, name_field
from cortex.configuration.autoscaling import Autoscaling
from cortex.configuration.compute import Compute
from cortex.configuration.disagreement import Findings, refuse_all
from cortex.configuration.job_options import JobOptions
from cortex.configuration.networking import Networking, RealtimeNetworking, endpoint_of
from cortex.configuration.node_groups import NodeGroups, node_groups_field
from cortex.configuration.predictor import BatchPredictor, Predictor
from cortex.configuration.section import Section, empty_if_null
from cortex.configuration.update_strategy import UpdateStrategy
from cortex.domain.api_kind import ApiKind

KIND_WHEN_MISSING: Final = ApiKind.REALTIME
"""The oldest configurations have no kind; everything was realtime then."""

_NAME: Final = "The name of the API: lower-case letters, digits and hyphens."


class BatchApi(Section):
    """An API that works through large jobs with many workers, and has no worker between jobs."""

    name: ApiName = name_field(_NAME)
    kind: Literal["BatchAPI"] = Field(description="What sort of API this is.", examples=["BatchAPI"])
    predictor: BatchPredictor = Field(
        description="The code that makes the predictions.",
        examples=[{"type": "python", "path": "predictor.py"}],
    )
    networking: Annotated[Networking, BeforeValidator(empty_if_null, json_schema_input_type=Networking | None)] = Field(
        default=Networking(), description="How the API is reached.", examples=[{"endpoint": "/vision/digits"}]
    )
    compute: Annotated[Compute, BeforeValidator(empty_if_null, json_schema_input_type=Compute | None)] = Field(
        default=Compute(), description="What each worker needs.", examples=[{"cpu": 1, "mem": "2Gi"}]
    )
    node_groups: NodeGroups = node_groups_field()
    job: Annotated[JobOptions, BeforeValidator(empty_if_null, json_schema_input_type=JobOptions | None)] = Field(
        default=JobOptions(),
        description="What holds for each job that does not say otherwise; a submission has the same fields.",
        examples=[{"retries": 2, "timeout": "2h"}],
    )

    @property
    def endpoint(self) -> str:
        """The path of the API's URL, with a leading slash and without a trailing one."""
        return endpoint_of(self.name, self.networking)

    @model_validator(mode="after")
    def _check_endpoint(self) -> "BatchApi":
        endpoint_of(self.name, self.networking)
        return self


class RealtimeApi(Section):
    """An API that answers each request with a prediction, by replicas that are always there."""

    name: ApiName = name_field(_NAME)
    kind: Literal["RealtimeAPI"] = Field(
        default="RealtimeAPI", description="What sort of API this is.", examples=["RealtimeAPI"]
    )
    predictor: Predictor = Field(
        description="The code that makes the predictions.",
        examples=[{"type": "python", "path": "predictor.py"}],
    )
    networking: Annotated[
        RealtimeNetworking, BeforeValidator(empty_if_null, json_schema_input_type=RealtimeNetworking | None)
    ] = Field(default=RealtimeNetworking(), description="How the API is reached.", examples=[{"timeout": "30s"}])
    compute: Annotated[Compute, BeforeValidator(empty_if_null, json_schema_input_type=Compute | None)] = Field(
        default=Compute(), description="What each replica needs.", examples=[{"cpu": 1, "mem": "2Gi"}]
    )
    node_groups: NodeGroups = node_groups_field()
    autoscaling: Annotated[Autoscaling, BeforeValidator(empty_if_null, json_schema_input_type=Autoscaling | None)] = (
        Field(
            default=Autoscaling(),
            validate_default=True,
            description="How many replicas there are, and when there are more or fewer.",
            examples=[{"min_replicas": 1, "max_replicas": 10}],
        )
    )
    update_strategy: Annotated[
        UpdateStrategy, BeforeValidator(empty_if_null, json_schema_input_type=UpdateStrategy | None)
    ] = Field(
        default=UpdateStrategy(),
        description="How replicas are replaced by those of a new version.",
        examples=[{"max_surge": 1, "max_unavailable": 0}],
    )

    @property
    def endpoint(self) -> str:
        """The path of the API's URL, with a leading slash and without a trailing one."""
        return endpoint_of(self.name, self.networking)

    @field_validator("autoscaling")
    @classmethod
    def _resolve(cls, autoscaling: Autoscaling, info: ValidationInfo) -> Autoscaling:
        predictor = info.data.get("predictor")  # none where that is wrong itself
        if predictor is None:
            return autoscaling
        return autoscaling.resolved(predictor.processes_per_replica * predictor.threads_per_process)

    @model_validator(mode="after")
    def _check_endpoint(self) -> "RealtimeApi":
        endpoint_of(self.name, self.networking)
        return self

    @model_validator(mode="after")
    def _check_gpus(self) -> "RealtimeApi":
        processes = self.predictor.processes_per_replica
        if self.compute.gpu and processes > 1:
            text = f"got `{processes}`, must be 1 where `compute.gpu` is not 0: processes do not share a GPU"
            refuse_all([(("predictor", "processes_per_replica"), text)])
        return self


class Target(Section):
    """One of the APIs that a TrafficSplitter leads to."""

    name: ApiName = name_field("The name of a RealtimeAPI.")
    weight: int = Field(ge=0, le=100, description="Its share of the requests, in percent.", examples=[90, 10])


class TrafficSplitter(Section):
    """An endpoint whose requests are answered by several RealtimeAPIs, by chance and weight."""

    name: ApiName = name_field(_NAME)
    kind: Literal["TrafficSplitter"] = Field(description="What sort of API this is.", examples=["TrafficSplitter"])
    networking: Annotated[Networking, BeforeValidator(empty_if_null, json_schema_input_type=Networking | None)] = Field(
        default=Networking(), description="How the API is reached.", examples=[{"endpoint": "/vision/digits"}]
    )
    apis: list[Target] = Field(
        min_length=1,
        description="Who answers: RealtimeAPIs, whose weights are 100 together.",
        examples=[[{"name": "digits-1", "weight": 90}, {"name": "digits-2", "weight": 10}]],
    )

    @property
    def endpoint(self) -> str:
        """The path of the API's URL, with a leading slash and without a trailing one."""
        return endpoint_of(self.name, self.networking)

    @model_validator(mode="after")
    def _check_endpoint(self) -> "TrafficSplitter":
        endpoint_of(self.name, self.networking)
        return self

    @model_validator(mode="after")
    def _check_targets(self) -> "TrafficSplitter":
        refuse_all(self._unfit_targets())
        return self

    def _unfit_targets(self) -> Findings:
        findings: list[tuple[tuple[str | int, ...], str]] = []
        names = [target.name for target in self.apis]
        for index, name in enumerate(names):
            if name in names[:index]:
                findings.append((("apis", index, "name"), f"`{name}` stands here twice; add up its weights"))
        if (total := sum(target.weight for target in self.apis)) != 100:
            findings.append((("apis",), f"got weights that are {total} together, must be 100"))
        return findings


Api = BatchApi | RealtimeApi | TrafficSplitter

KINDS: Final[dict[str, type[BatchApi] | type[RealtimeApi] | type[TrafficSplitter]]] = {
    ApiKind.BATCH: BatchApi,
    ApiKind.REALTIME: RealtimeApi,
    ApiKind.SPLITTER: TrafficSplitter,
}
