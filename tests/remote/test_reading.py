"""What is read from servers is what is read from the disk, in few requests."""

from __future__ import annotations

import pytest

from tests.remote.conftest import FIXTURES

LISTED = ["tutorial-w1-w2", "sharded/model.ckpt"]


def prefixes():
    """Every fixture that `ls` can read, relative to the fixtures."""
    found = [path.with_suffix("") for path in sorted(FIXTURES.rglob("*.index"))]
    return [path.relative_to(FIXTURES).as_posix() for path in found]


@pytest.mark.parametrize("prefix", prefixes())
@pytest.mark.parametrize("command", ["ls", "show", "verify"])
def test_s3_like_the_disk(s3, run, command, prefix):
    here = run(command, "--json", FIXTURES / prefix)
    there = run(command, "--json", f"s3://bucket/fixtures/{prefix}")
    assert there.exit_code == here.exit_code
    assert there.output.replace("s3://bucket/fixtures", str(FIXTURES)) == here.output
