"""Fitted estimators as one file: safetensors around a tree of plain JSON, checksummed, written atomically, no pickle.

The file is a safetensors file like any other; its metadata hold one entry, the tree in which the tensors have their
places. Only the estimators, records and networks that are known here are ever built.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as read_tensors
from safetensors.torch import save as write_tensors
from torch import Tensor, nn

from saddlegan import files
from saddlegan.errors import InputError, InputTypeError, ModelError
from saddlegan.networks import (
    FeatureGenerator,
    FourierFeatures,
    LinearGenerator,
    PointGenerator,
    PolynomialFeatures,
    ReLUFeatures,
    TwoLayerDiscriminator,
)
from saddlegan.results import Solution, Status

ENTRY = "saddlegan"
FORMAT = 1
REBUILT = frozenset({"game_"})  # follows from the rest
NOT_KEPT = frozenset({"progress", "random_state", "engine"})  # parameters that may be live objects

T = TypeVar("T")
ESTIMATORS: dict[str, type[Savable]] = {}
RECORDS: dict[str, type[Any]] = {"Solution": Solution}


def record(kind: type[T]) -> type[T]:
    """Let a dataclass be part of saved estimators."""
    RECORDS[kind.__name__] = kind
    return kind


class Savable:
    """An estimator that can be saved and loaded."""

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        if cls.__module__.startswith("saddlegan."):
            ESTIMATORS[cls.__name__] = cls

    def save(self, path: str | Path) -> None:
        """Write the estimator, fitted or not, as one file; `fit.load` reads it back without unpickling anything.

        The file is complete on disk before it gets its name; an existing one is replaced. Live objects (a `progress`
        callback, a generator as `random_state`, an engine) are not kept.

        Args:
            path: of the file.

        Raises:
            InputTypeError: something about the estimator is no plain value: features that are a class of your own.
            ModelError: the file cannot be written.
        """
        if ESTIMATORS.get(type(self).__name__) is not type(self):
            raise InputTypeError(f"only saddlegan's own estimators can be saved, got {type(self).__name__}")
        writer = _Writer()
        tree = writer.encode(self)
        content = {"format": FORMAT, "tree": tree, "sha256": _digest(tree, writer.tensors)}
        _write(Path(path), write_tensors(writer.tensors, metadata={ENTRY: json.dumps(content)}))

    def _rebuild(self) -> None:
        """Set what `save` leaves out because it follows from the rest."""


def load(path: str | Path) -> Any:
    """Read an estimator that its `save` wrote; its tensors lie on the CPU.

    Args:
        path: of the file.

    Returns:
        The estimator, fitted as it was.

    Raises:
        ModelError: the file is missing, truncated, corrupt, no estimator, or of a later version of saddlegan.

    Example:
        >>> import tempfile
        >>> from saddlegan.fit import LinearWGAN
        >>> path = Path(tempfile.mkdtemp()) / "model.safetensors"
        >>> LinearWGAN(beta=1.0).fit([[3.0, 3.0], [3.0, 5.0]]).save(path)
        >>> load(path).sample(1).round(2)
        array([[2.4, 3.2]])
    """
    path = Path(path)
    try:
        body = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror or error})") from error
    try:
        tensors = read_tensors(body)
        size = int.from_bytes(body[:8], "little")
        content = json.loads(json.loads(body[8 : 8 + size])["__metadata__"][ENTRY])
        version, tree, digest = content["format"], content["tree"], content["sha256"]
    except SafetensorError as error:
        raise ModelError(f"{path} is truncated, corrupt or no safetensors file: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path} is a safetensors file, but no saved estimator of saddlegan") from error
    if version != FORMAT:
        raise ModelError(f"{path} has format {version}; this version of saddlegan reads {FORMAT}")
    if digest != _digest(tree, tensors):
        raise ModelError(f"{path} is corrupt: its checksum does not match")
    try:
        found = _decode(tree, tensors)
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError, InputError) as error:
        raise ModelError(f"{path} does not describe an estimator: {error}") from error
    if not isinstance(found, Savable):
        raise ModelError(f"{path} does not describe an estimator")
    return found


def _digest(tree: Any, tensors: Mapping[str, Tensor]) -> str:
    total = hashlib.sha256(json.dumps(tree, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
    return total.hexdigest()


def _write(path: Path, body: bytes) -> None:
    try:
        files.write(path, body)
    except OSError as error:
        raise ModelError(f"cannot write {path}: {error.strerror or error}") from error


@dataclasses.dataclass
class _Writer:
    """Turns values into JSON, and keeps their tensors."""

    tensors: dict[str, Tensor] = dataclasses.field(default_factory=dict)

    def _keep(self, tensor: Tensor) -> str:
        name = f"t{len(self.tensors):04d}"
        # a copy: safetensors takes no tensors that share memory or have gaps
        self.tensors[name] = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        return name

    def encode(self, value: Any) -> Any:
        if value is None or isinstance(value, (bool, str)):
            return value
        if isinstance(value, np.generic):
            return {"number": self._keep(torch.from_numpy(np.asarray(value)))}
        if isinstance(value, Status):
            return {"status": value.name}
        if isinstance(value, enum.Enum):
            raise InputTypeError(f"{value!r} cannot be saved")
        if isinstance(value, int):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else {"float": str(value)}
        if isinstance(value, (list, tuple)):
            return {type(value).__name__: [self.encode(entry) for entry in value]}
        if isinstance(value, Mapping):
            return {"dict": [[self.encode(key), self.encode(entry)] for key, entry in value.items()]}
        if isinstance(value, Path):
            return str(value)
        if isinstance(value, np.ndarray):
            return self._array(value)
        if isinstance(value, Tensor):
            return {"tensor": self._keep(value)}
        if isinstance(value, nn.Module):
            return self._network(value)
        if isinstance(value, Savable):
            return {"estimator": type(value).__name__, "attributes": self._attributes(value)}
        if RECORDS.get(type(value).__name__) is type(value):
            entries = {field.name: self.encode(getattr(value, field.name)) for field in dataclasses.fields(value)}
            return {"record": type(value).__name__, "fields": entries}
        raise InputTypeError(f"{type(value).__name__} cannot be saved without pickle: {value!r}")

    def _attributes(self, estimator: Savable) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in vars(estimator).items():
            if name in REBUILT:
                continue
            plain = value is None or isinstance(value, (bool, int, float, str, np.generic))
            found[name] = None if name in NOT_KEPT and not plain else self.encode(value)
        return found

    def _array(self, array: np.ndarray) -> Any:
        if array.dtype.kind in "OUS":
            if any(not isinstance(entry, (str, bool, int, float)) for entry in array.reshape(-1).tolist()):
                raise InputTypeError(f"an array of {array.dtype} cannot be saved without pickle")
            return {"words": array.tolist(), "dtype": array.dtype.str}
        return {"array": self._keep(torch.from_numpy(np.ascontiguousarray(array))), "shape": list(array.shape)}

    def _network(self, module: nn.Module) -> Any:
        kind = type(module)
        for name, row in NETWORKS.items():
            if kind is row.network:
                children = {key: self.encode(child) for key, child in module.named_children()}
                # not `named_buffers`, which leaves out a tensor that has two names
                entries = {key: self.encode(own) for key, own in module.state_dict().items() if "." not in key}
                options = {key: self.encode(value) for key, value in row.options(module).items()}
                return {"network": name, "options": options, "children": children, "state": entries}
        if isinstance(module, nn.Sequential):  # an MLP is one
            return {"layers": [self.encode(layer) for layer in module], "training": module.training}
        raise InputTypeError(
            f"a network of class {kind.__name__} cannot be saved without pickle; `features` may be those of "
            "saddlegan.networks, None, or an nn.Sequential of linear layers and activations"
        )


@dataclasses.dataclass(frozen=True)
class _Network:
    """How a network is built again; parameters and buffers are replaced afterwards, by name."""

    network: type[nn.Module]
    options: Callable[[Any], dict[str, Any]]
    build: Callable[[dict[str, Any], dict[str, Tensor], dict[str, nn.Module]], nn.Module]


def _feature_generator(
    options: dict[str, Any], state: dict[str, Tensor], children: dict[str, nn.Module]
) -> FeatureGenerator:
    children["features"].eval().requires_grad_(False)
    return FeatureGenerator(children["features"], **state, **options)


def _source() -> torch.Generator:
    return torch.Generator()  # the global one stays untouched


NETWORKS: dict[str, _Network] = {
    "linear-generator": _Network(
        LinearGenerator, lambda G: {}, lambda o, s, c: LinearGenerator(*s["weight"].shape, generator=_source())
    ),
    "points": _Network(PointGenerator, lambda G: {}, lambda o, s, c: PointGenerator(s["points"])),
    "feature-generator": _Network(FeatureGenerator, lambda G: {"n_latent": G.n_latent}, _feature_generator),
    "two-layer-discriminator": _Network(
        TwoLayerDiscriminator,
        lambda D: {"activation": D.activation, "a": D.a, "b": D.b, "c": D.c, "bias": D.bias is not None},
        lambda o, s, c: TwoLayerDiscriminator(*reversed(s["directions"].shape), generator=_source(), **o),
    ),
    "relu-features": _Network(
        ReLUFeatures,
        lambda phi: {},
        lambda o, s, c: ReLUFeatures(*reversed(s["directions"].shape), generator=_source()),
    ),
    "polynomial-features": _Network(
        PolynomialFeatures,
        lambda phi: {"n_latent": len(phi.powers[0]), "degree": phi.degree},
        lambda o, s, c: PolynomialFeatures(**o),
    ),
    "fourier-features": _Network(
        FourierFeatures,
        lambda phi: {"scale": phi.scale},
        lambda o, s, c: FourierFeatures(len(s["frequencies"]), s["frequencies"].shape[1], generator=_source(), **o),
    ),
    "linear": _Network(
        nn.Linear,
        lambda layer: {"bias": layer.bias is not None},
        lambda o, s, c: nn.utils.skip_init(nn.Linear, *reversed(s["weight"].shape), **o),
    ),
    "relu": _Network(nn.ReLU, lambda f: {}, lambda o, s, c: nn.ReLU()),
    "leaky-relu": _Network(
        nn.LeakyReLU, lambda f: {"negative_slope": f.negative_slope}, lambda o, s, c: nn.LeakyReLU(**o)
    ),
    "silu": _Network(nn.SiLU, lambda f: {}, lambda o, s, c: nn.SiLU()),
    "tanh": _Network(nn.Tanh, lambda f: {}, lambda o, s, c: nn.Tanh()),
    "softplus": _Network(
        nn.Softplus, lambda f: {"beta": f.beta, "threshold": f.threshold}, lambda o, s, c: nn.Softplus(**o)
    ),
}


def _decode(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    match value:
        case {"float": word}:
            return float(word)
        case {"status": name}:
            return Status[name]
        case {"list": entries}:
            return [_decode(entry, tensors) for entry in entries]
        case {"tuple": entries}:
            return tuple(_decode(entry, tensors) for entry in entries)
        case {"dict": pairs}:
            return {_decode(key, tensors): _decode(entry, tensors) for key, entry in pairs}
        case {"number": name}:
            return tensors[name].numpy()[()]
        case {"array": name, "shape": shape}:
            return tensors[name].numpy().reshape(shape)
        case {"tensor": name}:
            return tensors[name]
        case {"words": entries, "dtype": kind}:
            return np.array(entries, dtype=kind)
        case {"record": name, "fields": fields}:
            return RECORDS[name](**{key: _decode(entry, tensors) for key, entry in fields.items()})
        case {"layers": layers, "training": training}:
            return nn.Sequential(*(_decode(layer, tensors) for layer in layers)).train(training)
        case {"network": name, "options": options, "children": children, "state": state}:
            plain = {key: _decode(entry, tensors) for key, entry in options.items()}
            weights = {key: _decode(entry, tensors) for key, entry in state.items() if entry is not None}
            below = {key: _decode(entry, tensors) for key, entry in children.items()}
            module = NETWORKS[name].build(plain, weights, below)
            module.load_state_dict({**module.state_dict(), **weights}, assign=True)
            return module
        case {"estimator": name, "attributes": attributes}:
            kind = ESTIMATORS[name]
            estimator = kind.__new__(kind)
            vars(estimator).update({key: _decode(entry, tensors) for key, entry in attributes.items()})
            estimator._rebuild()
            return estimator
    raise ValueError(f"unknown entry {str(value)[:80]}")
