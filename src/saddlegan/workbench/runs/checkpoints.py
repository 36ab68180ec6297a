"""Checkpoints: one file each, written atomically, checksummed, without pickle, tied to their run.

A file is one header line `saddlegan-checkpoint 1 SHA256` and then a safetensors block whose metadata hold the tree of
plain values around the tensors.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from saddlegan.errors import CheckpointError, RunError
from saddlegan.workbench import files

MAGIC = b"saddlegan-checkpoint 1 "
HEADER = len(MAGIC) + 64 + 1


def write(folder: Path, step: int, state: Mapping[str, Any], *, fingerprint: str, keep: int) -> Path:
    """Write the checkpoint of a step, then remove all but the last `keep`.

    The file is complete on disk before it gets its name, so a kill at any moment leaves the previous ones whole.

    Args:
        folder: where checkpoints live; made if missing.
        step: number of steps done.
        state: nested dicts, lists and tuples of tensors and plain values.
        fingerprint: of the run's configuration.
        keep: how many to keep, at least 1.

    Returns:
        Path of the file.

    Raises:
        CheckpointError: it cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    tree = _pack(state, tensors)
    # one entry only: safetensors writes several in no fixed order, and the same state must give the same bytes
    body = save(tensors, metadata={"run": json.dumps({"step": step, "fingerprint": fingerprint, "tree": tree})})
    target = folder / f"step-{step:09d}.ckpt"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with files.atomic(target, sync=True) as file:
            file.write(MAGIC + hashlib.sha256(body).hexdigest().encode() + b"\n")
            file.write(body)
    except OSError as error:
        raise CheckpointError(f"cannot write {target}: {error.strerror or error}") from error
    except RunError as error:
        raise CheckpointError(str(error)) from error
    for old in list_steps(folder)[:-keep]:
        path_of(folder, old).unlink(missing_ok=True)
    files.sweep_folder(folder)
    return target


def list_steps(folder: Path) -> list[int]:
    """Steps that have a checkpoint, ascending."""
    found = [path.stem.removeprefix("step-") for path in folder.glob("step-*.ckpt")]
    return sorted(int(step) for step in found if step.isdecimal())


def path_of(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step lies."""
    return folder / f"step-{step:09d}.ckpt"


def read(folder: Path, *, fingerprint: str, at: int | None = None) -> tuple[int, dict[str, Any]]:
    """Read the newest checkpoint, or the one of step `at`.

    Returns:
        The step and the state.

    Raises:
        CheckpointError: there is none, or it is truncated, corrupt or of another run; the message names the file and
            offers the previous sound one.
    """
    steps = list_steps(folder)
    if not steps:
        raise CheckpointError(f"{folder} holds no checkpoint; start the training anew")
    if at is not None and at not in steps:
        raise CheckpointError(f"{folder} holds no checkpoint of step {at}; it has {', '.join(map(str, steps))}")
    wanted = steps[-1] if at is None else at
    try:
        return wanted, _read_one(path_of(folder, wanted), fingerprint)
    except CheckpointError as error:
        offer = "no sound checkpoint is left"
        for step in (s for s in reversed(steps) if s != wanted):
            with contextlib.suppress(CheckpointError):
                _read_one(path_of(folder, step), fingerprint)
                offer = f"the checkpoint of step {step} is sound: resume with --at {step}"
                break
        raise CheckpointError(f"{error}; {offer}") from error


def _read_one(path: Path, fingerprint: str) -> dict[str, Any]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror})") from error
    if not content.startswith(MAGIC) or len(content) < HEADER:
        raise CheckpointError(f"{path} is not a saddlegan checkpoint, or cut off in its first line")
    digest, body = content[len(MAGIC) : HEADER - 1], content[HEADER:]
    if hashlib.sha256(body).hexdigest().encode() != digest:
        raise CheckpointError(f"{path} is truncated or corrupt: its checksum does not match")
    try:
        tensors = load(body)
        size = int.from_bytes(body[:8], "little")
        metadata = json.loads(json.loads(body[8 : 8 + size])["__metadata__"]["run"])
        found, state = metadata["fingerprint"], _unpack(metadata["tree"], tensors)
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be decoded: {error}") from error
    if found != fingerprint:
        raise CheckpointError(f"{path} belongs to another run")
    return state


def _pack(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Plain JSON with `{"tensor": name}` in the place of tensors; tuples and keys that are no strings are marked."""
    if isinstance(value, Tensor):
        name = f"t{len(tensors)}"
        tensors[name] = value.detach().cpu().clone().contiguous()
        return {"tensor": name}
    if isinstance(value, Mapping):
        return {"items": [[_pack(key, tensors), _pack(entry, tensors)] for key, entry in value.items()]}
    if isinstance(value, tuple):
        return {"tuple": [_pack(entry, tensors) for entry in value]}
    if isinstance(value, list):
        return [_pack(entry, tensors) for entry in value]
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    raise CheckpointError(f"a checkpoint holds tensors and plain values, got {type(value).__name__}")


def _unpack(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_unpack(entry, tensors) for entry in value]
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        return tensors[value["tensor"]]
    if "tuple" in value:
        return tuple(_unpack(entry, tensors) for entry in value["tuple"])
    return {_unpack(key, tensors): _unpack(entry, tensors) for key, entry in value["items"]}


def fingerprint_of(config: Mapping[str, Any]) -> str:
    """A short name for a configuration: equal exactly if all its values are."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:16]


def random_state() -> dict[str, Any]:
    """State of torch's global generators."""
    state: dict[str, Any] = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def set_random_state(state: Mapping[str, Any]) -> None:
    """Put torch's global generators back."""
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
