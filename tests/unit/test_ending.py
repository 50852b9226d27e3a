import pytest

from cortex.domain.ending import Exit


@pytest.mark.parametrize(
    ("cause", "ending"),
    [
        ("exited with code 0", Exit(status=0)),
        ("exited with code 3", Exit(status=3)),
        ("was killed by signal 9 (SIGKILL)", Exit(status=-9)),
        ("was killed by signal 11 (SIGSEGV)", Exit(status=-11)),
        ("was killed by signal 63 (unknown)", Exit(status=-63)),
        ("was lost", Exit(status=None)),
        ("ran out of memory and was killed", Exit(status=-9, is_out_of_memory=True)),
        ("ran out of memory and was killed", Exit(status=None, is_out_of_memory=True)),
        (
            "ran out of memory: it is limited to 512Mi (compute.mem)",
            Exit(status=-9, is_out_of_memory=True, mem_limit_bytes=512 * 2**20),
        ),
        ("was killed by signal 9 (SIGKILL)", Exit(status=-9, mem_limit_bytes=512 * 2**20)),
        ("could not be started: no such file", Exit(status=127, detail="could not be started: no such file")),
        ("ended with the machine", Exit(status=None, detail="ended with the machine")),
    ],
)
def test_an_ending_is_told_in_words_that_follow_the_worker(cause, ending):
    assert cause == ending.cause
