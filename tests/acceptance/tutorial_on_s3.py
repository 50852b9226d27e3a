"""The tutorial's user, with S3 and as much of the internet as the tutorial needs: its three submissions, and the rest.

What is typed and what is to be seen comes from the tutorial itself. Where it contradicts itself, that is said here.
"""

import json
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import httpx
from internet import Internet, run_internet
from PIL import Image
from seed import Seed, curl
from shell import User
from transcript import Step, shows, steady

from s3_server import S3

LABELS = "https://storage.googleapis.com/download.tensorflow.org/data/ImageNetLabels.txt"
"""The host and the path that the predictor names."""

IN_REQUEST = "Submit a job"
IN_FILES = "Alternative job submission: image URLs in files"
IN_S3 = "Alternative job submission: images in S3"

_ENDPOINT = re.compile(r"https?://\*\*\*\.elb\.us-west-2\.amazonaws\.com/image-classifier")
# The tutorial's three logs leave out different things here, and one names a download that there is in a cluster only.
_START_OF_WORKERS = re.compile(
    r"(?<=^spinning up workers\.\.\.\n)(?:.*downloading the project code\n)?(?:\.\.\.\n)?", re.MULTILINE
)
_BUCKET = "cortex-examples"
_FOLDER = "image-classifier/"
_IMAGES = 16
_URLS_IN_FILES = [f"https://i.imgur.com/sample{number}.jpg" for number in range(_IMAGES)]  # the files are not shown
URLS_IN_S3 = [f"s3://{_BUCKET}/{_FOLDER}samples/img_{number}.jpg" for number in range(_IMAGES)]


def image(number: int) -> bytes:
    """Make a JPEG, each of its own shade, size and shape; the higher the number, the brighter."""
    level = (number * 256 + 128) // _IMAGES
    file = BytesIO()
    Image.new("RGB", (320 + 10 * number, 300), (level, 255 - level, 128)).save(file, "JPEG")
    return file.getvalue()


def urls_in_request(seed: Seed) -> list[str]:
    """Give the image URLs that the tutorial submits itself."""
    return re.findall(r'"(https://\S+\.jpg)"', seed.step(IN_REQUEST).command)


def _images(seed: Seed) -> dict[str, int]:
    """Give the number of the image at each URL."""
    lists = (urls_in_request(seed), _URLS_IN_FILES, URLS_IN_S3)
    return {url: number for urls in lists for number, url in enumerate(urls)}


def _pages(seed: Seed) -> dict[str, bytes]:
    """Give what is at the https addresses: the labels, whose first line is no class, and images."""
    labels = "\n".join(["background", *(f"label {number}" for number in range(1000))])
    found = {url: image(number) for url, number in _images(seed).items() if url.startswith("https://")}
    return {LABELS: labels.encode(), **found}


def _fill_bucket(s3: S3) -> None:
    """Put what the tutorial finds in its public bucket there, and a file that no pattern of it matches."""
    s3.client.create_bucket(Bucket=_BUCKET)
    halves = _URLS_IN_FILES[:8], _URLS_IN_FILES[8:]
    objects = {f"urls_{n}.json": "".join(f'"{url}"\n' for url in urls).encode() for n, urls in enumerate(halves)}
    objects |= {f"samples/img_{number}.jpg": image(number) for number in range(_IMAGES)}
    for key, body in {**objects, "samples/README.txt": b"", "inception/weights.bin": b""}.items():
        s3.client.put_object(Bucket=_BUCKET, Key=_FOLDER + key, Body=body)


