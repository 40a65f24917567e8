"""Files that somebody asked for: whole or not at all, and never over one that must stay."""

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from archive.errors import NotWritten
from archive.files import write_file, write_new


@pytest.fixture
def full_after_100_bytes() -> Iterator[None]:
    """As a disk that becomes full while a file is written."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("full_after_100_bytes")
def test_of_a_file_for_which_there_is_no_room_nothing_is_left_and_the_old_one_stays(tmp_path: Path) -> None:
    path = tmp_path / "answer"
    with pytest.raises(NotWritten, match=r"--to-file .*answer: File too large"):
        write_new("--to-file", path, bytes(200))
    assert list(tmp_path.iterdir()) == []
    path.write_bytes(b"of yesterday")
    with pytest.raises(NotWritten, match=r"--plot .*answer: File too large"):
        write_file("--plot", path, lambda there: there.write_bytes(bytes(200)))
    assert ([each.name for each in tmp_path.iterdir()], path.read_bytes()) == (["answer"], b"of yesterday")


def test_a_new_file_takes_the_place_of_none_and_may_be_ours_alone(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    write_new("FILE", path, b"first", only_for_us=True)
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(NotWritten, match=r"FILE .*key\.pem exists, and stays; name another file"):
        write_new("FILE", path, b"second")
    assert path.read_bytes() == b"first"
    with pytest.raises(NotWritten, match="No such file or directory"):
        write_new("FILE", tmp_path / "no" / "where", b"")
