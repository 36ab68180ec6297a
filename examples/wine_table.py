"""A table, from a .csv file to a report: the 178 wines that come with scikit-learn, of three cultivars.

Run it: python examples/wine_table.py [folder]

It writes wine.csv and types what stands here; the same from a shell, in that folder:

    saddlegan fit wine.csv --drop cultivar --standardise --out runs/wine
    saddlegan sample runs/wine -n 500 --out samples.csv
    saddlegan fit wine.csv --by-class --labels cultivar --standardise --out runs/by-cultivar
    saddlegan sample runs/by-cultivar -n 500 --out labelled.csv
    saddlegan measure labelled.csv --against wine.csv --drop cultivar --standardise

`--standardise` gives every column the same weight: in its own units proline, in the hundreds, would be all that a
discriminator of variances sees. Samples come back in the table's units, with its names.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import sys
import tempfile
from pathlib import Path

import numpy as np
from sklearn.datasets import load_wine

from saddlegan.workbench.cli import run


def main(folder: Path) -> list[int]:
    """Write the table and run every command of this file's first lines in its folder; their exit codes."""
    wine = load_wine(as_frame=True)
    frame = wine.data.assign(cultivar=np.array(wine.target_names)[wine.target])
    frame.to_csv(folder / "wine.csv", index=False)
    with contextlib.chdir(folder):
        return [run(shlex.split(line)) for line in re.findall(r"^ {4}saddlegan (.*)$", __doc__, re.MULTILINE)]


if __name__ == "__main__":
    place = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
    main(place)
    print(f"look at {place / 'runs' / 'wine' / 'report.html'}")
