"""Running the command line inside the test's process, stdout and stderr apart."""

from __future__ import annotations

import inspect
from pathlib import Path

from click.testing import CliRunner, Result

from ckptool.cli import commands

# Click before 8.2 mixes them unless told otherwise; later ones have forgotten the parameter.
_SEPARATE = {"mix_stderr": False} if "mix_stderr" in inspect.signature(CliRunner).parameters else {}


def run(*args: str | Path) -> Result:
    """`ckptool` with these arguments."""
    return CliRunner(**_SEPARATE).invoke(commands, list(map(str, args)), prog_name="ckptool")  # type: ignore[arg-type]
