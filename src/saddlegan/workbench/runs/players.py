"""From networks to JSON and safetensors, and back: one row per network, no pickle.

A row reads a network's constructor arguments off the module and builds it again; the weights travel as safetensors.
To make a new network savable, add one row with `register`.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import inspect
import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from saddlegan.errors import InputTypeError, RunError
from saddlegan.networks import (
    MLP,
    FeatureGenerator,
    FourierFeatures,
    ImageDiscriminator,
    ImageGenerator,
    LinearGenerator,
    MixtureGenerator,
    MultiscaleFeatures,
    PointGenerator,
    PolynomialFeatures,
    ReLUFeatures,
    TwoLayerDiscriminator,
)
from saddlegan.train import MixedLatent
from saddlegan.workbench.runs.config import LatentSpec, NetworkSpec
from saddlegan.workbench.runs.reading import REMEDY

Options = dict[str, Any]
MOST_POWERS = 1 << 24  # that a table of polynomials holds, over all its features


@dataclasses.dataclass(frozen=True)
class NetworkRow:
    """How one kind of network is written down.

    Attributes:
        kind: its name in `config.json`.
        network: the class; matched exactly, subclasses need their own row.
        describe: constructor arguments of a module, as plain JSON.
        build: the module for such arguments; its weights are replaced afterwards.
    """

    kind: str
    network: type[nn.Module]
    describe: Callable[[Any], Options]
    build: Callable[[Options], nn.Module]


NETWORKS: dict[str, NetworkRow] = {}


def register(row: NetworkRow) -> None:
    """Add one network to the registry; a row of the same kind is replaced."""
    NETWORKS[row.kind] = row


def network_spec(module: nn.Module) -> NetworkSpec:
    """Write a network's architecture down.

    Args:
        module: a network of a registered class.

    Returns:
        Its kind and options, to be kept beside its weights.

    Raises:
        InputTypeError: no row knows this class, and it cannot be built again from its attributes.

    Example:
        >>> network_spec(MLP(2, 1, hidden=(8,)))
        NetworkSpec(kind='mlp', options={'n_in': 2, 'n_out': 1, 'hidden': [8], 'activation': 'leaky-relu'})
    """
    for row in NETWORKS.values():
        if type(module) is row.network:
            return NetworkSpec(kind=row.kind, options=row.describe(module))
    if type(module) is nn.Sequential:
        layers = {name: network_spec(layer).model_dump() for name, layer in module.named_children()}
        return NetworkSpec(kind=SEQUENTIAL, options={"layers": layers})
    return NetworkSpec(kind=IMPORTED, options=_describe_imported(module))


def build_network(spec: NetworkSpec) -> nn.Module:
    """Build the network that `network_spec` wrote down, with arbitrary weights; the global random state is untouched.

    Raises:
        RunError: unknown kind, or options that do not fit it.
    """
    row = OTHERS.get(spec.kind) or NETWORKS.get(spec.kind)
    if row is None:
        raise RunError(f"unknown network kind {spec.kind!r}; known are {', '.join(NETWORKS)}")
    try:
        with torch.random.fork_rng(devices=[]):
            return row.build(spec.options) if isinstance(row, NetworkRow) else row(spec.options)
    except RunError:
        raise
    except (KeyError, TypeError, ValueError, RuntimeError, ArithmeticError, AttributeError, MemoryError) as error:
        raise RunError(f"the options of network {spec.kind!r} do not fit it: {error}") from error


def rebuilt(module: nn.Module) -> nn.Module:
    """What `load_network` will make of a network, without writing it: on the CPU, in evaluation mode.

    Raises:
        InputTypeError: it cannot be built again from its attributes.
    """
    built = build_network(network_spec(module))
    state = {name: tensor.detach().cpu().clone() for name, tensor in module.state_dict().items()}
    try:
        built.load_state_dict(state, assign=True)
    except RuntimeError as error:
        raise InputTypeError(
            f"{type(module).__name__} has other weights when it is built again from its attributes; keep each argument "
            f"of its constructor in an attribute of the same name ({' '.join(str(error).split())})"
        ) from error
    return built.eval()


def state_bytes(module: nn.Module) -> bytes:
    """Serialise a network's parameters and buffers as safetensors."""
    # cloned: safetensors refuses tensors that share memory
    state = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in module.state_dict().items()}
    return save(state)


def load_network(spec: NetworkSpec, path: Path) -> nn.Module:
    """Build a network and load its weights, in the dtype in which they were saved, on the CPU, in evaluation mode.

    Raises:
        RunError: the file is missing, damaged, holds another network, or weights that are NaN or infinite.
    """
    try:
        state = load_file(path)
    except OSError as error:
        raise RunError(f"{path} cannot be read ({error.strerror or error}); the run is incomplete") from error
    except SafetensorError as error:
        raise RunError(f"{path} is damaged or not a safetensors file: {error}") from error
    draft = None
    with contextlib.suppress(RunError), torch.device("meta"):  # a damaged size is compared before it is allocated
        draft = build_network(spec)
    if draft is not None:
        _fill(draft, state, path)
    module = build_network(spec)
    _fill(module, state, path)
    for name, weight in module.named_parameters():
        if not bool(weight.isfinite().all()):
            raise RunError(
                f"{path} holds weights that are NaN or infinite, in {name!r}: its training diverged or the file was "
                "changed; train again, or put sound weights in its place"
            )
    return module.eval()


