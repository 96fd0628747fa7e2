"""Networks for images: a small CNN of our own, ResNet-18 and DenseNet-121 of MONAI.

Group normalisation (Wu and He 2018, arXiv 1803.08494) is the default: it keeps no statistics of a
hospital and mixes no examples, which federated averaging and privacy both need.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from wardround.common.errors import TaskError
from wardround.common.tasks.imaging.layers import Augment, Standardise
from wardround.common.tasks.imaging.options import ImagingOptions, NetworkOptions

_SMALL = 64
"""Pixels up to which ResNet's first stage keeps the resolution, as in He et al.'s for CIFAR."""


def make_network(
    options: ImagingOptions, mean: Sequence[float], deviation: Sequence[float]
) -> nn.Module:
    """Pixels, uint8 or float32 in [0, 1], N x C x size, to N x 1 (two classes) or N x classes."""
    outputs = 1 if len(options.classes) == 2 else len(options.classes)
    axes, network = len(options.size), options.model
    body: nn.Module
    if network.kind == "cnn":
        body = small_cnn(axes, options.channels, outputs, network)
    else:
        body = _of_monai(options, axes, outputs)
    layers: list[tuple[str, nn.Module]] = [("scale", Standardise(mean, deviation, axes))]
    if options.augment.enabled:
        layers.append(("augment", Augment(options.augment)))
    model = nn.Sequential()
    for name, layer in [*layers, ("network", body)]:
        model.add_module(name, layer)
    return model


def small_cnn(axes: int, channels: int, outputs: int, options: NetworkOptions) -> nn.Module:
    """Three stages of two convolutions, halved in between, then the mean over positions.

    N x C x size to N x outputs. Stages are 1, 2 and 4 times ``width`` channels wide. A convolution
    has a bias only where no normalisation follows: that has a shift of its own, and a batch's mean
    would take the bias out again.
    """
    convolution = nn.Conv2d if axes == 2 else nn.Conv3d
    pool = nn.MaxPool2d if axes == 2 else nn.MaxPool3d
    norm = nn.BatchNorm2d if axes == 2 else nn.BatchNorm3d
    layers: list[nn.Module] = []
    before = channels
    for stage in range(3):
        width = options.width << stage
        for _ in range(2):
            layers.append(convolution(before, width, 3, padding=1, bias=options.norm == "none"))
            if options.norm == "batch":
                layers.append(norm(width))
            elif options.norm == "group":
                layers.append(nn.GroupNorm(options.groups, width))
            layers.append(nn.ReLU())
            before = width
        if stage < 2:
            layers.append(pool(2))
    layers += [nn.AdaptiveAvgPool2d(1) if axes == 2 else nn.AdaptiveAvgPool3d(1), nn.Flatten()]
    if options.dropout:
        layers.append(nn.Dropout(options.dropout))
    return nn.Sequential(*layers, nn.Linear(before, outputs))


def _of_monai(options: ImagingOptions, axes: int, outputs: int) -> nn.Module:
    try:
        from monai.networks.nets import DenseNet121, resnet18
    except ImportError:
        raise TaskError(
            f"task.model.kind = '{options.model.kind}' needs: pip install 'wardround[imaging]'"
        ) from None
    network = options.model
    if network.kind == "densenet121":
        body: nn.Module = DenseNet121(axes, options.channels, outputs, dropout_prob=network.dropout)
    else:
        small = network.stem == "small" or (network.stem == "auto" and max(options.size) <= _SMALL)
        stem: dict[str, Any] = (
            {"conv1_t_size": 3, "conv1_t_stride": 1} if small else {"conv1_t_stride": 2}
        )
        body = resnet18(
            spatial_dims=axes,
            n_input_channels=options.channels,
            num_classes=outputs,
            no_max_pool=small,
            **stem,
        )
        if network.dropout:
            body.add_module(
                "fc", nn.Sequential(nn.Dropout(network.dropout), body.get_submodule("fc"))
            )
    return with_group_norm(body, network.groups) if network.norm == "group" else body


def with_group_norm(model: nn.Module, groups: int) -> nn.Module:
    """The model with each batch normalisation replaced by a group normalisation of its channels.

    In ``groups`` groups, or the most that divide both. (MONAI's own ``norm`` reaches only the first
    layer of its ResNet.)
    """
    for name, module in list(model.named_modules()):
        if isinstance(module, _BatchNorm):
            count = math.gcd(groups, module.num_features)
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, nn.GroupNorm(count, module.num_features))
    return model
