"""Stacks of dense layers, batched by hand: forward, backward and step of many clients at once.

Two forms, both exact up to rounding:

*batched*: every client's weights are one slice of a stacked tensor, and with plain SGD the step is
fused into the product that makes the gradient (``baddbmm`` with beta 1): no gradient is stored.

*dual*, for plain SGD and a wide first layer: a client's first-layer weights are never formed. After
any number of steps they are W = W_0 + D^T X, where X holds the client's examples and D one row per
example, -lr times the sum of the loss's derivatives at the layer's output. So
    x W^T = x W_0^T + (x X^T) D :
one product with W_0 for the whole cohort, and a Gram matrix per client. The cohort's update is one
product too. (The same identity carries the perceptron's dual form; Rosenblatt 1962, Freund and
Schapire 1999.)

Shapes: C clients (A of them active), N examples of the largest, B slots, I inputs, O outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from wardround.common.tasks.base import Task
from wardround.simulations.executors.engines.base import (
    CohortResult,
    CohortWork,
    Engine,
    Need,
    StackedResult,
    Unsuited,
    rows_of,
)
from wardround.simulations.executors.engines.dropout import GivenDropout, Masks, with_given_masks
from wardround.simulations.executors.engines.optimizers import clip_each, make_stacked
from wardround.simulations.executors.engines.vmapped import check_vectorisable, correct

# the derivative of each activation, from its output
DERIVATIVES: dict[type[nn.Module], Callable[[Tensor], Tensor]] = {
    nn.ReLU: lambda h: (h > 0).to(h.dtype),
    nn.Tanh: lambda h: 1 - h * h,
    nn.Sigmoid: lambda h: h * (1 - h),
}
_DUAL_PAYS = 4


@dataclass
class Layer:
    """A dense layer with what follows it until the next one.

    weight, bias : names of its parameters; no bias: ''
    activation : the module after it, or None
    dropout : the name of its mask, or ''
    """

    weight: str
    bias: str
    activation: nn.Module | None = None
    dropout: str = ""


def dense_layers(model: nn.Module) -> list[Layer]:
    """The layers of a stack of dense ones. Raises Unsuited if the model is anything else."""
    layers: list[Layer] = []
    for name, module in _leaves(model):
        if type(module) is nn.Flatten and not layers and module.start_dim == 1:
            continue
        if type(module) is nn.Identity:
            continue
        if type(module) is nn.Linear:
            dot = f"{name}." if name else ""
            bias = f"{dot}bias" if module.bias is not None else ""
            layers.append(Layer(f"{dot}weight", bias))
        elif not layers or layers[-1].dropout:
            raise Unsuited(f"{type(module).__name__} isn't where a dense stack has it")
        elif type(module) in DERIVATIVES and layers[-1].activation is None:
            layers[-1].activation = module
        elif type(module) is GivenDropout:
            layers[-1].dropout = f"{name}.mask"
        else:
            raise Unsuited(f"{type(module).__name__} is no part of a dense stack")
    if not layers or layers[-1].activation is not None or layers[-1].dropout:
        raise Unsuited("the model doesn't end with a dense layer")
    return layers


def _leaves(model: nn.Module, prefix: str = "") -> list[tuple[str, nn.Module]]:
    if type(model) is not nn.Sequential:
        return [(prefix, model)]
    found = []
    for name, child in model.named_children():
        found += _leaves(child, f"{prefix}.{name}" if prefix else name)
    return found


class Dense(Engine):
    """Stacks of dense layers with ReLU, tanh or sigmoid between them, and dropout."""

    name = "dense"

    def __init__(self, model: nn.Module, task: Task[Any]) -> None:
        check_vectorisable(model, task)
        self._task = task
        self._model = with_given_masks(model)
        self._layers = dense_layers(self._model)
        names = [name for name, _ in self._model.named_parameters()]
        used = {x for layer in self._layers for x in (layer.weight, layer.bias) if x}
        if used != set(names) or not all(p.requires_grad for p in self._model.parameters()):
            raise Unsuited("a parameter is shared between layers or isn't trained")
        self._masks: Masks | None = None

    def client_bytes(self, need: Need) -> int:
        # batched: weights, else also gradients and two moments; inputs of a batch, some times over.
        # dual: the other layers, and for each example its input, its Gram row, its rows of D and of
        # x W_0^T
        parameters, state = need.parameters, 1 if need.plain_sgd else 4
        first = need.shapes[self._layers[0].weight]
        if need.plain_sgd and _dual_pays(first, need.examples):
            per_example = need.example_numbers + need.examples + 2 * first[0]
            return 4 * (parameters - first.numel() + need.examples * per_example)
        return 4 * (parameters * state + 3 * need.example_numbers * need.slots)

    def _is_dual(self, work: CohortWork) -> bool:
        first = self._layers[0]
        if not work.is_plain_sgd() or {first.weight, first.bias} & work.own:
            return False
        return _dual_pays(work.start[first.weight].shape, int(work.batches.examples.max()))

    @torch.no_grad()
    def train(self, work: CohortWork) -> CohortResult:
        if self._masks is None:
            try:
                self._masks = Masks(self._model, work.inputs[:1])
            except ValueError as error:
                raise Unsuited(str(error)) from None
        return _Run(self._layers, self._task, self._masks, work, self._is_dual(work)).train()


def _dual_pays(weight: torch.Size, examples: int) -> bool:
    """Whether a client's D (N x O) and Gram matrix (N x N) are much smaller than its weights
    (O x I)."""
    return weight.numel() > _DUAL_PAYS * examples * max(examples, weight[0])


class _Run:
    """One cohort's training."""

    def __init__(
        self,
        layers: list[Layer],
        task: Task[Any],
        masks: Masks,
        work: CohortWork,
        dual: bool,
    ) -> None:
        self._layers, self._task, self._masks, self._work = layers, task, masks, work
        first = layers[0]
        kept = {first.weight, first.bias} if dual else set()
        count = work.clients
        self._parameters = {
            name: x.clone() if name in work.own else x.expand(count, *x.shape).clone()
            for name, x in work.start.items()
            if name not in kept
        }
        self._dual = _DualLayer(first, work) if dual else None
        self._plain = work.is_plain_sgd()
        self._optimizer = make_stacked(
            work.training, work.lr, [] if self._plain else list(self._parameters.values())
        )
        seeds = work.seeds() if masks else []
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._losses = torch.zeros(count, device=work.inputs.device)

    def train(self) -> CohortResult:
        batches = self._work.batches
        for step in range(batches.most_steps):
            self._step(step, batches.active(step))
        steps = torch.from_numpy(batches.steps).to(self._losses.device)
        result = StackedResult(self._work.start, self._parameters, self._losses / steps)
        return result if self._dual is None else _DualResult(result, self._dual)

    def _step(self, step: int, active: int) -> None:
        work, batches = self._work, self._work.batches
        rows = batches.rows[step, :active].to(work.inputs.device)
        weights = batches.weights[step, :active].to(work.inputs.device)
        sizes = batches.sizes[step, :active].tolist()
        masks = self._masks.draw(self._generators[:active], sizes, rows.shape[1])
        masks = {name: mask.to(work.inputs.device) for name, mask in masks.items()}
        now = {name: value[:active] for name, value in self._parameters.items()}
        # what each layer gets, and each activation gives; the dual layer needs no inputs
        inputs: list[Tensor | None] = []
        outputs: list[Tensor] = []
        h = None if self._dual else rows_of(work.inputs, rows).flatten(2)
        for number, layer in enumerate(self._layers):
            if number == 0 and self._dual is not None:
                inputs.append(None)
                z = self._dual.outputs(step, active)
            else:
                assert h is not None
                inputs.append(h)
                z = affine(h, now[layer.weight], now[layer.bias] if layer.bias else None)
            if layer.activation is not None:
                z = layer.activation(z)
            outputs.append(z)
            h = z * masks[layer.dropout] if layer.dropout else z
        d = self._loss_gradient(outputs[-1], rows_of(work.targets, rows), weights, active)
        self._backward(step, active, d, now, inputs, outputs, masks)

    def _loss_gradient(
        self, outputs: Tensor, targets: Tensor, weights: Tensor, active: int
    ) -> Tensor:
        """d loss / d outputs, A x B x O; adds each client's loss up.

        One backward pass for all: a client's loss, its batch's mean (the weights are 1 / b, 0 in an
        empty slot), depends on its own outputs only, so the sum's gradient is each one's own.
        """
        with torch.enable_grad():
            flat = outputs.flatten(0, 1).requires_grad_()
            losses = self._task.loss(flat, targets.flatten(0, 1))
            if losses.shape != (weights.numel(),):
                raise Unsuited("the task's loss isn't one number per example")
            values = (losses.reshape(weights.shape) * weights).sum(1)
            (d,) = torch.autograd.grad(values.sum(), flat)
        self._losses[:active] += values.detach()
        return d.reshape(outputs.shape)

    def _backward(
        self,
        step: int,
        active: int,
        d: Tensor,
        now: dict[str, Tensor],
        inputs: list[Tensor | None],
        outputs: list[Tensor],
        masks: dict[str, Tensor],
    ) -> None:
        gradients: dict[str, Tensor] = {}
        for number in range(len(self._layers) - 1, -1, -1):
            layer, h = self._layers[number], inputs[number]
            if h is None:
                assert self._dual is not None
                self._dual.move(step, active, d)
                break
            # before the weights move: the layer below learns by those that the forward pass had
            below = torch.bmm(d, now[layer.weight]) if number else None
            if self._plain:
                # W <- W - lr d^T h in one call; the gradient itself is never stored
                now[layer.weight].baddbmm_(d.transpose(1, 2), h, alpha=-self._work.lr)
                if layer.bias:
                    now[layer.bias].sub_(d.sum(1), alpha=self._work.lr)
            else:
                gradients[layer.weight] = torch.bmm(d.transpose(1, 2), h)
                if layer.bias:
                    gradients[layer.bias] = d.sum(1)
            if below is not None:
                d = self._through(self._layers[number - 1], below, outputs[number - 1], masks)
        if not self._plain:
            correct(gradients, now, self._work, active)
            ordered = [gradients[name] for name in now]
            if self._work.training.max_grad_norm is not None:
                clip_each(ordered, self._work.training.max_grad_norm)
            self._optimizer.step(list(now.values()), ordered)

    @staticmethod
    def _through(layer: Layer, d: Tensor, output: Tensor, masks: dict[str, Tensor]) -> Tensor:
        """The gradient before a layer's dropout and activation."""
        if layer.dropout:
            d = d * masks[layer.dropout]
        if layer.activation is None:
            return d
        return d.mul_(DERIVATIVES[type(layer.activation)](output))


