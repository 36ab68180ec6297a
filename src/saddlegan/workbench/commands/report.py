"""`saddlegan report`: write a run's report again."""

from __future__ import annotations

from typing import Annotated

import typer

from saddlegan.errors import DataError
from saddlegan.workbench.commands import _options as options
from saddlegan.workbench.commands._call import Outcome
from saddlegan.workbench.terminal import console


def report(
    run: options.RunArgument,
    without_data: Annotated[
        bool, typer.Option("--without-data", help="Write it even if the data are gone or have changed.")
    ] = False,
    import_: options.ImportOption = None,
) -> Outcome:
    """Write report.html and report.json of RUN again, from what the folder holds."""
    options.check_run(run, import_)
    from saddlegan.workbench.report import page as reports
    from saddlegan.workbench.runs import opened as runs
    from saddlegan.workbench.saved import import_modules

    import_modules(import_ or [])
    opened = runs.load(run)
    try:
        data = opened.data
    except DataError as error:
        # a page with the data in it is worth more than one without
        if not without_data:
            raise DataError(f"{error}; --without-data writes a report that does not show them") from error
        data = None
    path = reports.write(opened.run, data=data)
    console.say(str(path))
    return Outcome({"run": str(run), "report": str(path)})
