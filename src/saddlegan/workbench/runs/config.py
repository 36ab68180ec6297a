"""What `config.json` of a run folder holds, validated on the way in and out."""

from __future__ import annotations

import datetime
import importlib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from saddlegan.errors import RunError
from saddlegan.workbench.data.spec import DataSpec
from saddlegan.workbench.runs.reading import REMEDY, first_fault, parse_json

FORMAT = "saddlegan-run"
MOST_LATENTS = 1 << 20  # a damaged number must not be allocated


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NetworkSpec(_Frozen):
    """How to build a network before its weights are loaded.

    Attributes:
        kind: a name in `saddlegan.workbench.runs.players.NETWORKS`.
        options: the constructor's arguments, plain JSON.
    """

    kind: str
    options: dict[str, Any] = Field(default_factory=dict)


class LatentSpec(_Frozen):
    """How latents are drawn.

    Attributes:
        kind: a name in `saddlegan.workbench.runs.players.LATENTS`.
        size: length of a latent.
        options: further arguments, plain JSON.
    """

    size: int = Field(ge=1, le=MOST_LATENTS)
    kind: str = "gaussian"
    options: dict[str, Any] = Field(default_factory=dict)


class RunConfig(_Frozen):
    """Everything that is needed to understand a run folder and to rebuild its players.

    Attributes:
        command: the command that made the run: "fit", "train", ...
        model: the estimator's or the rule's word: "quadratic", "proximal", ...
        objective: name of the objective.
        data: where the data came from.
        latent: how latents are drawn.
        generator: how to build G.
        discriminator: how to build D, None if the run has none.
        seed: the command's seed.
        sample_scale: samples in data units are `sample_scale * G(z) + sample_offset`.
        sample_offset: see `sample_scale`.
        options: the command's own options, plain JSON.
        command_line: what to type to make the run again.
        saddlegan: version that wrote the run.
        created: time in UTC, ISO 8601.
        format: always "saddlegan-run".
        version: of this layout.

    Example:
        >>> config = RunConfig(
        ...     command="fit", model="linear", data=DataSpec(source="ring", shape=(100, 2)), latent=LatentSpec(size=2),
        ...     generator=NetworkSpec(kind="linear", options={"n_latent": 2, "n_features": 2}), discriminator=None)
        >>> config.objective
        'wasserstein'
    """

    command: str
    model: str
    data: DataSpec
    latent: LatentSpec
    generator: NetworkSpec
    discriminator: NetworkSpec | None
    objective: str = "wasserstein"
    seed: int = 0
    sample_scale: float = Field(default=1.0, gt=0.0, allow_inf_nan=False)
    sample_offset: float = Field(default=0.0, allow_inf_nan=False)
    options: dict[str, Any] = Field(default_factory=dict)
    command_line: str = ""
    saddlegan: str = Field(default_factory=lambda: _version())
    created: str = Field(default_factory=lambda: datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"))
    format: Literal["saddlegan-run"] = FORMAT
    version: Literal[1] = 1


def _version() -> str:
    # not at import time: the package's own module may still be loading
    return importlib.import_module("saddlegan").__version__


def read_config(path: Path) -> RunConfig:
    """Read and validate a `config.json`.

    Raises:
        RunError: missing, not JSON, or not a run of this layout; the message names the file and the first fault.
    """
    try:
        content = path.read_bytes()
        found = RunConfig.model_validate_json(content)
        parse_json(content, str(path))  # the free `options` within it too
        return found
    except OSError as error:
        raise RunError(f"{path} cannot be read ({error.strerror}); is {path.parent} a saddlegan run?") from error
    except ValidationError as error:
        raise RunError(f"{path} is not the config of a saddlegan run: {first_fault(error)}; {REMEDY}") from error
