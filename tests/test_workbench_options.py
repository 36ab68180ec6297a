"""Options that are made from signatures, and the line that repeats a command.

Oracles: the imported classes, for what was read from their source; the parser itself, for the line to type again.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saddlegan import fit, objectives, train
from saddlegan.workbench import cli
from saddlegan.workbench.commands import _generated
from saddlegan.workbench.commands._call import UNSAID
from saddlegan.workbench.runs import folder as runs
from saddlegan.workbench.terminal import messages, numbers, source
from saddlegan.workbench.training.recipe import Recipe, make_recipe

MAKERS = ("fit", "train")
ENDS = {"ge": "least", "gt": "above", "le": "most", "lt": "below"}


# what is read without importing it


def test_the_lists_read_from_the_source_are_the_imported_ones() -> None:
    assert source.names("saddlegan.train", "RULES") == {word: rule.__name__ for word, rule in train.RULES.items()}
    assert source.names("saddlegan.fit", "ESTIMATORS") == {word: each.__name__ for word, each in fit.ESTIMATORS.items()}
    found = set(source.first_words("saddlegan.objectives", "Objective"))
    assert found - {objectives.OWN_VALUE.name} == set(objectives.OBJECTIVES)
    with pytest.raises(LookupError):
        source.names("saddlegan.train", "LAWS")


@pytest.mark.parametrize("word", fit.ESTIMATORS)
def test_a_signature_read_from_the_source_is_the_imported_one(word: str) -> None:
    expected = list(inspect.signature(fit.ESTIMATORS[word]).parameters.values())
    found = _generated.arguments_of(word)
    assert list(found) == [parameter.name for parameter in expected]
    for parameter in expected:
        assert found[parameter.name].default == parameter.default
        assert found[parameter.name].text


def test_the_recipe_read_from_the_source_is_the_imported_one() -> None:
    found = {field.name: field for field in source.fields("saddlegan.workbench.training.recipe", "Recipe")}
    assert list(found) == list(Recipe.model_fields)
    for name, field in Recipe.model_fields.items():
        assert found[name].default == field.default
        assert len(found[name].text.split()) >= 2, f"{name} has no words"
        stated = [(ENDS[end], getattr(bound, end)) for bound in field.metadata for end in ENDS if hasattr(bound, end)]
        assert found[name].range == numbers.Range(**dict(stated))


# the line to type again


def example(option: Any, number: int) -> list[str]:
    """A value that is not the default."""
    name = option.opts[0]
    if option.is_flag:
        return [option.secondary_opts[0] if option.secondary_opts and option.default is not False else name]
    words = {
        "--rule": "proximal",
        "--objective": "vanilla",
        "--certify-objective": "kl",
        "--start": "collapsed:2",
        "--network": "image",
        "--activation": "soft plus",
        "--set": "hold=0.5",
        "--stop-when": "high_quality>=0.95",
        "--features": "relu:8",
        "--crop": "8@4,4",
        "--image-shape": "2x1",
        "--decimal": ",",
        "--out": "a 'b'",
        "--hold": "0.125",
        "--average": "0.3",
        "--beta1": "0.1",
        "--beta2": "0.2",
        "--noise-share": "0.1",
        "--header": "yes",
        "--index": "no",
    }
    if name in words:
        return [name, words[name]]
    metavar = option.metavar or ""
    if "|" in metavar and "NUMBER" not in metavar:
        return [name, next(word for word in metavar.split("|")[::-1] if word != option.default)]
    return [name, f"{3 + number},{4 + number}" if "," in metavar else str(3 + number)]


@pytest.mark.slow  # runs whole commands
@pytest.mark.parametrize("command", MAKERS)
def test_every_option_comes_back_from_the_line_to_type_again(command: str) -> None:
    options = [p for p in cli.parse([command, "ring"]).parameters if p.param_type_name == "option" and p.name != "help"]
    assert len(options) > 20
    everything: list[str] = []
    for number, option in enumerate(options):
        words = example(option, number)
        first = cli.parse([command, "ring", *words])
        assert first.values[option.name] != option.default, option.name
        again = cli.parse(shlex.split(first.line())[1:])
        if option.name in UNSAID:  # how it runs, not what it makes
            assert again.values == cli.parse([command, "ring"]).values
            continue
        assert again.values == first.values
        everything += words
    first = cli.parse([command, "ring", *everything])
    assert cli.parse(shlex.split(first.line())[1:]).values == first.values


@pytest.mark.slow  # runs whole commands
def test_the_recipe_comes_back_from_the_line_to_type_again() -> None:
    options = [p for p in cli.parse(["train", "ring"]).parameters if p.name in Recipe.model_fields and p.name != "seed"]
    assert {p.name for p in options} == set(Recipe.model_fields) - {"seed"}
    for number, option in enumerate(options):
        words = example(option, number)
        also = ["--certify-every", "5"] if option.name in ("stop_below", "certify_objective") else []
        first = cli.parse(["train", "ring", *words, *also])
        again = cli.parse(shlex.split(first.line())[1:])
        made = [
            make_recipe(**{name: value for name, value in each.values.items() if name in Recipe.model_fields and value})
            for each in (first, again)
        ]
        assert made[0] == made[1]
        assert getattr(made[0], option.name) != Recipe.model_fields[option.name].default or option.is_flag


@pytest.mark.slow  # runs whole commands
def test_a_run_keeps_the_whole_line(tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ["train", "ring", "--n-samples", "200", "--hidden", "8", "--batch", "16", "--points", "8", "--steps", "2"]
    more = ["--stop-when", "modes>=0", "--set", "hold=0.5", "--lr", "0.002", "--seed", "4", "--metrics-every", "1"]
    assert cli.run([*words, *more, "--out", str(out)]) == 0
    run = runs.Run.open(out)
    line = shlex.split(run.config.command_line)
    line[line.index("--out") + 1] = str(tmp_path / "again")
    assert "--stop-when" in line
    assert cli.run(line[1:]) == 0
    again = runs.Run.open(tmp_path / "again")
    assert again.config.options == run.config.options
    for name in ("generator.safetensors", "metrics.jsonl"):
        assert (out / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_an_option_of_another_solver_is_refused_with_its_owner(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["fit", "ring", "--model", "linear", "--n-latent", "3"]) == 2
    assert "`--n-latent` belongs to --model quadratic or relu, not to linear" in capsys.readouterr().err
    assert cli.run(["fit", "ring", "--model", "linear", "--beta", "auto"]) == 2
    assert "`--beta` must be a number for --model linear" in capsys.readouterr().err


# messages


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["trian", "ring"], "'train'"),
        (["train", "rnig"], "'ring'"),
        (["train", "ring", "--rule", "proxmal"], "'proximal'"),
        (["train", "ring", "--objective", "vanila"], "'vanilla'"),
        (["fit", "ring", "--model", "quadratc"], "'quadratic'"),
        (["train", "ring", "--norm", "sobolew"], "'sobolev'"),
        (["train", "ring", "--set", "nois=1"], "'noise'"),
        (["fit", "ring", "--n-latnet", "3"], "--n-latent"),
    ],
)
def test_a_mistyped_word_is_answered_by_the_one_that_was_meant(
    words: list[str], meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(words) == 2
    complaint = capsys.readouterr().err
    assert meant in complaint
    assert complaint.count("\n") == 1


@pytest.mark.parametrize(
    ("line", "said"),
    {
        "train ring --hold 2": "`--hold` must be a number from 0 to 1, got '2'; leave it out for what suits the data",
        "train ring --set hold=2": "`--hold` must be a number from 0 to 1, got '2'; leave it out for 0.25",
        "train ring --set hidden=8,x": "`--hidden` must be whole numbers with commas between, got '8,x'",
        "train ring --set persistent=maybe": "`--persistent` must be true or false, got 'maybe'; leave it out for true",
        "train ring --hidden 0": "`--hidden` must be whole numbers of at least 1 with commas between, got '0'",
        "train ring --beta1 1": "`--beta1` must be a number of at least 0 and below 1, got '1'",
        "train ring --lr 0": "`--lr` must be a finite number above 0, got '0'",
        "train ring --seeds 1001": "`--seeds` must be a whole number from 1 to 1000, got '1001'",
        "train ring --seed -1": "`--seed` must be a whole number from 0 to 4294967295, got '-1'; leave it out for 0",
        "train ring --set lr=1": "lr is no option of the recipe: must be one of rule, objective",
        "fit ring --n-samples 1": "`--n-samples` must be a whole number of at least 2, got '1'; leave it out for",
        "fit ring --header maybe": "`--header` must be one of auto, yes, no, got 'maybe'",
        "sample RUN -n 0 --out a.csv": "`-n` must be a whole number of at least 1, got '0'; leave it out for 2,500",
        "measure RUN -n 3": "`-n` must be a whole number of at least 24, got '3'; leave it out for 1,000",
        "certify RUN --lam -1": "`--lam` must be a finite number of at least 0, got '-1'; leave it out for 0.1",
        "certify RUN --batch-size 1": "`--batch-size` must be a whole number of at least 2, got '1'",
        "reproduce wgan-line --seeds no": "`--seeds` must be a whole number of at least 1, got 'no'",
        "fit": "`DATA` is missing; see saddlegan fit --help",
        "fit ring more": "more: more words than fit takes; see saddlegan fit --help",
        "fit ring --n-latents 2": "fit has no option --n-latents; did you mean --n-latent?",
        "fit ring --frobnicate": "fit has no option --frobnicate; see saddlegan fit --help",
        "sample RUN --out": "`--out` needs a value; see saddlegan sample --help",
        "--nothing": "there is no option --nothing; there are: --version",
    }.items(),
)
def test_a_line_that_cannot_be_read_is_answered_in_words_of_ours(
    line: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(shlex.split(line)) == 2
    assert capsys.readouterr().err.startswith(f"error: {said}")


def test_least_rows_of_a_measure() -> None:
    from saddlegan.workbench.commands import measure
    from saddlegan.workbench.report import quality

    assert measure.LEAST == quality.LEAST


def test_words_of_the_sentence_are_not_taken_for_arguments() -> None:
    flags = {"steps": "--steps", "n": "-n", "lam": "--lam"}
    said = "steps of `steps` were n=3 at lam=0.5; `other` and a==b and x.lam stay"
    assert (
        messages.in_flags(said, flags) == "steps of `--steps` were -n 3 at --lam 0.5; `other` and a==b and x.lam stay"
    )


# for programs


@pytest.mark.slow  # runs whole commands
def test_json_is_the_only_thing_on_standard_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    made = ["fit", "ring", "--n-samples", "100", "--n-latent", "1", "--out", str(out), "--json"]
    reads = (
        ["data", "ring", "--json"],
        ["data", "--json"],
        made,
        ["report", str(out), "--json"],
        ["sample", str(out), "-n", "3", "--out", str(tmp_path / "x.npy"), "--json"],
    )
    for words in reads:
        assert cli.run(words) == 0
        seen = capsys.readouterr()
        assert seen.out.count("\n") == 1
        found = json.loads(seen.out)
        if words is made:
            assert found["solution"]["value"] >= 0
            assert Path(found["report"]).is_file()
    assert cli.run(["report", str(tmp_path / "none"), "--json"]) == 2
    assert "nothing is there" in json.loads(capsys.readouterr().out)["error"]


@pytest.mark.slow  # runs whole commands
def test_a_file_can_go_to_standard_output(tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert cli.run(["fit", "ring", "--n-samples", "100", "--n-latent", "1", "--out", str(out)]) == 0
    words = [sys.executable, "-c", "from saddlegan.workbench.cli import main; main()", "sample", str(out), "-n", "4"]
    done = subprocess.run([*words, "--out", "-"], capture_output=True, text=True, check=True)
    rows = [line.split(",") for line in done.stdout.splitlines()]
    found = np.array(rows[-4:], dtype=float)  # below the columns' names
    np.testing.assert_allclose(found, runs.Run.open(out).sample(4, 0))
    assert cli.run(["sample", str(out), "--out", "-", "--json"]) == 2


# errors come before anything slow

WRONG = [
    ("train ring --stop-when high", "`--stop-when` must read like high_quality>=0.95"),
    ("train ring --start collapsed:x", "`--start` must be random or collapsed:NUMBER"),
    ("train ring --objective own-value", "`--objective` must be one of"),
    ("train ring --rule proxmal", "did you mean 'proximal'?"),
    ("train ring --device gpu", "must be one of auto, cpu, cuda"),
    ("train nothing.csv", "`DATA` must be one of"),
    ("train --resume nothing", "nothing is not a run folder"),
    ("fit ring --engine distributed --progressive", "torchrun"),
    ("fit ring --resolutions 4,8", "belongs to --model progressive"),
    ("certify nothing", "nothing is not a run folder"),
    ("certify ring --norm sobolv", "did you mean 'sobolev'?"),
    ("diagnose my:game", "`--data` is missing"),
    ("measure nothing", "`--against` must name the data"),
    ("reproduce relu-lin", "did you mean 'relu-line'?"),
    ("trian ring", "did you mean 'train'?"),
]
WALK = """
import contextlib, io, json, shlex, sys
from saddlegan.workbench import cli
said = []
for line in json.loads(sys.argv[1]):
    with contextlib.redirect_stderr(io.StringIO()) as caught:
        code = cli.run(shlex.split(line))
    said.append((code, caught.getvalue(), "torch" in sys.modules))
print(json.dumps(said))
"""


@pytest.mark.slow  # starts a process
def test_errors_are_in_flags_and_come_without_torch(tmp_path: Path) -> None:
    """In one process of its own, where nobody else has imported torch; the lines stand in order of what they load."""
    env = {key: value for key, value in os.environ.items() if key != "RANK"}
    env["PYTHONPATH"] = os.pathsep.join(p for p in sys.path if p)
    command = [sys.executable, "-c", WALK, json.dumps([line for line, _ in WRONG])]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
    for (line, words), (code, said, torch_loaded) in zip(WRONG, json.loads(done.stdout), strict=True):
        assert code == 2, line
        assert words in said, line
        assert not torch_loaded, line
        # no argument, call or class of Python where a flag exists
        assert not re.search(r"\w+=\S|\w\(|`[a-z]+_[a-z_]+`", said.replace(">=", "")), said
    assert not list(tmp_path.iterdir())


def test_what_is_read_from_the_source_is_what_python_knows() -> None:
    from saddlegan.objectives import OBJECTIVES
    from saddlegan.workbench.reproductions import registry

    assert sorted(source.objectives()) == sorted(OBJECTIVES)
    assert sorted(source.experiments()) == sorted(registry.EXPERIMENTS)
