"""Globs mean what the contract says, and take no longer than the URL is."""

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cortex.files.globs import MAX_PATTERN_CHARACTERS, Globs
from cortex.files.selection import check_globs

URL = "s3://b/images/a.jpg"


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("*.jpg", URL, False),
        ("**.jpg", URL, True),
        ("**", URL, True),
        ("**", "", True),
        ("*", "", True),
        ("*", "a/b", False),
        ("**.JPG", URL, False),
        ("s3://b/images/?.jpg", URL, True),
        ("s3://b/images?a.jpg", URL, False),
        ("s3://b/images/[abc].jpg", URL, True),
        ("s3://b/images/[a-c].jpg", URL, True),
        ("s3://b/images/[!abc].jpg", URL, False),
        ("s3://b/images/[!b-z].jpg", URL, True),
        ("s3://b/images[!x]a.jpg", URL, True),
        ("s3://b/images[/]a.jpg", URL, True),
        ("[^a]", "^", True),
        ("[^a]", "a", True),
        ("[^a]", "b", False),
        ("[a-cx-z_]", "y", True),
        ("[a-cx-z_]", "d", False),
        ("[\\]\\-]", "]", True),
        ("[\\]\\-]", "-", True),
        ("[-a]", "-", True),
        ("**.{jpg,png}", URL, True),
        ("**.{gif,png}", URL, False),
        ("**.{,jpg}", URL, True),
        ("**{,.bak}", URL, True),
        ("{a{b,c},d}e", "ace", True),
        ("{a{b,c},d}e", "de", True),
        ("{a{b,c},d}e", "ae", False),
        ("{}", "", True),
        ("a,b", "a,b", True),
        ("a]b", "a]b", True),
        ("{[,}],x}", "}", True),
        ("\\*", "*", True),
        ("\\*", "a", False),
        ("\\a", "a", True),
        ("**/a.jpg", "a.jpg", False),
        ("**/a.jpg", "/a.jpg", True),
        ("", "", True),
        ("", "a", False),
        ("a", "ab", False),
        ("b", "ab", False),
        ("?", "a\n", False),
        ("*", "a\n", True),
    ],
)
def test_a_pattern_matches_as_the_contract_says(pattern: str, text: str, expected: bool) -> None:
    assert expected == Globs([pattern]).match(text)


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("ab**ba", "aba", False),
        ("ab**ba", "abba", True),
        ("s3://b/**/a.jpg", "s3://b/a.jpg", False),
        ("**?.jpg", "é.jpg", True),
        ("?", "\N{GRINNING FACE}", True),
        ("{a*,c}/d", "ax/d", True),
        ("{a*,c}/d", "xc/d", False),
    ],
)
def test_the_defects_of_the_first_library_are_not_copied(pattern: str, text: str, expected: bool) -> None:
    assert expected == Globs([pattern]).match(text)


@pytest.mark.parametrize(
    ("pattern", "at", "part"),
    [
        ("[", 1, "is not closed"),
        ("x[a", 2, "is not closed"),
        ("[]", 1, "names no character"),
        ("[!]", 1, "names no character"),
        ("[a-]", 1, "has no end"),
        ("[a-", 1, "is not closed"),
        ("xy[b-a]", 3, "runs backwards"),
        ("{", 1, "is not closed"),
        ("x{a", 2, "is not closed"),
        ("{a,{b}", 1, "is not closed"),
        ("a}", 2, "closes nothing"),
        ("ab\\", 3, "escapes nothing"),
        ("[a\\", 3, "escapes nothing"),
    ],
)
def test_a_bad_pattern_is_refused_with_the_place_and_the_reason(pattern: str, at: int, part: str) -> None:
    with pytest.raises(ValueError, match=rf"^character {at}: .*{part}"):
        Globs([pattern])


def test_a_pattern_longer_than_a_key_may_be_is_refused() -> None:
    Globs(["a" * MAX_PATTERN_CHARACTERS])

    with pytest.raises(ValueError, match="must have at most 1024"):
        Globs(["a" * (MAX_PATTERN_CHARACTERS + 1)])


def test_all_bad_patterns_are_reported_with_their_index() -> None:
    with pytest.raises(ValueError, match=r"^\[1\]: `\[` is not a glob: character 1: .*\n\[2\]: `a}` is not a glob"):
        check_globs(["**", "[", "a}"])


def test_too_many_patterns_are_refused() -> None:
    with pytest.raises(ValueError, match="must have at most 65536"):
        check_globs(["a" * 1000] * 66)


def test_of_several_patterns_any_may_match() -> None:
    globs = Globs(["*.jpg", "{x,y}/**"])

    assert [True, True, False] == [globs.match(text) for text in ("a.jpg", "y/a/b", "z/a.jpg")]


