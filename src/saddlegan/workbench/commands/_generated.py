"""Options that nobody types twice: from the fields of the recipe, and from the signatures of the solvers.

A generated option is left out of the call where the user does not give it, so that whoever knows the data can choose.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import re
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, get_args, get_origin

import typer

from saddlegan.workbench.commands._options import Choice
from saddlegan.workbench.terminal import source

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
        least: smallest number that is allowed.
        words: allowed beside numbers.
    """

    name: str
    kind: Any
    text: str
    least: float = -math.inf
    words: tuple[str, ...] = ()

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
            more = {"parser": _Several(each, self.least), "metavar": words}
        else:
            names = ("INTEGER" if kind is int else "NUMBER", *self.words)
            more = {"parser": _Number(kind, self.least, self.words), "metavar": "|".join(names)}
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
        Option(field.name, _kind_of(field.kind), _shortened(field.text, [_shown(field.default)]), least=field.least)
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
        least = 1 if kind in (int, tuple[int, ...]) else 0 if name in ("beta", "time_limit", "tolerance") else -math.inf
        words = tuple({str(argument.default) for _, argument in owners if argument.kind == "float | str"})
        made.append(Option(name, kind, _shortened(owners[0][1].text, defaults), least=least, words=words))
    return made


def solvers() -> dict[str, str]:
    """The solvers' words and classes, read without importing them."""
    return source.names("saddlegan.fit", "ESTIMATORS")


def arguments_of(word: str) -> dict[str, source.Argument]:
    """The constructor arguments of one solver by name."""
    return {argument.name: argument for argument in source.constructor("saddlegan.fit", solvers()[word])}


@dataclasses.dataclass(frozen=True)
class _Number:
    kind: Any
    least: float = -math.inf
    words: tuple[str, ...] = ()

    def __call__(self, text: str) -> Any:
        """Read one number or one of the words."""
        if text in self.words:
            return text
        try:
            found: float = int(text) if self.kind is int else float(text)
        except ValueError:
            found = math.nan
        if not math.isfinite(found) or found < self.least:
            what = "whole" if self.kind is int else "finite"
            bound = "" if math.isinf(self.least) else f" of at least {self.least:g}"
            others = "".join(f' or "{word}"' for word in self.words)
            raise typer.BadParameter(f"must be a {what} number{bound}{others}, got {text!r}")
        return found


@dataclasses.dataclass(frozen=True)
class _Several:
    kind: Any
    least: float = -math.inf

    def __call__(self, text: str) -> tuple[Any, ...]:
        """Read several words with commas between them."""
        parts = [part.strip() for part in text.split(",") if part.strip()]
        if not parts:
            raise typer.BadParameter("must be words with commas between, such as 4,8,16")
        if self.kind not in (int, float):
            return tuple(parts)
        return tuple(_Number(self.kind, self.least)(part) for part in parts)


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
