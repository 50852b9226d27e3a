"""What of a Job that has ended is to be run again."""

from enum import StrEnum


class RerunWhat(StrEnum):
    """What is to be run again. The value is what users write."""

    FAILED = "failed"  # the Batches that have failed, and those that it did not get to
    ALL = "all"  # every Batch
    HOOK = "hook"  # on_job_complete alone


class RerunVersion(StrEnum):
    """The version of the API that is to run it."""

    CURRENT = "current"  # the one that is deployed
    ORIGINAL = "original"  # the one that the Job ran with