def test_no_pattern_matches_nothing() -> None:
    assert not Globs([]).match("")


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "pattern",
    [
        "**a" * 300 + "b",
        "{a,aa}" * 170 + "b",
        "{" * 200 + "a,aa" + "}" * 200 + "b",
        "{{{,a},{,a}},{{,a},{,a}}}" * 40 + "b",
        "**a" + "?" * 1000 + "b",
        "[!b]" * 255 + "b",
    ],
)
def test_no_pattern_takes_exponential_time(pattern: str) -> None:
    globs = Globs([pattern])

    assert not globs.match("a" * 1024)
    assert not any(globs.match(f"{number:b}".replace("1", "a") * 60 + "b/") for number in range(200))


def test_what_is_kept_for_the_next_text_has_a_limit() -> None:
    globs = Globs(["**x"])

    matches = [globs.match(chr(0x10000 + number) * 2 + "x") for number in range(60_000)]

    assert all(matches)
    assert globs._automaton._kept_moves <= 50_002
    assert len(globs._start) <= 50_002


# The same language, in the plainest way: whether some way of taking the pattern apart takes the whole text.


def alternatives(pattern: str) -> tuple[list[str], str]:
    """Take apart what follows a `{`: its alternatives, and what stands after the `}`."""
    parts, depth, at, begin = [], 0, 0, 0
    while True:
        character = pattern[at]
        if character == "\\":
            at += 1
        elif character == "[":
            at = class_end(pattern, at)
        elif character == "{":
            depth += 1
        elif character == "," and depth == 0:
            parts.append(pattern[begin:at])
            begin = at + 1
        elif character == "}":
            if depth == 0:
                return [*parts, pattern[begin:at]], pattern[at + 1 :]
            depth -= 1
        at += 1


def class_end(pattern: str, at: int) -> int:
    at += 1
    while pattern[at] != "]":
        at += 2 if pattern[at] == "\\" else 1
    return at


def class_has(inside: str, character: str) -> bool:
    members = []
    while inside:
        escaped = inside[0] == "\\"
        members.append((inside[escaped], escaped))
        inside = inside[1 + escaped :]
    while members:
        if len(members) > 2 and members[1] == ("-", False):
            if members[0][0] <= character <= members[2][0]:
                return True
            members = members[3:]
        elif members.pop(0)[0] == character:
            return True
    return False


@cache
def plainly_matches(pattern: str, text: str) -> bool:
    if not pattern:
        return not text
    head, rest = pattern[0], pattern[1:]
    if pattern.startswith("**"):
        return any(plainly_matches(pattern[2:], text[at:]) for at in range(len(text) + 1))
    if head == "*":
        return any(plainly_matches(rest, text[at:]) for at in range(len(text) + 1) if "/" not in text[:at])
    if head == "{":
        parts, rest = alternatives(rest)
        return any(
            plainly_matches(part, text[:at]) and plainly_matches(rest, text[at:])
            for part in parts
            for at in range(len(text) + 1)
        )
    if not text:
        return False
    if head == "?":
        return text[0] != "/" and plainly_matches(rest, text[1:])
    if head == "[":
        end = class_end(pattern, 0)
        negated = pattern[1] == "!"
        return class_has(pattern[1 + negated : end], text[0]) != negated and plainly_matches(
            pattern[end + 1 :], text[1:]
        )
    if head == "\\":
        head, rest = rest[0], rest[1:]
    return head == text[0] and plainly_matches(rest, text[1:])


LITERALS = st.sampled_from(["a", "b", "c", "/", "é", "\\*", "\\{", "\\\\", "!", "-"])
CLASSES = st.sampled_from(["[ab]", "[!a]", "[a-c]", "[!b-é]", "[/a]", "[-a]", "[^a]", "[\\]a]", "[a-bé-ü]", "[,}]"])
WILDCARDS = st.sampled_from(["*", "**", "?"])
PATTERNS = st.recursive(
    st.lists(LITERALS | CLASSES | WILDCARDS, max_size=4).map("".join),
    lambda inner: st.tuples(inner, st.lists(inner, min_size=1, max_size=3).map(",".join), inner).map(
        lambda parts: f"{parts[0]}{{{parts[1]}}}{parts[2]}"
    ),
    max_leaves=8,
)
TEXTS = st.text(alphabet="abc/é*{\\!-^],}", max_size=9)


@given(PATTERNS, TEXTS)
def test_every_pattern_matches_what_the_plainest_matcher_does(pattern: str, text: str) -> None:
    assert plainly_matches(pattern, text) == Globs([pattern]).match(text)


@given(st.lists(PATTERNS, max_size=4), st.lists(TEXTS, min_size=1, max_size=5))
def test_a_set_of_patterns_matches_what_any_of_them_does(patterns: list[str], texts: list[str]) -> None:
    globs = Globs(patterns)

    for text in texts:
        assert any(plainly_matches(pattern, text) for pattern in patterns) == globs.match(text)
