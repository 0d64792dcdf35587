"""Keeps README.md true: writes each command's `--help` into it, or with --check says where it differs.

A help block stands between `<!-- help:NAME -->` and `<!-- /help -->`, where NAME is a subcommand,
or `ckptool` for the help of the whole tool. Run as `python -m tools.readme [--check]`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
SCRIPTS = sysconfig.get_path("scripts")

_HELP_BLOCK = re.compile(r"(?<=<!-- help:)(?P<name>[a-z-]+) -->\n.*?<!-- /help -->", re.DOTALL)
_FENCE = re.compile(r"^```(?P<language>[a-z]*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)


class Block(NamedTuple):
    """A fenced block of README.md: its language, the line its text begins on, and the text."""

    language: str
    line: int
    text: str


def fenced_blocks(readme: str) -> list[Block]:
    """The fenced blocks in order."""
    return [
        Block(match["language"], readme.count("\n", 0, match.start("text")) + 1, match["text"])
        for match in _FENCE.finditer(readme)
    ]


def environment() -> dict[str, str]:
    """The environment in which output is the same everywhere: this Python's `ckptool`, 80 columns, UTF-8."""
    kept = {name: os.environ[name] for name in ("HOME", "TMPDIR") if name in os.environ}
    path = os.pathsep.join([SCRIPTS, os.environ.get("PATH", os.defpath)])
    return kept | {"PATH": path, "COLUMNS": "80", "LINES": "24", "LC_ALL": "C.UTF-8", "TZ": "UTC"}


def help_of(name: str) -> str:
    """What `ckptool NAME --help` prints (`ckptool --help` for the name `ckptool`), without a terminal."""
    command = ["ckptool", "--help"] if name == "ckptool" else ["ckptool", name, "--help"]
    return subprocess.run(
        command, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True, text=True
    ).stdout


def subcommands() -> list[str]:
    """The subcommands that `ckptool --help` lists."""
    section = re.search(r"^Commands:\n((?: .*\n)+)", help_of("ckptool"), re.MULTILINE)
    if section is None:
        raise SystemExit("ckptool --help lists no commands")
    # A description that goes on in the next line is indented further than a name.
    return re.findall(r"^  (\S+)", section[1], re.MULTILINE)


def with_help(readme: str) -> str:
    """`readme` with every help block as the commands print it now."""

    def block(match: re.Match[str]) -> str:
        name = match["name"]
        return f"{name} -->\n```text\n{help_of(name).rstrip()}\n```\n<!-- /help -->"

    return _HELP_BLOCK.sub(block, readme)


def main(arguments: list[str]) -> int:
    """Write README.md, or with `--check` return 1 if that would change it or a command has no block."""
    readme = README.read_text(encoding="utf-8")
    wanted = with_help(readme)
    missing = {*subcommands(), "ckptool"} - {match["name"] for match in _HELP_BLOCK.finditer(readme)}
    for name in sorted(missing):
        print(f"README.md: no <!-- help:{name} --> block", file=sys.stderr)
    if arguments == ["--check"]:
        if wanted != readme:
            print("README.md: the help in it is out of date; run `make docs`", file=sys.stderr)
        return 1 if missing or wanted != readme else 0
    if wanted != readme:
        README.write_text(wanted, encoding="utf-8")
    return 1 if missing else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
