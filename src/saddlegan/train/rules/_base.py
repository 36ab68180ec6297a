"""What every training rule shares: checks, latents, gradients of each player's own loss, and the state to resume from.

A rule wraps two ordinary `torch.optim` optimisers. It never changes their mathematics: it sets each player's `.grad`,
calls the optimiser, and where a scheme needs to look ahead it takes a snapshot and restores it.
"""

from __future__ import annotations

import abc
import contextlib
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar, Literal, get_args

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from saddlegan import checks
from saddlegan.batch import Rows, apply, conditions, cut, part, read, samples
from saddlegan.errors import InputError, InputTypeError, NonFiniteLossError
from saddlegan.game import Game
from saddlegan.modules import like, owned, set_gradients
from saddlegan.results import Step
from saddlegan.train.parts._average import MovingAverage
from saddlegan.train.parts._parallel import (
    broadcast_module,
    check_buffers,
    check_group,
    mean_over,
    same_everywhere,
    whole_batch_statistics,
)
from saddlegan.train.parts._schedule import Schedule

Constraint = Callable[[nn.Module], None]
Part = Schedule | MovingAverage | LRScheduler | torch.Generator
OnNonFinite = Literal["raise", "skip"]
_ON_NON_FINITE = get_args(OnNonFinite)


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
            equal share of the batch (unequal ones are refused). Initial players come from the group's first process;
            latents are drawn for the whole batch by every process, so give all of them the same seed. Batch norm sees
            the whole batch within a step; other layers whose buffers follow their own rows are refused.
        scaler: for steps inside a float16 `torch.autocast`: losses are multiplied by its scale before they are
            differentiated, gradients divided by it, which keeps small ones from vanishing. A step that overflows is
            skipped and lowers the scale; one that overflows at a scale below 1 is a non-finite gradient like any other.

    Attributes:
        on_nonfinite: what a loss or a gradient that holds NaN or infinity does, always before that player's optimiser
            moves: "raise" (the default) a `NonFiniteLossError`, or "skip" the rest of the step and count it in
            `skipped`. What moved before in the same step moved along finite ones, and look-aheads are taken back.
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
        scaler: GradScaler | None = None,
    ) -> None:
        if not isinstance(game, Game):
            raise InputTypeError(f"`game` must be a Game, got {type(game).__name__}")
        _check_optimizer("opt_G", opt_G, game.G)
        _check_optimizer("opt_D", opt_D, game.D)
        accumulate = checks.count("accumulate", accumulate)
        check_group(group)
        if scaler is not None and not isinstance(scaler, GradScaler):
            raise InputTypeError(f"`scaler` must be a torch.amp.GradScaler, got {type(scaler).__name__}")
        self.game = game
        self.opt_G = opt_G
        self.opt_D = opt_D
        self.generator = generator
        self.accumulate = accumulate
        self.constraint = constraint
        self.group = group
        self.scaler = scaler
        self._since_growth = 0  # steps without overflow since the scale last changed
        self.steps_done = 0
        self.skipped = 0
        self._parts: list[Part] = []
        self._compared = False  # the buffers of the group's processes, after the first step
        broadcast_module(group, game.G)
        broadcast_module(group, game.D)

    def step(self, x: Rows | Iterator[Rows]) -> Step:
        """Move both players once; a caller's `no_grad` or `inference_mode` does not matter.

        Args:
            x: real samples (n, ...) on the players' device; (x, *conditions), as loaders give them; or a mapping with
                an "x" whose other entries are the conditions in their order. An iterator of these, such as
                `iter(loader)`, gives as many full batches as the rule needs for one step.

        Returns:
            `Step`; the class says at which iterate each figure is measured. NaN throughout where the step was skipped.

        Raises:
            InputError: x is empty, cannot be cut into the pieces that the rule needs, or ends within a step; or the
                processes of a group have unequal batches, or one has none left (see `train.together`).
            InputTypeError: x is not a tensor, or has a type that the players do not take.
            NonFiniteLossError: a loss or a gradient is not finite, and `on_nonfinite` is "raise".
        """
        if self.on_nonfinite not in _ON_NON_FINITE:
            raise InputError(f"`on_nonfinite` must be 'raise' or 'skip', got {self.on_nonfinite!r}")
        batches = self._agreed_batches(x)
        for attached in self._parts:
            if isinstance(attached, Schedule):
                attached.set(self.steps_done)
        with torch.inference_mode(False), torch.enable_grad(), _fresh_casts(samples(batches[0]).device.type):
            # inference tensors cannot be kept for backward
            batches = [apply(_kept, rows) for rows in batches]
            try:
                with whole_batch_statistics(self.group, (self.game.G, self.game.D)):
                    result = self._play(batches)
                if self.group is not None and not self._compared:
                    check_buffers(self.group, {"G": self.game.G, "D": self.game.D})
                    self._compared = True
                self._count_towards_growth()
            except NonFiniteLossError as error:
                self._abandon()
                if not self._lower_scale(error) and self.on_nonfinite == "raise":
                    raise
                self.skipped += 1
                result = Step(math.nan, math.nan, math.nan)
            except RuntimeError as error:
                self._explain(samples(batches[0]), error)
                raise
        self.steps_done += 1
        for attached in self._parts:
            if isinstance(attached, MovingAverage):
                attached.update()
            elif isinstance(attached, LRScheduler):
                attached.step()
        return result

    def attach(self, *parts: Part) -> None:
        """Let parts of the training go along with the rule, and lie in its `state_dict`.

        A `Schedule` sets its number before every step; a `MovingAverage` takes in the generator and a scheduler of
        `torch.optim.lr_scheduler` steps after every step; a `torch.Generator`, such as a penalty's, is saved. Do not
        call these yourself any more. A state is taken up with the same parts attached in the same order.

        Args:
            parts: any number, over all calls.

        Raises:
            InputTypeError: something else.

        Example:
            >>> from saddlegan import networks, train
            >>> G, D = networks.MLP(3, 2, hidden=(4,)), networks.MLP(2, 1, hidden=(4,))
            >>> r1 = train.R1(1.0)
            >>> game = Game(G, D, latent=3, discriminator_penalty=r1)
            >>> rule = train.Alternating(game, torch.optim.Adam(G.parameters()), torch.optim.Adam(D.parameters()))
            >>> average = train.MovingAverage(G)
            >>> rule.attach(
            ...     average,
            ...     train.Schedule(r1, "weight", train.warm_up(2.0, 0.2, steps=100)),
            ...     train.Schedule(average, "decay", train.warm_up(0.0, 0.999, steps=100)),
            ... )
            >>> _ = rule.step(torch.ones(8, 2))
            >>> r1.weight, sorted(rule.state_dict())[-2:]
            (2.0, ['rule', 'steps_done'])
        """
        for attached in parts:
            if not isinstance(attached, Part):
                raise InputTypeError(
                    "`attach` takes a Schedule, a MovingAverage, a scheduler of torch.optim.lr_scheduler or a "
                    f"torch.Generator, got {type(attached).__name__}"
                )
        self._parts += parts

    def _agreed_batches(self, x: Rows | Iterator[Rows]) -> list[Rows]:
        """The batches of one step, once every process of the group has as many rows."""
        if self.group is None:
            return self._batches(x)
        device = like(self.game.D).device
        try:
            batches = self._batches(x)
        except Exception:
            same_everywhere(self.group, None, device)  # the others would wait for ever
            raise
        real = samples(batches[0])
        same_everywhere(self.group, (len(real), real[0].numel()), device)
        return batches

    def _batches(self, x: Rows | Iterator[Rows]) -> list[Rows]:
        """The batches of one step, each cut from x or taken from an iterator."""
        needed = self._batches_per_step()
        if isinstance(x, Iterator):
            batches = [read(rows) for rows in itertools.islice(x, needed)]
            if len(batches) < needed:
                raise InputError(
                    f"`x` is an iterator that ended after {len(batches)} of the {needed} batches of a step"
                )
            self._check_rows(batches, self.accumulate * self.game.rows_in_groups)
            return batches
        rows = read(x)
        self._check_rows([rows], self.accumulate * self.game.rows_in_groups * needed)
        return [rows] if needed == 1 else cut(rows, needed)

    def _check_rows(self, batches: list[Rows], pieces: int) -> None:
        for rows in batches:
            real = samples(rows)
            if real.ndim < 1 or len(real) == 0 or len(real) % pieces:
                raise InputError(f"`x` must have rows in a multiple of {pieces}, got shape {tuple(real.shape)}")

    def _count_towards_growth(self) -> None:
        """Raise the scale after as many steps without overflow as the scaler says."""
        if self.scaler is None or not self.scaler.is_enabled():
            return
        self._since_growth += 1
        if self._since_growth >= self.scaler.get_growth_interval():
            self.scaler.update(self.scaler.get_scale() * self.scaler.get_growth_factor())
            self._since_growth = 0

    def _lower_scale(self, error: NonFiniteLossError) -> bool:
        """Lower the scale where it may be what overflowed: a finite loss whose scaled gradient is not finite."""
        if self.scaler is None or not self.scaler.is_enabled() or not isinstance(error, _NonFiniteGradientError):
            return False
        scale = self.scaler.get_scale()
        if scale < 1.0:
            return False
        self.scaler.update(scale * self.scaler.get_backoff_factor())
        self._since_growth = 0
        return True

    def _explain(self, real: Tensor, error: RuntimeError) -> None:
        """Turn torch's complaint about a batch of another type, or a penalty's second derivative, into what to do."""
        if any(words in str(error) for words in ("double backward", "differentiate twice", "donated buffer")):
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

    def _play(self, batches: list[Rows]) -> Step:
        """Move both players once on `_batches_per_step` batches."""
        return self._step(batches[0])

    @abc.abstractmethod
    def _step(self, x: Rows) -> Step:
        """Move both players once; x is checked: a tensor or (x, *conditions)."""

    def _batches_per_step(self) -> int:
        """How many batches one step takes."""
        return 1

    # state

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next steps depend on: both players, both optimisers, latents' source, and the rule's own.

        Its tensors are copies: later steps do not change them. What is attached (schedules, averages, generators, see
        `attach`) is in it; data order and torch's global generator belong to the loop.
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
        if self.scaler is not None:
            state["scaler"] = {"scaler": self.scaler.state_dict(), "since_growth": self._since_growth}
        if self._parts:
            state["parts"] = [(type(attached).__name__, _state_of(attached)) for attached in self._parts]
        return owned(state)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state of the same rule over the same networks; the next steps have the same bits.

        Raises:
            InputError: the state belongs to another rule, or lacks a part.
        """
        needed = {"rule", "steps_done", "G", "D", "opt_G", "opt_D", "own"}
        needed |= {name for name in ("generator", "scaler") if getattr(self, name) is not None}
        if missing := needed - set(state):
            raise InputError(f"`state` lacks {', '.join(sorted(missing))}; it must come from {type(self).__name__}")
        if state["rule"] != type(self).__name__:
            raise InputError(f"`state` belongs to the rule {state['rule']}, this one is {type(self).__name__}")
        mine = [type(attached).__name__ for attached in self._parts]
        held = [name for name, _ in state.get("parts", ())]
        if mine != held:
            raise InputError(
                f"`state` holds the attached parts {held} and this rule has {mine}; attach the same, in their order"
            )
        self.game.G.load_state_dict(state["G"])
        self.game.D.load_state_dict(state["D"])
        self.opt_G.load_state_dict(state["opt_G"])
        self.opt_D.load_state_dict(state["opt_D"])
        self._load_own_state(state["own"])
        for attached, (_, saved) in zip(self._parts, state.get("parts", ()), strict=True):
            _load_state(attached, saved)
        if self.generator is not None:
            self.generator.set_state(state["generator"])
        if self.scaler is not None:
            self.scaler.load_state_dict(state["scaler"]["scaler"])
            self._since_growth = int(state["scaler"]["since_growth"])
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
            NonFiniteLossError: the loss or its gradient is not finite; no gradient was set.
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
                scaled = loss if self.scaler is None else self.scaler.scale(loss)
                found: tuple[Tensor | None, ...] = (None,)
                if loss.requires_grad:
                    with _full_precision(loss.device.type):  # the graph knows which of its passes ran in half
                        found = torch.autograd.grad(scaled, parameters, allow_unused=True)
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
        parts = self.accumulate * (1.0 if self.scaler is None else self.scaler.get_scale())
        if parts != 1.0:
            total = total / self.accumulate
            summed = tuple(g / parts for g in summed)
        if self.group is not None:
            *averaged, mean = mean_over(self.group, (*summed, total.reshape(1)))
            summed, total = tuple(averaged), mean[0]
        self._check_finite("D" if player is self.game.D else "G", total, summed)
        set_gradients(parameters, summed)
        return total

    def _check_finite(self, letter: str, loss: Tensor, gradient: tuple[Tensor, ...]) -> None:
        """Refuse a loss or gradient with NaN or infinity."""
        sums = [g.sum() for g in gradient]  # as finite as the gradient, but for an overflow of the sum itself
        spoilt = sum(map(float, sums)) if loss.is_cpu else float(torch.stack([loss, *sums]).sum())
        if math.isfinite(float(loss) + spoilt):
            return
        if not math.isfinite(float(loss)):
            raise NonFiniteLossError(
                f"the loss of {letter} is {float(loss)} in step {self.steps_done}; {letter}'s optimiser did not move. "
                "Lower the learning rates, look at the batch, or set rule.on_nonfinite = 'skip'"
            )
        if all(bool(g.isfinite().all()) for g in gradient):
            return  # only the sum was too large
        raise _NonFiniteGradientError(
            f"the loss of {letter} is {float(loss):.6g} in step {self.steps_done}, but its gradient is not finite; "
            f"{letter}'s optimiser did not move. A square root or a norm at 0, or a logarithm, has no finite slope: "
            "add a small constant inside it, or set rule.on_nonfinite = 'skip'"
        )

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


def _state_of(attached: Part) -> Any:
    """What the next steps need of an attached part; a schedule is a function of the steps done alone."""
    if isinstance(attached, Schedule):
        return None
    return attached.get_state() if isinstance(attached, torch.Generator) else attached.state_dict()


def _load_state(attached: Part, saved: Any) -> None:
    if isinstance(attached, torch.Generator):
        attached.set_state(saved)
    elif not isinstance(attached, Schedule):
        attached.load_state_dict(saved)


def _full_precision(device: str) -> contextlib.AbstractContextManager[object]:
    """No autocast, at no cost where there is none."""
    off = not torch.is_autocast_enabled(device)
    return contextlib.nullcontext() if off else torch.autocast(device, enabled=False)


def _kept(entry: Tensor) -> Tensor:
    return entry.clone() if entry.is_inference() else entry


class _NonFiniteGradientError(NonFiniteLossError):
    """A finite loss with a gradient that is not: what a scale that is too large does, among other things."""


@contextlib.contextmanager
def _fresh_casts(device: str) -> Iterator[None]:
    """Under autocast, cast weights anew for each pass.

    Autocast keeps a weight's cast until its outermost block ends: across a move the other player would still meet the
    old weight, and a cast made for samples without a graph would cut the graph of the next pass.
    """
    if not (torch.is_autocast_enabled(device) and torch.is_autocast_cache_enabled()):
        yield
        return
    torch.clear_autocast_cache()
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(True)


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
