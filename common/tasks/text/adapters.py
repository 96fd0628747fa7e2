"""What of the encoder is trained: all of it, nothing, or a little beside its layers.

With an adapter a linear layer W x becomes W x + (alpha / r) B A x, with W frozen: only A and B
travel (LoRA; Hu et al. 2021, arXiv 2106.09685). Averaging A and B separately is not averaging their
products: ``common/tasks/low_rank.py`` has the other rules. ``ffa_lora`` keeps A as it was
initialised, the same at every party, and trains B alone: then mean_k(B_k) A is mean_k(B_k A), and
noise for privacy isn't multiplied with itself (FFA-LoRA; Sun et al. 2024, arXiv 2403.12313).
``dora`` learns the length of each of the sum's rows by itself (Liu et al. 2024, arXiv 2402.09353),
``ia3`` only a factor for each output of a layer, whose mean is the mean layer's (Liu et al. 2022,
arXiv 2205.05638). Prompt tuning is the model's (``network.py``): no layer is changed.

``adalora`` is in ``triplets.py``, what is left when adapters are put into layers in ``merging.py``.

Shapes: I inputs and O outputs of a layer, r rank.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wardround.common.errors import TaskError
from wardround.common.tasks.low_rank import PROBES, LowRank, Pair
from wardround.common.tasks.text.libraries import peft
from wardround.common.tasks.text.options import TextOptions
from wardround.common.tasks.text.triplets import TripletLinear

ADAPTER = "default"
"""peft's name for the only adapter of a layer."""


def check_length(options: TextOptions, longest: int, called: str) -> None:
    """Raise TaskError where texts, with the tokens that are learned before them, may be longer than
    what the model ``called`` so has positions for."""
    prompt = options.prompt_length
    if options.max_length + prompt > longest:
        besides = f", {prompt} of them are task.prompt_tokens" if prompt else ""
        room = longest - prompt
        raise TaskError(
            f"task.max_length: {called} takes at most {longest} tokens{besides}",
            mend=f"set task.max_length to at most {room}" if room > 0 else "make these fewer",
        )


def adapt(encoder: nn.Module, options: TextOptions) -> None:
    """Put adapters into a frozen encoder, in place, and leave only them trainable.

    Initial values come from torch's global generator; the adapted encoder computes what the encoder
    did. Raises TaskError if ``task.target_modules`` names no linear layer.
    """
    if options.tuning in ("full", "head", "prompt"):
        return
    layers = {
        name: module
        for name, module in encoder.named_modules()
        if name.rpartition(".")[2] in options.adapted and isinstance(module, nn.Linear)
    }
    unknown = set(options.adapted) - {name.rpartition(".")[2] for name in layers}
    if unknown:
        found = (n for n, m in encoder.named_modules() if isinstance(m, nn.Linear))
        linear = {name.rpartition(".")[2] for name in found}
        raise TaskError(
            f"task.target_modules: the model has no linear layer '{min(unknown)}'; it has "
            f"{', '.join(sorted(linear))}"
        )
    if options.tuning == "adalora":
        for name, layer in layers.items():
            _replace(encoder, name, TripletLinear(layer, options.rank, options.alpha))
        return
    _inject(encoder, options)
    if options.tuning == "ffa_lora":
        for name, parameter in encoder.named_parameters():
            if ".lora_A." in name:
                parameter.requires_grad = False
    for name in layers:
        adapted: Any = encoder.get_submodule(name)
        if options.lora_aggregation == "products":
            adapted.base_layer = RestLinear(adapted.base_layer)
        if options.lora_error:
            adapted.register_buffer("lora_probes", torch.zeros(PROBES))


def _inject(encoder: nn.Module, options: TextOptions) -> None:
    library = peft()
    targets = list(options.adapted)
    if options.tuning == "ia3":
        config = library.IA3Config(target_modules=targets, feedforward_modules=[])
        library.inject_adapter_in_model(config, encoder)
        return
    config = library.LoraConfig(
        r=options.rank,
        lora_alpha=options.alpha,
        target_modules=targets,
        lora_dropout=0.0,
        bias="none",
        use_dora=options.tuning == "dora",
    )
    library.inject_adapter_in_model(config, encoder)


def _replace(encoder: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(encoder.get_submodule(parent), child, layer)


class RestLinear(nn.Module):
    """A frozen linear layer and what earlier rounds left beside its factors: W x + R x.

    ``lora_rest``: R, O x I, zero at first. Shared like a parameter, and moved by no step.
    """

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.base_layer = layer
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.lora_rest = nn.Parameter(torch.zeros(layer.out_features, layer.in_features))

    def forward(self, x: Tensor) -> Tensor:
        """B x ... x I to B x ... x O."""
        out: Tensor = self.base_layer(x)
        return out + F.linear(x, self.lora_rest.detach())


def low_rank(model: nn.Module, options: TextOptions) -> LowRank | None:
    """The model's factors, where more is to be done than to average them."""
    if options.lora_aggregation == "factors" and not options.lora_error:
        return None
    pairs = []
    for name, module in model.named_modules():
        layer: Any = module
        if not hasattr(layer, "lora_A"):
            continue
        rest = f"{name}.base_layer.lora_rest" if isinstance(layer.base_layer, RestLinear) else ""
        probes = f"{name}.lora_probes" if hasattr(layer, "lora_probes") else ""
        up, down = (f"{name}.{key}.{ADAPTER}.weight" for key in ("lora_B", "lora_A"))
        pairs.append(Pair(up, down, float(layer.scaling[ADAPTER]), rest, probes))
    return LowRank(tuple(pairs), options.lora_aggregation) if pairs else None
