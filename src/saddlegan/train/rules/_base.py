"""What every training rule shares: checks, latents, gradients of each player's own loss, and the state to resume from.

A rule wraps two ordinary `torch.optim` optimisers. It never changes their mathematics: it sets each player's `.grad`,
calls the optimiser, and where a scheme needs to look ahead it takes a snapshot and restores it.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import Optimizer

from saddlegan import checks
from saddlegan.errors import InputError, InputTypeError
from saddlegan.game import Game
from saddlegan.modules import set_gradients, trainable
from saddlegan.results import Step
from saddlegan.train.parts._parallel import broadcast_module, check_group, mean_over

Constraint = Callable[[nn.Module], None]


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

    Raises:
        InputTypeError: an argument has a wrong type.
        InputError: an optimiser holds a foreign parameter or maximises, `accumulate` < 1, or a bad `group`.
    """

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
        broadcast_module(group, game.G)
        broadcast_module(group, game.D)

    def step(self, x: Tensor) -> Step:
        """Move both players once.

        Args:
            x: real samples (n, ...) on the players' device.

        Returns:
            `Step`; the class says at which iterate each figure is measured.

        Raises:
            InputError: x is empty or cannot be cut into the pieces that the rule needs.
            InputTypeError: x is not a tensor.
        """
        if not isinstance(x, Tensor):
            raise InputTypeError(f"`x` must be a torch.Tensor of real samples (n, ...), got {type(x).__name__}")
        pieces = self.accumulate * self._batches_per_step()
        if x.ndim < 1 or len(x) == 0 or len(x) % pieces:
            raise InputError(f"`x` must have rows in a multiple of {pieces}, got shape {tuple(x.shape)}")
        result = self._step(x)
        self.steps_done += 1
        return result

    @abc.abstractmethod
    def _step(self, x: Tensor) -> Step:
        """Move both players once; x is checked."""

    def _batches_per_step(self) -> int:
        """How many batches one `x` holds."""
        return 1

    # state

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next steps depend on: both players, both optimisers, latents' source, and the rule's own.

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
        return state

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

    def _latents(self, n: int) -> Tensor:
        """Latents (n, ...) for this process: its share of one draw for the whole group."""
        if self.group is None:
            return self.game.sample_latent(n, self.generator)
        rank, world = dist.get_rank(self.group), dist.get_world_size(self.group)
        return self.game.sample_latent(n * world, self.generator)[rank * n : (rank + 1) * n]

    def _pieces(self, rows: Tensor) -> Iterator[Tensor]:
        if self.accumulate == 1:
            yield rows
        else:
            yield from rows.chunk(self.accumulate)

    def _fake(self, z: Tensor) -> Tensor:
        """Generated samples without a graph: all that the discriminator's loss needs."""
        with torch.no_grad():
            return self.game.G(z)

    def _discriminator_losses(self, x: Tensor, z: Tensor) -> Iterator[Tensor]:
        for x_piece, z_piece in zip(self._pieces(x), self._pieces(z), strict=True):
            yield self.game.discriminator_loss(x_piece, self._fake(z_piece))

    def _generator_losses(self, z: Tensor) -> Iterator[Tensor]:
        for z_piece in self._pieces(z):
            yield self.game.generator_loss(z_piece)

    def _set_gradient(self, player: nn.Module, losses: Iterable[Tensor]) -> Tensor:
        """Set `.grad` of the player to the mean gradient over pieces and processes; return the mean loss."""
        parameters = trainable(player)
        total: Tensor | None = None
        summed: tuple[Tensor, ...] = ()
        for loss in losses:
            gradient = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
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
        set_gradients(parameters, summed)
        return total

    def _ascend(self, x: Tensor, z: Tensor) -> Tensor:
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

    def _generator_penalty(self, z: Tensor) -> float:
        """R_g at the current generator, the part of the value that D's loss does not hold."""
        if self.game.generator_penalty is None:
            return 0.0
        penalty = self.game.generator_penalty(self.game.G, self._fake(z)).detach()
        return float(mean_over(self.group, (penalty.reshape(1),))[0])


def _check_optimizer(name: str, optimizer: Optimizer, player: nn.Module) -> None:
    if not isinstance(optimizer, Optimizer):
        raise InputTypeError(f"`{name}` must be a torch.optim.Optimizer, got {type(optimizer).__name__}")
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
