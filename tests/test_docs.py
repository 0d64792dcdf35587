"""README.md shows what really happens: its blocks are run, its commands exist, its links lead somewhere.

In a ```console block each line `$ COMMAND` is run by bash in a fresh copy of fixtures/ (`$?` is the
status of the command before it), and the lines below it are what it prints, errors included. A line
`...` stands for one or more lines. A command that fails must be followed by `$ echo $?`.
A ```python block is run there too, with doctest if it has prompts. A ```sh block is not run:
it may only hold what .ci/run runs, or an install.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from typing import NamedTuple

import pytest

from tools import readme

TEXT = readme.README.read_text(encoding="utf-8")
BLOCKS = readme.fenced_blocks(TEXT)
LANGUAGES = {"console", "python", "sh", "text"}


class Step(NamedTuple):
    command: str
    output: str


def steps(text: str) -> list[Step]:
    """The commands of a console block, each with the output shown below it."""
    before, *parts = re.split(r"^\$ ", text, flags=re.MULTILINE)
    assert before == "", "a console block begins with a command"
    return [Step(*part.partition("\n")[::2]) for part in parts]


def matches(shown: str, printed: str) -> bool:
    """Whether `printed` is what the README shows, `...` standing for one or more lines."""
    pattern = "".join(
        r"(?:.*\n)+?" if line == "...\n" else re.escape(line) for line in shown.splitlines(keepends=True)
    )
    return re.fullmatch(pattern, printed) is not None


def blocks(language: str):
    """Parametrizes a test with the README's blocks in `language`."""
    chosen = [block for block in BLOCKS if block.language == language]
    return pytest.mark.parametrize("block", chosen, ids=[f"line-{block.line}" for block in chosen])


@pytest.fixture
def fixtures(tmp_path):
    no_code = shutil.ignore_patterns("__pycache__")
    return shutil.copytree(readme.ROOT / "fixtures", tmp_path / "fixtures", ignore=no_code)


def run(command, directory):
    return subprocess.run(
        command,
        cwd=directory,
        env=readme.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=60,
        check=False,
    )


@blocks("console")
def test_console_block_shows_what_is_printed(block, fixtures):
    status = 0
    for step in steps(block.text):
        assert status == 0 or step.command == "echo $?", f"{status} from the command before: {step.command}"
        done = run(["bash", "-c", f"(exit {status})\n{step.command}"], fixtures)
        if not matches(step.output, done.stdout):
            assert done.stdout == step.output, f"$ {step.command}"
        status = done.returncode
    assert status == 0


@blocks("python")
def test_python_block_runs(block, fixtures, tmp_path):
    # doctest reads a file as Python only if its name ends in .py, and as text with prompts otherwise.
    prompts = ">>> " in block.text
    source = tmp_path / ("block.txt" if prompts else "block.py")
    source.write_text(block.text, encoding="utf-8")
    module = ["-m", "doctest"] if prompts else []
    done = run([sys.executable, "-W", "error", *module, str(source)], fixtures)
    assert done.returncode == 0, done.stdout


def test_blocks_are_of_a_kind_that_is_checked():
    assert {block.language for block in BLOCKS} <= LANGUAGES
    assert TEXT.count("```") == 2 * len(BLOCKS)


def test_blocks_that_are_not_run_hold_nothing_else():
    for block in BLOCKS:
        if block.language == "sh":
            for line in block.text.splitlines():
                assert re.fullmatch(r"make [a-z]+( +# .*)?|pip install \S+( +# .*)?", line), line


def test_make_targets_exist():
    makefile = (readme.ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    named = set(re.findall(r"^make ([a-z]+)|`make ([a-z]+)", TEXT, re.MULTILINE))
    assert {first or second for first, second in named} <= targets


def test_links_to_files_lead_somewhere():
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", TEXT):
        assert (readme.ROOT / target).exists(), target


def test_every_command_has_help_with_example_and_exit_codes():
    for name in readme.subcommands():
        text = readme.help_of(name)
        assert re.search(r"\bExit (codes?|status)\b", text), f"{name}: exit codes"
        assert re.search(rf"^ +(\$ )?ckptool {name}\b", text, re.MULTILINE), f"{name}: example"
        assert f"<!-- help:{name} -->" in TEXT, f"{name}: README section"


@pytest.mark.parametrize(
    ("shown", "printed", "equal"),
    [
        ("a\n", "a\n", True),
        ("a\n", "b\n", False),
        ("a\n", "a", False),
        ("a.c\n", "abc\n", False),
        ("a\n...\nd\n", "a\nb\nc\nd\n", True),
        ("a\n...\nd\n", "a\nd\n", False),
        ("...\n", "", False),
        ("", "", True),
    ],
)
def test_dots_stand_for_one_or_more_lines(shown, printed, equal):
    assert matches(shown, printed) is equal
