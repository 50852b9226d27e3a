"""Every error that a user can meet has a code of its own, a default message, and a way to be shown."""

import inspect

import pytest

from cortex.domain import errors
from cortex.domain.errors import CortexError
from cortex.web.errors import http_status

EVERY_ERROR = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, CortexError)]


def test_codes_are_unique() -> None:
    codes = [error.code for error in EVERY_ERROR]

    assert sorted(set(codes)) == sorted(codes)


@pytest.mark.parametrize("kind", EVERY_ERROR)
def test_an_error_has_a_default_message_and_an_http_status(kind: type[CortexError]) -> None:
    error = kind()

    assert error.message.endswith(".")
    assert http_status(error) in {400, 401, 403, 404, 405, 409, 413, 500, 502, 503, 504, 507}


@pytest.mark.parametrize("kind", EVERY_ERROR)
def test_an_error_is_drawn_in_the_tree(kind: type[CortexError]) -> None:
    lines = (errors.__doc__ or "").splitlines()

    (drawn,) = [line for line in lines if kind.__name__ in line.split()]
    assert drawn.strip("│├└─ ").split()[0] == kind.__name__


def test_a_hint_follows_the_message() -> None:
    assert str(CortexError("it broke", hint="mend it")) == "it broke\n\nhint: mend it"
