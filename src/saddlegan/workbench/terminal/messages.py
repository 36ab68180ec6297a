"""Errors in the words of the command line: flags instead of Python's arguments, and what was probably meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping

# "must be one of a, b, or an existing file; got 'x'" and "'x' is not one of 'a', 'b'."
_ONE_OF = re.compile(r"must be one of (?P<known>.+?)[,;:] got '(?P<word>[^']*)'")
_NOT_ONE_OF = re.compile(r"'(?P<word>[^']*)' is not one of (?P<known>'.+')")

# what the parser says of a line that it cannot read, and what is said instead; {} is the command
_OF_USAGE = {
    r"Missing (?:argument|option|parameter) '?([^'.]+)'?\.": r"`\1` is missing; see saddlegan {} --help",
    r"Got unexpected extra arguments?(?:\(s\))? \((.+)\)": r"\1: more words than {} takes; see saddlegan {} --help",
    r"Option '(\S+)' requires an argument\.": r"`\1` needs a value; see saddlegan {} --help",
}


def in_flags(message: str, flags: Mapping[str, str]) -> str:
    """Name flags where a message names the Python arguments that they stand for.

    Args:
        message: such as "`n_latent` must be at least 1".
        flags: Python's words and what is typed for them.

    Example:
        >>> in_flags("`beta`=2 is too much; pass lam=1 or `beta`", {"beta": "--beta", "lam": "--lam"})
        '`--beta` 2 is too much; pass --lam 1 or `--beta`'
        >>> in_flags("pass Search(steps=30)", {"steps": "--steps"})
        'pass --steps 30'
    """
    usage = re.match(r"Invalid value for '([^' ]+)[^']*': (.*)", message, re.DOTALL)
    if usage is not None:
        message = f"`{usage[1]}` {usage[2]}" if usage[2].startswith("must") else f"`{usage[1]}`: {usage[2]}"

    def named(match: re.Match[str]) -> str:
        flag = flags.get(match[2])
        if flag is None or not (match[1] or match[3]):  # a word of the sentence, not an argument
            return match[0]
        return f"{match[1]}{flag}{match[1]}{' ' if match[3] else ''}"

    message = re.sub(r"(`|(?<![\w.`'\"/=-]))(\w+)\1(=?)(?![=>])", named, message)
    return re.sub(r"\b[A-Z]\w+\((--[^()]*)\)", r"\1", message)  # Search(--steps 30) is typed without its class


def of_usage(message: str, command: str) -> str:
    """The parser's own words about a line that it cannot read, with what to do.

    Args:
        message: the parser's.
        command: the command that was called.

    Example:
        >>> of_usage("Missing argument 'DATA'.", "fit")
        '`DATA` is missing; see saddlegan fit --help'
        >>> of_usage("Got unexpected extra argument(s) (b c)", "fit")
        'b c: more words than fit takes; see saddlegan fit --help'
    """
    unknown = re.fullmatch(r"No such option: (\S+)(?: \(Possible options: (.+)\))?", message.strip(), re.DOTALL)
    if unknown is not None:
        close = near(unknown[1], (unknown[2] or "").split(", "))
        meant = f"see saddlegan {command} --help" if close is None else f"did you mean {close}?"
        return f"{command} has no option {unknown[1]}; {meant}"
    for pattern, words in _OF_USAGE.items():
        found = re.fullmatch(pattern, message.strip(), re.DOTALL)
        if found is not None:
            return found.expand(words.replace("{}", command))
    return message


def suggested(message: str) -> str:
    """Add what was probably meant to a message that lists what is known.

    Example:
        >>> suggested("`--rule` must be one of proximal, unrolled, got 'proxmal'")
        "`--rule` must be one of proximal, unrolled, got 'proxmal'; did you mean 'proximal'?"
    """
    match = _ONE_OF.search(message) or _NOT_ONE_OF.search(message)
    if match is None or "did you mean" in message.lower():
        return message
    close = near(match["word"], re.findall(r"[\w:.+-]+", match["known"]))
    return message if close is None else f"{message.rstrip('.')}; did you mean {close!r}?"


def near(word: str, known: list[str]) -> str | None:
    """The known word that is nearest to one that is not, if any is near.

    Example:
        >>> near("certfy", ["certify", "train"])
        'certify'
    """
    close = difflib.get_close_matches(word.lower(), known, n=1, cutoff=0.6)
    return close[0] if close and close[0] != word else None
