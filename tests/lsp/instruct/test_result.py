"""Files with what a tool made."""

from pathlib import Path

import pytest

from magicoder.errors import MagicoderError
from magicoder.lsp.instruct.result import write


def test_nothing_is_written_through_a_link_that_lies_in_wait(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    folder = tmp_path / "repository"
    folder.mkdir()
    for name in ("test_a.py", ".test_a.py.part", ".test_a.py"):
        (folder / name).symlink_to(victim)
    write(folder / "test_a.py", "a\r\n漢\n")
    assert victim.read_text() == "mine"
    assert (folder / "test_a.py").read_bytes() == "a\r\n漢\n".encode()
    assert not (folder / "test_a.py").is_symlink()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MagicoderError, match=r"file/a\.md cannot be written"):
        write(tmp_path / "file" / "a.md", "")
