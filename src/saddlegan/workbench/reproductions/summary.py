"""The documentation's page on all experiments, written from stored results and from nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from saddlegan.workbench.reproductions.registry import EXPERIMENTS

HEAD = """# What holds, what does not

The papers' claims, tested again. Every line is computed: `saddlegan reproduce NAME --full` runs an experiment and
writes its folder, `docs/reproductions/` holds the results shown here, and this page is generated from them. A verdict
follows from the source's claims in the experiment's table: *reproduced* if all hold, *partly* if some do, else *not
reproduced*. A line marked (ours) is a correction or a comparison of ours and does not count. Figures over several
seeds are mean ± standard deviation. Frechet, kernel and inception-like figures are taken on the features of a small
classifier, so none of them can be compared with published ones.

| Experiment | Claim | Verdict |
|---|---|---|
"""


def stored(folder: Path) -> list[dict[str, Any]]:
    """The results in a folder, in the registry's order: NAME.json, and NAME.DATA.json for further data."""
    files = [path for name in EXPERIMENTS for path in (folder / f"{name}.json", *sorted(folder.glob(f"{name}.*.json")))]
    return [json.loads(path.read_text()) for path in files if path.is_file()]


def page(results: Sequence[Mapping[str, Any]]) -> str:
    """Markdown of the page.

    Args:
        results: what each `result.json` holds, in the page's order.
    """
    titles = [_title(result, results) for result in results]
    rows = "".join(
        f"| [{title}](#{title}) | {_cell(r['claim'])} | **{r['verdict']}** |\n"
        for title, r in zip(titles, results, strict=True)
    )
    return HEAD + rows + "".join(map(_experiment, results, titles))


def _title(result: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> str:
    """The experiment's name, and its data's where it was run on several."""
    alike = [other for other in results if other["name"] == result["name"]]
    if len(alike) == 1:
        return result["name"]
    return f"{result['name']}-{Path(result['data'] or 'default').stem.replace('_', '-')}"


def _experiment(result: Mapping[str, Any], title: str) -> str:
    setting = "; ".join(f"{name}: {value}" for name, value in result["setting"].items())
    checks = "".join(
        f"| {_mark(check)}{_cell(check['claim'])} | {_cell(check['found'])} | {_held(check)} |\n"
        for check in result["checks"]
    )
    remark = f"{result['remark']}\n\n" if result["remark"] else ""
    return (
        f"\n## {title}\n\n{result['claim']}\n\nSource: {result['source']}. Setting: {setting}.\n\n"
        f"| What is said | What is found | Holds |\n|---|---|---|\n{checks}\n"
        f"{remark}*{result['size']} size, seeds: {result['seeds']}, {result['seconds']:g} s on {result['machine']}; "
        f"{result['created'][:10]}.*\n"
    )


def _cell(words: str) -> str:
    return words.replace("|", "\\|")


def _mark(check: Mapping[str, Any]) -> str:
    return "(ours) " if check["ours"] else ""


def _held(check: Mapping[str, Any]) -> str:
    return "yes" if check["holds"] else "**no**"
