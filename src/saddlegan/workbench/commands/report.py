"""`saddlegan report`: write a run's report again."""

from __future__ import annotations

from saddlegan.workbench.commands import _options as options
from saddlegan.workbench.terminal import console


def report(run: options.RunArgument) -> None:
    """Write report.html and report.json of RUN again, from what the folder holds."""
    from saddlegan.workbench.report import page as reports
    from saddlegan.workbench.runs import folder as runs

    console.say(str(reports.write(runs.Run.open(run))))
