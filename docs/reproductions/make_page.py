"""Write docs/reproductions.md from the results in this folder: python docs/reproductions/make_page.py [--run]

With --run, every experiment is first computed again in full, which replaces its result here.
"""

import json
import sys
import tempfile
from pathlib import Path

from saddlegan.workbench.reproductions import folder, registry, summary

HERE = Path(__file__).parent


def main() -> None:
    for name, experiment in registry.EXPERIMENTS.items():
        if "--run" in sys.argv or not (HERE / f"{name}.json").exists():
            with tempfile.TemporaryDirectory() as out:
                result = folder.reproduce(experiment, Path(out), full=True, seeds=experiment.seeds)
            (HERE / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
            print(name, result["verdict"], result["seconds"], flush=True)
    results = [json.loads((HERE / f"{name}.json").read_text()) for name in registry.EXPERIMENTS]
    (HERE.parent / "reproductions.md").write_text(summary.page(results))


if __name__ == "__main__":
    main()
