"""Does the figure that reports put first see that classes are missing? By class, on any labelled pictures.

    python benchmarks/bench_missing_classes.py PICTURES.npz [splits]

The file holds `images` (n, h, w[, c]) and `labels` (n,), such as 10,000 pictures of CIFAR-10. For every class, 1,000
real pictures that lack it stand in for a generator's; then 1,000 that lack half of the classes, and 1,000 that lack
none. Each line: what is missing, the class that is named, and by how many standard errors every figure lies above its
floor; chance alone takes the worst class beyond the limit in one measurement of a hundred.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from saddlegan.workbench.report import quality

N = 1000


def main() -> None:
    torch.set_num_threads(1)
    with np.load(sys.argv[1]) as file:
        images, labels = file["images"], file["labels"]
    X, shape = images.reshape(len(images), -1).astype(np.float32), images.shape[1:]
    names = np.unique(labels)
    found = beyond = asked = 0
    for split in range(int(sys.argv[2]) if len(sys.argv) > 2 else 1):
        order = np.random.default_rng(split).permutation(len(X))
        pool, rest = order[: 5 * N // 2], order[5 * N // 2 :]
        with tempfile.TemporaryDirectory() as cache:
            for missing in [*([name] for name in names), list(names[: len(names) // 2]), []]:
                fake = X[pool[~np.isin(labels[pool], missing)][:N]]
                started = time.process_time()
                measures = quality.measure(
                    X[rest], fake, image_shape=shape, value_range=(0, 255), labels=labels[rest], cache=Path(cache)
                ).measures
                first = measures["worst class"]
                limit, named = first.stats["limit"], first.stats["class"]
                if len(missing) == 1:
                    asked += 1
                    found += named == str(missing[0])
                    beyond += first.above_floor > limit
                others = "  ".join(f"{name} {each.above_floor:+.1f}" for name, each in measures.items())
                print(
                    f"split {split}  missing {','.join(map(str, missing)) or '-':<10} named {named}  "
                    f"limit {limit:.2f}  errors above the floor: {others}  "
                    f"(accuracy {first.stats['accuracy']:.3f}, {time.process_time() - started:.0f} s)",
                    flush=True,
                )
    print(f"one class missing: named {found} of {asked}, beyond the limit {beyond} of {asked}")


if __name__ == "__main__":
    main()
