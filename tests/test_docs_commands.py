"""Every command line of README and the pages is run, in the order of its page, as in a pipe.

`tests/test_workbench_docs.py` compares what docs/command-line.md promises with what is printed; here every other line
must run to its end with exit code 0 and leave what it names. Trainings are cut short by options put behind their own,
and the folders of somebody else's pictures are made.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from PIL import Image

from saddlegan.workbench import cli

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# what a command gets beside its own words, so that its page runs in seconds; an option counts where it stands last
SHORT = {
    "train": "--steps 6 --hidden 8 --n-samples 300 --batch 16 --points 8",
    "certify": "--steps 5 --restarts 1 --batch-size 16 --lam 1",
}
PICTURES = 24


def commands(page: Path) -> list[list[str]]:
    """The words of every `saddlegan ...` line in a block without a language."""
    blocks = re.findall(r"^```(\S*)\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    plain = [block for language, block in blocks if language in ("", "sh", "bash")]
    lines = [line for block in plain for line in block.replace("\\\n", " ").splitlines()]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("saddlegan ")]


def mentioned(page: Path) -> list[str]:
    """Every command with options in the running text."""
    return re.findall(r"`(saddlegan [a-z]+ [^`]*--[^`]*)`", page.read_text(encoding="utf-8"))


WITH_COMMANDS = [page for page in PAGES if commands(page)]


def prepare(place: Path) -> None:
    """The folders and files that the pages take for granted."""
    rng = np.random.default_rng(0)
    for folder, side in (("photos", 8), ("FOLDER", 64), ("celeba", 256)):
        (place / folder).mkdir()
        for number in range(PICTURES):
            pixels = rng.integers(0, 256, (side, side)).astype(np.uint8)
            Image.fromarray(pixels).save(place / folder / f"{number}.png")
    np.save(place / "x.npy", rng.standard_normal((64, 2)).astype(np.float32))
    np.save(place / "images.npy", rng.integers(0, 256, (PICTURES, 32, 32), dtype=np.uint8))


def shortened(words: Sequence[str]) -> list[str]:
    if words[0] == "train" and "--resume" in words:
        return list(words)
    if words[0] == "train" and ":" in words[1]:  # a pair of one's own has its own networks
        return [*words, "--steps", "6", "--batch", "16"]
    more = shlex.split(SHORT.get(words[0], ""))
    if "--certify-every" in words:
        more += ["--certify-every", "3", "--set", "certify_steps=3"]
    if "--n-components" in words:  # no more than there are pictures
        more += ["--n-components", "2,3,4,5"]
    elif "--progressive" in words:
        more += ["--resolutions", "4,8", "--n-components", "2,3"]
    elif "--n-latent" in words:
        more += ["--n-latent", "4"]
    return [*words, *more]


def test_lines_are_found() -> None:
    assert {page.stem for page in WITH_COMMANDS} >= {"README", "training", "procogan", "certify"}
    assert ["fit", "digits", "--out", "runs/digits"] in commands(ROOT / "README.md")


def test_a_wrong_line_is_seen(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("```\nsaddlegan fit digits --no-such-option 3\n```\n")
    (words,) = commands(tmp_path / "page.md")
    assert cli.run(words) == 2


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=lambda page: page.stem)
@pytest.mark.slow  # every command of a page, one after the other
def test_every_command_of_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    prepare(tmp_path)
    for words in commands(page):
        given = shortened(words)
        assert cli.run(given) == 0, shlex.join(given)
        if "--out" in words:
            assert Path(words[words.index("--out") + 1]).exists()


@pytest.mark.parametrize("page", [page for page in PAGES if mentioned(page)], ids=lambda page: page.stem)
def test_every_option_in_the_running_text_exists(page: Path) -> None:
    for line in mentioned(page):
        name, *words = shlex.split(line.partition(" | ")[0])[1:]
        command: Any = typer.main.get_command(cli.app_for(name))
        known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
        assert {word for word in words if word.startswith("--")} <= known, line
