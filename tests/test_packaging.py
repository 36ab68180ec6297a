"""The wheel holds everything that a user needs, and works without the source tree."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """Build the wheel with the tools of the environment and unpack it, as an installer does."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    (wheel,) = folder.glob("saddlegan-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


@pytest.mark.slow  # builds a wheel
def test_wheel_holds_the_package_and_nothing_else(unpacked):
    source = {str(p.relative_to(ROOT / "src")) for p in (ROOT / "src/saddlegan").rglob("*") if p.is_file()}
    source = {name for name in source if "__pycache__" not in name}
    packed = {str(p.relative_to(unpacked)) for p in unpacked.rglob("*") if p.is_file()}
    assert {name for name in packed if "dist-info" not in name} == source
    assert any(name.endswith("py.typed") for name in packed)
    assert any(name.endswith("licenses/LICENSE") for name in packed)


@pytest.mark.slow  # builds and starts a wheel
def test_wheel_fits_digits_without_the_source_tree(unpacked, tmp_path):
    script = (
        "import sys, saddlegan; print(saddlegan.__file__, file=sys.stderr);"
        "from saddlegan.workbench.cli import main; main()"
    )
    environment = {**os.environ, "PYTHONPATH": str(unpacked)}
    done = subprocess.run(
        [sys.executable, "-c", script, "fit", "digits", "--out", "run"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(unpacked) in done.stderr
    assert (tmp_path / "run" / "report.html").is_file()