@contextmanager
def prepared(user: User, s3: S3, address: str) -> Iterator["TutorialOnS3"]:
    """Have what the tutorial begins with: its project, its bucket, and an operator that is the environment `aws`.

    It ends with the block, and so does the internet to which the project's `.env` leads.
    """
    seed = Seed.read()
    _fill_bucket(s3)
    image_at = _images(seed)
    assert user.cortex("env", "configure", "aws", "--operator-endpoint", address).code == 0
    for name, text in seed.files().items():
        user.write(name, text)
    with run_internet(_pages(seed), user.home) as internet:
        user.write(".env", "".join(f"{name}={value}\n" for name, value in internet.env.items()))
        yield TutorialOnS3(
            user=user,
            seed=seed,
            s3=s3,
            internet=internet,
            address=address,
            image_at=image_at,
            class_of=lambda url: f"label {image_at[url]}",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TutorialOnS3:
    """The tutorial's user, the operator at `address`, and each image's number and class by its URL."""

    user: User
    seed: Seed
    s3: S3
    internet: Internet
    address: str
    image_at: Mapping[str, int]
    class_of: Callable[[str], str]

    @property
    def endpoint(self) -> str:
        return f"{self.address}/image-classifier"

    @property
    def destination(self) -> str:
        return self.s3.url("dir")

    def sees(self, *headings: str, number: int = 0, job: str = "") -> None:
        """Type a `cortex` command of the tutorial, and see what it shows there."""
        step = self._step(*headings, number=number, job=job)
        said = self.user.cortex(*shlex.split(step.command)[1:])
        assert said.code == 0, said.err
        assert shows(step.output, said.out), f"$ {step.command}\n{steady(step.output)}\n--- but it was:\n{said.out}"

    def curl(self, *headings: str, number: int = 0, job: str = "") -> tuple[str, httpx.Response]:
        """Make a request of the tutorial; give what it shows there, and what was answered."""
        step = self._step(*headings, number=number, job=job)
        answer = curl(step.command, BATCH_API_ENDPOINT=self.endpoint, CORTEX_DEST_S3_DIR=self.destination)
        assert answer.status_code == 200, answer.text
        return step.output, answer

    def submits(self, *headings: str) -> str:
        """Submit a job as the tutorial does; give its id."""
        shown, answer = self.curl(*headings)
        submitted = answer.json()
        assert set(json.loads(shown)) <= set(submitted)
        assert submitted["api_name"] == json.loads(shown)["api_name"]
        assert submitted["config"] == {"dest_s3_dir": self.destination}
        return str(submitted["job_id"])

    def finds(self, *headings: str, job: str, urls: Iterable[str]) -> None:
        """Look at what the job has left in S3: a file for each batch, and all of them in one, in the items' order.

        The section's last command lists it.
        """
        found = {url.rpartition("/")[2]: self._read(url) for url in self.s3.keys(f"dir/{job}/")}
        listing = "\n".join(line.strip() for line in self._step(*headings, number=-1).output.splitlines())
        assert shows(listing, "\n".join(found)), found
        rows = [{"url": url, "class": self.class_of(url)} for url in urls]
        # The tutorial finds 16 classifications after each of its jobs: it forgets that the first one has 5 items.
        assert rows == found.pop("aggregated_results.json")
        assert [rows[first : first + 2] for first in range(0, len(rows), 2)] == list(found.values())

    def _read(self, url: str) -> Any:
        key = url.removeprefix(self.s3.url(""))
        return json.loads(self.s3.client.get_object(Bucket=self.s3.bucket, Key=key)["Body"].read())

    def _step(self, *headings: str, number: int = 0, job: str = "") -> Step:
        """Give a step with this endpoint and this job in it."""
        step = self.seed.step(*headings, number=number)
        return Step(command=self._as_here(step.command, job), output=self._as_here(step.output, job))

    def _as_here(self, text: str, job: str) -> str:
        text = _START_OF_WORKERS.sub("...\n", _ENDPOINT.sub(self.endpoint, text))
        return re.sub(r"\b[0-9a-f]{16}\b", job, text) if job else text


def deploy(tutorial: TutorialOnS3) -> None:
    """Deploy the API, and look at it."""
    tutorial.sees("Deploy your Batch API", number=0)
    tutorial.sees("Deploy your Batch API", number=1)


def classify_urls_in_the_request(tutorial: TutorialOnS3) -> None:
    """Submit URLs, and look at the job while its worker initializes and after it."""
    with tutorial.internet.holding(LABELS) as hold:
        job = tutorial.submits(IN_REQUEST)
        hold.wait()
        tutorial.sees(IN_REQUEST, "List the jobs for your Batch API", job=job)
        tutorial.sees(IN_REQUEST, "Get job status using Cortex CLI", job=job)
        _read_status(tutorial, job, "running")

    tutorial.sees(IN_REQUEST, "Stream logs", job=job)
    assert "status: succeeded\n" in tutorial.user.cortex("get", "image-classifier", job, "--env", "aws").out
    _read_status(tutorial, job, "succeeded")
    tutorial.finds(IN_REQUEST, "Find your results", job=job, urls=urls_in_request(tutorial.seed))


def classify_urls_in_files(tutorial: TutorialOnS3) -> None:
    """Submit files of URLs after a dry run."""
    _try_out(tutorial, IN_FILES, [f"s3://{_BUCKET}/{_FOLDER}urls_{number}.json" for number in range(2)])
    job = tutorial.submits(IN_FILES, "Classify image urls stored in S3 files")
    tutorial.sees(IN_FILES, "Find results", job=job)
    tutorial.finds(IN_FILES, "Find results", job=job, urls=_URLS_IN_FILES)


def classify_images_in_s3(tutorial: TutorialOnS3) -> None:
    """Submit the images themselves after a dry run; S3 lists them by their names, the 10th after the first."""
    _try_out(tutorial, IN_S3, sorted(URLS_IN_S3))
    job = tutorial.submits(IN_S3, "Classify images in S3")
    tutorial.sees(IN_S3, "Verify results", job=job)
    tutorial.finds(IN_S3, "Verify results", job=job, urls=sorted(URLS_IN_S3))


def stop_jobs(tutorial: TutorialOnS3) -> None:
    """Stop a job that runs and one that has just been submitted, by a request and by a command."""
    with tutorial.internet.holding(LABELS) as hold:
        running = tutorial.submits(IN_REQUEST)
        hold.wait()
        submitted = tutorial.submits(IN_S3, "Classify images in S3")

        shown, answer = tutorial.curl("Stopping a Job", number=0, job=running)
        tutorial.sees("Stopping a Job", number=1, job=submitted)

    # The description of the endpoints shows the whole answer, the tutorial what it says.
    assert {"message": shown.strip()} == answer.json()
    for job in (running, submitted):
        _read_status(tutorial, job, "stopped")
        assert [] == tutorial.s3.keys(f"dir/{job}/")


def delete(tutorial: TutorialOnS3) -> None:
    """Delete the API: it and its jobs are gone, what they have written is not."""
    before = tutorial.s3.keys("dir/")
    tutorial.sees("Cleanup")
    assert tutorial.user.cortex("get", "--env", "aws").out == "no apis are deployed\n"
    assert httpx.get(tutorial.endpoint).status_code == 404
    assert before == tutorial.s3.keys("dir/")


def _try_out(tutorial: TutorialOnS3, chapter: str, matching: list[str]) -> None:
    before = httpx.get(tutorial.endpoint).json()["jobs"]
    shown, answer = tutorial.curl(chapter, "Dry run")
    assert shows(shown, answer.text), answer.text
    assert [*matching, "validations passed"] == answer.text.splitlines()
    assert before == httpx.get(tutorial.endpoint).json()["jobs"]


def _read_status(tutorial: TutorialOnS3, job: str, status: str) -> None:
    """Read the status of a job at both of its addresses."""
    shown, answer = tutorial.curl(IN_REQUEST, "Get the job status with an HTTP request", job=job)
    # What is left out there would be more fields. Its endpoint is `https`, everywhere else in the tutorial `http`.
    expected: Mapping[str, Any] = json.loads(re.sub(r",\s*\.\.\.", "", shown))
    assert expected["job_status"].items() <= answer.json()["job_status"].items()
    assert expected["endpoint"] == answer.json()["endpoint"]
    assert f"status_{status}" == answer.json()["job_status"]["status"]
    by_path = httpx.get(f"{tutorial.endpoint}/{job}").json()
    assert answer.json()["job_status"].keys() == by_path["job_status"].keys()
    assert f"status_{status}" == by_path["job_status"]["status"]
