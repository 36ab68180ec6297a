"""Names, signatures and help texts read from the package's own source, without importing it.

`saddlegan fit --help` lists every option of every solver within a tenth of a second; importing the solvers, and torch
with them, takes a second and more. What is read here is the very source that is run, so nothing is typed twice.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import re
from pathlib import Path

from saddlegan.workbench.terminal.numbers import ANY, Range

PACKAGE = Path(__file__).parents[2]
BOUNDS = {"ge": "least", "gt": "above", "le": "most", "lt": "below"}  # pydantic's words for the ends of a range


@dataclasses.dataclass(frozen=True)
class Argument:
    """One argument of a constructor.

    Attributes:
        name: the Python word.
        kind: the annotation as it is written; a name for a `Literal` is replaced by it.
        default: its value, None where it has none that is a plain constant.
        text: what the docstring says of it, on one line.
        range: the numbers that are allowed, where the source says so.
    """

    name: str
    kind: str
    default: object
    text: str
    range: Range = ANY


def names(module: str, registry: str) -> dict[str, str]:
    """The entries of a dictionary that a module spells out: its words and the names that they stand for.

    Args:
        module: such as "saddlegan.train".
        registry: the dictionary, such as "RULES".

    Example:
        >>> names("saddlegan.train", "RULES")["primal-dual"]
        'PrimalDual'
    """
    for node in _tree(_path(module)).body:
        name, value = _assigned(node)
        if name == registry and isinstance(value, ast.Dict):
            return {ast.literal_eval(k): ast.unparse(v) for k, v in zip(value.keys, value.values, strict=True) if k}
    raise LookupError(f"{module} spells out no dictionary {registry}")


def first_words(module: str, call: str) -> list[str]:
    """The words that a module's own objects are made with first, such as the names of objectives.

    Args:
        module: such as "saddlegan.objectives".
        call: what makes them, such as "Objective".

    Example:
        >>> first_words("saddlegan.objectives", "Objective")[:2]
        ['wasserstein', 'vanilla']
    """
    made = [_assigned(node)[1] for node in _tree(_path(module)).body]
    calls = [node for node in made if isinstance(node, ast.Call) and ast.unparse(node.func) == call]
    return [word for word in (_constant(node.args[0]) for node in calls if node.args) if isinstance(word, str)]


def objectives() -> list[str]:
    """The objectives that can be named; a value of one's own comes with a function, not with a word."""
    return [word for word in first_words("saddlegan.objectives", "Objective") if word != "own-value"]


def experiments() -> list[str]:
    """The names of the experiments, read from the files that hold them."""
    folder = _path("saddlegan.workbench.reproductions").parent
    nodes = (node for path in sorted(folder.glob("*.py")) for node in ast.walk(_tree(path)))
    calls = [node for node in nodes if isinstance(node, ast.Call) and ast.unparse(node.func) == "Experiment"]
    return [word for word in (_constant(node.args[0]) for node in calls if node.args) if isinstance(word, str)]


def constructor(module: str, name: str) -> list[Argument]:
    """The arguments of a class that a package exports, in their order.

    Args:
        module: the package, such as "saddlegan.fit".
        name: the class.

    Example:
        >>> [(a.name, a.kind, a.default) for a in constructor("saddlegan.fit", "LinearWGAN")]
        [('beta', 'float', 0.0), ('center', 'bool', False)]
    """
    tree = _tree(_path(_home(module, name)))
    found = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)
    init = next(node for node in found.body if isinstance(node, ast.FunctionDef) and node.name == "__init__")
    texts = described(ast.get_docstring(found) or "", "Args")
    spelled = {name: ast.unparse(value) for name, value in map(_assigned, tree.body) if value is not None}
    arguments = [*init.args.args[1:], *init.args.kwonlyargs]
    late = [None] * (len(init.args.args) - 1 - len(init.args.defaults))
    defaults = [*late, *init.args.defaults, *init.args.kw_defaults]
    made = []
    for argument, default in zip(arguments, defaults, strict=True):
        kind = ast.unparse(argument.annotation) if argument.annotation else ""
        kind = spelled[kind] if spelled.get(kind, "").startswith("Literal") else kind
        made.append(Argument(argument.arg, kind, _constant(default), texts.get(argument.arg, "")))
    return made


