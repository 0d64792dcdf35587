"""Copies, links and claims: the steps that change the disk, one by one."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from ckptool import FileError
from ckptool.wire import changes
from ckptool.wire.changes import claim_output, copy_file, rename_file, same_place


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(os.urandom(3_000_001))
    path.chmod(0o640)
    return path


@pytest.mark.parametrize("missing", [errno.EXDEV, errno.ENOSYS, errno.EINVAL, None])
def test_copies_without_the_kernels_help(source, tmp_path, monkeypatch, missing):
    def refused(*_: object) -> int:
        if missing is None:
            return 0
        raise OSError(missing, os.strerror(missing))

    monkeypatch.setattr(os, "copy_file_range", refused)
    done: list[int] = []
    copy_file(str(source), str(tmp_path / "copy"), done.append)
    assert (tmp_path / "copy").read_bytes() == source.read_bytes()
    assert (tmp_path / "copy").stat().st_mode == source.stat().st_mode
    assert sum(done) == source.stat().st_size


def test_copies_are_flushed_on_the_way(source, tmp_path, monkeypatch):
    monkeypatch.setattr(changes, "_FLUSHED_AT_ONCE", 1 << 20)
    monkeypatch.setattr(changes, "_COPIED_AT_ONCE", 1 << 20)
    copy_file(str(source), str(tmp_path / "copy"))
    assert (tmp_path / "copy").read_bytes() == source.read_bytes()

    def refused(_fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", refused)
    with pytest.raises(FileError, match="Input/output error"):
        copy_file(str(source), str(tmp_path / "again"))


def test_renaming_one_name_of_a_file_over_another(source, tmp_path):
    (tmp_path / "other").hardlink_to(source)
    rename_file(str(source), str(tmp_path / "other"))
    assert sorted(os.listdir(tmp_path)) == ["other"]


def test_claims_exclude_each_other(tmp_path):
    path = str(tmp_path / "claim")
    first = claim_output(path)
    assert first is not None
    assert not first.found
    assert claim_output(path) is None
    first.write(b"left behind")
    first.close()
    second = claim_output(path)
    assert second is not None
    assert second.found
    assert os.path.getsize(path) == 0
    os.rename(path, tmp_path / "placed")  # a claim goes with the file, not with the name
    assert claim_output(path) is not None


def test_same_place(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path)
    assert same_place(str(tmp_path / "a"), str(tmp_path / "link" / "a"))
    assert not same_place(str(tmp_path / "a"), str(tmp_path / "b"))
    assert not same_place(str(tmp_path / "a"), str(tmp_path / "none" / "a"))
