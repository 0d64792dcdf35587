"""The pictures of README.md: what real commands show on a terminal of 80 columns, as SVG.

Run as `python -m tools.pictures [--check]`. Each picture holds the digest of the output that it shows,
by which --check tells whether it is out of date.
"""

from __future__ import annotations

import hashlib
import io
import os
import pty
import re
import subprocess
import sys

from rich.console import Console
from rich.text import Text

from tools.readme import ROOT, environment

PICTURES = {
    "ls-tree": ("ls", "optimizer-slots", "--tree", "--depth", "2"),
    "show-stats": ("show", "tutorial-layers", "v1", "--stats"),
}
DIRECTORY = ROOT / "docs"
_WIDTH = 80
# The fonts that rich refers to would be fetched from elsewhere by whoever looks at the picture.
_FONT_FACE = re.compile(r"\s*@font-face \{.*?\}", re.DOTALL)


def terminal_output(arguments: tuple[str, ...]) -> str:
    """What ckptool prints in fixtures/ on a terminal, colours included."""
    ours, theirs = pty.openpty()
    env = environment() | {"TERM": "xterm-256color", "COLUMNS": str(_WIDTH)}
    with subprocess.Popen(["ckptool", *arguments], stdout=theirs, env=env, cwd=ROOT / "fixtures") as process:
        os.close(theirs)
        pieces = []
        try:
            while piece := os.read(ours, 65536):
                pieces.append(piece)
        except OSError:
            pass  # Linux: the other end was closed
    os.close(ours)
    if process.returncode:
        raise SystemExit(f"ckptool {' '.join(arguments)} failed")
    return b"".join(pieces).decode().replace("\r\n", "\n")


def digest_of(output: str) -> str:
    """How a picture says what it shows."""
    return f"<!-- output {hashlib.sha256(output.encode()).hexdigest()} -->"


def picture(arguments: tuple[str, ...], output: str) -> str:
    """The SVG."""
    command = " ".join(("ckptool", *arguments))
    console = Console(record=True, width=_WIDTH, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(output.rstrip("\n")))
    svg = _FONT_FACE.sub("", console.export_svg(title=command, unique_id="ckptool"))
    return f"{svg.rstrip()}\n{digest_of(output)}\n"


def main(arguments: list[str]) -> int:
    """Write the pictures, or with `--check` return 1 if one shows something else than its command."""
    stale = False
    for name, command in PICTURES.items():
        path = DIRECTORY / f"{name}.svg"
        output = terminal_output(command)
        if path.exists() and digest_of(output) in path.read_text(encoding="utf-8"):
            continue
        if arguments == ["--check"]:
            print(f"{path.relative_to(ROOT)}: out of date; run `make docs`", file=sys.stderr)
            stale = True
        else:
            DIRECTORY.mkdir(exist_ok=True)
            path.write_text(picture(command, output), encoding="utf-8")
    return int(stale)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
