"""The run folder: whole or absent, faults named, players rebuilt bit for bit. Oracle: the module that was saved."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from begun import begun
from saddlegan.errors import InputError, InputTypeError, RunError
from saddlegan.networks import (
    MLP,
    FeatureGenerator,
    LinearGenerator,
    PolynomialFeatures,
    ReLUFeatures,
    TwoLayerDiscriminator,
)
from saddlegan.workbench import cli, files, locks
from saddlegan.workbench.data.spec import DataSpec
from saddlegan.workbench.runs import certificate, players
from saddlegan.workbench.runs import folder as runs
from saddlegan.workbench.runs.config import LatentSpec, NetworkSpec, RunConfig, read_config


def config_for(G: nn.Module, D: nn.Module | None, *, n_latent: int = 2, d: int = 3) -> RunConfig:
    return RunConfig(
        command="fit",
        model="test",
        data=DataSpec(source="ring", shape=(10, d)),
        latent=LatentSpec(size=n_latent),
        generator=players.network_spec(G),
        discriminator=None if D is None else players.network_spec(D),
    )


def pair(rng: torch.Generator) -> tuple[LinearGenerator, TwoLayerDiscriminator]:
    G = LinearGenerator(2, 3, generator=rng, dtype=torch.float64)
    return G, TwoLayerDiscriminator(3, 4, generator=rng, dtype=torch.float64)


def make_run(path: Path, rng: torch.Generator, *, overwrite: bool = False) -> runs.Run:
    G, D = pair(rng)
    return begun(path, config_for(G, D), generator=G, discriminator=D, overwrite=overwrite)


def everything_under(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


def feature_generator(features: nn.Module, k: int, rng: torch.Generator) -> FeatureGenerator:
    return FeatureGenerator(
        features,
        weight=torch.randn(k, 3, generator=rng, dtype=torch.float64),
        mean=torch.randn(3, generator=rng, dtype=torch.float64),
        offset=torch.randn(k, generator=rng, dtype=torch.float64),
        feature_mean=torch.zeros(k, dtype=torch.float64),
        feature_covariance=torch.eye(k, dtype=torch.float64),
        n_latent=2,
    )


NETWORKS = {
    "linear": lambda rng: LinearGenerator(2, 3, generator=rng, dtype=torch.float64),
    "relu features": lambda rng: feature_generator(ReLUFeatures(2, 7, generator=rng), 7, rng),
    "polynomial features": lambda rng: feature_generator(PolynomialFeatures(2, degree=3), 9, rng),
    "mlp": lambda rng: MLP(2, 3, hidden=(5, 4), activation="silu"),
    "mlp over Fourier features": lambda rng: MLP(2, 1, hidden=(5,), fourier=2.5),
    "mlp over features of several scales": lambda rng: MLP(2, 1, hidden=(5,), fourier=(1.0, 8.0)),
    "mlp without hidden layers": lambda rng: MLP(2, 3, hidden=()),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_comes_back_bit_for_bit(name: str, rng: torch.Generator, tmp_path: Path) -> None:
    G = NETWORKS[name](rng)
    (tmp_path / "g").write_bytes(players.state_bytes(G))
    spec = NetworkSpec.model_validate_json(players.network_spec(G).model_dump_json())
    before = torch.random.get_rng_state()
    back = players.load_network(spec, tmp_path / "g")
    assert torch.equal(before, torch.random.get_rng_state()), "building moved the global random state"
    z = torch.randn(6, 2, generator=rng, dtype=next(G.parameters()).dtype)
    assert torch.equal(G(z), back(z))
    assert [p.requires_grad for p in back.parameters()] == [p.requires_grad for p in G.parameters()]


@pytest.mark.parametrize("activation", ["linear", "quadratic", "polynomial", "relu"])
def test_two_layer_discriminators_come_back(activation: str, rng: torch.Generator, tmp_path: Path) -> None:
    D = TwoLayerDiscriminator(3, 4, activation=activation, a=2.0, b=-1.0, c=0.5, generator=rng)  # type: ignore[arg-type]
    torch.nn.init.normal_(D.outer, generator=rng)
    (tmp_path / "d").write_bytes(players.state_bytes(D))
    x = torch.randn(5, 3, generator=rng)
    assert torch.equal(D(x), players.load_network(players.network_spec(D), tmp_path / "d")(x))


def test_unknown_networks_are_refused(rng: torch.Generator) -> None:
    class Bilinear(nn.Bilinear):
        """No module holds it."""

    with pytest.raises(InputTypeError, match="Bilinear"):
        players.network_spec(Bilinear(1, 1, 1))
    changed = MLP(2, 1, hidden=(3,))
    changed[1] = nn.GELU()
    with pytest.raises(InputTypeError, match="GELU"):
        players.network_spec(changed)
    with pytest.raises(InputTypeError, match="plain function"):
        players.network_spec(feature_generator(torch.relu, 2, rng))  # type: ignore[arg-type]
    with pytest.raises(RunError, match="unknown network kind 'nope'"):
        players.build_network(NetworkSpec(kind="nope"))
    with pytest.raises(RunError, match="do not fit"):
        players.build_network(NetworkSpec(kind="linear", options={"n_latent": "x"}))
    with pytest.raises(RunError, match="unknown latent kind 'moon'"):
        players.draw_latents(LatentSpec(size=1, kind="moon"), 1, torch.Generator(), torch.float32)


def test_a_registered_network_can_be_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(players, "NETWORKS", dict(players.NETWORKS))
    players.register(
        players.NetworkRow("bias", nn.Bilinear, lambda m: {"d": m.in1_features}, lambda o: nn.Bilinear(o["d"], 1, 1))
    )
    assert players.build_network(players.network_spec(nn.Bilinear(4, 1, 1))).in1_features == 4


def test_a_run_round_trips(tmp_path: Path, rng: torch.Generator) -> None:
    made = make_run(tmp_path / "deep" / "run", rng)
    made.append_metrics({"step": 0, "value": float("nan")})
    made.append_metrics({"step": 1, "value": np.float32(0.5), "curve": torch.ones(2)})
    opened = runs.Run.open(tmp_path / "deep" / "run")
    assert opened.config == made.config
    assert opened.metrics() == [{"step": 0, "value": "nan"}, {"step": 1, "value": 0.5, "curve": [1.0, 1.0]}]
    opened.rewrite_metrics(opened.metrics()[:1])
    assert len(opened.metrics()) == 1
    assert everything_under(tmp_path / "deep") == [
        "run",
        "run/config.json",
        "run/discriminator.safetensors",
        "run/generator.safetensors",
        "run/metrics.jsonl",
    ]


def test_sampling_is_deterministic_and_in_data_units(tmp_path: Path, rng: torch.Generator) -> None:
    G, _ = pair(rng)
    config = config_for(G, None).model_copy(update={"sample_scale": 3.0, "sample_offset": 2.0})
    run = begun(tmp_path / "run", config, generator=G, discriminator=None)
    z = torch.randn(5000, 2, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    np.testing.assert_allclose(run.sample(5000, 7), 3.0 * G(z).detach().numpy() + 2.0, rtol=1e-13)
    assert np.array_equal(run.sample(50, 7), run.sample(50, 7))
    assert not np.array_equal(run.sample(50, 7), run.sample(50, 8))
    with pytest.raises(InputError, match="`n`"):
        run.sample(0, 7)
    with pytest.raises(RunError, match="no discriminator"):
        run.load_discriminator()


def test_an_error_leaves_nothing(tmp_path: Path, rng: torch.Generator) -> None:
    G, D = pair(rng)

    def interrupted() -> None:
        with runs.create(tmp_path / "a" / "run", config_for(G, D), generator=G, discriminator=D) as run:
            run.write_text("report.html", "half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert everything_under(tmp_path) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_a_full_or_read_only_disk_leaves_nothing(
    code: int, tmp_path: Path, rng: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []

    class Refusing(io.FileIO):
        def write(self, content: bytes) -> int:  # type: ignore[override]
            written.append(content)
            if len(written) == 3:  # config, generator, discriminator
                super().write(content[: len(content) // 2])  # what a full disk does
                raise OSError(code, "the disk says no")
            return super().write(content)

    monkeypatch.setattr(files, "open", lambda file, mode, closefd: Refusing(file, mode, closefd), raising=False)
    with pytest.raises(RunError, match=r"discriminator\.safetensors: the disk says no"):
        make_run(tmp_path / "run", rng)
    assert everything_under(tmp_path) == []


def test_an_atomic_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files.write_atomic(tmp_path / "x", b"old")
    monkeypatch.setattr(Path, "replace", lambda self, to: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    with pytest.raises(RunError, match="full"):
        files.write_atomic(tmp_path / "x", b"new")
    assert (tmp_path / "x").read_bytes() == b"old"
    assert everything_under(tmp_path) == ["x"]


def test_a_failed_swap_restores_the_old_run(
    tmp_path: Path, rng: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path / "run", rng)
    run.write_text("report.html", "old")
    real = Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if self.name.endswith(".partial"):
            raise OSError(errno.ENOSPC, "full")
        return real(self, target)

    monkeypatch.setattr(files, "_exchange", lambda first, second: False)
    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(RunError, match="full"):
        make_run(tmp_path / "run", rng, overwrite=True)
    assert (tmp_path / "run" / "report.html").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("exchanges", [True, False])
def test_a_replaced_run_is_never_without_a_name(
    exchanges: bool, tmp_path: Path, rng: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(tmp_path / "run", rng).write_text("report.html", "old")
    if not exchanges:
        monkeypatch.setattr(files, "_exchange", lambda first, second: False)
    moments = []
    real = Path.rename

    def watch(self: Path, target: Path) -> Path:
        moved = real(self, target)
        moments.append((tmp_path / "run").exists())
        return moved

    monkeypatch.setattr(Path, "rename", watch)
    make_run(tmp_path / "run", rng, overwrite=True)
    assert moments == ([] if exchanges else [False, True])  # the exchange needs no rename at all
    assert not (tmp_path / "run" / "report.html").exists()
    assert everything_under(tmp_path)[0] == "run"
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_what_killed_commands_left_is_swept(tmp_path: Path, rng: torch.Generator) -> None:
    run = make_run(tmp_path / "run", rng)
    # killed between the two renames of a replacement
    (tmp_path / "run").rename(tmp_path / ".run.0123abcd.old")
    with pytest.raises(RunError, match=r"\.run\.0123abcd\.old holds it"):
        runs.Run.open(tmp_path / "run")
    with pytest.raises(RunError, match="exists"):
        runs.check_destination(tmp_path / "run", overwrite=False)
    assert runs.Run.open(tmp_path / "run").config == run.config
    # killed after them, and while a stage and a file were being filled
    for name in (".run.0123abce.old", ".run.0123abcf.partial"):
        (tmp_path / name).mkdir()
        (tmp_path / name / ".lock").write_text("process 1 on elsewhere\n")
    others = [".run.mine.partial", ".run.0123abcf.partially", ".runs.0123abcf.partial", "run.0123abcf.partial"]
    for name in others:
        (tmp_path / name).mkdir()
    (tmp_path / "run" / ".generator.safetensors.01234567.partial").write_bytes(b"half")
    young = tmp_path / ".run.0123abd0.partial"
    young.mkdir()
    with locks.lock(tmp_path / ".run.0123abd1.partial", signed=False):
        runs.check_destination(tmp_path / "run", overwrite=True)
        left = sorted(p.name for p in tmp_path.iterdir())
    assert left == sorted([*others, "run", young.name, ".run.0123abd1.partial"])  # a living command's are left alone
    os.utime(young, (0, 0))
    make_run(tmp_path / "run", rng, overwrite=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*others, "run"])


HOLD = """
import sys, time
from saddlegan.workbench.runs.folder import Run
with Run.open(sys.argv[1]).writing():
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.slow  # runs whole commands
def test_a_second_writer_is_refused_by_name_until_the_first_is_gone(tmp_path: Path, rng: torch.Generator) -> None:
    run = make_run(tmp_path / "run", rng)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "src")}
    first = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run.path)], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert first.stdout is not None
    assert first.stdout.readline() == "held\n"
    for attempt in (
        lambda: run.writing().__enter__(),
        lambda: certificate.add(run, "x", 1),
        lambda: runs.check_destination(run.path, overwrite=True),
        lambda: make_run(run.path, rng, overwrite=True),
    ):
        with pytest.raises(RunError, match=f"is being written by process {first.pid} on "):
            attempt()
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert (run.path / ".lock").exists()  # but nobody holds it
    (run.path / ".metrics.jsonl.01234567.partial").write_bytes(b"half")
    with run.writing(), run.writing():
        assert (run.path / ".lock").read_text().startswith(f"process {os.getpid()} on ")
        assert not (run.path / ".metrics.jsonl.01234567.partial").exists()
    assert not (run.path / ".lock").exists()


