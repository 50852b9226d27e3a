"""Print a job request that classifies every image that train.py made.

python make_job.py > job.json
cortex submit image-classifier job.json
"""

import argparse
import json
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main():
    parser = argparse.ArgumentParser(description="Print a job request for every image that train.py made.")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--dest-dir", type=Path, default=HERE / "results", help="where aggregated_results.json goes")
    options = parser.parse_args()

    images = sorted((HERE / "images").glob("*/*.png"), key=lambda image: image.name)
    if not images:
        raise SystemExit("there are no images yet: run train.py first")
    job = {
        "workers": options.workers,
        "item_list": {"items": [image.as_uri() for image in images], "batch_size": options.batch_size},
        "config": {"dest_dir": str(options.dest_dir.resolve())},
    }
    print(json.dumps(job, indent=2))


if __name__ == "__main__":
    main()
