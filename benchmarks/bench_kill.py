"""Twenty kills at random moments for every rule, then the bits of an unbroken run: one line per rule."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from saddlegan import train

ROOT = Path(__file__).parents[1]


def main() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, str(ROOT / "tests" / "kill_and_resume.py"), folder, "20", *train.RULES]
        subprocess.run(words, env=environment, check=True)


if __name__ == "__main__":
    main()
