"""The state before the first step: a new network or one with given weights, its average and its optimiser."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from fastscnn.base.errors import FastSCNNError
from fastscnn.model.card import Card
from fastscnn.network import checkpoint
from fastscnn.network.classifier_card import ClassifierCard
from fastscnn.network.fast_scnn import Backbone, FastSCNN
from fastscnn.training.recipes import Recipe
from fastscnn.training.run import State

_FIRST = "downsample.0.0.weight"  # first convolution
_SHARED = ("downsample.", "global_features.", "mean", "std")  # common to a classifier and Fast-SCNN
_HEAD = "classifier.3."  # last layer, with one channel per class


def initial(
    recipe: Recipe, card: Card, device: torch.device, weights: Path | None = None, soft_classes: int = 0
) -> tuple[State, list[str]]:
    """Return the state before the first step.

    Args:
        recipe: how to train.
        card: card of the network to be trained: its classes, channels and variant.
        device: where to train.
        weights: a .safetensors file to start from, of Fast-SCNN or of a classifier; None for random weights by the recipe's
            seed.
        soft_classes: number of classes of the soft labels, for the layer that learns them if `recipe.soft_head` is set.

    Returns:
        The state, and sentences about what was not loaded from `weights`.

    Raises:
        FastSCNNError: weights that cannot be read or belong to another network.
    """
    torch.manual_seed(recipe.seed)
    classes, channels = len(card.label_set), card.channels
    model = FastSCNN(
        classes, channels, recipe.variant, recipe.width_mult, recipe.dropout, recipe.auxiliary > 0, recipe.reparam_branches,
        soft_classes if recipe.soft_head else 0,
    )  # fmt: skip
    notes = _load_weights(model, card, weights) if weights else []
    return initial_state(recipe, model, device), notes


def initial_state(recipe: Recipe, model: Backbone, device: torch.device) -> State:
    """Return the state before the first step of a network with its initial weights."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = recipe.norm_momentum
    model = model.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    return State(model, copy.deepcopy(model).eval(), _optimiser(recipe, model))


def teachers(paths: Sequence[Path], card: Card, device: torch.device) -> list[FastSCNN]:
    """Return the teachers. Raise FastSCNNError if one has other classes or channels."""
    models = []
    for path in paths:
        model, theirs = checkpoint.load(path)
        if (theirs.label_set.names, theirs.channels) != (card.label_set.names, card.channels):
            raise FastSCNNError(f"{path}: cannot be a teacher, because its classes or channels are not those of the dataset.")
        models.append(model.to(device, memory_format=torch.channels_last))  # type: ignore[call-overload]
    return models


def _load_weights(model: FastSCNN, card: Card, path: Path) -> list[str]:
    source, theirs = checkpoint.load_any(path)
    ours = (card.variant, card.width_mult, card.channels)
    if (theirs.variant, theirs.width_mult) != ours[:2]:
        raise FastSCNNError(f"{path}: has variant {theirs.variant!r}, width_mult {theirs.width_mult} and {theirs.channels} "
                            f"channels, but the network to train has variant {ours[0]!r}, width_mult {ours[1]} and {ours[2]} "
                            "channels.")
    if theirs.channels != ours[2] and not theirs.channels == 3 < ours[2]:
        raise FastSCNNError(f"{path}: has {theirs.channels} channels, but the network to train has {ours[2]}; "
                            f"use weights of {'RGB or ' if ours[2] > 3 else ''}{ours[2]} channels.")
    loaded: dict[str, Tensor] = dict(source.state_dict())
    notes = []
    if theirs.channels < ours[2]:
        loaded |= _widened(model, loaded)
        notes.append(f"{path}: has {theirs.channels} of the {ours[2]} channels; the weights of the others start at 0.")
    if isinstance(theirs, ClassifierCard):
        loaded = {name: tensor for name, tensor in loaded.items() if name.startswith(_SHARED)}
        notes.append(f"{path}: is an image classifier; its learning-to-downsample and global-feature weights are loaded, "
                     "and all others start at random.")
    elif theirs.label_set.names != card.label_set.names:
        loaded = {name: tensor for name, tensor in loaded.items() if not name.startswith(_HEAD)}
        before, now = ", ".join(theirs.label_set.names), ", ".join(card.label_set.names)
        notes.append(f"{path}: its last layer is replaced, because its classes ({before}) are not those of the "
                     f"dataset ({now}).")
    model.load_state_dict({**model.state_dict(), **loaded})
    for conv in model.depthwise():
        if conv.branch is not None:
            nn.init.zeros_(conv.branch.weight)  # so that the first step computes the same as the loaded weights
    return notes


def _widened(model: FastSCNN, loaded: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors that depend on the image's channels, for a network with more channels than the loaded one.

    The network then computes the same as the loaded one: the weights of the extra channels are 0. Their mean and standard
    deviation are the model's own.
    """
    first = loaded[_FIRST]
    weight = first.new_zeros(len(first), len(model.mean), *first.shape[2:])
    weight[:, : first.shape[1]] = first
    statistics = {name: torch.cat([loaded[name], model.get_buffer(name)[first.shape[1] :]]) for name in ("mean", "std")}
    return {_FIRST: weight, **statistics}


def _optimiser(recipe: Recipe, model: Backbone) -> torch.optim.Optimizer:
    undecayed = set() if recipe.weight_decay_on == "all" else {id(conv.weight) for conv in model.depthwise()}
    decayed = [parameter for parameter in model.parameters() if id(parameter) not in undecayed]
    others = [parameter for parameter in model.parameters() if id(parameter) in undecayed]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    if recipe.optimiser == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.lr, betas=(recipe.momentum, 0.999), fused=True)
    return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, fused=True)
