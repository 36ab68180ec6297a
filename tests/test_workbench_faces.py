"""Pictures of any size for the experiments. Oracle: squares whose means are known."""

import numpy as np
import pytest
from PIL import Image

from saddlegan.workbench.reproductions import pictures


@pytest.mark.slow  # runs whole commands
def test_a_folder_of_faces_may_hold_any_size(tmp_path, monkeypatch):
    monkeypatch.setenv("SADDLEGAN_CACHE", str(tmp_path / "cache"))
    (tmp_path / "faces").mkdir()
    draw = np.random.default_rng(0)
    blocks = draw.integers(0, 256, (10, 16, 16), dtype=np.uint8)
    for number, block in enumerate(blocks):
        grown = block.repeat(2, 0).repeat(2, 1)  # a centred square whose means are known, in upright pictures
        Image.fromarray(np.pad(grown, ((4 + number, 4 + number), (0, 0)))).save(tmp_path / "faces" / f"{number}.png")
    found = pictures.load(str(tmp_path / "faces"), side=16)
    rows = np.concatenate([found.held_out, found.train])
    expected = blocks.reshape(10, -1)[np.random.default_rng(0).permutation(10)] / 127.5 - 1.0
    np.testing.assert_allclose(rows, expected, atol=1e-6)
    assert found.labels is None
