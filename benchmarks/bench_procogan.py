"""ProCoGAN: this library beside a re-statement of the paper's stages, and large images beside the machine's own limits.

    python benchmarks/bench_procogan.py [images.npz]

Every part runs in a process of its own, one after the other; time is wall time, memory the peak resident set.
`images.npz` holds an array of uint8 images (n, 32, 32, 3), such as CIFAR-10's; without it random ones stand in.

1. 50,000 images of 32 x 32 x 3 through the stages 4, 8, 16, 32. The paper's way: float32 data, a full SVD of the data
   and of the sampled features at each stage, features = [upsampled output, 1].
2. 50,000 images of 64 x 64 x 3 (d = 12,288) from a memory map, beside a model: bytes over bandwidth plus products over
   the machine's rate, for the passes that were needed.
3. Progressive gradient descent-ascent on the same game: linear generator, quadratic discriminator, weight decay.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))
from saddlegan import fit
from saddlegan.fit.progressive._images import block_mean, enlarge

N = 50_000
STAGES, COMPONENTS = (4, 8, 16, 32), (20, 30, 40, 100)


def make_images(source: str, side: int, path: Path) -> None:
    """Fifty thousand different images: real ones flipped, shifted and blended in pairs; written as a memory map."""
    rng = np.random.default_rng(0)
    if source:
        with np.load(source) as file:
            real = next(file[name] for name in file.files if file[name].ndim == 4)
    else:
        wave = np.cos(np.pi * np.arange(32)[:, None] * (np.arange(32) + 0.5) / 32) / (1 + np.arange(32)[:, None])
        noise = rng.standard_normal((5000, 32, 32, 3))
        smooth = np.einsum("nijc,ih,jw->nhwc", noise, wave, wave, optimize=True)
        real = np.clip(smooth * 60 + 120, 0, 255).astype("uint8")
    images = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(N, side, side, 3))
    for low in range(0, N, 1000):
        pair = [real[rng.integers(len(real), size=1000)] for _ in range(2)]
        share = rng.beta(0.3, 0.3, (1000, 1, 1, 1))
        mixed = np.roll(share * pair[0] + (1 - share) * pair[1][:, :, ::-1], rng.integers(-2, 3), axis=2)
        if side != 32:
            tensor = torch.from_numpy(mixed).permute(0, 3, 1, 2)
            mixed = torch.nn.functional.interpolate(tensor, size=side, mode="bicubic").permute(0, 2, 3, 1).numpy()
            mixed = mixed + rng.normal(0, 3, mixed.shape)  # what enlarging alone would leave empty
        images[low : low + 1000] = np.clip(np.round(mixed), 0, 255)
    images.flush()


def violation(X: torch.Tensor, factor: torch.Tensor, resolution: int, beta: float) -> float:
    """(||C_X - C_G||_2 - beta) / beta in population, by the library's exact Gram matrix and Lanczos."""
    from saddlegan.moments._second_moment import second_moment

    rows = block_mean(X, resolution).reshape(len(X), -1)
    return second_moment(rows, center=True).spectral_distance(factor.double()) / beta - 1.0


def batches(path: Path) -> fit.ImageBatches:
    """The images of a .npy file as a stream: read batch by batch on every pass, never held."""

    def opened():
        with path.open("rb") as file:
            np.lib.format.read_magic(file)
            (n, *image), _, dtype = np.lib.format.read_array_header_1_0(file)
            size = int(np.prod(image))
            for low in range(0, n, 2000):
                rows = min(2000, n - low)
                yield np.fromfile(file, dtype=dtype, count=rows * size).reshape(rows, *image)

    return fit.ImageBatches(opened, shape=np.load(path, mmap_mode="r").shape)


def ours(path: Path) -> dict[str, object]:
    images = batches(path)
    started, busy = time.perf_counter(), cpu()
    model = fit.ProCoGAN(STAGES, COMPONENTS).fit(images)
    seconds, busy = time.perf_counter() - started, cpu() - busy
    memory = peak()
    tensor = torch.from_numpy(np.load(path))
    worst = [violation(tensor, s.factor, s.resolution, s.beta) for s in model.stages_]
    return {"seconds": seconds, "cpu seconds": busy, "memory": memory, "violation": worst}


