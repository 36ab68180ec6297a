"""Near the exact Stackelberg pair of the Gaussian W2GAN, which is not Nash: who stays, on V and on V_lam."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from saddlegan import train
from saddlegan.certify import GaussianW2Game
from saddlegan.errors import NonFiniteLossError
from saddlegan.game import Game
from saddlegan.workbench.report.figures import style
from saddlegan.workbench.reproductions.finding import Check, Experiment, Figure, Finding
from saddlegan.workbench.reproductions.work import Work

SLIDES = "slides of Farnia's talk, Do GANs always have Nash equilibria?"
START = 0.01  # distance of the start from the pair
FAR = 1.0  # beyond it a path has left
RULES = ("alternating", "alternating-extrapolation", "simultaneous", "extragradient", "optimistic", "lookahead")


class _Affine(nn.Module):
    """G(z) = A z + b; its distribution is all that the value sees."""

    def __init__(self, A: np.ndarray, b: np.ndarray) -> None:
        super().__init__()
        self.A, self.b = nn.Parameter(torch.tensor(A)), nn.Parameter(torch.tensor(b))


class _Quadratic(nn.Module):
    """D(x) = x^T L x + g^T x."""

    def __init__(self, L: np.ndarray, g: np.ndarray) -> None:
        super().__init__()
        self.L, self.g = nn.Parameter(torch.tensor(L)), nn.Parameter(torch.tensor(g))


class ExactGame:
    """The Gaussian W2GAN with population moments, on V or on V_lam, as a `Game` that every rule can play.

    Args:
        variances: Sigma = diag(variances).
        eta: cost (eta/2) ||x - y||^2.
        lam: weight of the proximal term; V itself if infinite.
    """

    def __init__(self, variances: Sequence[float], eta: float, lam: float = math.inf) -> None:
        self.Sigma, self.eta, self.lam = np.diag(variances), eta, lam
        self._S, self._eye = torch.tensor(self.Sigma), torch.eye(len(variances), dtype=torch.float64)
        self.best = GaussianW2Game(self.Sigma, eta).optimal_pair()

    def pair(self, seed: int) -> Game:
        """Players at a distance of START from the exact pair, in a direction drawn by the seed."""
        draw = np.random.default_rng(seed)
        moves = [draw.standard_normal(part.shape) for part in self.best]
        moves[2] = (moves[2] + moves[2].T) / 2
        length = math.sqrt(sum(float((move**2).sum()) for move in moves))
        A, b, L, g = (part + START * move / length for part, move in zip(self.best, moves, strict=True))
        game = Game.from_value(_Affine(A, b), _Quadratic(L, g), lambda G, D, batch: self.value(G, D), latent=1)
        project(game.G)
        return game

    def value(self, G: nn.Module, D: nn.Module) -> Tensor:
        """V, or V_lam by its exact inner maximiser; first derivatives are exact by the envelope theorem."""
        if math.isinf(self.lam):
            return self._plain(G, D.L, D.g)  # type: ignore[arg-type]
        A, b = projected(G)
        L, g = self._maximiser(*(p.detach().numpy() for p in (A, b, D.L, D.g)))  # type: ignore[union-attr]
        step, slope = L - 0.5 * (D.L + D.L.mT), g - D.g  # type: ignore[operator, union-attr]
        distance = 4.0 * torch.trace(step @ self._S @ step) + slope @ slope
        return self._plain(G, L, g) - 0.5 * self.lam * distance

    def _plain(self, G: nn.Module, L: Tensor, g: Tensor) -> Tensor:
        (A, b), eta = projected(G), self.eta
        H = 0.5 * eta * self._eye - 0.5 * (L + L.mT)
        factor, failed = torch.linalg.cholesky_ex(H)
        if int(failed):  # the c-transform is infinite: whoever came here has left
            return (L * math.nan).sum() + (A.sum() + g.sum()) * math.nan
        w = g + eta * b
        P = torch.cholesky_inverse(factor)
        transport = w @ P @ w + eta**2 * torch.trace(P @ A @ A.mT)
        own = A.square().sum() + b.square().sum()
        return torch.trace(L @ self._S) - 0.25 * transport + 0.5 * eta * own

    def _maximiser(self, A: np.ndarray, b: np.ndarray, L: np.ndarray, g: np.ndarray) -> tuple[Tensor, Tensor]:
        """D' of V_lam by Newton's method in L', with g' eliminated: w' = (P/2 + lam I)^-1 lam w for w = g + eta b."""
        d, eta, lam = len(b), self.eta, self.lam
        eye, S, w = np.eye(d), A @ A.T, g + eta * b
        L = 0.5 * (L + L.T)
        M, shift = L.copy(), eye / (2.0 * lam)

        def height(M: np.ndarray) -> float:
            H = 0.5 * eta * eye - M
            if np.linalg.eigvalsh(H)[0] <= 0:
                return -math.inf
            C, P, step = np.linalg.inv(H + shift), np.linalg.inv(H), M - L
            penalty = 2.0 * lam * float(np.trace(step @ self.Sigma @ step))
            return float(np.trace(M @ self.Sigma) - 0.25 * w @ C @ w - 0.25 * eta**2 * np.trace(P @ S)) - penalty

        for _ in range(50):
            H = 0.5 * eta * eye - M
            if np.linalg.eigvalsh(H)[0] <= 0:
                return torch.tensor(M * math.nan), torch.tensor(g * math.nan)
            C, P, step = np.linalg.inv(H + shift), np.linalg.inv(H), M - L
            K, Q = C @ np.outer(w, w) @ C, P @ S @ P
            slope = self.Sigma - 0.25 * K - 0.25 * eta**2 * Q - 2.0 * lam * (step @ self.Sigma + self.Sigma @ step)
            if np.abs(slope).max() < 1e-12:
                break
            curvature = 0.25 * (np.kron(C, K) + np.kron(K, C)) + 0.25 * eta**2 * (np.kron(P, Q) + np.kron(Q, P))
            curvature += 2.0 * lam * (np.kron(self.Sigma, eye) + np.kron(eye, self.Sigma))
            move = np.linalg.solve(curvature, slope.ravel()).reshape(d, d)
            length, here = 1.0, height(M)
            while height(M + length * move) < here - 1e-15 * abs(here) and length > 1e-6:
                length *= 0.5
            M = M + length * 0.5 * (move + move.T)
        P = np.linalg.inv(0.5 * eta * eye - M)
        moved = np.linalg.solve(0.5 * P + lam * eye, lam * w)
        return torch.tensor(M), torch.tensor(moved - eta * b)

    def distance(self, game: Game) -> float:
        """How far both players are from the exact pair; of A only A A^T counts, since no sample tells more."""
        A, b, L, g = (p.detach().numpy() for p in (game.G.A, game.G.b, game.D.L, game.D.g))  # type: ignore[union-attr]
        bA, bb, bL, bg = self.best
        parts = (A @ A.T - bA @ bA.T, b - bb, 0.5 * (L + L.T) - bL, g - bg)
        return math.sqrt(sum(float((part**2).sum()) for part in parts))


