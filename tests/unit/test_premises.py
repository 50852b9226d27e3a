"""What an operator holds while it runs."""

import shutil
from pathlib import Path

from cortex.premises import data_directory


def test_an_operator_whose_folder_was_removed_leaves_the_note_of_the_next_one(tmp_path: Path) -> None:
    path = tmp_path / "data"
    note = path / "operator.json"
    first, second = data_directory(path), data_directory(path)

    with first:
        shutil.rmtree(path)
        second.__enter__()
        note.touch()

    assert note.exists()

    second.__exit__(None, None, None)
    assert not note.exists()