def fields(module: str, name: str) -> list[Argument]:
    """The fields of a pydantic model, as its source declares them.

    Args:
        module: such as "saddlegan.workbench.training.recipe".
        name: the class.

    Example:
        >>> found = {field.name: field for field in fields("saddlegan.workbench.training.recipe", "Recipe")}
        >>> found["steps"].default, found["steps"].range.least
        (12000, 1)
    """
    tree = _tree(_path(module))
    found = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)
    texts = described(ast.get_docstring(found) or "", "Attributes")
    spelled = {name: _constant(value) for name, value in map(_assigned, tree.body)}
    made = []
    for node in found.body:
        word, value = _assigned(node)
        if not isinstance(node, ast.AnnAssign) or value is None:
            continue
        allowed = ANY
        if isinstance(value, ast.Call):  # Field(default, ge=...)
            stated = {BOUNDS[each.arg]: _number(each.value) for each in value.keywords if each.arg in BOUNDS}
            allowed = Range(**stated)
            value = value.args[0]
        default = spelled.get(value.id) if isinstance(value, ast.Name) else _constant(value)
        made.append(Argument(word, ast.unparse(node.annotation), default, texts.get(word, ""), allowed))
    return made


def words(module: str, name: str) -> tuple[str, ...]:
    """The words of a constant that a module's source spells out.

    Example:
        >>> words("saddlegan.workbench.report.quality", "FEATURES")
        ('auto', 'numbers', 'imagenet')
    """
    found = next(_constant(value) for word, value in map(_assigned, _tree(_path(module)).body) if word == name)
    return tuple(map(str, found)) if isinstance(found, tuple) else ()


def described(docstring: str, section: str) -> dict[str, str]:
    r"""What a Google-style docstring says of each name in one of its sections, each on one line.

    Example:
        >>> described("One.\n\nArgs:\n    a: first\n        and more.\n    b: second.\n\nRaises:\n    c: no", "Args")
        {'a': 'first and more.', 'b': 'second.'}
    """
    match = re.search(rf"^{section}:\n((?:[ ]+.*\n?|\n)+)", docstring, re.MULTILINE)
    if match is None:
        return {}
    lines = [line for line in match[1].splitlines() if line.strip()]
    margin = len(lines[0]) - len(lines[0].lstrip())
    found: dict[str, str] = {}
    name = ""
    for line in lines:
        head = re.match(r"(\w+): +(.*)", line[margin:])
        if head and not line[margin].isspace():
            name = head[1]
            found[name] = head[2]
        elif name:
            found[name] += " " + line.strip()
    return found


def _home(module: str, name: str) -> str:
    """The module that a package imports a name from."""
    for node in _tree(_path(module)).body:
        if isinstance(node, ast.ImportFrom) and node.module and any(alias.name == name for alias in node.names):
            return node.module
    return module


def _path(module: str) -> Path:
    place = PACKAGE.joinpath(*module.split(".")[1:])
    return place / "__init__.py" if place.is_dir() else place.with_suffix(".py")


@functools.cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _assigned(node: ast.stmt) -> tuple[str, ast.expr | None]:
    """The name and the value of an assignment."""
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return node.target.id, node.value
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
        return node.targets[0].id, node.value
    return "", None


def _number(node: ast.expr) -> float:
    """The value of a number, or of a power of one."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
        return _number(node.left) ** _number(node.right)
    found = ast.literal_eval(node)
    if not isinstance(found, (int, float)):
        raise TypeError(f"{ast.unparse(node)} is no number")
    return found


def _constant(node: ast.expr | None) -> object:
    try:
        return None if node is None else ast.literal_eval(node)
    except ValueError:
        return None