def test_a_run_is_locked_from_its_first_moment(tmp_path: Path, rng: torch.Generator) -> None:
    G, D = pair(rng)
    for overwrite in (False, True):
        with runs.begin(tmp_path / "run", config_for(G, D), generator=G, discriminator=D, overwrite=overwrite) as run:
            assert locks.holder(tmp_path / "run" / ".lock") is not None
            with run.writing():
                pass
            assert locks.holder(tmp_path / "run" / ".lock") is not None
        assert everything_under(tmp_path) == [
            "run",
            *(f"run/{name}" for name in ("config.json", "discriminator.safetensors", "generator.safetensors")),
        ]


def test_existing_folders(tmp_path: Path, rng: torch.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run"
    path.mkdir()
    make_run(path, rng).write_text("report.html", "old")  # an empty folder is fine
    with pytest.raises(RunError, match="exists; choose another path or pass --overwrite"):
        make_run(path, rng)
    make_run(path, rng, overwrite=True)
    assert not (path / "report.html").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["run"]
    (path / "thesis.txt").write_text("mine")
    with pytest.raises(RunError, match=r"'thesis\.txt', which is not part of a run"):
        make_run(path, rng, overwrite=True)
    foreign = tmp_path / "photos"
    foreign.mkdir()
    (foreign / "a.png").write_bytes(b"x")
    with pytest.raises(RunError, match="not a saddlegan run"):
        make_run(foreign, rng, overwrite=True)
    with pytest.raises(RunError, match="is a file"):
        make_run(foreign / "a.png", rng, overwrite=True)
    with pytest.raises(RunError, match=r"cannot write|Not a directory"):
        make_run(foreign / "a.png" / "run", rng)
    monkeypatch.chdir(path)
    with pytest.raises(RunError, match="working folder"):
        make_run(Path(), rng, overwrite=True)
    assert (path / "thesis.txt").read_text() == "mine"
    assert (foreign / "a.png").read_bytes() == b"x"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_neither_loaded_nor_sampled(
    value: float, tmp_path: Path, rng: torch.Generator, capsys: pytest.CaptureFixture[str]
) -> None:
    G, D = pair(rng)
    with torch.no_grad():
        G.weight[0, 1] = value
    begun(tmp_path / "run", config_for(G, D), generator=G, discriminator=D)
    assert cli.run(["sample", str(tmp_path / "run"), "-n", "5", "--out", str(tmp_path / "x.csv")]) == 2
    assert "NaN or infinite, in 'weight'" in capsys.readouterr().err
    assert not (tmp_path / "x.csv").exists()
    with torch.no_grad():
        G.weight.fill_(1e308)  # finite itself, but not what it makes
    run = begun(tmp_path / "far", config_for(G, D), generator=G, discriminator=D)
    with pytest.raises(RunError, match="makes samples that are NaN or infinite"):
        run.sample(100, 0)


def test_corrupt_runs_are_named(tmp_path: Path, rng: torch.Generator) -> None:
    with pytest.raises(RunError, match="nothing is there"):
        runs.Run.open(tmp_path / "none")
    path = tmp_path / "run"
    run = make_run(path, rng)
    with pytest.raises(RunError, match="a file is there"):
        runs.Run.open(path / "config.json")
    weights = path / "generator.safetensors"
    whole = weights.read_bytes()
    for damaged in (b"", whole[:20], whole[:-8], b"\x80\x04" + whole):
        weights.write_bytes(damaged)
        with pytest.raises(RunError, match=r"generator\.safetensors is damaged"):
            run.sample(3, 0)
    weights.unlink()
    with pytest.raises(RunError, match=r"generator\.safetensors cannot be read"):
        run.sample(3, 0)
    weights.write_bytes(players.state_bytes(LinearGenerator(2, 4)))
    with pytest.raises(RunError, match="does not hold the weights"):
        run.sample(3, 0)
    weights.write_bytes(whole)
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"latent": {"size": 5}}))
    with pytest.raises(RunError, match="cannot be run on its latents"):
        runs.Run.open(path).sample(3, 0)
    (path / "config.json").write_text(json.dumps(config | {"data": {"source": "ring", "shape": [10, 9]}}))
    with pytest.raises(RunError, match="samples of length 3, its data have 9"):
        runs.Run.open(path).sample(3, 0)
    (path / "metrics.jsonl").write_text('{"step": 0}\n{"step": 1}\n{"st')
    assert run.metrics() == [{"step": 0}, {"step": 1}]
    (path / "metrics.jsonl").write_text('{"step": 0\n{"step": 1}\n')
    with pytest.raises(RunError, match="line 1 is damaged"):
        run.metrics()
    with pytest.raises(RunError, match=r"certificate\.json cannot be read"):
        run.read_json("certificate.json")
    (path / "certificate.json").write_text("{")
    with pytest.raises(RunError, match=r"certificate\.json is damaged"):
        run.read_json("certificate.json")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "invalid json"),
        (b"\xff\xfe", "invalid json"),
        (b"[]", "object"),
        (b'{"command": "fit"}', "field required"),
        (b'{"format": 1}', "field required"),
    ],
)
def test_corrupt_configs_are_named(content: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(RunError, match=reason) as caught:
        read_config(tmp_path / "config.json")
    assert "config.json is not the config of a saddlegan run" in str(caught.value)
    assert "\n" not in str(caught.value)
