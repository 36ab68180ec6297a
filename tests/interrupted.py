"""Commands that are killed at random moments, or whose disk fills, and what they leave behind.

Run as a script: `python interrupted.py FOLDER KILLS DISKS COMMAND...`; prints one JSON line per command. Children are
forked, so that a kill costs no import; those that outlive their parent become children of this process, which is
how orphans are seen.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open

from saddlegan.workbench import cli

PR_SET_CHILD_SUBREAPER = 36
PATIENCE = 10.0  # seconds in which a dead command's own processes must have ended
LEAST = 4096  # bytes of a file, where there is no disk of its own: what a command says must fit
BALLAST = ".ballast"
VOLATILE = ("seconds", "created", "machine")  # parts of the names of entries that differ from run to run
FIT = ("fit", "ring", "--n-samples", "200", "--n-latent", "2")
TRAIN = ("train", "ring", "--n-samples", "300", "--steps", "60", "--hidden", "8", "--batch", "16")
EVERY = ("--metrics-every", "7", "--checkpoint-every", "3", "--lr", "0.002")
STAGES = ("--progressive", "--resolutions", "4,8,16", "--n-components", "3,4,5")

Words = tuple[str, ...]


def _train(work: Path) -> Words:
    """Start it, or go on with it where it stands."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        if json.loads((work / "run/config.json").read_text())["seed"] == 0 and any(
            (work / "run/checkpoint").glob("*.ckpt")
        ):
            return ("train", "--resume", "run")
    return (*TRAIN, *EVERY, "--out", "run", "--overwrite")


def _always(*words: str) -> Callable[[Path], Words]:
    return lambda work: words


# what is typed in a folder that holds old results; `run`, `page.html` and so on are there, made with another seed
COMMANDS: dict[str, Callable[[Path], Words]] = {
    "fit": _always(*FIT, "--out", "run", "--overwrite"),
    "progressive": _always("fit", "images", *STAGES, "--cache", "cache", "--out", "run", "--overwrite"),
    "train": _train,
    "certify": _always("certify", "run", "--steps", "5", "--lam", "1"),
    "sample": _always("sample", "run", "-n", "20000", "--out", "samples.csv", "--overwrite"),
    "report": _always("report", "run"),
    "explore": _always("explore", "pictures", "--out", "explorer.html"),
    "compare": _always("compare", "trained", "other", "--out", "compare.png"),
    "measure": _always("measure", "run", "-n", "300"),
    "diagnose": _always("diagnose", "run", "--report", "page.html", "--overwrite"),
    "reproduce": _always("reproduce", "function-space", "--seeds", "1", "--out", "again"),
}


def make_old(folder: Path) -> None:
    """What lies there before: runs, pages and pictures of another seed."""
    folder.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (600, 16, 16), np.uint8)
    (folder / "images").mkdir()
    for number, picture in enumerate(pixels):
        Image.fromarray(picture).save(folder / "images" / f"{number:03d}.png")
    with contextlib.chdir(folder):
        for words in (
            (*FIT, "--seed", "1", "--out", "run"),
            (*TRAIN, *EVERY, "--seed", "1", "--out", "trained"),
            (*TRAIN, *EVERY, "--seed", "2", "--out", "other"),
            ("fit", "digits", "--n-latent", "3", "--out", "pictures"),
            ("certify", "run", "--steps", "2", "--lam", "1"),
            ("sample", "run", "-n", "100", "--seed", "1", "--out", "samples.csv"),
            ("explore", "pictures", "--out", "explorer.html"),
            ("compare", "trained", "other", "--out", "compare.png"),
            ("diagnose", "run", "--report", "page.html", "--seed", "1"),
        ):
            code = cli.run(list(words))
            if code != 0:
                raise SystemExit(f"{' '.join(words)} ended with {code}")


def start(words: Words, work: Path, said: Path, *, most: int | None = None) -> int:
    """Fork a child that runs a command; at most `most` bytes in a file if given."""
    child = os.fork()
    if child:
        return child
    try:
        os.chdir(work)
        file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        if most is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
        code = cli.run(list(words))
    except BaseException as error:
        os.write(2, f"Traceback: {error!r}\n".encode())
        code = 70
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    os._exit(code)


def finished(words: Words, work: Path, said: Path) -> tuple[int, float]:
    """Run a command to its end: exit status and seconds."""
    began = time.perf_counter()
    _, status = os.waitpid(start(words, work, said), 0)
    return os.waitstatus_to_exitcode(status), time.perf_counter() - began


