import pytest

from cortex.domain.quantity import read_bytes, read_cores, write_bytes


@pytest.mark.parametrize(
    ("cores", "value"),
    [
        (0.2, "200m"),
        (0.02, "20m"),
        (1.0, 1),
        (1.0, "1"),
        (0.5, 0.5),
        (0.5, ".5"),
        (2.0, "2."),
        (1.5, "+1.5"),
        (0.0, 0),
        (1e-5, 0.00001),
        (0.25, "250000u"),
        (0.25, "250000000n"),
        (2000.0, "2k"),
    ],
)
def test_cores_are_read_from_text_and_from_numbers(cores, value):
    assert read_cores(value) == pytest.approx(cores)


@pytest.mark.parametrize(
    ("expected", "text"),
    [
        (123 * 2**20, "123Mi"),
        (2**30, "1Gi"),
        (1536 * 2**20, "1.5Gi"),
        (129_000_000, "129e6"),
        (129_000_000, "129E6"),
        (129_000_000, "129M"),
        (128_974_848, "128974848"),
        (4_000, "4K"),
        (4_000, "4k"),
        (4_096, "4Ki"),
        (2**60, "1Ei"),
        (10**18, "1E"),
        (1, "500m"),
        (2, "1.0000001"),
        (0, "0"),
    ],
)
def test_bytes_are_read_exactly_and_rounded_up(expected, text):
    assert read_bytes(text) == expected


@pytest.mark.parametrize(
    "value",
    ["", "m", "1 Gi", "1gi", "1Mib", "1GB", "0x10", "1e", "1e6Mi", "1_000", "--1", "1\n", "٣", "one", "1e999999999"],
)
def test_what_is_no_quantity_is_named_with_an_example_of_one(value):
    with pytest.raises(ValueError, match="must be a number of cores, such as `1`") as cores:
        read_cores(value)
    with pytest.raises(ValueError, match="must be a number of bytes with its unit, such as `512Mi`") as size:
        read_bytes(value)

    assert f"got `{value}`" in str(cores.value)
    assert f"got `{value}`" in str(size.value)


@pytest.mark.parametrize("value", [True, float("nan"), float("inf"), float("-inf")])
def test_booleans_and_endless_numbers_are_not_cores(value):
    with pytest.raises(ValueError, match="must be a number of cores"):
        read_cores(value)


@pytest.mark.parametrize(
    ("value", "why"), [("-1", "must not be negative"), ("1e19", "less than 2"), ("8Ei", "less than 2")]
)
def test_amounts_have_bounds(value, why):
    with pytest.raises(ValueError, match=why):
        read_bytes(value)


@pytest.mark.parametrize("text", ["512Mi", "2Gi", "1536Mi", "129M", "20Mi", "1Ti", "3G", "1000Ki", "7"])
def test_bytes_are_written_as_they_were_read(text):
    assert text == write_bytes(read_bytes(text))


def test_bytes_are_written_in_the_largest_unit():
    assert "1Gi" == write_bytes(read_bytes("1024Mi"))
    assert "0" == write_bytes(0)