def _fill(module: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    try:
        module.load_state_dict(state, assign=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise RunError(f"{path} does not hold the weights of the network in config.json: {reason}; {REMEDY}") from error


SEQUENTIAL, IMPORTED = "sequential", "import"


def _describe_imported(module: nn.Module) -> Options:
    """A class by its import path, with the arguments that it keeps in attributes of the same names."""
    own = type(module)
    name = f"{own.__module__}:{own.__qualname__}"
    if own.__module__ == "__main__" or "<locals>" in own.__qualname__:
        raise InputTypeError(f"`{own.__qualname__}` cannot be imported again; put the class into a module of its own")
    arguments: Options = {}
    for parameter in inspect.signature(own).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        value = getattr(module, parameter.name, parameter.default)
        if isinstance(parameter.default, bool) and (value is None or isinstance(value, Tensor)):
            value = (
                value is not None
            )  # torch's layers keep the bias itself where the argument says whether there is one
        if value is parameter.empty:
            raise InputTypeError(
                f"{name} needs `{parameter.name}`, which it does not keep: store it as `self.{parameter.name}`"
            )
        if value is not parameter.default and not _is_plain(value):
            raise InputTypeError(f"{name}: `{parameter.name}` is no plain number, word or list, so it cannot be saved")
        if value is not parameter.default:
            arguments[parameter.name] = value
    return {"path": name, "arguments": arguments}


def _is_plain(value: object) -> bool:
    if isinstance(value, (list, tuple)):
        return all(_is_plain(entry) for entry in value)
    return value is None or isinstance(value, (bool, int, float, str))


def _build_imported(options: Options) -> nn.Module:
    """Build a class of somebody's own; nothing is imported here, so that a run folder alone runs no code."""
    module, _, name = str(options["path"]).partition(":")
    if module not in sys.modules:
        raise RunError(f"the run's network is {options['path']}: pass --import {module}, or import {module} first")
    found: Any = sys.modules[module]
    for part in name.split("."):
        found = getattr(found, part, None)
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise RunError(f"{options['path']} is not a torch.nn.Module; was it renamed?")
    # JSON has no tuples, which torch's layers take for sizes
    arguments = {k: tuple(v) if isinstance(v, list) else v for k, v in options["arguments"].items()}
    return found(**arguments)


def _build_sequential(options: Options) -> nn.Module:
    layers = {name: build_network(NetworkSpec(**layer)) for name, layer in options["layers"].items()}
    return nn.Sequential(OrderedDict(layers))


OTHERS: dict[str, Callable[[Options], nn.Module]] = {SEQUENTIAL: _build_sequential, IMPORTED: _build_imported}


def copy_of(module: nn.Module) -> nn.Module:
    """A copy on the CPU in evaluation mode."""
    return copy.deepcopy(module).cpu().eval()


def _build_polynomials(options: Options) -> nn.Module:
    n, degree = options["n_latent"], options["degree"]
    features = 1
    for order in range(1, degree + 1):  # binomial (n + degree, degree), left as soon as it is too large
        features = features * (n + order) // order
        if features * n > MOST_POWERS:
            raise RunError(f"polynomial features of {n} latents to degree {degree} are beyond all measure; {REMEDY}")
    return PolynomialFeatures(n, degree=degree)


def _build_features(options: Options) -> nn.Module:
    return build_network(NetworkSpec(**options))


def _describe_feature_generator(G: FeatureGenerator) -> Options:
    if not isinstance(G.features, nn.Module):
        raise InputTypeError(
            "a generator over a plain function cannot be saved in a run folder; make `features` a torch.nn.Module"
        )
    k, d = G.weight.shape
    return {"features": network_spec(G.features).model_dump(), "k": k, "d": d, "n_latent": G.n_latent}


def _build_feature_generator(options: Options) -> nn.Module:
    k, d = options["k"], options["d"]
    return FeatureGenerator(
        _build_features(options["features"]),
        weight=torch.zeros(k, d),
        mean=torch.zeros(d),
        offset=torch.zeros(k),
        feature_mean=torch.zeros(k),
        feature_covariance=torch.zeros(k, k),
        n_latent=options["n_latent"],
    )


def _describe_mixture(G: MixtureGenerator) -> Options:
    return {"generators": [network_spec(each).model_dump() for each in G.generators], "priors": G.priors.tolist()}


def _build_mixture(options: Options) -> nn.Module:
    generators = [build_network(NetworkSpec(**each)) for each in options["generators"]]
    return MixtureGenerator(generators, options["priors"])


def _describe_two_layer(D: TwoLayerDiscriminator) -> Options:
    neurons, d = D.directions.shape
    biased = D.bias is not None
    return {
        "n_features": d,
        "n_neurons": neurons,
        "activation": D.activation,
        "a": D.a,
        "b": D.b,
        "c": D.c,
        "bias": biased,
    }


def _describe_mlp(network: MLP) -> Options:
    linear = [layer for layer in network if isinstance(layer, nn.Linear)]
    names: Mapping[type[nn.Module], str] = {
        nn.ReLU: "relu",
        nn.LeakyReLU: "leaky-relu",
        nn.Softplus: "softplus",
        nn.SiLU: "silu",
        nn.Tanh: "tanh",
    }
    first = network[0] if isinstance(network[0], (FourierFeatures, MultiscaleFeatures)) else None
    layers = list(network)[0 if first is None else 1 :]
    used = {names.get(type(layer), type(layer).__name__) for layer in layers if not isinstance(layer, nn.Linear)}
    if len(used) > 1 or not used <= set(names.values()):
        raise InputTypeError(
            f"an MLP with the layers {', '.join(sorted(used))} cannot be saved: it was changed by hand"
        )
    options: Options = {
        "n_in": linear[0].in_features if first is None else first.n_in,
        "n_out": linear[-1].out_features,
        "hidden": [layer.out_features for layer in linear[:-1]],
        "activation": used.pop() if used else "leaky-relu",
    }
    if first is None:
        return options
    return {**options, "fourier": first.scale if isinstance(first, FourierFeatures) else [first.low, first.high]}


for _row in (
    NetworkRow(
        "linear",
        LinearGenerator,
        lambda G: {"n_latent": G.weight.shape[0], "n_features": G.weight.shape[1]},
        lambda options: LinearGenerator(options["n_latent"], options["n_features"]),
    ),
    NetworkRow("mixture", MixtureGenerator, _describe_mixture, _build_mixture),
    NetworkRow("features", FeatureGenerator, _describe_feature_generator, _build_feature_generator),
    NetworkRow(
        "relu-features",
        ReLUFeatures,
        lambda phi: {"n_latent": phi.directions.shape[1], "n_features": phi.directions.shape[0]},
        lambda options: ReLUFeatures(options["n_latent"], options["n_features"]),
    ),
    NetworkRow(
        "polynomial-features",
        PolynomialFeatures,
        lambda phi: {"n_latent": len(phi.powers[0]), "degree": phi.degree},
        _build_polynomials,
    ),
    NetworkRow(
        "two-layer",
        TwoLayerDiscriminator,
        _describe_two_layer,
        lambda options: TwoLayerDiscriminator(
            options["n_features"],
            options["n_neurons"],
            activation=options["activation"],
            a=options["a"],
            b=options["b"],
            c=options["c"],
            bias=options.get("bias", False),  # runs of earlier versions do not say
        ),
    ),
    NetworkRow(
        "points",
        PointGenerator,
        lambda G: {"m": G.points.shape[0], "d": G.points.shape[1]},
        lambda options: PointGenerator(torch.zeros(options["m"], options["d"])),
    ),
    NetworkRow(
        "mlp",
        MLP,
        _describe_mlp,
        lambda options: MLP(
            options["n_in"],
            options["n_out"],
            hidden=options["hidden"],
            activation=options["activation"],
            fourier=options.get("fourier", 0.0),
        ),
    ),
    NetworkRow(
        "image-generator",
        ImageGenerator,
        lambda G: {"n_latent": G.n_latent, "size": G.size, "channels": G.channels, "width": G.width},
        lambda options: ImageGenerator(
            options["n_latent"], size=options["size"], channels=options["channels"], width=options["width"]
        ),
    ),
    NetworkRow(
        "image-discriminator",
        ImageDiscriminator,
        lambda D: {
            "size": D.size,
            "channels": D.channels,
            "width": D.width,
            "spectral": D.spectral,
            "gain": D.gain,
            "activation": D.activation,
        },
        lambda options: ImageDiscriminator(
            size=options["size"],
            channels=options["channels"],
            width=options["width"],
            spectral=options["spectral"],
            gain=options["gain"],
            activation=options["activation"],
        ),
    ),
):
    register(_row)

LatentSampler = Callable[[LatentSpec, int, torch.Generator, torch.dtype], Tensor]


def _gaussian(spec: LatentSpec, n: int, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    return torch.randn(n, spec.size, generator=generator, dtype=dtype)


def _mixed(spec: LatentSpec, n: int, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    bits = int(spec.options["bits"])
    return MixedLatent(bits, spec.size - bits, dtype=dtype)(n, generator)


LATENTS: dict[str, LatentSampler] = {"gaussian": _gaussian, "mixed": _mixed}


def draw_latents(spec: LatentSpec, n: int, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    """Draw n latents (n, size) as `spec` says.

    Raises:
        RunError: unknown kind.
    """
    sampler = LATENTS.get(spec.kind)
    if sampler is None:
        raise RunError(f"unknown latent kind {spec.kind!r}; known are {', '.join(LATENTS)}")
    return sampler(spec, n, generator, dtype)