def projected(G: nn.Module) -> tuple[Tensor, Tensor]:
    """A and b in the generator's class, ||A||_2 <= 1 and ||b||_2 <= 1, with the gradients of where they land.

    So a rule that looks ahead sees the game in the class, and its step is the projected one.
    """
    A, b = G.A, G.b
    with torch.no_grad():
        U, s, Vt = torch.linalg.svd(A)  # type: ignore[arg-type]
        inside = (U * s.clamp_max(1.0)) @ Vt - A, b / b.norm().clamp_min(1.0) - b  # type: ignore[operator, union-attr]
    return A + inside[0], b + inside[1]  # type: ignore[operator]


@torch.no_grad()
def project(G: nn.Module) -> None:
    """Move the generator into its class."""
    A, b = projected(G)
    G.A.copy_(A)  # type: ignore[union-attr, operator]
    G.b.copy_(b)  # type: ignore[union-attr, operator]


def follow(
    exact: ExactGame, seed: int, rule: str, *, rate: float, ratio: float, steps: int, critic: int = 1
) -> np.ndarray:
    """Distance from the exact pair over the steps of a rule with plain gradient steps; cut off where it has left.

    Args:
        exact: the game.
        seed: of the start.
        rule: name of the rule.
        rate: step size of G.
        ratio: D's step size over G's.
        steps: of the rule.
        critic: moves of D in a step of the alternating rule.
    """
    game = exact.pair(seed)
    optimisers = torch.optim.SGD(game.G.parameters(), rate), torch.optim.SGD(game.D.parameters(), rate * ratio)
    own: dict[str, Any] = {"n_critic": critic} if rule == "alternating" else {}
    moves = train.RULES[rule](game, *optimisers, **own)
    x = torch.zeros(critic, 1, dtype=torch.float64)
    path = [exact.distance(game)]
    for _ in range(steps):
        try:
            moves.step(x)
        except NonFiniteLossError:
            path.append(math.inf)
        else:
            project(game.G)
            path.append(exact.distance(game))
        if not path[-1] < FAR:
            break
    padded = np.full(steps + 1, math.inf)
    padded[: len(path)] = path
    return padded


