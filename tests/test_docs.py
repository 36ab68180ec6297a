"""The pages refer only to code that exists; the README's first screen keeps its promises."""

import importlib
import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

from browser import BROKEN_WORDS, Tab, find_chromium, open_page

ROOT = Path(__file__).parent.parent
REFERENCE = re.compile(r"\{py:\w+\}`~?([\w.]+)`")
PAGES = sorted((ROOT / "docs").glob("*.md"))


def resolve(name: str) -> Any:
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


def configuration():
    """`docs/conf.py` as a module."""
    spec = importlib.util.spec_from_file_location("docs_conf", ROOT / "docs" / "conf.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_functions_stand_apart_from_what_they_are_applied_to():
    made = configuration()._mathml(r"2\log s(t) + \log(t)")
    assert made.count("<mspace") == 2
    assert '<mn>2</mn><mspace width="0.167em"/><mi>log</mi><mspace width="0.167em"/><mi>s</mi>' in made


def test_every_cell_of_a_table_names_its_column():
    table = (
        "<table><thead><tr><th><p>rule</p></th><th><p>cost</p></th></tr></thead><tbody>"
        "<tr><td><p><code><span>train.R1_x</span></code></p></td><td>1</td></tr></tbody></table>"
    )
    made = configuration()._labelled(table)
    assert made.count("<td ") == 2
    assert '<td data-label="rule"><p><code><span>train.<wbr>R1_<wbr>x</span>' in made
    assert '<td data-label="cost">1' in made


def test_numbers_flags_and_hyphenated_words_of_tables_stay_whole():
    docs = configuration()
    context = {
        "body": "<p>a two-layer <code>--set x</code>, 2e-14</p><pre>--set</pre><table><thead><tr><th>a</th></tr>"
        "</thead>"
        '<tbody><tr><td><a href="x-y.html">descent-ascent</a></td></tr></tbody></table>'
    }
    docs._tables_for_every_width(None, None, None, context, None)
    for word in ("--set", "2e-14", "descent-ascent"):
        assert context["body"].count(f'<span class="whole">{word}</span>') == 1
    assert "two-layer" in context["body"]
    assert "<pre>--set</pre>" in context["body"]
    assert 'href="x-y.html"' in context["body"]


BUILT = ROOT / "docs" / "_build" / "html"  # `make docs`, which `make test` runs before the tests


@pytest.mark.skipif(find_chromium() is None, reason="no Chromium found")
@pytest.mark.skipif(not (BUILT / "index.html").is_file(), reason="make docs first")
@pytest.mark.browser
@pytest.mark.slow  # starts Chromium
def test_no_page_breaks_a_word_of_a_table_or_hides_anything():
    pages = [BUILT / f"{page.stem}.html" for page in PAGES]

    def walk(tab: Tab) -> dict[tuple[str, int], object]:
        found = {}
        for page in pages:
            tab.go(page)
            for width in (400, 1280):
                tab.resize(width)
                found[page.stem, width] = tab.evaluate(BROKEN_WORDS), tab.overflow()
        return found

    seen = open_page(pages[0], act=walk)
    assert seen.result == {(page.stem, width): ([], 0) for page in pages for width in (400, 1280)}
    assert seen.errors == []


THEORY = (ROOT / "docs" / "theory.md").read_text(encoding="utf-8")


def sections(text: str) -> dict[str, str]:
    """Number of each heading, and what stands under it up to the next."""
    parts = re.split(r"^#{2,3} (\d(?:\.\d)?) .*$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def cited() -> set[str]:
    source = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    return {number for number in re.findall(r"[Tt]heory,? (?:section )?(\d(?:\.\d)?)(?!\d)", source)}


def test_the_theory_page_has_every_section_that_docstrings_cite() -> None:
    assert len(cited()) >= 10
    assert cited() <= set(sections(THEORY))


def test_every_section_of_the_theory_page_names_a_test_that_exists() -> None:
    for number, text in sections(THEORY).items():
        named = re.findall(r"`(tests/\w+\.py)`", text)
        parent = "." not in number and any(other.startswith(f"{number}.") for other in sections(THEORY))
        assert named or parent, number
        assert all((ROOT / name).is_file() for name in named), number


def test_a_missing_section_is_seen() -> None:
    assert "1.5" not in sections(THEORY.replace("### 1.5 ", "### "))


def test_the_lists_that_contributors_are_sent_to_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    lists = re.findall(r"\| `(saddlegan[\w.]*)` \|", text)
    assert len(lists) == 7
    for name in lists:
        assert len(resolve(name)) > 0, name
