"""`card.md`: what a run is, what is proved of it, what it cannot do and how it was made, in the Hugging Face format."""

from __future__ import annotations

import shlex
from pathlib import Path

from saddlegan.workbench.report.scene import Section, short_name, subtitle_of, title_of
from saddlegan.workbench.report.sections.equilibrium import read
from saddlegan.workbench.runs.certificate import read_solution
from saddlegan.workbench.runs.folder import Run

NAME = "card.md"


def write(run: Run, sections: list[Section]) -> Path:
    """Write `card.md` from what the report's sections found.

    Args:
        run: the run folder.
        sections: of its report.
    """
    return run.write_text(NAME, card(run, sections))


def card(run: Run, sections: list[Section]) -> str:
    """The card's text: YAML front matter, then Markdown. No path of this machine is in it."""
    config, facts = run.config, {section.id: section.data for section in sections}
    image = config.data.image_shape is not None
    tags = ["gan", "saddlegan", config.model, *(["image-generation"] if image else ["tabular"])]
    front = ["---", "library_name: saddlegan", "tags:", *(f"- {tag}" for tag in tags)]
    front += [*(["pipeline_tag: unconditional-image-generation"] if image else []), "---"]  # no task means tables
    parts = ["\n".join(front), f"# {title_of(run)}", "## What it is"]
    parts.append(
        f"A generator of {subtitle_of(run)}. Trained or solved on `{short_name(config.data.source)}`, "
        f"{config.data.shape[0]:,} rows of {config.data.shape[1]:,} values; they are not part of this folder "
        "unless `data.npy` lies in it."
    )
    parts += ["## Certificate", _certificate(run), "## Findings", _findings(facts), "## Limits", _limits(facts)]
    line = _without_places(config.command_line) or "written by `saddlegan.save`"
    parts += [
        "## How it was made",
        f"With saddlegan {config.saddlegan}, seed {config.seed}, on {config.created[:10]}:",
        f"```\n{line}\n```",
        "## How to use it",
        '```python\nimport saddlegan\n\nrun = saddlegan.load("PATH_OF_THIS_FOLDER")\nrows = run.sample(16)  # (16, '
        f"{config.data.shape[1]}), in the units of the data\n```",
        "The weights are `.safetensors`; nothing is unpickled. The folder can lie anywhere.",
    ]
    return "\n\n".join(parts) + "\n"


def _certificate(run: Run) -> str:
    said = []
    solution = read_solution(run)
    if solution is not None:
        ended = solution.status.value
        said.append(
            f"{ended[:1].upper()}{ended[1:]}: value {solution.value:.9g}, bound "
            f"{solution.bound:.9g}, gap {solution.gap:.2g}."
        )
    judged = read(run)
    if judged is not None:
        said.append(f"{judged.sentence} Judged on the {judged.objective} value, {judged.norm} distance.")
    if not said:
        said.append("None: nobody has judged this pair. `saddlegan certify RUN` does.")
    return " ".join(said)


def _findings(facts: dict) -> str:
    found = facts.get("findings", {})
    if not found or "error" in found:
        return "Not diagnosed."
    lines = [f"- {', '.join(found['faults'])}" if found["faults"] else "- no fault was found"]
    lines += [f"- {name}: {figure:.3g}" for name, figure in found.get("findings", {}).items()]
    for name, measure in facts.get("quality", {}).get("measures", {}).items():
        lines.append(f"- {name}: {measure['value']:.4g}, real rows {measure['floor']:.4g}")
    return "\n".join(lines)


def _limits(facts: dict) -> str:
    own = facts.get("limits", {}).get("text", "")
    general = (
        "The figures above speak of the data that it was made from. It may repeat rows of them, and has their biases; "
        "it was not checked for any use."
    )
    return f"{own} {general}".strip()


def _without_places(line: str) -> str:
    """The command with files and folders by their last name: where they lay is nobody's business."""
    commands = (shlex.split(part) for part in line.split(" && "))
    return " && ".join(shlex.join(Path(word).name if "/" in word else word for word in words) for words in commands)