def paper(path: Path) -> dict[str, object]:
    """The paper's stages as its notebook has them, written down afresh: whitening by the drawn features' own SVD."""
    X = torch.from_numpy(np.load(path))
    generator = torch.Generator().manual_seed(0)
    started, busy = time.perf_counter(), cpu()
    Z = torch.randn(N, COMPONENTS[0], generator=generator)
    factor, factors, betas = torch.eye(COMPONENTS[0]), [], []
    for stage, (r, k) in enumerate(zip(STAGES, COMPONENTS, strict=True)):
        rows = block_mean(X.float(), r).reshape(N, -1)
        mean = rows.mean(0)
        _, S, Vt = torch.linalg.svd(rows - mean, full_matrices=False)
        beta = float(S[k]) ** 2 if k < len(S) else 0.0
        shrunk = (S[:k].square() - beta).clamp_min(0).sqrt()
        features, latent = Z, factor
        if stage:
            features = enlarge(Z, STAGES[stage - 1], r)
            latent = enlarge(factor, STAGES[stage - 1], r)
            features = features - features.mean(0)
        _, sigma, Q = torch.linalg.svd(features, full_matrices=False)
        kept = min(k, len(sigma))
        W = Q[:kept].T @ (shrunk[:kept] / sigma[:kept])[:, None].mul(Vt[:kept])
        Z, factor = features @ W, latent @ W
        factors.append(factor)
        betas.append(beta / N)
    seconds, busy = time.perf_counter() - started, cpu() - busy
    memory = peak()
    worst = [violation(X, F, r, b) for F, r, b in zip(factors, STAGES, betas, strict=True)]
    return {"seconds": seconds, "cpu seconds": busy, "memory": memory, "violation": worst}


def large(path: Path) -> dict[str, object]:
    X = np.load(path, mmap_mode="r")
    d = 64 * 64 * 3
    started, busy = time.perf_counter(), cpu()
    model = fit.ProCoGAN((4, 8, 16, 32, 64), (20, 30, 40, 100, 100), tolerance=1e-5).fit(X)
    seconds, busy = time.perf_counter() - started, cpu() - busy
    memory = peak()
    stage = model.stages_[-1]
    stats = stage.solution.stats
    # the machine: reading the map once, and a product of the shape that a pass needs
    began = time.perf_counter()
    for low in range(0, N, 1000):
        int(X[low : low + 1000].max())
    reading = time.perf_counter() - began
    block, V = torch.randn(1000, d), torch.randn(117, d)
    began = time.perf_counter()
    for _ in range(10):
        (block @ V.T).T @ block
    rate = 10 * 4 * 1000 * d * 117 / (time.perf_counter() - began)
    passes = int(stats["passes"])
    model_seconds = passes * (reading + 4 * N * d * 117 / rate)
    return {
        "seconds": seconds,
        "cpu seconds": busy,
        "memory": memory,
        "finest seconds": stats["stage_seconds"],
        "passes": passes,
        "residual / lambda_1": stats["eigenpair_residual"] / float(stage.eigenvalues[0]),
        "beta error / beta": stats["beta_error"] / stage.beta,
        "gigaflops": rate / 1e9,
        "one reading": reading,
        "model": model_seconds,
        "finest / model": float(stats["stage_seconds"]) / model_seconds,
    }


