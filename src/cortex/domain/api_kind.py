"""The kinds of APIs."""

from enum import StrEnum


class ApiKind(StrEnum):
    """What an API does, by the word for it in cortex.yaml."""

    BATCH = "BatchAPI"  # takes datasets, and makes jobs of them
    REALTIME = "RealtimeAPI"  # answers each request at once
    SPLITTER = "TrafficSplitter"  # gives each request to one of several RealtimeAPIs
