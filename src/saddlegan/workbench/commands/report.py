"""`saddlegan report`: write a run's report again."""

from __future__ import annotations

from saddlegan.workbench import console
from saddlegan.workbench.commands import _options as options


def report(run: options.RunArgument) -> None:
    """Write report.html and report.json of RUN again, from what the folder holds."""
    from saddlegan.workbench import report as reports
    from saddlegan.workbench import runs

    console.say(str(reports.write(runs.Run.open(run))))