def orphans() -> list[int]:
    """Processes that still live although the command that started them is gone."""
    until = time.monotonic() + PATIENCE
    while True:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        found = [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]
        if not found or time.monotonic() > until:
            return found
        time.sleep(0.05)


def state(work: Path) -> dict[str, bytes]:
    """Every file that a user sees, by its path; the cache of pictures is the program's own."""
    found = {}
    for path in sorted(work.rglob("*")):
        parts = path.relative_to(work).parts
        if path.is_file() and parts[0] != "cache" and not any(part.startswith(".") for part in parts):
            found["/".join(parts)] = path.read_bytes()
    return found


def hidden(work: Path) -> list[str]:
    """What commands left under names that nobody looks at."""
    kinds = (".partial", ".old", ".lock")
    return [str(path.relative_to(work)) for path in work.rglob("*") if path.name.endswith(kinds)]


def fault_of(name: str, content: bytes, work: Path) -> str | None:
    """Why a file is not a whole one of its kind."""
    path = work / name
    try:
        if name.endswith(".json"):
            json.loads(content)
        elif name.endswith(".jsonl"):
            for line in content.split(b"\n")[:-1]:
                json.loads(line)
        elif name.endswith(".html") and not content.rstrip().endswith(b"</html>"):
            return "cut off"
        elif name.endswith(".png"):
            with Image.open(path) as image:
                image.load()
        elif name.endswith(".safetensors"):
            with safe_open(path, "np") as file:
                list(file.keys())
        elif name.endswith(".csv") and len(content.splitlines()) not in (101, 20001):
            return "cut off"
        elif name.endswith(".npz"):
            with np.load(path) as file:
                dict(file)
    except Exception as error:
        return repr(error)
    return None


def half_written(before: dict[str, bytes], work: Path) -> list[str]:
    """Files that are neither what they were nor whole new ones, and what is missing."""
    after = state(work)
    faults = [f"{name}: {fault}" for name in after if (fault := _changed_fault(name, before, after, work))]
    replaced = _weights(after) != _weights(before)  # another run stands there; it need not have the same files
    return faults + [f"{name}: gone" for name in before if name not in after and not (replaced and "run/" in name)]


def _changed_fault(name: str, before: dict[str, bytes], after: dict[str, bytes], work: Path) -> str | None:
    return None if before.get(name) == after[name] else fault_of(name, after[name], work)


def _weights(found: dict[str, bytes]) -> bytes | None:
    return found.get("run/generator.safetensors")


def settled(found: dict[str, bytes], work: Path) -> dict[str, Any]:
    """What must be the same wherever and however often a command was begun: all but pages, times and command lines."""
    kept: dict[str, Any] = {}
    for name, content in found.items():
        if name.endswith((".json", ".jsonl")):
            kept[name] = [
                _without_times(json.loads(line)) for line in _documents(name, content.replace(bytes(work), b"WORK"))
            ]
        elif name.endswith(".npz"):
            with np.load(io.BytesIO(content)) as file:
                kept[name] = {key: file[key].tobytes() for key in file if not any(word in key for word in VOLATILE)}
        elif not name.endswith((".html", ".md")):
            kept[name] = content
    return kept


def _documents(name: str, content: bytes) -> list[bytes]:
    return content.splitlines() if name.endswith(".jsonl") else [content]


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: _without_times(entry)
            for key, entry in value.items()
            if not any(word in key for word in (*VOLATILE, "command_line"))
        }
    return [_without_times(entry) for entry in value] if isinstance(value, list) else value


def kill(name: str, old: Path, folder: Path, times: int, dice: random.Random) -> dict[str, Any]:
    """Kill a command `times` times at random moments, each time where the last one left it, then let it end."""
    words, work, said = COMMANDS[name], folder / "work", folder / "said.txt"
    whole = folder / "whole"
    shutil.copytree(old, whole)
    code, seconds = finished(words(whole), whole, said)
    faults = [] if code == 0 else [f"unbroken: {code} {said.read_text()[-500:]}"]
    wanted = settled(state(whole), whole)
    hits, attempts, left = 0, 0, 0
    shutil.copytree(old, work)
    while hits < times and attempts < 10 * times:
        attempts += 1
        before = state(work)
        child = start(words(work), work, said)
        time.sleep(dice.uniform(0.0, seconds))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        alone = orphans()
        faults += [f"orphan {pid}" for pid in alone]
        for pid in alone:
            os.kill(pid, signal.SIGKILL)
        faults += half_written(before, work)
        left += bool(hidden(work))
        if os.WIFSIGNALED(status):
            hits += 1
        else:  # it ended before the kill: again from the start
            if os.waitstatus_to_exitcode(status) != 0:
                faults.append(f"between kills: {said.read_text()[-500:]}")
            shutil.rmtree(work)
            shutil.copytree(old, work)
    code, _ = finished(words(work), work, said)
    if code != 0:
        faults.append(f"after the kills: {code} {said.read_text()[-500:]}")
    faults += _differences(work, wanted)
    return {"kills": hits, "seconds": round(seconds, 2), "left": left, "faults": faults}


