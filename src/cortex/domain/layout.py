"""Where the files of a Job, and of a RealtimeAPI, lie: the one place that knows their names."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class JobFolder:
    """The folder of one Job."""

    root: Path

    @property
    def log(self) -> Path:
        """The Job's log, as its users read it."""
        return self.root / "log"

    @property
    def log_sent(self) -> Path:
        """How much of the log the sink has; gone once it has all."""
        return self.root / "log.sent"

    @property
    def setup(self) -> Path:
        """What its Workers construct their predictors with."""
        return self.root / "setup.json"

    @property
    def listing(self) -> Path:
        """Which files the dataset has, as they were when it was listed."""
        return self.root / "listing"

    @property
    def segments(self) -> Path:
        """The folder of the Segments."""
        return self.root / "segments"

    @property
    def workers(self) -> Path:
        """The folder of what Workers write: pages, result parts and their indexes."""
        return self.root / "workers"

    @property
    def kept(self) -> Path:
        """Of a rerun: what was kept of Batches that had failed in part. Its index tells where to look."""
        return self.root / "kept"

    @property
    def kept_index(self) -> Path:
        """Which Batches `kept` tells of, and where."""
        return self.root / "kept.index"

    @property
    def exported(self) -> Path:
        """Which files its results were written to, once all are."""
        return self.root / "exported"

    @property
    def uploads(self) -> Path:
        """What clients have sent for the Job: a folder for each upload."""
        return self.root / "uploads"

    def payload(self, segment: int) -> Path:
        """The Batches of a Segment, one JSON array after the other."""
        return self.root.joinpath("segments", f"{segment:06}.payload")

    def lines(self, segment: int) -> Path:
        """The Batches of a Segment that has no payload, as the lines that they came in: one after the other."""
        return self.root.joinpath("segments", f"{segment:06}.lines")

    def draft(self, number: int) -> Path:
        """What is to be the lines of a Segment, or of none, while it is being written and checked."""
        return self.root.joinpath("segments", f"{number:06}.draft")

    def source(self, segment: int) -> Path:
        """Which file of the user's holds the Batches of a Segment that has no payload of its own."""
        return self.root.joinpath("segments", f"{segment:06}.source")

    def offsets(self, segment: int) -> Path:
        """Where in the payload, or in the file that takes its place, each Batch begins."""
        return self.root.joinpath("segments", f"{segment:06}.offsets")

    def states(self, segment: int) -> Path:
        """The state byte of each Batch."""
        return self.root.joinpath("segments", f"{segment:06}.states")

    def problem(self, segment: int) -> Path:
        """Why Batches of a Segment have no payload, where those who read it cannot find that out themselves."""
        return self.root.joinpath("segments", f"{segment:06}.problem")

    def page(self, worker: str) -> Path:
        """The page of a Worker."""
        return self.root.joinpath("workers", f"{worker}.page")  # in one step: it is asked for often

    def rows(self, worker: str) -> Path:
        """The bytes that a Worker's Batches returned, in the order in which they ended."""
        return self.root.joinpath("workers", f"{worker}.rows")

    def index(self, worker: str) -> Path:
        """The result entries of a Worker, in the same order."""
        return self.root.joinpath("workers", f"{worker}.index")


@dataclass(frozen=True, slots=True)
class ApiFolder:
    """The folder of one RealtimeAPI."""

    root: Path

    @property
    def log(self) -> Path:
        """The API's log, as its users read it."""
        return self.root / "log"

    @property
    def older_log(self) -> Path:
        """What was in the log before it grew too long, up to as much again."""
        return self.root / "log.1"

    @property
    def release(self) -> Path:
        """How many replicas there are to be, and which of those that may still run are of the present version."""
        return self.root / "release.json"

    def version(self, api_id: str) -> JobFolder:
        """The folder of a version, laid out like that of a Job: what its processes start with, and their pages."""
        return JobFolder(self.root / api_id)

    def requests(self, api_id: str) -> Path:
        """How many requests a version has answered."""
        return self.root.joinpath(api_id, "requests.json")
