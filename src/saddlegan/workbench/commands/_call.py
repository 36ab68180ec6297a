"""One command as it was typed: what its values are, and the line that gives the same values again."""

from __future__ import annotations

import dataclasses
import inspect
import shlex
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from saddlegan.errors import InputError
from saddlegan.workbench.commands import _generated
from saddlegan.workbench.terminal import console

# they say how a command runs and not what it makes
UNSAID = frozenset({"as_json", "overwrite", "resume", "at", "engine", "scheduler"})


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a command did, for programs.

    Attributes:
        facts: plain values, the object that `--json` writes.
        code: the exit code.
        said: whether this process says it; of several that share the work only the first does.
    """

    facts: Mapping[str, Any]
    code: int = 0
    said: bool = True


@dataclasses.dataclass(frozen=True)
class Call:
    """One command as it was typed.

    Attributes:
        command: its name.
        parameters: typer's parameters, in their order.
        values: their values by Python word.
    """

    command: str
    parameters: tuple[Any, ...]
    values: Mapping[str, Any]

    def line(self, **resolved: Any) -> str:
        """The line to type to make the same thing again, said with every value that is not a default.

        Args:
            **resolved: values that were chosen while the command ran; they are said even where they are defaults.
        """
        words = ["saddlegan", self.command]
        for parameter in self.parameters:
            name = parameter.name
            value = resolved.get(name, self.values.get(name))
            if name in UNSAID or value is None or (name not in resolved and value == parameter.default):
                continue
            words += _words(parameter, value)
        return shlex.join(words)

    def flags(self) -> dict[str, str]:
        """What is typed for each Python word: the flag, or the argument's name on the help page."""
        return {p.name: p.opts[0] if p.param_type_name == "option" else _argument_name(p) for p in self.parameters}


def _argument_name(parameter: Any) -> str:
    return (parameter.metavar or parameter.name.upper()).strip("[]").removesuffix("...")


def _words(parameter: Any, value: Any) -> list[str]:
    if parameter.param_type_name == "argument":
        return [_plain(each) for each in value] if isinstance(value, (list, tuple)) else [_plain(value)]
    flag = parameter.opts[0]
    if parameter.is_flag:
        return [flag] if value else list(parameter.secondary_opts[:1])
    if parameter.multiple:
        return [word for each in value for word in (flag, _plain(each))]
    return [flag, ",".join(map(_plain, value)) if isinstance(value, (list, tuple)) else _plain(value)]


def _plain(value: Any) -> str:
    return repr(value) if isinstance(value, float) else str(value)


JsonOption = Annotated[bool, typer.Option("--json", help="Write one JSON object and nothing else to standard output.")]


def registered(function: Callable[..., Outcome], name: str) -> Callable[..., None]:
    """The function that typer gets for a command: with its generated options, its `Call` and `--json`.

    A parameter `chosen` of the command's function stands for the options of the maker in its `options_from`; a
    parameter `call` gets the `Call`.
    """
    parameters: list[inspect.Parameter] = []
    maker: Callable[[], Iterable[_generated.Option]] = getattr(function, "__maker__", list)
    made = list(maker())
    for parameter in inspect.signature(function, eval_str=True).parameters.values():
        if parameter.name == "chosen":
            parameters += [option.parameter() for option in made]
        elif parameter.name != "call":
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
    parameters.append(
        inspect.Parameter("as_json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=JsonOption)
    )
    context = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    takes_call = "call" in inspect.signature(function).parameters

    def run(**values: Any) -> None:
        at = values.pop("context")
        as_json = values.pop("as_json")
        if as_json and str(values.get("out")) == "-":
            raise InputError("`out` - and --json both want standard output; name a file")
        own, given = _generated.split(values, made)
        if made:
            own["chosen"] = given
        if takes_call:
            own["call"] = Call(name, tuple(at.command.params), dict(at.params))
        with console.for_programs(as_json):
            outcome = function(**own)
        if as_json and outcome.said:
            console.write_json(outcome.facts)
        if outcome.code:
            raise typer.Exit(outcome.code)

    wrapper: Any = run
    wrapper.__name__, wrapper.__doc__ = function.__name__, function.__doc__
    wrapper.__signature__ = inspect.Signature([context, *parameters])
    wrapper.__annotations__ = {p.name: p.annotation for p in (context, *parameters)}
    return wrapper


def options_from(maker: Callable[[], list[_generated.Option]]) -> Callable[[Any], Any]:
    """Mark a command's function: its parameter `chosen` stands for generated options."""

    def mark(function: Any) -> Any:
        function.__maker__ = maker
        return function

    return mark


def shown(path: Path) -> str:
    """A path as the user would type it."""
    return shlex.quote(str(path))
