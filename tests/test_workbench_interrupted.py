"""SIGKILL at random moments and full disks, for every command that writes.

`SADDLEGAN_KILLS=10 SADDLEGAN_DISKS=5 pytest tests/test_workbench_interrupted.py` does it at length, for all commands.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from interrupted import COMMANDS, fault_of, half_written, settled

KILLS, DISKS = int(os.environ.get("SADDLEGAN_KILLS", "1")), int(os.environ.get("SADDLEGAN_DISKS", "1"))
QUICK = ("fit", "certify", "sample", "diagnose")  # training, decoding and experiments have tests of their own beside
NAMES = [name for name in COMMANDS if "SADDLEGAN_KILLS" in os.environ or name in QUICK]

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="orphans and full disks are found by Linux's means")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    script = Path(__file__).with_name("interrupted.py")
    ended = subprocess.run(
        [sys.executable, str(script), str(tmp_path_factory.mktemp("interrupted")), str(KILLS), str(DISKS), *NAMES],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(script.parents[1] / "src")},
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    return {line["command"]: line for line in map(json.loads, ended.stdout.splitlines())}


@needs_linux
@pytest.mark.slow  # makes runs, kills each command and lets it end again
@pytest.mark.parametrize("name", NAMES)
def test_a_killed_command_leaves_old_or_new_and_goes_on(name: str, found: dict[str, dict[str, Any]]) -> None:
    assert found[name]["killed"]["faults"] == []
    assert found[name]["killed"]["kills"] == KILLS


@needs_linux
@pytest.mark.slow  # the same runs on disks without room
@pytest.mark.parametrize("name", NAMES)
def test_a_full_disk_is_one_line_and_leaves_the_old(name: str, found: dict[str, dict[str, Any]]) -> None:
    assert found[name]["full"]["faults"] == []
    assert found[name]["full"]["full"] > 0 or name == "measure"  # it writes nothing


def test_what_is_half_written_is_seen(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    files = {"run/generator.safetensors": b"old", "run/config.json": b"{}", "page.html": b"<html></html>"}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    assert half_written(files, tmp_path) == []
    for name, content in {"run/config.json": b"{", "page.html": b"<html>", "run/generator.safetensors": b"x"}.items():
        assert fault_of(name, content, tmp_path) is not None
        (tmp_path / name).write_bytes(content)
        assert [fault.split(":")[0] for fault in half_written(files, tmp_path)] == [name]
        (tmp_path / name).write_bytes(files[name])
    (tmp_path / "page.html").unlink()
    assert half_written(files, tmp_path) == ["page.html: gone"]
    assert settled({"c.json": b'{"a": 1, "solve_seconds": 2}'}, tmp_path) == {"c.json": [{"a": 1}]}
    np.savez(tmp_path / "p.npz", a=1, **{"seconds-taken": 2.0})
    content = (tmp_path / "p.npz").read_bytes()
    assert settled({"p.npz": content}, tmp_path) == {"p.npz": {"a": np.array(1).tobytes()}}