def _differences(work: Path, wanted: dict[str, Any]) -> list[str]:
    found = settled(state(work), work)
    differ = [f"{name}: other bits" for name in sorted(wanted | found) if wanted.get(name) != found.get(name)]
    return differ + [f"left behind: {name}" for name in hidden(work)]


@contextlib.contextmanager
def small_disk(place: Path) -> Iterator[bool]:
    """A disk of its own, where this machine allows it; else the same folder."""
    place.mkdir()
    mount = shutil.which("mount")
    words = [str(mount), "-t", "tmpfs", "-o", "size=64m", "none", str(place)]
    mounted = mount is not None and subprocess.run(words, capture_output=True, check=False).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", str(place)], check=True)


def fill(name: str, old: Path, folder: Path, times: int) -> dict[str, Any]:
    """Run a command on `times` disks that have less and less room for it; then make room and run it again."""
    words, said, whole = COMMANDS[name], folder / "said.txt", folder / "whole"
    shutil.copytree(old, whole)
    code, _ = finished(words(whole), whole, said)
    faults = [] if code == 0 else [f"unbroken: {code} {said.read_text()[-500:]}"]
    before = state(old)
    wanted = settled(state(whole), whole)
    sizes = {path: path.stat().st_size for path in whole.rglob("*") if path.is_file()}
    new = [size for path, size in sizes.items() if before.get(str(path.relative_to(whole))) != path.read_bytes()]
    full, refused, disks = 0, [], 0
    for number in range(times):
        share = number / times
        with small_disk(folder / f"disk{number}") as mounted:
            work = folder / f"disk{number}" / "work"
            shutil.copytree(old, work)
            start_state = state(work)
            disks += mounted
            most = None if mounted else max(LEAST, int(share * max(new, default=0)))
            if mounted:
                ballast(work.parent / BALLAST, room=int(share * sum(new)))
            _, status = os.waitpid(start(words(work), work, said, most=most), 0)
            code, line = os.waitstatus_to_exitcode(status), said.read_text().strip()
            full += code != 0
            faults += [f"orphan {pid}" for pid in orphans()]
            if code != 0:
                refused.append(line)
                if code != 2 or "Traceback" in line:
                    faults.append(f"full disk: {code} {line[-500:]}")
                faults += [f"left behind: {each}" for each in hidden(work) if not each.startswith("cache")]
            faults += half_written(start_state, work)
            (work.parent / BALLAST).unlink(missing_ok=True)
            code, _ = finished(words(work), work, said)
            if code != 0 and "exists; choose another" not in said.read_text():
                faults.append(f"with room: {code} {said.read_text()[-500:]}")
            faults += _differences(work, wanted)
    return {"full": full, "mounted": disks, "said": refused[:1], "faults": faults}


def ballast(path: Path, *, room: int) -> None:
    """Fill a disk until `room` bytes are left; what the disk says of its room is not exact."""
    with path.open("wb", buffering=0) as file:
        with contextlib.suppress(OSError):
            while True:
                file.write(bytes(1 << 16))
        with contextlib.suppress(OSError):
            while True:
                file.write(bytes(512))
        file.truncate(max(0, file.tell() - room))


def main() -> None:
    folder, kills, disks = Path(sys.argv[1]).resolve(), int(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(1)
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    quiet = os.dup(1)
    os.dup2(2, 1)  # what commands say is not the result
    old = folder / "old"
    make_old(old)
    for number, name in enumerate(sys.argv[4:] or COMMANDS):
        found: dict[str, Any] = {"command": name}
        if kills:
            (folder / f"{name}-killed").mkdir()
            found["killed"] = kill(name, old, folder / f"{name}-killed", kills, random.Random(number))
        if disks:
            (folder / f"{name}-full").mkdir()
            found["full"] = fill(name, old, folder / f"{name}-full", disks)
        os.write(quiet, (json.dumps(found) + "\n").encode())


if __name__ == "__main__":
    main()