def descent(path: Path) -> dict[str, object]:
    """The same game by alternating Adam, stage after stage, warm-started from the enlarged stage before."""
    X = torch.from_numpy(np.load(path, mmap_mode="r")[:10_000].copy())
    exact = fit.ProCoGAN(STAGES, COMPONENTS).fit(X)
    generator = torch.Generator().manual_seed(0)
    started = time.perf_counter()
    W, worst, values = torch.zeros(0, 0), [], []
    for stage, r, k in zip(exact.stages_, STAGES, COMPONENTS, strict=True):
        rows = block_mean(X, r).reshape(len(X), -1).float()
        mean, scale = rows.mean(0), float(stage.eigenvalues[0]) ** 0.5
        rows = (rows - mean) / scale
        beta = stage.beta / scale**2
        G = 0.01 * torch.randn(k, rows.shape[1], generator=generator)
        if len(W):
            G[: len(W)] += enlarge(W, r // 2, r) / scale
        D = 0.01 * torch.randn(k, rows.shape[1], generator=generator)
        G.requires_grad_(True)
        D.requires_grad_(True)
        players = torch.optim.Adam([G], 1e-3), torch.optim.Adam([D], 1e-3)
        for _ in range(1500):
            x = rows[torch.randint(len(rows), (256,), generator=generator)]
            fake = torch.randn(256, k, generator=generator) @ G
            # D(x) = sum_j s_j (x . u_j)^2 with signs s_j: half the neurons reward data, half reward samples
            signs = torch.where(torch.arange(k) % 2 == 0, 1.0, -1.0)
            critic = ((x @ D.T).square().mean(0) - (fake.detach() @ D.T).square().mean(0)) @ signs
            loss = -(critic - beta * D.square().sum())
            players[1].zero_grad()
            loss.backward()
            players[1].step()
            judged = (fake @ D.detach().T).square().mean(0) @ signs
            loss = -judged + fake.square().sum(1).mean()
            players[0].zero_grad()
            loss.backward()
            players[0].step()
        W = G.detach() * scale
        worst.append(violation(X, W, r, stage.beta))
        values.append(float(W.square().sum()) / stage.solution.value)
    seconds = time.perf_counter() - started
    return {
        "seconds": seconds,
        "seconds, exact": sum(float(s.stats["stage_seconds"]) for s in exact.stage_solutions_),
        "violation": worst,
        "violation, exact": [violation(X, s.factor, s.resolution, s.beta) for s in exact.stages_],
        "value / optimum": values,
    }


def cpu() -> float:
    """Processor seconds of this process so far: what a busy machine does not distort."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def peak() -> float:
    """Peak resident memory of this process in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


PARTS = {"ours": ours, "paper": paper, "large": large, "descent": descent}


def run(part: str, path: Path) -> dict[str, object]:
    done = subprocess.run([sys.executable, __file__, "--part", part, str(path)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    result = json.loads(done.stdout)
    print(f"{part}: " + ", ".join(f"{name} {_short(value)}" for name, value in result.items()), flush=True)
    return result


def _short(value: object) -> str:
    if isinstance(value, list):
        return "[" + " ".join(_short(entry) for entry in value) + "]"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def main(source: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        small, big = Path(folder) / "32.npy", Path(folder) / "64.npy"
        make_images(source, 32, small)
        print(f"1. {N:,} x 3,072, stages {STAGES}; seconds, peak GB, constraint violation / beta at each stage")
        a, b = run("ours", small), run("paper", small)
        base = peak_of_import()
        print(
            f"   the paper's way takes {float(b['seconds']) / float(a['seconds']):.1f} x the time, "
            f"{float(b['cpu seconds']) / float(a['cpu seconds']):.1f} x the processor time and "
            f"{float(b['memory']) / float(a['memory']):.1f} x the memory (beyond the imports' {base:.2g} GB: "
            f"{max(0.0, float(b['memory']) - base):.2g} GB against {max(0.0, float(a['memory']) - base):.2g})"
        )
        print("3. progressive descent-ascent, 1,500 steps a stage on 10,000 images")
        run("descent", small)
        small.unlink()
        print(f"2. {N:,} x 12,288 from a memory map")
        make_images(source, 64, big)
        run("large", big)


def peak_of_import() -> float:
    done = subprocess.run([sys.executable, __file__, "--part", "nothing", "x"], capture_output=True, text=True)
    return float(json.loads(done.stdout)["memory"])


if __name__ == "__main__":
    if sys.argv[1:2] == ["--part"]:
        part, path = sys.argv[2], Path(sys.argv[3])
        print(json.dumps(PARTS[part](path) if part in PARTS else {"memory": peak()}))
    else:
        main(sys.argv[1] if len(sys.argv) > 1 else "")
