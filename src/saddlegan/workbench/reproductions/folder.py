"""Runs one experiment and writes its folder: `result.json` with every figure, and `report.html` to read."""

from __future__ import annotations

import datetime
import json
import os
import platform
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from jinja2 import Environment, PackageLoader, StrictUndefined

from saddlegan import __version__
from saddlegan.errors import InputError, RunError
from saddlegan.results import plain
from saddlegan.workbench.files import write_atomic
from saddlegan.workbench.report import html
from saddlegan.workbench.report.scene import Section
from saddlegan.workbench.reproductions.finding import Experiment, Finding
from saddlegan.workbench.reproductions.work import Work
from saddlegan.workbench.runs.reading import parse_json

RESULT = "result.json"
UNFINISHED = "unfinished.json"  # the setting, until there is a result
PARTS = "parts"
FORMAT = "saddlegan-reproduction"


def reproduce(
    experiment: Experiment,
    out: Path,
    *,
    full: bool,
    seeds: int,
    data: str | None = None,
    overwrite: bool = False,
    say: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Run the experiment and write its folder; a run that was broken off there goes on behind its last finished part.

    Args:
        experiment: from the registry.
        out: folder to make, or one that holds an unfinished run of the same experiment, size and data.
        full: full size, else the one that ends within a minute.
        seeds: how many, counted from 0.
        data: name or path of pictures, where the experiment takes them.
        overwrite: start anew where that folder holds a run.
        say: called with the name of every part that was computed.

    Returns:
        What `result.json` holds.

    Raises:
        InputError: data for an experiment that takes none.
        RunError: the folder holds something else, or cannot be written.
    """
    if data is not None and not experiment.takes_data:
        raise InputError(f"`--data` does not belong to {experiment.name}, whose data are part of it")
    began = time.perf_counter()
    # the version too: parts of other code are not parts of this run
    setting = {"name": experiment.name, "full": full, "data": data, "saddlegan": __version__}
    _prepare(out, setting, overwrite=overwrite)
    work = Work(range(seeds), full, data, out / PARTS, say or _silent)
    finding = experiment.run(work)
    result = plain(
        {
            "format": FORMAT,
            "name": experiment.name,
            "paper": experiment.paper,
            "claim": experiment.claim,
            "source": experiment.source,
            "size": "full" if full else "quick",
            "seeds": seeds,
            "data": data,
            "setting": finding.setting,
            "checks": [vars(check) for check in finding.checks],
            "verdict": finding.verdict,
            "why": finding.why,
            "remark": finding.remark,
            "numbers": finding.numbers,
            "seconds": round(time.perf_counter() - began + sum(work.seconds_before), 2),
            "machine": machine(),
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "saddlegan": __version__,
        }
    )
    sections = _sections(result, finding)
    twin = {"title": experiment.claim, "sections": [{"id": s.id, "title": s.title, "data": s.data} for s in sections]}
    write_atomic(out / "report.html", _page(result, sections).encode())
    write_atomic(out / "report.json", (json.dumps(twin, indent=1) + "\n").encode())
    write_atomic(out / RESULT, (json.dumps(result, indent=1) + "\n").encode())  # last: a result means a whole folder
    (out / UNFINISHED).unlink(missing_ok=True)
    return result


def _silent(name: str) -> None:
    del name


def _prepare(out: Path, setting: dict[str, Any], *, overwrite: bool) -> None:
    """Make the folder or take an unfinished run up."""
    mark = out / UNFINISHED
    own = {RESULT, "report.html", "report.json", UNFINISHED, PARTS}
    if out.exists() and not out.is_dir():
        raise RunError(f"`out` must be a folder to make, but {out} is a file; choose another path")
    names = {entry.name for entry in out.iterdir() if not entry.name.endswith(".partial")} if out.exists() else set()
    ours = bool(names & {RESULT, UNFINISHED}) and not names - own
    if names and not ours:
        raise RunError(f"`out` must be a new folder, but {out} holds other things; choose another path")
    if RESULT in names and UNFINISHED not in names and not overwrite:
        raise RunError(f"`out` must be a new folder, but {out} exists; choose another path or pass --overwrite")
    try:
        if overwrite:
            shutil.rmtree(out / PARTS, ignore_errors=True)
            mark.unlink(missing_ok=True)
        elif mark.is_file():
            if parse_json(mark.read_bytes(), str(mark)) != setting:
                raise RunError(f"{out} holds an unfinished run of another setting; pass --overwrite to start anew")
            return
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot make {out}: {error.strerror or error}") from error
    write_atomic(mark, json.dumps(setting).encode())


def machine() -> str:
    """What computed: kind, cores, versions."""
    return (
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, torch {torch.__version__}"
    )


def _sections(result: dict[str, Any], finding: Finding) -> list[Section]:
    good = result["verdict"] == "reproduced"
    badge = html.Markup('<p class="badge {}">{}</p>').format("good" if good else "warn", result["verdict"])
    verdict = html.join([badge, html.text(f"Why: {result['why']}."), html.text(result["remark"])])
    checks = html.table(
        (
            f"{'(ours) ' if check['ours'] else ''}{check['claim']}",
            "holds" if check["holds"] else "does not hold",
            check["found"],
        )
        for check in result["checks"]
    )
    setting = html.table((name, str(value), "") for name, value in result["setting"].items())
    run = html.text(
        f"{result['size']} size, {result['seeds']} seeds, {result['seconds']:g} s on {result['machine']}. Again: "
        f"saddlegan reproduce {result['name']} --{result['size']} --seeds {result['seeds']}"
        + ("" if result["data"] is None else f" --data {result['data']}")
    )
    sections = [
        Section("verdict", "Verdict", verdict, {"verdict": result["verdict"], "why": result["why"]}),
        Section("checks", "What is said, what is found", checks, {"checks": result["checks"]}),
    ]
    if finding.figures:
        drawn = html.join(html.figure(f.png, alt=f.alt, caption=f.caption) for f in finding.figures)
        sections.append(Section("figures", "Figures", drawn, {"captions": [f.caption for f in finding.figures]}))
    sections.append(Section("setting", "Setting", setting, result["setting"]))
    sections.append(
        Section("run", "Time and machine", run, {"seconds": result["seconds"], "machine": result["machine"]})
    )
    return sections


def _page(result: dict[str, Any], sections: list[Section]) -> str:
    environment = Environment(
        loader=PackageLoader("saddlegan.workbench.report", "templates"), autoescape=True, undefined=StrictUndefined
    )
    return environment.get_template("report.html.j2").render(
        title=result["claim"],
        subtitle=result["source"],
        sections=sections,
        version=result["saddlegan"],
        created=result["created"].replace("T", " ").replace("+00:00", " UTC"),
    )


def _worded(check: dict[str, Any]) -> str:
    return f"(ours) {check['claim']}" if check["ours"] else check["claim"]
