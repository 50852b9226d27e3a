"""What an operator answers: the shapes of its JSON."""

from typing import Any, NotRequired, TypedDict


class Health(TypedDict):
    """GET /healthz"""

    status: str
    version: str


class Machine(TypedDict):
    """What the operator's machine has."""

    cpu: float
    mem: int


class Waiting(TypedDict):
    """What an operator that is about to stop waits for."""

    batches: int
    hooks: int
    requests: int
    seconds_left: float


class OperatorInfo(TypedDict):
    """GET /_cortex/info"""

    version: str
    engine: str
    data_dir: str
    instance: NotRequired[str]  # another one for each operator; the note in its data directory names the same
    address: str
    started_time: str
    machine: Machine
    apis: int
    jobs_in_progress: int
    draining: NotRequired[Waiting]


class DeployedApi(TypedDict):
    """An API as a deployment names it."""

    name: str
    kind: str
    endpoint: str
    api_id: str


class Deployment(TypedDict):
    """What became of one API of a configuration."""

    api: DeployedApi
    message: str
    error: str


class LatestJob(TypedDict):
    """The newest job of an API."""

    job_id: str
    created_time: str


class ReplicaCounts(TypedDict):
    """The replicas of some versions of a RealtimeAPI, by where they are."""

    pending: int
    initializing: int
    ready: int
    failed: int
    stalled: int
    terminating: int


class Replicas(TypedDict):
    """How many replicas a RealtimeAPI should have, and those that there are: of the present version, and of others."""

    requested: int
    updated: ReplicaCounts
    stale: ReplicaCounts


class ServingStatus(TypedDict):
    """Whether a RealtimeAPI answers, and if not, why."""

    status_code: str  # status_live, status_updating, status_error, status_oom or status_stalled
    message: str
    replica_counts: Replicas


class NetworkStats(TypedDict):
    """How the requests to a RealtimeAPI were answered since its version was deployed, and which are not yet."""

    total: int
    code_2xx: int
    code_4xx: int
    code_5xx: int
    latency: float | None  # the mean, in milliseconds
    in_flight: int
    queued: int


class ServingMetrics(TypedDict):
    """What is counted of a RealtimeAPI."""

    network_stats: NetworkStats


class WeightedApi(TypedDict):
    """A RealtimeAPI that a TrafficSplitter gives requests to; the weights of all are 100."""

    name: str
    weight: int


class Served(TypedDict):
    """What there is to say of an API that answers at once; `apis` of a TrafficSplitter, the others of a RealtimeAPI."""

    status: NotRequired[ServingStatus]
    metrics: NotRequired[ServingMetrics]
    apis: NotRequired[list[WeightedApi]]


class ApiSummary(DeployedApi, Served):
    """One entry of GET /_cortex/apis"""

    last_updated: str
    running_jobs: int
    latest_job: LatestJob | None


class BatchMetrics(TypedDict):
    """How the batches of a job ended so far."""

    succeeded: int
    failed: int
    avg_time_per_batch: NotRequired[float]


class ItemMetrics(TypedDict):
    """How the items of a job ended so far; of a batch that failed, those that still gave results have succeeded."""

    succeeded: int
    failed: int


class JobRetries(TypedDict):
    """How often a batch is tried; the waits are in seconds."""

    attempts: int
    backoff: float
    max_backoff: float
    no_retry: list[str]


class JobResults(TypedDict):
    """Where the results of a job are written besides: its own folder, and how."""

    path: str
    format: str
    include_input: bool


class WorkerCounts(TypedDict, total=False):
    """The workers of a running job."""

    pending: int
    initializing: int
    running: int
    succeeded: int
    failed: int
    stalled: int


class Enqueuing(TypedDict):
    """How far the files of a job are enqueued."""

    files_listed: int
    batches_enqueued: int


