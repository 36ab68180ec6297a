"""What every training rule shares: checks, latents, gradients of each player's own loss, and the state to resume from.

A rule wraps two ordinary `torch.optim` optimisers. It never changes their mathematics: it sets each player's `.grad`,
calls the optimiser, and where a scheme needs to look ahead it takes a snapshot and restores it.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar, Literal, get_args

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import Optimizer

from saddlegan import checks
from saddlegan.batch import Rows, apply, conditions, cut, part, read, samples, tensors
from saddlegan.errors import InputError, InputTypeError, NonFiniteLossError
from saddlegan.game import Game
from saddlegan.modules import like, owned, set_gradients
from saddlegan.results import Step
from saddlegan.train.parts._parallel import broadcast_module, check_group, mean_over

Constraint = Callable[[nn.Module], None]
OnNonFinite = Literal["raise", "skip"]


class AbstractRule(abc.ABC):
    """One way of moving a pair (G, D) by one step.

    The user keeps the loop: `step = rule.step(x)` for each batch of real samples. Every loss comes from the game, which
    owns the signs; both optimisers descend.

    Args:
        game: the game that is played; its players move.
        opt_G: any optimiser over G's parameters.
        opt_D: any optimiser over D's parameters.
        generator: source of the latents; torch's global one if None (whose state the user then saves).
        accumulate: number of equal pieces that each batch is cut into; gradients are added over them, so memory falls
            and the update stays the same, up to layers that look across the batch.
        constraint: called with D after each of its updates, such as `WeightClipping`.
        group: a `torch.distributed` process group for data parallel training: each process calls `step` with its own
            equal share of the batch. Initial players come from the group's first process; latents are drawn for the
            whole batch by every process, so give all of them the same seed.

    Attributes:
        on_nonfinite: what a NaN or infinite loss does, always before that player's optimiser moves: "raise" (the
            default) a `NonFiniteLossError`, or "skip" the rest of the step and count it in `skipped`. What moved before
            in the same step moved along a finite loss, and look-aheads are taken back.
        skipped: number of steps that were skipped.

    Raises:
        InputTypeError: an argument has a wrong type.
        InputError: an optimiser holds a foreign parameter or maximises, needs closures (LBFGS), `accumulate` < 1, or a
            bad `group`.
    """

    on_nonfinite: OnNonFinite = "raise"

    #: the rule's own arguments by the word under which the command line and a recipe know them
    options: ClassVar[Mapping[str, str]] = {}

    def __init__(
        self,
        game: Game,
        opt_G: Optimizer,
        opt_D: Optimizer,
        *,
        generator: torch.Generator | None = None,
        accumulate: int = 1,
        constraint: Constraint | None = None,
        group: dist.ProcessGroup | None = None,
    ) -> None:
        if not isinstance(game, Game):
            raise InputTypeError(f"`game` must be a Game, got {type(game).__name__}")
        _check_optimizer("opt_G", opt_G, game.G)
        _check_optimizer("opt_D", opt_D, game.D)
        accumulate = checks.count("accumulate", accumulate)
        check_group(group)
        self.game = game
        self.opt_G = opt_G
        self.opt_D = opt_D
        self.generator = generator
        self.accumulate = accumulate
        self.constraint = constraint
        self.group = group
        self.steps_done = 0
        self.skipped = 0
        broadcast_module(group, game.G)
        broadcast_module(group, game.D)

    def step(self, x: Rows) -> Step:
        """Move both players once; a caller's `no_grad` or `inference_mode` does not matter.

        Args:
            x: real samples (n, ...) on the players' device; (x, *conditions), as loaders give them; or a mapping with
                an "x" whose other entries are the conditions in their order.

        Returns:
            `Step`; the class says at which iterate each figure is measured. NaN throughout where the step was skipped.

        Raises:
            InputError: x is empty or cannot be cut into the pieces that the rule needs.
            InputTypeError: x is not a tensor, or has a type that the players do not take.
            NonFiniteLossError: a loss is NaN or infinite, and `on_nonfinite` is "raise".
        """
        if self.on_nonfinite not in get_args(OnNonFinite):
            raise InputError(f"`on_nonfinite` must be 'raise' or 'skip', got {self.on_nonfinite!r}")
        rows = read(x)
        real = samples(rows)
        pieces = self.accumulate * self._batches_per_step() * self.game.rows_in_groups
        if real.ndim < 1 or len(real) == 0 or len(real) % pieces:
            raise InputError(f"`x` must have rows in a multiple of {pieces}, got shape {tuple(real.shape)}")
        with torch.inference_mode(False), torch.enable_grad():
            if any(entry.is_inference() for entry in tensors(rows)):
                rows = apply(torch.clone, rows)  # inference tensors cannot be kept for backward
            try:
                result = self._step(rows)
            except NonFiniteLossError:
                self._abandon()
                if self.on_nonfinite == "raise":
                    raise
                self.skipped += 1
                result = Step(math.nan, math.nan, math.nan)
            except RuntimeError as error:
                self._explain(real, error)
                raise
        self.steps_done += 1
        return result

    def _explain(self, real: Tensor, error: RuntimeError) -> None:
        """Turn torch's complaint about a batch of another type, or a penalty's second derivative, into what to do."""
        if "double backward" in str(error) or "differentiate twice" in str(error):
            raise InputError(
                "a penalty or distance differentiates D twice, which D does not allow (torch.compile, custom kernels): "
                "use train.ApproximateR1 and ApproximateR2, norm='l2' or 'parameters', or the module before compiling "
                f"({error})"
            ) from error
        wanted = like(self.game.D).dtype
        if real.dtype == wanted or torch.is_autocast_enabled(real.device.type):
            return
        how = f"x.to({wanted})" if real.is_floating_point() else f"x.to({wanted}) / 127.5 - 1 for images of bytes"
        raise InputTypeError(f"`x` is {real.dtype} but D computes in {wanted}: pass {how} ({error})") from error

    def _abandon(self) -> None:  # noqa: B027 (most rules try nothing)
        """Take back what a step that broke off had only tried."""

    @abc.abstractmethod
    def _step(self, x: Rows) -> Step:
        """Move both players once; x is checked: a tensor or (x, *conditions)."""

    def _batches_per_step(self) -> int:
        """How many batches one `x` holds."""
        return 1

    # state

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next steps depend on: both players, both optimisers, latents' source, and the rule's own.

        Its tensors are copies: later steps do not change them.
        Learning rate schedules, data order and torch's global generator belong to the loop.
        """
        state: dict[str, Any] = {
            "rule": type(self).__name__,
            "steps_done": self.steps_done,
            "G": self.game.G.state_dict(),
            "D": self.game.D.state_dict(),
            "opt_G": self.opt_G.state_dict(),
            "opt_D": self.opt_D.state_dict(),
            "own": self._own_state(),
        }
        if self.generator is not None:
            state["generator"] = self.generator.get_state()
        return owned(state)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state of the same rule over the same networks; the next steps have the same bits.

        Raises:
            InputError: the state belongs to another rule, or lacks a part.
        """
        needed = {"rule", "steps_done", "G", "D", "opt_G", "opt_D", "own"}
        if self.generator is not None:
            needed.add("generator")
        if missing := needed - set(state):
            raise InputError(f"`state` lacks {', '.join(sorted(missing))}; it must come from {type(self).__name__}")
        if state["rule"] != type(self).__name__:
            raise InputError(f"`state` belongs to the rule {state['rule']}, this one is {type(self).__name__}")
        self.game.G.load_state_dict(state["G"])
        self.game.D.load_state_dict(state["D"])
        self.opt_G.load_state_dict(state["opt_G"])
        self.opt_D.load_state_dict(state["opt_D"])
        self._load_own_state(state["own"])
        if self.generator is not None:
            self.generator.set_state(state["generator"])
        self.steps_done = int(state["steps_done"])

    def _own_state(self) -> dict[str, Any]:
        """State beyond players, optimisers and latents' source."""
        return {}

    def _load_own_state(self, own: Mapping[str, Any]) -> None:
        """Take up what `_own_state` gave."""
        del own

    # the pieces that rules are made of

    def _latents(self, n: int) -> Rows:
        """Latents (n, ...) for this process: its share of one draw for the whole group."""
        if self.group is None:
            return self.game.sample_latent(n, self.generator)
        rank, world = dist.get_rank(self.group), dist.get_world_size(self.group)
        return part(self.game.sample_latent(n * world, self.generator), rank * n, (rank + 1) * n)

    def _pieces(self, rows: Rows) -> list[Rows]:
        return [rows] if self.accumulate == 1 else cut(rows, self.accumulate)

    def _fake(self, x: Rows, z: Rows) -> Tensor | None:
        """Generated samples without a graph: all that the discriminator's loss needs; an own value makes its own."""
        if self.game.has_own_value:
            return None
        with torch.no_grad():
            return self.game.generate(z, conditions(x))

    def _discriminator_losses(self, x: Rows, z: Rows) -> Iterator[Tensor]:
        for x_piece, z_piece in zip(self._pieces(x), self._pieces(z), strict=True):
            yield self.game.discriminator_loss(x_piece, self._fake(x_piece, z_piece), z_piece)

    def _generator_losses(self, x: Rows, z: Rows) -> Iterator[Tensor]:
        for x_piece, z_piece in zip(self._pieces(x), self._pieces(z), strict=True):
            yield self.game.generator_loss(z_piece, x_piece)

    def _set_gradient(self, player: nn.Module, losses: Iterable[Tensor]) -> Tensor:
        """Set `.grad` of the player to the mean gradient over pieces and processes; return the mean loss.

        A frozen parameter loses its gradient, or the optimiser would apply the last one again and again. A player
        without trainable parameters stands still.

        Raises:
            NonFiniteLossError: the loss is NaN or infinite; no gradient was set.
        """
        parameters: list[nn.Parameter] = []
        for parameter in player.parameters():
            if parameter.requires_grad:
                parameters.append(parameter)
            else:
                parameter.grad = None
        total: Tensor | None = None
        summed: tuple[Tensor, ...] = ()
        for loss in losses:
            gradient: tuple[Tensor, ...] = ()
            if parameters:
                found = torch.autograd.grad(loss, parameters, allow_unused=True) if loss.requires_grad else (None,)
                if all(entry is None for entry in found):
                    letter = "D" if player is self.game.D else "G"
                    raise InputError(
                        f"the loss of {letter} has no graph to {letter}'s parameters: something on the way detaches "
                        f"or leaves torch. A player that shall stand still is frozen by {letter}.requires_grad_(False)"
                    )
                gradient = tuple(
                    torch.zeros_like(p) if entry is None else entry for p, entry in zip(parameters, found, strict=True)
                )
            summed = gradient if total is None else tuple(a + b for a, b in zip(summed, gradient, strict=True))
            total = loss.detach() if total is None else total + loss.detach()
        if total is None:
            raise InputError("no loss was given")
        if self.accumulate > 1:
            total = total / self.accumulate
            summed = tuple(g / self.accumulate for g in summed)
        if self.group is not None:
            *averaged, mean = mean_over(self.group, (*summed, total.reshape(1)))
            summed, total = tuple(averaged), mean[0]
        if not math.isfinite(float(total)):
            letter = "D" if player is self.game.D else "G"
            raise NonFiniteLossError(
                f"the loss of {letter} is {float(total)} in step {self.steps_done}; {letter}'s optimiser did not move. "
                "Lower the learning rates, look at the batch, or set rule.on_nonfinite = 'skip'"
            )
        set_gradients(parameters, summed)
        return total

    def _ascend(self, x: Rows, z: Rows) -> Tensor:
        """D_{t+1} = D_t + step of opt_D along grad_D V(G_t, D_t); return D's loss at D_t."""
        loss = self._set_gradient(self.game.D, self._discriminator_losses(x, z))
        self.opt_D.step()
        self._constrain()
        return loss

    def _descend(self, losses: Iterable[Tensor]) -> Tensor:
        """G_{t+1} = G_t - step of opt_G along the gradient of the mean loss; return that loss at G_t."""
        loss = self._set_gradient(self.game.G, losses)
        self.opt_G.step()
        return loss

    def _constrain(self) -> None:
        if self.constraint is not None:
            self.constraint(self.game.D)

    def _generator_penalty(self, x: Rows, z: Rows) -> float:
        """R_g at the current generator, the part of the value that D's loss does not hold."""
        if self.game.generator_penalty is None or self.game.has_own_value:
            return 0.0
        batch = self.game.batch(x, z, fake=self._fake(x, z))
        penalty = self.game.generator_penalty(self.game.G, batch).detach()
        return float(mean_over(self.group, (penalty.reshape(1),))[0])


def _check_optimizer(name: str, optimizer: Optimizer, player: nn.Module) -> None:
    if not isinstance(optimizer, Optimizer):
        raise InputTypeError(f"`{name}` must be a torch.optim.Optimizer, got {type(optimizer).__name__}")
    if isinstance(optimizer, torch.optim.LBFGS):
        raise InputError(
            f"`{name}` is LBFGS, which evaluates its loss many times a step by a closure; a rule gives one gradient a "
            "step. Use a first-order optimiser: SGD, Adam, RMSprop"
        )
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    own = {id(p) for p in player.parameters()}
    letter = name[-1]
    if held - own:
        raise InputError(f"`{name}` holds parameters that are not {letter}'s; build it from {letter}.parameters()")
    missing = [key for key, p in player.named_parameters() if p.requires_grad and id(p) not in held]
    if missing:
        raise InputError(f"`{name}` lacks {letter}'s parameters {', '.join(missing)}; add them or freeze them")
    if any(group.get("maximize") for group in optimizer.param_groups):
        raise InputError(f"`{name}` has maximize=True; the game owns the signs and both optimisers descend")