def stability(work: Work) -> Finding:
    """Every rule on V and on V_lam, from the exact pair, slightly moved."""
    eta, variances = 3.0, (4.0, 0.25) if not work.full else (4.0, 1.0, 0.25)
    lam, rate = 1.0 / eta, 0.02
    steps = 1_000 if work.full else 300
    ratios = (0.2, 1.0, 4.0) if work.full else (1.0,)
    ends: dict[str, list[float]] = {}
    shown: dict[str, np.ndarray] = {}
    for name, weight in (("V_lam", lam), ("V", math.inf)):
        exact = ExactGame(variances, eta, weight)
        for rule in RULES:
            for ratio in ratios:
                key = f"{name} {rule} {ratio:g}"
                paths = [
                    work.part(
                        f"{key.replace(' ', '-')}-{seed}",
                        lambda exact=exact, seed=seed, rule=rule, ratio=ratio: {
                            "path": follow(exact, seed, rule, rate=rate, ratio=ratio, steps=steps)
                        },
                    )["path"]
                    for seed in work.seeds
                ]
                ends[key] = [float(path[-1] / path[0]) for path in paths]
                shown[key] = paths[0]
    on_prox = {key: values for key, values in ends.items() if key.startswith("V_lam")}
    on_plain = {key: values for key, values in ends.items() if not key.startswith("V_lam")}
    nearer = sum(value < 1.0 for values in on_prox.values() for value in values)
    slow = {key: values for key, values in on_plain.items() if float(key.split()[-1]) <= 1.0}
    left = [value > 2.0 for values in slow.values() for value in values]
    stayed = sorted({key.removeprefix("V ") for key, values in on_plain.items() if max(values) < 1.0})
    worst = max(on_prox, key=lambda key: max(on_prox[key]))
    judged = GaussianW2Game(np.diag(variances), eta)
    with style.look():
        figure = style.new_figure(2.6)
        axes = figure.subplots()
        for key, path in shown.items():
            colour = style.REAL if key.startswith("V_lam") else style.GENERATED
            axes.semilogy(np.where(np.isfinite(path), path, np.nan), color=colour, linewidth=0.7, alpha=0.8)
        axes.plot([], [], color=style.REAL, label="on V_lam")
        axes.plot([], [], color=style.GENERATED, label="on V")
        axes.set_xlabel("step")
        axes.set_ylabel("distance from the pair")
        axes.legend(loc="lower left")
        picture = style.png(figure)
    total = len(RULES) * len(ratios) * len(work.seeds)
    return Finding(
        setting={
            "covariance": f"diag{variances}",
            "eta": eta,
            "lambda": "1 / eta",
            "rules": ", ".join(RULES),
            "step of G": rate,
            "step of D over G's": ", ".join(f"{ratio:g}" for ratio in ratios),
            "steps": steps,
            "start": f"{START:g} from the pair, a random direction for each of {len(work.seeds)} seeds",
        },
        checks=[
            Check(
                "the pair is a lambda-proximal equilibrium and no Nash equilibrium",
                f"proximal at 1/eta: {judged.proximal(lam=lam).verdict}; Nash: {judged.nash().verdict}",
                judged.proximal(lam=lam).verdict == "proved" and judged.nash().verdict == "refuted",
            ),
            Check(
                "on V_lam the pair is a stable limit point of every alternating gradient method",
                f"nearer at the end than at the start in {nearer} of {total} runs; slowest "
                f"{worst.removeprefix('V_lam ')}: {max(on_prox[worst]):.2g} of the starting distance",
                nearer == total,
            ),
            Check(
                "on V the same methods leave it, where D's steps are no longer than G's",
                f"twice the starting distance or more in {sum(left)} of {len(left)} runs"
                + (f"; with longer steps of D these stay on V too: {', '.join(stayed)}" if stayed else ""),
                all(left),
                ours=True,
            ),
        ],
        figures=[
            Figure(
                picture,
                "Distances from the exact pair over the steps: falling on the proximal value, growing on V.",
                "First seed, every rule and ratio of steps. A path that ends has left the class where V is finite.",
            )
        ],
        numbers={"end_over_start": ends},
        remark="Values and gradients are exact: population moments, the inner maximum by Newton's method, gradients by "
        "the envelope theorem; the generator is projected into its class after each step. Leaving V is no law: D "
        "faster than eta^2 (sigma - 1) / sigma times G keeps the pair on V too, see one-many.",
    )


