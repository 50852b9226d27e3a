"""Every row of the contract has a test that is found by its first words."""

import pytest
from contract_rows import CONTRACT, quotations, rows

LATER = {
    # What the contract promises and this version does not have yet: the words, and the feature they come with.
    "`/metrics`": "metrics; the path is kept free",
}


@pytest.fixture(scope="module")
def contract() -> list[str]:
    """The rows of the contract, which lies beside the project where this is developed."""
    if not CONTRACT.exists():
        pytest.skip("the contract is not here")
    return rows(CONTRACT.read_text())


def test_the_contract_is_read_as_rows(contract: list[str]) -> None:
    assert any(row.startswith("`POST <endpoint>` and `<endpoint>/` | submit;") for row in contract)
    assert any(row.startswith("An empty dataset") and row.endswith("with that reason.") for row in contract)
    assert "Errors: `error: ...` on stderr, exit code 1." in contract
    assert len(contract) == len(set(contract))
    assert not [row for row in contract if row.startswith(("|", "#", "-"))]


def test_every_test_quotes_the_first_words_of_one_row(contract: list[str]) -> None:
    lost = {
        quotation.test: quotation.words
        for quotation in quotations()
        if not quotation.words or sum(row.startswith(quotation.words) for row in contract) != 1
    }

    assert {} == lost


def test_every_row_has_a_test(contract: list[str]) -> None:
    quoted = [quotation.words for quotation in quotations() if quotation.words]

    assert [] == [row for row in contract if not any(row.startswith(words) for words in quoted)]


def test_what_comes_later_is_in_the_contract(contract: list[str]) -> None:
    assert [] == [words for words in LATER if sum(words in row for row in contract) == 0]
