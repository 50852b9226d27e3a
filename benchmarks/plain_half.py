"""The ideal of W2: one process that has a list of batches, and predicts one after the other.

    python plain_half.py FILE BATCHES BATCH_SIZE FIRST

It runs in the environment of the project, beside forest_model.py. When the model is warm and all batches are parsed it
says `ready`, waits for a line, and says `done` at the end.
"""

import json
import sys
from itertools import islice
from pathlib import Path

from forest_model import make_model


def main() -> None:
    """Predict the half of the file that begins with batch FIRST."""
    count, batch_size, first = map(int, sys.argv[2:])
    model = make_model()
    with Path(sys.argv[1]).open("rb") as file:
        lines = islice(file, first * batch_size, (first + count) * batch_size)
        batches = [[json.loads(line) for line in islice(lines, batch_size)] for _ in range(count)]
    for batch in batches[:20]:
        model.predict(batch)
    print("ready", flush=True)
    sys.stdin.readline()
    for batch in batches:
        model.predict(batch)
    print("done", flush=True)


if __name__ == "__main__":
    main()
