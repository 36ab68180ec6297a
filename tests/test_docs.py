"""The pages refer only to code that exists; the README's first screen keeps its promises."""

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
REFERENCE = re.compile(r"\{py:\w+\}`~?([\w.]+)`")
PAGES = sorted((ROOT / "docs").glob("*.md"))


def resolve(name):
    """Import a dotted name: the longest importable module, then attributes."""
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for attribute in parts[cut:]:
            found = getattr(found, attribute)
        return found
    raise ModuleNotFoundError(name)


def test_resolve_can_fail():
    assert resolve("saddlegan.fit.QuadraticWGAN.fit") is not None
    with pytest.raises(AttributeError):
        resolve("saddlegan.fit.CubicWGAN")
    with pytest.raises(ModuleNotFoundError):
        resolve("nosuchpackage.thing")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_pages_refer_to_code_and_pictures_that_exist(page):
    text = page.read_text()
    for name in REFERENCE.findall(text):
        assert resolve(name) is not None
    for picture in re.findall(r"\]\((images/[^)]+)\)", text):
        assert (page.parent / picture).is_file(), picture


def test_every_equation_of_the_theory_names_its_code():
    text = (ROOT / "docs" / "theory.md").read_text()
    equations = list(re.finditer(r"\\tag\{(\d)\}", text))
    assert [e.group(1) for e in equations] == [str(i) for i in range(len(equations))]
    for here, after in zip(equations, [*equations[1:], None], strict=True):
        section = text[here.end() : after.start() if after else len(text)]
        assert REFERENCE.search(section), f"equation ({here.group(1)}) links to no code"