class JobFacts(TypedDict):
    """A job; what does not apply to its present state is left out."""

    job_id: str
    api_name: str
    workers: int  # of an elastic job, as far as there is room
    workers_min: NotRequired[int]  # only an elastic job has it: what it does not give back to others that wait
    workers_now: NotRequired[int]  # how many of an elastic job's run
    batches_per_worker: NotRequired[int]
    config: NotRequired[dict[str, Any] | None]
    api_id: str
    sqs_url: NotRequired[str]
    status: str
    status_reason: NotRequired[str]
    rerun_of: NotRequired[str]
    retries: NotRequired[JobRetries]
    batch_timeout: NotRequired[float]  # in seconds
    timeout: NotRequired[float]  # in seconds, from the submission on
    max_failures: NotRequired[int | str]  # a number of batches, or a share such as `5%`
    on_failed_batch: NotRequired[str]
    results: NotRequired[JobResults]
    enqueuing: NotRequired[Enqueuing]
    total_batch_count: NotRequired[int]
    batches_in_queue: NotRequired[int]
    batches_in_flight: NotRequired[int]
    batch_metrics: NotRequired[BatchMetrics]
    item_metrics: NotRequired[ItemMetrics]
    worker_counts: NotRequired[WorkerCounts]
    created_time: str
    start_time: NotRequired[str]
    end_time: NotRequired[str]


class BuiltEnvironment(TypedDict):
    """The environment of an API's requirements: none, pending, building, ready or failed."""

    status: str
    message: str


class ApiInfo(Served):
    """GET /_cortex/apis/NAME"""

    spec: dict[str, Any]
    api_id: str
    endpoint: str
    last_updated: str
    environment: BuiltEnvironment
    job_statuses: list[JobFacts]


class JobInfo(TypedDict):
    """GET ENDPOINT/ID; the endpoint is the API's"""

    job_status: JobFacts
    endpoint: str


class Submitted(TypedDict):
    """The answer to a submission, or to a rerun."""

    job_id: str
    api_name: str
    workers: int
    workers_min: NotRequired[int]
    config: NotRequired[dict[str, Any] | None]
    api_id: str
    sqs_url: str
    total_batch_count: NotRequired[int]
    created_time: str
    rerun_of: NotRequired[str]


class UploadState(TypedDict):
    """GET /_cortex/uploads/ID/NAME"""

    offset: int  # how many bytes are there


class PrunedKind(TypedDict):
    """What was removed of one kind."""

    kind: str  # jobs, projects, uploads, models, environments or packages
    count: int
    bytes: int  # what is free by that


class Pruned(TypedDict):
    """POST /_cortex/prune: what was removed, or would be"""

    dry_run: bool
    removed: list[PrunedKind]
    bytes: int


class DryRun(TypedDict):
    """What a submission would work on; None where it is not known without reading the files, or there are none."""

    files: int | None
    bytes: int | None
    items: int | None
    batches: int | None
    paths: list[str]  # the first ones


class Jobs(TypedDict):
    """GET ENDPOINT: the jobs of an API, the newest first"""

    api_name: str
    kind: str
    endpoint: str
    jobs: list[JobFacts]


class Endpoint(Served):
    """GET ENDPOINT: what answers there at once"""

    api_name: str
    kind: str
    endpoint: str
    message: str


class Failure(TypedDict):
    """A line of GET ENDPOINT/ID/failures: why a batch failed; what is not known is left out."""

    batch_id: str
    first_item: int  # the number of its first item in the dataset, from 0
    items: int
    type: str  # of the exception; WorkerDied, OutOfMemory or BatchTimeout where its workers died
    message: str
    traceback: NotRequired[str]
    attempts: NotRequired[int]
    worker: NotRequired[str]
    time: NotRequired[str]


class FailedItems(TypedDict):
    """A line of GET ENDPOINT/ID/failures?items=true"""

    batch_id: str
    items: list[Any]


class Checked(TypedDict):
    """What was looked at: the batches, the items in them, the rows and bytes that they left, and files."""

    batches: int
    succeeded: int
    failed: int
    open: int
    items: int
    succeeded_items: int
    failed_items: int
    open_items: int
    rows: int
    bytes: int
    files: int  # of the job's `results`
    inputs: int  # files of its dataset


class Verification(TypedDict):
    """GET ENDPOINT/ID/verify: whether what a job gave is all there, and as it was written."""

    job_id: str
    is_complete: bool  # it has ended, with every batch
    is_intact: bool  # there are no problems
    checked: Checked
    problems: list[str]
    notes: list[str]  # what is worth knowing, and no damage


class Message(TypedDict):
    """What was done."""

    message: str


class Error(TypedDict):
    """What is wrong: a stable code, and a message for people."""

    kind: str
    message: str
