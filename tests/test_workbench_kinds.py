"""Every kind of data file that the documentation names, read as it was meant or refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kinds_of_files import KINDS, PAGE, outcome, page


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_of_file_is_read_as_meant_or_refused(name: str, tmp_path: Path) -> None:
    found, said = outcome(name, tmp_path)
    wanted = KINDS[name].wanted
    assert (found is None) == (wanted is None), said
    if found is not None and wanted is not None:
        np.testing.assert_array_equal(found.X, wanted)
        assert found.spec.columns == KINDS[name].columns


def test_there_are_many_kinds_and_the_page_shows_them_all() -> None:
    assert len(KINDS) >= 60
    assert PAGE.read_text(encoding="utf-8") == page(), "run python tests/kinds_of_files.py"
