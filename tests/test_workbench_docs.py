"""The command lines in the documentation are run in their order, and must print what the page says."""

from __future__ import annotations

import doctest
import re
import shlex
from pathlib import Path

import pytest

from saddlegan.workbench import cli

DOCS = Path(__file__).parents[1] / "docs"
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def examples(page: Path) -> list[tuple[str, str]]:
    """Every `$ saddlegan ...` line of a page, with the output that the page promises."""
    blocks = re.findall(r"^```console\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    found: list[tuple[str, str]] = []
    for block in blocks:
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            line, _, output = part.partition("\n")
            found.append((line, output))
    return found


def matches(promised: str, got: str) -> bool:
    return doctest.OutputChecker().check_output(promised, got, FLAGS)


def test_the_check_can_fail() -> None:
    assert matches("a: ...\nb\n", "a: 3\nb\n")
    assert not matches("a: 1\n", "a: 2\n")


@pytest.mark.slow  # runs whole commands
def test_the_command_line_page(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = examples(DOCS / "command-line.md")
    assert len(lines) >= 10
    for line, promised in lines:
        words = shlex.split(line)
        assert words[0] == "saddlegan"
        code = cli.run(words[1:])
        seen = capsys.readouterr()
        assert matches(promised, seen.out + seen.err), f"$ {line}\n{seen.out}{seen.err}"
        assert (code == 0) == (not promised.startswith("error"))
