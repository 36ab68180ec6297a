"""Options that nobody types twice: from the fields of the recipe, and from the signatures of the solvers.

A generated option is left out of the call where the user does not give it, so that whoever knows the data can choose.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterable, Sequence
from math import inf
from typing import Annotated, Any, get_args, get_origin

import typer

from saddlegan.workbench.commands._options import Choice, Number
from saddlegan.workbench.terminal import source
from saddlegan.workbench.terminal.numbers import ANY, Range

Given = dict[str, Any]  # the generated options that were given, by their Python words
LONGEST_HELP = 160
KINDS: dict[str, Any] = {
    "int": int,
    "float": float,
    "bool": bool,
    "float | str": float,  # its default is the word
    "Sequence[int]": tuple[int, ...],
    "tuple[int, ...]": tuple[int, ...],
    "tuple[float, ...]": tuple[float, ...],
}


@dataclasses.dataclass(frozen=True)
class Option:
    """One option before typer sees it.

    Attributes:
        name: the Python word; the flag is made of it.
        kind: int, float, bool or str; a tuple of words to choose from; or `tuple[int, ...]` and the like.
        text: what the help says.
        range: the numbers that are allowed.
        words: allowed beside numbers.
        otherwise: what holds if it is not given.
    """

    name: str
    kind: Any
    text: str
    range: Range = ANY
    words: tuple[str, ...] = ()
    otherwise: str = ""

    def parameter(self) -> inspect.Parameter:
        """The parameter of a command's function that typer reads."""
        flag, kind, more = flag_of(self.name), self.kind, {}
        annotation: Any = str
        if kind is bool:
            flag, annotation = f"{flag}/--no-{flag[2:]}", bool
        elif kind is str:
            pass
        elif isinstance(kind, tuple):
            more = {"parser": Choice(*kind), "metavar": "|".join(kind)}
        elif get_origin(kind) is tuple:
            each = get_args(kind)[0]
            words = "NUMBER,..." if each in (int, float) else "WORD,..."
            more = {"parser": _Several(each, self.range), "metavar": words}
        else:
            read = Number(kind, self.range, self.words, self.otherwise)
            more = {"parser": read, "metavar": read.__name__}
        option: Any = typer.Option(flag, help=self.text, show_default=False, **more)
        return inspect.Parameter(
            self.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[annotation | None, option]
        )


def flag_of(name: str) -> str:
    """The flag of a Python word."""
    return "--" + name.replace("_", "-")


def of_recipe(skip: Iterable[str] = ()) -> list[Option]:
    """An option for each field of the training recipe, with its docstring's words and its default."""
    return [
        Option(
            field.name,
            _kind_of(field.kind),
            _shortened(field.text, [_shown(field.default)]),
            range=field.range,
            otherwise="what suits the data",
        )
        for field in source.fields("saddlegan.workbench.training.recipe", "Recipe")
        if field.name not in skip
    ]


def of_solvers(skip: Iterable[str] = ()) -> list[Option]:
    """An option for each argument of any solver; those that several have are one option, with all defaults."""
    found: dict[str, list[tuple[str, source.Argument]]] = {}
    for word, name in solvers().items():
        for argument in source.constructor("saddlegan.fit", name):
            if argument.name not in skip:
                found.setdefault(argument.name, []).append((word, argument))
    made = []
    for name, owners in found.items():
        kind = _kind_of(owners[0][1].kind)
        defaults = [f"{word}: {_shown(argument.default)}" for word, argument in owners]
        least = 1 if kind in (int, tuple[int, ...]) else 0 if name in ("beta", "time_limit", "tolerance") else -inf
        words = tuple({str(argument.default) for _, argument in owners if argument.kind == "float | str"})
        shown = sorted({_shown(argument.default) for _, argument in owners})
        otherwise = shown[0] if len(shown) == 1 and owners[0][1].default is not None else "what suits the model"
        text = _shortened(owners[0][1].text, defaults)
        made.append(Option(name, kind, text, range=Range(least=least), words=words, otherwise=otherwise))
    return made


def solvers() -> dict[str, str]:
    """The solvers' words and classes, read without importing them."""
    return source.names("saddlegan.fit", "ESTIMATORS")


def arguments_of(word: str) -> dict[str, source.Argument]:
    """The constructor arguments of one solver by name."""
    return {argument.name: argument for argument in source.constructor("saddlegan.fit", solvers()[word])}


@dataclasses.dataclass(frozen=True)
class _Several:
    kind: Any
    range: Range = ANY

    def __call__(self, text: str) -> tuple[Any, ...]:
        """Read several words with commas between them."""
        parts = [part.strip() for part in text.split(",") if part.strip()]
        if not parts:
            raise typer.BadParameter("must be words with commas between, such as 4,8,16")
        if self.kind not in (int, float):
            return tuple(parts)
        return tuple(Number(self.kind, self.range)(part) for part in parts)


def _kind_of(annotation: str) -> Any:
    """What an annotation, as it stands in the source, means for its option."""
    words = annotation.removesuffix(" | None")
    if words.startswith("Literal["):
        return tuple(re.findall(r"['\"]([^'\"]+)['\"]", words))
    return KINDS.get(words, str)


def _shown(default: object) -> str:
    if isinstance(default, (tuple, list)):
        return ",".join(map(str, default))
    if isinstance(default, bool):
        return "yes" if default else "no"
    return "none" if default is None else f"{default:g}" if isinstance(default, float) else str(default)


def _shortened(text: str, defaults: Sequence[str]) -> str:
    """The first sentence, as far as a help page can bear it, and what holds if the option is not given."""
    first = re.split(r"(?<=[.;])\s", text, maxsplit=1)[0].rstrip(".;") if len(text) > LONGEST_HELP else text.rstrip(".")
    first = first[:1].upper() + first[1:].replace("`", "")
    return f"{first} [{'; '.join(defaults)}]." if first else f"[{'; '.join(defaults)}]"


def split(values: dict[str, Any], made: Iterable[Option]) -> tuple[dict[str, Any], Given]:
    """The values of a command's own parameters, and the generated ones that were given."""
    names = {option.name for option in made}
    own = {name: value for name, value in values.items() if name not in names}
    return own, {name: value for name, value in values.items() if name in names and value is not None}
