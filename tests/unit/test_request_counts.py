"""How many requests an API has answered, and how."""

import json

from cortex.serving.counts import RequestCounts


def counted(*answers: tuple[int, float | None]) -> RequestCounts:
    counts = RequestCounts()
    for status, seconds in answers:
        counts.add(status, seconds)
    return counts


def test_answers_are_counted_by_their_class() -> None:
    counts = counted((200, 0.1), (204, 0.1), (404, 0.1), (500, 0.1), (502, None), (503, None), (302, 0.1))

    assert (2, 1, 3) == (counts.code_2xx, counts.code_4xx, counts.code_5xx)
    assert 7 == counts.total


def test_latency_is_that_of_the_answers_of_replicas() -> None:
    assert 250.0 == counted((200, 0.125), (500, 0.375), (503, None)).latency_ms
    assert counted((503, None)).latency_ms is None
    assert RequestCounts().latency_ms is None


def test_counts_go_on_from_what_was_kept() -> None:
    kept = json.loads(json.dumps(counted((200, 0.125), (503, None)).to_dict()))

    counts = RequestCounts.from_dict(kept)
    counts.add(200, 0.375)

    assert counted((200, 0.125), (503, None), (200, 0.375)) == counts
