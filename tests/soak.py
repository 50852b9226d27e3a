"""A program: stories of kills at random, each with a new seed, for SOAK_MINUTES; says what was survived.

Ends with 1 when anything was lost, doubled, or charged to the innocent; the seed of the story is printed.
"""

import os
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

from crash_story import CrashStory

MINUTES = float(os.environ.get("SOAK_MINUTES") or 10)


def main() -> int:
    """Tell stories until the time is up; give the exit code."""
    began_at = time.monotonic()
    survived: Counter[str] = Counter()
    stories = batches = wrong = 0
    seed = int(os.environ.get("CORTEX_CRASH_SEED") or time.time())
    while time.monotonic() < began_at + 60 * MINUTES:
        with tempfile.TemporaryDirectory(prefix="soak-") as folder:
            story = CrashStory(Path(folder), seed)
            try:
                story.tell()
            except Exception:
                story.problems.append(traceback.format_exc())
        stories, batches, wrong = stories + 1, batches + story.batches, wrong + bool(story.problems)
        survived += story.kills
        for problem in story.problems:
            print(f"CORTEX_CRASH_SEED={seed}: {problem}", flush=True)
        kills = ", ".join(f"{count} {kind}" for kind, count in sorted(survived.items()))
        print(f"{stories} stories, {batches} batches, kills survived: {kills}; {wrong} stories went wrong", flush=True)
        seed += 1
    restarts = survived["operator"]
    print(f"{survived.total()} kills survived, {restarts} restarts of the operator, {batches} batches")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
