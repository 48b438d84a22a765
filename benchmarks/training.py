"""Time training steps: ours, a plain loop over the same network, and mmsegmentation's model; same batch, same threads.

    python benchmarks/training.py [--mmseg PYTHON] [--rounds 3] [--out benchmarks/speed/training.json]

PYTHON is the interpreter of an environment with mmsegmentation. Each system runs in its own process, one after another, for
several rounds; the result is the median of the rounds. The batch is in memory: the time is that of the forward pass, the
loss, the backward pass and the optimiser step.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

BATCH, CROP, CLASSES = 12, (360, 480), 11
WARM_UP, STEPS = 3, 8


def batch() -> tuple[Any, Any]:
    """Return random images uint8 [12, 360, 480, 3] and labels uint8 [12, 360, 480]; the time does not depend on the values."""
    import numpy as np

    random = np.random.default_rng(0)
    return random.integers(0, 256, (BATCH, *CROP, 3), np.uint8), random.integers(0, CLASSES, (BATCH, *CROP), np.uint8)


def ours() -> Callable[[], object]:
    """Return the training step of `fastscnn train camvid`."""
    import dataclasses

    import torch

    from fastscnn.model.card import Card
    from fastscnn.model.label_set import LabelSet
    from fastscnn.training.initial import initial
    from fastscnn.training.loader import Batch
    from fastscnn.training.loop import keep_freed_memory, step
    from fastscnn.training.recipes import named
    from fastscnn.training.segmentation import SegmentationLoss

    keep_freed_memory()
    recipe = dataclasses.replace(named("camvid"), batch=BATCH, crop=CROP)
    card = Card(LabelSet(tuple(f"class {index}" for index in range(CLASSES))), CROP)
    state, _ = initial(recipe, card, torch.device("cpu"))
    data = Batch(*batch(), ("noise",))
    loss = SegmentationLoss(recipe, torch.ones(CLASSES))
    return lambda: step(state, data, loss, recipe, 1e-4)


def plain() -> Callable[[], object]:
    """Return a plain training step: float32, logits interpolated to full size, cross-entropy of all three heads."""
    import torch
    from torch.nn.functional import cross_entropy, interpolate

    from fastscnn.network.fast_scnn import FastSCNN

    model = FastSCNN(CLASSES, auxiliary=True).train()
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9, weight_decay=4e-5)
    pictures, truth = (torch.from_numpy(array) for array in batch())

    def step() -> None:
        optimiser.zero_grad()
        made = model(pictures)
        main, *others = [cross_entropy(interpolate(logits, size=CROP, mode="bilinear"), truth.long())
                         for logits in (made.main, *made.auxiliary)]
        loss = main + 0.4 * sum(others)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    return step


def mmseg() -> Callable[[], object]:
    """Return a step of mmsegmentation's fast_scnn config with its own losses; plain batch norm, not synchronised."""
    import logging
    import warnings

    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    import mmseg as package
    import mmseg.models
    import torch
    from mmengine.config import Config
    from mmengine.registry import init_default_scope
    from mmengine.structures import PixelData
    from mmseg.registry import MODELS
    from mmseg.structures import SegDataSample

    init_default_scope("mmseg")
    folder = Path(package.__file__).parent / ".mim/configs/fastscnn"
    config = Config.fromfile(next(folder.glob("*.py"))).model
    config.backbone.norm_cfg.type = "BN"
    for head in (config.decode_head, *config.auxiliary_head):
        head.norm_cfg.type, head.num_classes = "BN", CLASSES
    config.data_preprocessor = None
    model = MODELS.build(config).train()
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9, weight_decay=4e-5)
    pictures, truth = (torch.from_numpy(array) for array in batch())
    samples = []
    for labels in truth:
        sample = SegDataSample(metainfo={"img_shape": CROP, "ori_shape": CROP})
        sample.gt_sem_seg = PixelData(data=labels.long()[None])
        samples.append(sample)

    def step() -> None:
        optimiser.zero_grad()
        losses = model.loss((pictures.permute(0, 3, 1, 2).float() - 114) / 57, samples)
        sum(loss for name, loss in losses.items() if "loss" in name).backward()
        optimiser.step()

    return step


SYSTEMS: dict[str, Callable[[], Callable[[], object]]] = {"ours": ours, "plain": plain, "mmseg": mmseg}


def child(name: str) -> None:
    """Time one system in this process, and print a line of JSON."""
    import resource

    import torch

    torch.set_num_threads(2)
    step = SYSTEMS[name]()
    for _ in range(WARM_UP):
        step()
    seconds = []
    for _ in range(STEPS):
        start = perf_counter()
        step()
        seconds.append(perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"images_per_second": BATCH / median(seconds), "peak_memory_mib": peak, "torch": torch.__version__}))


def main() -> None:
    """Run the systems in turn, and write the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--child", choices=SYSTEMS, help=argparse.SUPPRESS)
    parser.add_argument("--mmseg", help="interpreter of an environment with mmsegmentation")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "speed" / "training.json")
    arguments = parser.parse_args()
    if arguments.child:
        return child(arguments.child)
    pythons = {"ours": sys.executable, "plain": sys.executable, "mmseg": arguments.mmseg}
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name, python in pythons.items() if python}
    for _ in range(arguments.rounds):
        for name, made in runs.items():
            command = [pythons[name], __file__, "--child", name]
            environment = {key: value for key, value in os.environ.items() if name != "mmseg" or key != "PYTHONPATH"}
            done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
            made.append(json.loads(done.stdout.splitlines()[-1]))
            print(name, made[-1])
    systems = {
        name: {key: median(run[key] for run in made) for key in ("images_per_second", "peak_memory_mib")}
        for name, made in runs.items()
    }
    report = {"batch": BATCH, "crop": CROP, "classes": CLASSES, "threads": 2, "rounds": arguments.rounds,
              "machine": platform.platform(), "systems": systems}
    arguments.out.write_text(json.dumps(report, indent=1) + "\n")
    return None


if __name__ == "__main__":
    main()
