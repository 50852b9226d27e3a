"""One face for all places; each library is there only once it is wanted."""

import subprocess
import sys
from pathlib import Path

import pytest

from cortex.domain.errors import FilesError
from cortex.files.object_stores import ObjectStoreFiles
from cortex.files.patience import Patience
from cortex.files.places import AllFiles
from s3_server import S3
from store_stubs import run_store_stub

HURRIED = Patience(attempts=3, first_pause_seconds=0.001, longest_pause_seconds=0.002, read_timeout_seconds=30)


def test_one_object_reaches_disks_and_buckets(s3: S3, tmp_path: Path) -> None:
    files = AllFiles(allowed=(tmp_path,))
    for base in (f"{tmp_path}/", f"{tmp_path.as_uri()}/", s3.url("")):
        files.write(f"{base}x", base.encode())

        (file,) = files.list(base)
        with files.open(file) as opened:
            assert (f"{base}x", base.encode()) == (file.url, opened.read())


def test_the_fence_holds_for_paths(tmp_path: Path) -> None:
    with pytest.raises(FilesError, match="is outside"):
        list(AllFiles(allowed=(tmp_path / "a",)).list(str(tmp_path / "b")))


def test_an_unknown_scheme_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(ValueError, match=r"`ftp://` is not known; must be s3://.*gs://.*az://.*file:///path"):
        AllFiles().list("ftp://host/x")


def test_libraries_of_object_stores_are_not_imported_before_they_are_wanted() -> None:
    program = (
        "import sys; from cortex.files.places import AllFiles; from cortex.files import selection;"
        "list(AllFiles().list('/no/such/path'));"
        "print([name for name in ('boto3', 'botocore', 'obstore', 'moto') if name in sys.modules])"
    )

    assert "[]" == subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout.strip()


# What the stubs of Google and Azure show beyond the contract.


@pytest.mark.parametrize("scheme", ["gs", "az"])
def test_a_body_that_breaks_off_is_read_on(scheme: str) -> None:
    data = bytes(range(256)) * 2**13
    with run_store_stub(scheme) as stub:
        stub.objects["big"] = data
        files = ObjectStoreFiles(settings={scheme: stub.settings}, patience=HURRIED)
        (file,) = files.list(f"{scheme}://bucket/big")
        stub.cuts = [900_000, 600_000]

        with files.open(file) as opened:
            assert data == opened.read()
        assert [] == stub.cuts


@pytest.mark.parametrize("scheme", ["gs", "az"])
def test_refusals_that_pass_are_outlasted_and_others_said(scheme: str) -> None:
    with run_store_stub(scheme) as stub:
        stub.objects["x"] = b"x"
        files = ObjectStoreFiles(settings={scheme: stub.settings}, patience=HURRIED)
        prefix = f"{scheme}://bucket/"
        stub.refusals = [503, 500]

        assert [f"{prefix}x"] == [file.url for file in files.list(prefix)]
        for status, said in ((503, "kept answering 503"), (403, "denies access"), (404, "has no `bucket`")):
            stub.refusals = [status] * 9
            with pytest.raises(FilesError, match=f"`{prefix}` cannot be listed: .*{said}"):
                list(files.list(prefix))


@pytest.mark.parametrize("scheme", ["gs", "az"])
def test_keys_that_the_library_cannot_name_are_an_error_that_says_so(scheme: str) -> None:
    with run_store_stub(scheme) as stub:
        stub.objects["d//x"] = b"x"
        files = ObjectStoreFiles(settings={scheme: stub.settings}, patience=HURRIED)

        for prefix in (f"{scheme}://bucket/", f"{scheme}://bucket/d//", f"{scheme}://bucket/../x"):
            with pytest.raises(FilesError, match="has an empty segment"):
                list(files.list(prefix))


def test_a_listing_begins_near_its_prefix() -> None:
    with run_store_stub("gs") as stub:
        stub.objects.update(dict.fromkeys((f"d/{number:05}" for number in range(3000)), b""))
        files = ObjectStoreFiles(settings={"gs": stub.settings}, patience=HURRIED)

        assert 10 == len(list(files.list("gs://bucket/d/0290")))
        assert 2 >= len([path for path in stub.requests if "list-type" in path])


def test_no_secret_of_a_url_is_repeated() -> None:
    with run_store_stub("az") as stub:
        settings = {**stub.settings, "sas_key": "sv=2022&sig=the-secret", "skip_signature": False}
        files = ObjectStoreFiles(settings={"az": settings}, patience=HURRIED)
        stub.refusals = [403] * 9

        with pytest.raises(FilesError, match="denies access") as refused:
            list(files.list("az://bucket/"))
    assert any("the-secret" in path for path in stub.requests)
    assert "the-secret" not in str(refused.value)