def affine(h: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """h W^T + b for each client: A x B x O."""
    if bias is None:
        return torch.bmm(h, weight.transpose(1, 2))
    return torch.baddbmm(bias[:, None], h, weight.transpose(1, 2))


class _DualLayer:
    """A cohort's first layer as D: what its steps have added, one row per example."""

    def __init__(self, layer: Layer, work: CohortWork) -> None:
        batches, device = work.batches, work.inputs.device
        most = int(batches.examples.max())
        place = torch.arange(most)
        offsets = torch.from_numpy(batches.offsets)
        real = place < torch.from_numpy(batches.examples)[:, None]
        rows = torch.where(real, offsets[:, None] + place, offsets[:, None])
        self.layer, self.start = layer, work.start
        self._lr = work.lr
        self._local = (batches.rows - offsets[:, None]).clamp_(min=0).to(device)
        self.examples = rows_of(work.inputs, rows.to(device)).flatten(2)  # C x N x I
        weight = work.start[layer.weight]
        flat = self.examples.flatten(0, 1)
        bias = work.start[layer.bias] if layer.bias else None
        first = torch.nn.functional.linear(flat, weight, bias)
        self._first = first.reshape(*self.examples.shape[:2], -1)  # C x N x O
        self.gram = torch.bmm(self.examples, self.examples.transpose(1, 2))
        if layer.bias:
            self.gram.add_(1.0)  # a bias is the weight of a feature that is always 1
        self.steps = torch.zeros_like(self._first)  # D

    def outputs(self, step: int, active: int) -> Tensor:
        """A x B x O, of this step's batches: x W_0^T + (x X^T) D, whose two parts were worked out
        for all examples before the first step and are only looked up."""
        index = self._local[step, :active, :, None]
        first, gram = self._first[:active], self.gram[:active]
        z = first.gather(1, index.expand(-1, -1, first.shape[2]))
        if step == 0:
            return z
        seen = gram.gather(1, index.expand(-1, -1, gram.shape[2]))
        return torch.baddbmm(z, seen, self.steps[:active])

    def move(self, step: int, active: int, d: Tensor) -> None:
        """A step of SGD, by the loss's derivative at the outputs, A x B x O."""
        # scatter_add: an example that is in a batch twice (empty slots are, at d = 0) adds twice
        index = self._local[step, :active, :, None].expand_as(d)
        self.steps[:active].scatter_add_(1, index, d * -self._lr)


class _DualResult(CohortResult):
    """The other layers' stacked parameters, and the first one's D."""

    def __init__(self, others: StackedResult, dual: _DualLayer) -> None:
        self._others, self._dual = others, dual
        self.losses = others.losses

    @property
    def names(self) -> list[str]:
        layer = self._dual.layer
        return [*self._others.names, layer.weight, *([layer.bias] if layer.bias else [])]

    def client(self, index: int) -> dict[str, Tensor]:
        # W_0 + D^T X, formed only where a single client's weights are asked for
        dual, layer = self._dual, self._dual.layer
        steps = dual.steps[index]
        weight = torch.addmm(dual.start[layer.weight], steps.t(), dual.examples[index])
        first = {layer.weight: weight}
        if layer.bias:
            first[layer.bias] = dual.start[layer.bias] + steps.sum(0)
        return self._others.client(index) | first

    def weighted_change(self, weights: Tensor) -> dict[str, Tensor]:
        dual, layer = self._dual, self._dual.layer
        # sum_i w_i D_i^T X_i: one product over all clients' examples, and no client's weights
        scaled = (dual.steps * weights[:, None, None]).flatten(0, 1)
        change = self._others.weighted_change(weights)
        change[layer.weight] = torch.mm(scaled.t(), dual.examples.flatten(0, 1)).double()
        if layer.bias:
            change[layer.bias] = scaled.sum(0).double()
        return change

    def norms(self) -> Tensor:
        # |D^T X|^2 = sum over pairs of examples of <d_s, d_t> <x_s, x_t>, whose products with the
        # bias' feature the Gram matrix has
        steps = self._dual.steps.double()
        pairs = torch.bmm(steps, steps.transpose(1, 2)).mul_(self._dual.gram.double())
        return (self._others.norms().square() + pairs.sum((1, 2)).clamp_min(0.0)).sqrt()

    def is_sound(self) -> bool:
        # a bound of what D^T X can hold: beyond it the exact check, client by client, decides
        steps = float(self._dual.steps.abs().amax()) * self._dual.examples.shape[1]
        inputs = float(self._dual.examples.abs().amax())
        start = float(self._dual.start[self._dual.layer.weight].abs().amax())
        return start + steps * max(inputs, 1.0) < 1e12 and self._others.is_sound()