def one_many(work: Work) -> Finding:
    """1,1- against 1,k-descent-ascent near a Stackelberg pair that is not Nash."""
    sigma, rate = 2.0, 0.004 if work.full else 0.005
    etas = (2.0, 3.0, 4.0) if work.full else (3.0,)
    steps = 2_000 if work.full else 900
    counts = (1, 2, 3, 4, 5, 6, 10) if work.full else (1, 3, 6, 10)
    growth: dict[str, list[float]] = {}
    right, judged, wrong = 0, 0, []
    shown: dict[int, np.ndarray] = {}
    for eta in etas:
        exact, edge = ExactGame((sigma**2,), eta), eta**2 * (sigma - 1.0) / sigma
        for k in counts:
            paths = [
                work.part(
                    f"eta-{eta:g}-{k}-{seed}",
                    lambda exact=exact, k=k, seed=seed: {
                        "path": follow(exact, seed, "alternating", rate=rate, ratio=1.0, steps=steps, critic=k)
                    },
                )["path"]
                for seed in work.seeds
            ]
            # the means of D and G turn around one another: compare the largest swings early and late
            early, late = (slice(0, steps // 10), slice(steps - steps // 10, None))
            growth[f"{eta:g} {k}"] = [float(path[late].max() / path[early].max()) for path in paths]
            for value in growth[f"{eta:g} {k}"] if k != edge else ():  # on the edge either may be
                good = (value > 1.0) == (k < edge)
                judged += 1
                right += good
                if not good:
                    wrong.append(f"eta {eta:g}, k {k}: {value:.3g}")
            if eta == 3.0:
                shown[k] = paths[0]
    ones = [value for key, values in growth.items() if key.endswith(" 1") for value in values]
    most = [value for key, values in growth.items() if key.endswith(f" {counts[-1]}") for value in values]
    with style.look():
        figure = style.new_figure(2.6)
        axes = figure.subplots()
        for k, path in shown.items():
            axes.semilogy(np.where(np.isfinite(path), path, np.nan), linewidth=0.9, label=f"1,{k}")
        axes.set_xlabel("step of G")
        axes.set_ylabel("distance from the pair")
        axes.legend(loc="upper left", ncols=2, fontsize=7)
        picture = style.png(figure)
    return Finding(
        setting={
            "data": f"N(0, {sigma**2:g})",
            "eta": ", ".join(f"{eta:g}" for eta in etas),
            "moves of D for each of G": ", ".join(map(str, counts)),
            "step of both": rate,
            "steps": steps,
            "seeds": len(work.seeds),
        },
        checks=[
            Check(
                "1,1-descent-ascent does not stop at the Stackelberg pair",
                f"the swing grows in {sum(value > 1.0 for value in ones)} of {len(ones)} runs",
                all(value > 1.0 for value in ones),
            ),
            Check(
                f"1,many does: with {counts[-1]} moves of D the pair is a stable limit point",
                f"late over early swing at most {max(most):.2g} in {len(most)} runs",
                max(most) < 1.0,
            ),
            Check(
                "the edge lies at eta^2 (sigma - 1) / sigma moves of D",
                f"right in {right} of {judged} runs off the edge; edges "
                + ", ".join(f"{eta**2 * (sigma - 1) / sigma:g}" for eta in etas)
                + (f"; not so: {', '.join(wrong)}" if wrong else ""),
                right == judged,
                ours=True,
            ),
        ],
        figures=[
            Figure(
                picture,
                "Distances from the pair over the steps, growing for few moves of D and falling for many.",
                "eta = 3, first seed: the edge is at 4.5 moves of D for each of G.",
            )
        ],
        numbers={"late_over_early": growth},
        remark="In the mean's plane dynamics of speed ratio tau have trace eta (sigma - 1) - tau sigma / eta and a "
        "positive determinant: that is the edge. Where eta^2 (sigma - 1) < sigma, 1,1 is stable as well. Exact "
        "gradients; one dimension.",
    )


EXPERIMENTS = (
    Experiment(
        "one-many",
        "Nash equilibria",
        "A Stackelberg equilibrium that is not Nash is a stable limit point of 1,many-descent-ascent, not of 1,1.",
        f"{SLIDES}, after Jin et al., ICML 2020",
        one_many,
        3,
    ),
    Experiment(
        "stability",
        "Nash equilibria",
        "Proximal equilibria are stable limit points of every alternating gradient method on V_lambda.",
        SLIDES,
        stability,
        3,
    ),
)
