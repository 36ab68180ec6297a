"""Theory 1.6: ProCoGAN, the progressive chain of quadratic WGANs on images, every stage solved exactly."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from saddlegan import checks
from saddlegan.checks import RandomState
from saddlegan.errors import InputError
from saddlegan.fit._base import like, solved_game
from saddlegan.fit._latent import posterior_mean
from saddlegan.fit._quadratic import QuadraticOptimum, _linear_generator, _quadratic_discriminator
from saddlegan.fit._saved import Savable
from saddlegan.fit.progressive._images import AbstractImages, ImageBlocks, match_histogram, read_images
from saddlegan.fit.progressive._stages import Stage, measure, solve_stage
from saddlegan.moments._engines import AbstractEngine, Journal, Passes, Progress, get_engine
from saddlegan.moments._second_moment import RowMoment, as_tensor, moment_difference, second_moment
from saddlegan.results import Solution


class ProCoGAN(Savable, BaseEstimator):
    """Progressive closed-form WGAN for images, coarse to fine, with a proof at every resolution.

        minimise E ||G_r(z) - mu_r||^2   subject to   ||C_r - C_{G_r}||_2 <= beta_r,   r = 4, 8, 16, ...

    over generators that are linear in phi_r = [upsample(G_{r/2}(z)), 1, fresh latents]. C_r is the covariance of the
    images at resolution r and beta_r = lambda_{k_r + 1}(C_r), the smallest feasible value. The features' moments are
    propagated exactly through the linear stages, so the constraint holds in population, not on drawn latents. One
    latent z serves all stages: the same picture, sharpened.

    Args:
        resolutions: sides of the images, ascending, each a multiple of the one before; the images' own side must be a
            multiple of the last. Coarser images are means over squares of pixels (bytes stay bytes).
        n_components: k_r of each resolution; at most as many as there are pixels are used.
        random_state: seed of `sample` and `traverse` where they are given none; the fit itself draws nothing.
        engine: where sums over images are computed: "serial", "threads", "distributed" (under torchrun), "dask" (X a
            dask.array, or a memory map of a file that every worker can open).
        tolerance: above 4096 numbers per image eigenpairs are iterated until each residual is below this times
            lambda_1; below, they are exact.
        checkpoint: folder for the sums of finished passes: a killed `fit` called again goes on from there with the same
            bits. It is emptied at the end.
        progress: called with (stage, images done, images in all) during each pass.

    Attributes:
        stages_: one `Stage` per resolution, with eigenvalues, components, factors and its own solution.
        stage_solutions_: the `Solution` of each.
        solution_: the finest one.
        beta_: its beta, in squared pixel units.
        mean_: mean image of the finest stage, flat (d,).
        components_: its eigenvectors in rows (k, d).
        eigenvalues_: their eigenvalues (k,).
        generator_: `networks.LinearGenerator`, latents (n, k) to flat images (n, d) of the finest stage.
        discriminator_: `networks.TwoLayerDiscriminator`, the witness of optimality.
        game_: the `Game` whose saddle point the pair is.
        image_shape_: (h, w, c) of the finest samples.
        n_passes_: passes over the images.

    References:
        [S22] section 4; theory 1.6 (the paper's own code loses the features' rank between stages, and the constraint).

    Example:
        >>> from sklearn.datasets import load_digits
        >>> model = ProCoGAN(resolutions=(4, 8), n_components=(6, 12)).fit(load_digits().images)
        >>> model.stages_
        (Stage(4, kept=6, fresh=6, beta=7.36111), Stage(8, kept=12, fresh=6, beta=21.8893))
        >>> model.sample(3, resolution=4, random_state=0).shape
        (3, 4, 4, 1)
    """

    generator_: torch.nn.Module
    discriminator_: torch.nn.Module

    def __init__(
        self,
        resolutions: Sequence[int] = (4, 8, 16, 32),
        n_components: Sequence[int] = (20, 30, 40, 100),
        random_state: RandomState = None,
        *,
        engine: str | AbstractEngine = "serial",
        tolerance: float = 1e-6,
        checkpoint: str | Path | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.resolutions = resolutions
        self.n_components = n_components
        self.random_state = random_state
        self.engine = engine
        self.tolerance = tolerance
        self.checkpoint = checkpoint
        self.progress = progress

    def fit(self, X: Any, y: object = None) -> ProCoGAN:
        """Solve every stage for the images X.

        Args:
            X: square images (n, h, w) or (n, h, w, c): numpy array, memory map, torch tensor (its device is kept),
                dask.array, or an image source such as `ImageBatches`. Bytes are summed exactly.
            y: ignored.

        Returns:
            The estimator itself.

        Raises:
            InputError: X or a parameter is unusable.
            InputTypeError: X is not images.
            SolveError: the eigenpairs are not accurate enough.
        """
        del y
        images = read_images(X)
        resolutions, components, asked = self._check(images)
        journal = None if self.checkpoint is None else Journal(Path(self.checkpoint))
        passes = Passes(get_engine(self.engine), journal, self.progress)
        stage: Stage | None = None
        solved: list[tuple[Stage, QuadraticOptimum]] = []
        for resolution, k in zip(resolutions, components, strict=True):
            started = time.perf_counter()
            before_passes = passes.count
            moment, tolerance = measure(images, stage, passes, resolution=resolution, n_components=k, tolerance=asked)
            stage, optimum = solve_stage(moment, stage, resolution=resolution, n_components=k, tolerance=tolerance)
            stats = {
                **stage.solution.stats,
                "passes": passes.count - before_passes,
                "stage_seconds": time.perf_counter() - started,
            }
            stage = dataclasses.replace(stage, solution=dataclasses.replace(stage.solution, stats=stats))
            solved.append((stage, optimum))
        self._store(X, images, tuple(stage for stage, _ in solved), solved[-1][1])
        self.n_passes_ = passes.count
        if journal is not None and passes.engine.writes:
            journal.clear()
        return self

    def _check(self, images: AbstractImages) -> tuple[list[int], list[int], float]:
        checks.check_seed(self.random_state)
        resolutions = [checks.count("resolutions", resolution) for resolution in self.resolutions]
        components = [checks.count("n_components", k) for k in self.n_components]
        if not resolutions or len(resolutions) != len(components):
            raise InputError(
                f"`n_components` must give one number per resolution, got {len(components)} for {len(resolutions)}"
            )
        n, side, _, _ = images.shape
        for coarse, fine in zip(resolutions, [*resolutions[1:], side], strict=True):
            if fine % coarse or (coarse == fine and fine is not side):
                raise InputError(
                    f"`resolutions` must ascend, each a multiple of the one before, up to the images' side {side}; got "
                    f"{tuple(resolutions)}"
                )
        if max(components) >= n:
            raise InputError(f"`n_components` must be below the number of images {n}, got {tuple(components)}")
        tolerance = checks.positive("tolerance", self.tolerance)
        if not tolerance < 1:
            raise InputError(f"`tolerance` must lie between 0 and 1, got {self.tolerance!r}")
        return resolutions, components, tolerance

    def _store(self, X: Any, images: AbstractImages, stages: tuple[Stage, ...], optimum: QuadraticOptimum) -> None:
        floating = torch.float32 if images.dtype == torch.uint8 else images.dtype
        last = stages[-1]
        kind = torch.empty(0, dtype=floating, device=last.mean.device)
        mean = last.mean.to(kind)
        n_latent = max(len(stage.factor) for stage in stages)
        self._reference = X[:0] if isinstance(X, Tensor) else np.empty(0)
        self.stages_ = stages
        self.stage_solutions_: tuple[Solution, ...] = tuple(stage.solution for stage in stages)
        self.solution_ = last.solution
        self.beta_ = last.beta
        self.image_shape_ = (last.resolution, last.resolution, images.shape[3])
        self.generator_ = _linear_generator(optimum, last.mean, n_latent, kind)
        self.discriminator_ = _quadratic_discriminator(optimum, mean)
        self.mean_ = like(self._reference, mean)
        self.components_ = like(self._reference, last.components.to(kind))
        self.eigenvalues_ = like(self._reference, last.eigenvalues.to(kind))
        self._rebuild()

    def _rebuild(self) -> None:
        if hasattr(self, "generator_"):
            G: Any = self.generator_
            origin = torch.as_tensor(self.mean_)
            self.game_ = solved_game(G, self.discriminator_, origin=origin, beta=self.beta_, n_latent=G.n_latent)

    def score(self, X: Any, y: object = None) -> float:
        """Minus the discrepancy between new images and the last stage's generator; larger is better.

            - || E (x - mu)(x - mu)^T - Cov G ||_2,    mu = mean_

        Args:
            X: images (n, h, w[, c]) that the fit has not seen, of the side that it saw.
            y: ignored.

        Raises:
            InputError: images that the last stage's side does not divide, or of other channels.
            NotFittedError: `fit` was not called.
        """
        del y
        check_is_fitted(self, "generator_")
        images, (resolution, _, channels) = read_images(X), self.image_shape_
        if images.shape[1] % resolution or images.shape[3] != channels:
            raise InputError(
                f"`X` must hold images of {channels} channels with a side that {resolution} divides, got shape "
                f"{images.shape}"
            )
        G: Any = self.generator_
        mean, factor = (entry.detach().double() for entry in G.moments())
        blocks = ImageBlocks(images.level(resolution), resolution).blocks(0, images.shape[0], 0, 1)
        rows = torch.cat([block.to(mean) for block in blocks]) - mean
        return -moment_difference(second_moment(rows, center=False), RowMoment(torch.zeros_like(mean), factor))[0]

    def sample(
        self,
        n: int = 1,
        resolution: int | None = None,
        random_state: RandomState = None,
        *,
        histogram_of: Any = None,
    ) -> Any:
        """Draw n images from one stage; the same `random_state` gives the same pictures at every resolution.

        Args:
            n: number of images.
            resolution: one of `resolutions`; the finest if None.
            random_state: seed, numpy RandomState, torch.Generator; the estimator's own if None.
            histogram_of: real images (m, h, w[, c]); the samples' values are then remapped, channel by channel and in
                their order, to have the same histogram. It looks crisper, and gives up the guarantee on the moments.

        Returns:
            Images (n, r, r, c) in the data's pixel units, not clipped: clipping would change their moments.

        Raises:
            InputError: n is not an integer >= 1, or no stage has this resolution.
            NotFittedError: `fit` was not called.
        """
        check_is_fitted(self, "stages_")
        n = checks.count("n", n)
        stage = self._stage(resolution)
        state = self.random_state if random_state is None else random_state
        images = self._images(stage, self.game_.sample_latent(int(n), checks.generator(state)))
        if histogram_of is None:
            return images
        return like(self._reference, match_histogram(torch.as_tensor(images), as_tensor(histogram_of)))

    def render(self, z: Any, resolution: int | None = None) -> Any:
        """Images of given latents: mean + z F at one stage.

        Args:
            z: latents (n, n_latent), array or tensor.
            resolution: one of `resolutions`; the finest if None.

        Returns:
            Images (n, r, r, c).

        Raises:
            InputError: wrong length of the latents, or no stage has this resolution.
        """
        check_is_fitted(self, "stages_")
        latents = torch.as_tensor(z)
        if latents.ndim != 2 or latents.shape[1] != self.game_.latent:
            raise InputError(f"`z` must be latents (n, {self.game_.latent}), got shape {tuple(latents.shape)}")
        return self._images(self._stage(resolution), latents)

    def traverse(
        self, latent: int, values: Sequence[float] = (-3.0, -1.5, 0.0, 1.5, 3.0), resolution: int | None = None
    ) -> Any:
        """The mean image moved along one latent: what that latent means.

        Args:
            latent: its index; 0 carries the largest variance.
            values: settings, in standard deviations.
            resolution: one of `resolutions`; the finest if None.

        Returns:
            Images (len(values), r, r, c).

        Raises:
            InputError: no such latent, or no stage has this resolution.
        """
        check_is_fitted(self, "stages_")
        stage = self._stage(resolution)
        latent, values = (
            checks.count("latent", latent, least=0),
            [checks.number("values", value, least=-math.inf) for value in values],
        )
        if latent >= len(stage.factor):
            raise InputError(f"`latent` must be an index below {len(stage.factor)}, got {latent!r}")
        z = torch.zeros(len(values), len(stage.factor), dtype=torch.float64)
        z[:, latent] = torch.as_tensor(values, dtype=torch.float64)
        return self._images(stage, z)

    def transform(self, X: Any) -> Any:
        """Latents of images: the posterior mean of z where x = G_r(z) + e at the finest stage.

            E[z | x] = (F F^T + beta I)^-1 F (x - mean),    G(z) = z F + mean,    e ~ N(0, beta I)

        Latents are shared by all stages: `render` shows them at any resolution.

        Args:
            X: images (n, h, w) or (n, h, w, c); larger ones are reduced to the finest resolution, as `fit` does.

        Returns:
            Latents (n, n_latent).

        Raises:
            InputError: images of another shape, or NaN.

        References:
            Tipping and Bishop, Probabilistic Principal Component Analysis, JRSS B 61 (1999), section 3.4.
        """
        check_is_fitted(self, "stages_")
        images, stage = read_images(X), self.stages_[-1]
        if images.shape[3] != self.image_shape_[2] or images.shape[1] % stage.resolution:
            raise InputError(
                f"`X` must be images of {self.image_shape_[2]} channels, their side a multiple of {stage.resolution}, "
                f"got shape {images.shape}"
            )
        blocks = ImageBlocks(images, stage.resolution).blocks(0, images.shape[0], 0, 1)
        parts = [posterior_mean(rows.to(stage.mean) - stage.mean, stage.factor, stage.beta) for rows in blocks]
        z = torch.cat(parts)
        if not bool(z.isfinite().all()):
            raise InputError("`X` holds NaN or infinity; clean it first")
        G: Any = self.generator_
        z = torch.nn.functional.pad(z, (0, G.n_latent - z.shape[1]))
        return like(self._reference, z.to(torch.as_tensor(self.mean_).dtype))

    def inverse_transform(self, Z: Any) -> Any:
        """Return the images (n, r, r, c) of latents Z (n, n_latent) at the finest resolution.

        Raises:
            InputError: wrong length of the latents.
        """
        return self.render(Z)

    def _stage(self, resolution: int | None) -> Stage:
        if resolution is None:
            return self.stages_[-1]
        resolution = checks.count("resolution", resolution)
        for stage in self.stages_:
            if stage.resolution == resolution:
                return stage
        known = ", ".join(str(stage.resolution) for stage in self.stages_)
        raise InputError(f"`resolution` must be one of {known}, got {resolution!r}")

    def _images(self, stage: Stage, z: Tensor) -> Any:
        # every stage reads the first latents of one z: the same picture at another resolution
        flat = stage.mean + z[:, : len(stage.factor)].to(stage.factor) @ stage.factor
        r = stage.resolution
        dtype = torch.as_tensor(self.mean_).dtype
        return like(self._reference, flat.to(dtype).reshape(len(z), r, r, -1))
