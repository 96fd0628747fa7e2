"""Networks give one logit of two classes and one each of more, in 2D and 3D, in every norm."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from wardround.common.model.named import model_entries
from wardround.common.tasks.imaging.networks import make_network, with_group_norm
from wardround.common.tasks.imaging.options import ImagingOptions


def network(**options: object) -> nn.Module:
    return make_network(ImagingOptions(**options), [0.5], [0.25])  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [[32, 32], [32, 32, 32]])
@pytest.mark.parametrize("kind", ["cnn", "resnet18", "densenet121"])
def test_outputs(kind: str, size: list[int]) -> None:
    pixels = torch.zeros(2, 1, *size, dtype=torch.uint8)
    model = {"kind": kind} | ({"width": 8} if kind == "cnn" else {})
    assert network(classes=["a", "b"], size=size, model=model)(pixels).shape == (2, 1)
    if len(size) == 2:
        three = network(classes=["a", "b", "c"], size=size, model=model)
        assert three(pixels).shape == (2, 3)


def test_what_travels_is_what_is_trained() -> None:
    model = network(model={"kind": "resnet18"}, size=[28, 28])
    assert set(model_entries(model)) == {name for name, _ in model.named_parameters()}
    assert not any(isinstance(m, nn.BatchNorm2d) for m in model.modules())


def test_batch_norm_is_a_choice() -> None:
    model = network(model={"kind": "densenet121", "norm": "batch"}, size=[32, 32])
    assert any(isinstance(m, nn.BatchNorm2d) for m in model.modules())


def test_groups_divide_the_channels() -> None:
    model = with_group_norm(nn.Sequential(nn.BatchNorm2d(12), nn.Sequential(nn.BatchNorm2d(7))), 8)
    groups = [m.num_groups for m in model.modules() if isinstance(m, nn.GroupNorm)]
    assert groups == [4, 1]


def test_a_small_stem_keeps_the_resolution() -> None:
    """As He et al. 2016 for CIFAR-10: 3 x 3, stride 1, no pooling; parameters as in MedMNIST's."""
    seen = {}
    for stem in ("small", "large"):
        model = network(model={"kind": "resnet18", "stem": stem}, size=[28, 28])
        layer = model.get_submodule("network.layer1")
        layer.register_forward_hook(lambda m, i, o, stem=stem: seen.update({stem: o.shape[2]}))
        model(torch.zeros(1, 1, 28, 28))
    assert seen == {"small": 28, "large": 7}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": [28, 28], "model": {"kind": "densenet121"}}, "densenet121 needs at least 32"),
        ({"size": [28]}, "at least 2 items"),
        ({"model": {"kind": "resnet18", "norm": "none"}}, "doesn't train without"),
        ({"augment": {"flip": ["depth"]}}, "no depth"),
        ({"classes": ["a", "a"]}, "twice"),
        ({"window": [3.0, 1.0]}, "low below high"),
        ({"window": [-float("inf"), 1.0]}, "finite"),
        ({"model": {"width": 12}}, "multiple of groups"),
        ({"model": {"stem": "small"}}, "has no effect with kind"),
    ],
)
def test_options_that_make_no_sense(options: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ImagingOptions(**options)
