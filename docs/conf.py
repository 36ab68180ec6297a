"""Sphinx configuration: one site from Markdown pages and docstrings; warnings are errors in `make docs`."""

import html
import re

from docutils import nodes
from latex2mathml.converter import convert

import saddlegan

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
exclude_patterns = ["_build"]
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
html_static_path = ["_static"]


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


def _inline_mathematics(self, node) -> None:
    self.body.append(convert(node.astext()))
    raise nodes.SkipNode


def _displayed_mathematics(self, node) -> None:
    number = re.search(r"\\tag\{(\w+)\}", node.astext())
    formula = convert(re.sub(r"\\tag\{\w+\}", "", node.astext()).strip(), display="block")
    label = f'<span class="eqno">({html.escape(number.group(1))})</span>' if number else ""
    self.body.append(f'<div class="math">{label}{formula}</div>')
    raise nodes.SkipNode


def setup(app) -> None:
    # MathML, made here: the pages need no script and no network
    app.add_html_math_renderer("mathml", (_inline_mathematics, None), (_displayed_mathematics, None))
    app.add_css_file("mathematics.css")
    # before napoleon (priority 500), which itself makes markup from the sections
    app.connect("autodoc-process-docstring", _plain_mathematics, priority=400)
