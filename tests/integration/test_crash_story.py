"""Every kind of process is killed while batches run: nothing is lost, nothing is counted twice.

`CORTEX_CRASH_SEED` repeats the story of a seed; `make soak` tells many.
"""

import os
import random
from pathlib import Path

import pytest

from crash_story import PLAN, CrashStory


@pytest.mark.timeout(300)
def test_kills_at_random_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    seed = int(os.environ.get("CORTEX_CRASH_SEED") or random.SystemRandom().randrange(10**9))
    story = CrashStory(tmp_path, seed)

    story.tell()

    print(f"CORTEX_CRASH_SEED={seed}: {dict(story.kills)}, {story.batches} batches, {story.charged} deaths charged")
    assert story.problems == [], f"CORTEX_CRASH_SEED={seed}"
    assert PLAN == story.kills
    assert story.kills.total() >= 20
    assert all(story.kills[kind] >= 3 for kind in ("operator", "enqueuer", "worker", "supervisor"))
    assert story.batches >= 2000
    assert 1 <= story.charged <= story.kills["worker"]
