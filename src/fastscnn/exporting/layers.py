"""Find the layer that a converter or a runtime computes wrongly: convert the network up to a stage, and compare the output."""

from __future__ import annotations

import tempfile
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from fastscnn.base.types import UInt8Array
from fastscnn.exporting.finish import finished
from fastscnn.exporting.float16 import to_float16
from fastscnn.exporting.metadata import card_of
from fastscnn.exporting.quantize import Stage
from fastscnn.exporting.targets.target import Exported, Target
from fastscnn.exporting.trace import trace
from fastscnn.network.shortened import shortened, stages

# Largest accepted difference of a stage's output from PyTorch, relative to its largest value. With the bundled weights at
# 360x480, healthy targets have up to 2e-5 in float32 (coreml; all others 1e-6) and 4.2e-3 in float16.
LIMITS = {"float32": 1e-3, "float16": 3e-2}


def wrong_layer(target: Target, exported: Exported, pictures: Sequence[UInt8Array], stage: Stage) -> str:
    """Return a sentence that names the first stage of the network whose output differs from PyTorch.

    Up to five shortened networks are converted and run: the stages are bisected, since a wrong output makes the later ones
    wrong, too.

    Args:
        target: whose runtime disagreed with our labels.
        exported: what it converted, in float32 or float16.
        pictures: images uint8 [H, W, channels] that the network accepts.
        stage: shows the progress.
    """
    parts, limit = stages(), LIMITS[exported.form.precision]
    names, found = list(parts), dict[str, float]()

    with stage("compare layers") as advance:
        def differs(last: str) -> bool:
            found[last] = difference(target, _up_to(exported, target, last), pictures)
            advance(len(found), len(names).bit_length())
            return not found[last] <= limit  # NaN differs

        first = bisect_left(names, True, key=differs)
    if first < len(names):
        name = names[first]
        return (f"The first layer that differs is {name} ({parts[name]}), by {found[name]:.1e} of its largest value "
                f"(limit {limit:.0e}).")
    if exported.form.output == "logits":
        return f"No layer differs by more than {limit:.0e} of its largest value: smaller differences add up."
    return f"All layers agree within {limit:.0e} of their largest values: the upsampling or the argmax in the graph differs."


def _up_to(exported: Exported, target: Target, last: str) -> Exported:
    """Return the export of the network up to a stage."""
    model, form = shortened(exported.network, last), replace(exported.form, output="logits", output_size=None)
    content = trace(model, exported.card)
    if form.precision == "float16" and form.precision not in target.own_precisions:
        content = to_float16(content)
    content = finished(content, form)
    return replace(exported, content=content, card=card_of(content), form=form, load_network=lambda: model)


def difference(target: Target, exported: Exported, pictures: Sequence[UInt8Array]) -> float:
    """Return the largest difference of an output from PyTorch, relative to its largest value; infinity for another shape."""
    assert target.load is not None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"network{target.suffix}"
        target.write(exported, path)
        run, found = target.load(path, exported.card), []
        for picture in pictures:
            with torch.inference_mode():
                expected = exported.network(torch.from_numpy(picture[None])).numpy()
            got = run(picture[None])["logits"]
            found.append(np.abs(got - expected).max() / np.abs(expected).max() if got.shape == expected.shape else np.inf)
    return float(np.max(found))
