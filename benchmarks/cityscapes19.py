"""Train the network with Cityscapes' 19 classes without Cityscapes, and compare it with its teacher on CamVid val.

    python benchmarks/cityscapes19.py camvid:ROOT FACADE SOFT --init WEIGHTS --out RUN [--steps 1500]

It learns from the soft labels of ESPNetv2 for CamVid's train split and LabelMeFacade, and from the labels of both datasets,
mapped to Cityscapes' classes as far as they are clear. SOFT is a folder with the soft labels in the folders camvid and facade.
WEIGHTS must not have been trained on val. An interrupted run is continued. Student and teacher are scored on val: the
probabilities of the 19 classes are summed into CamVid's 11, and upsampled. Writes benchmarks/accuracy/cityscapes19.json.
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import torch
import tyro
from ablation import SHORT, SOFT_TERMS, SOFT_TO_CAMVID, trial
from towns import divided

from fastscnn.base import files
from fastscnn.base.types import Float32Array, UInt8Array
from fastscnn.data import datasets, mixture
from fastscnn.data.builtin.cityscapes import LABELS
from fastscnn.data.class_map import soft_train_ids
from fastscnn.data.mixture import Source
from fastscnn.data.soft import SoftClasses
from fastscnn.data.spec import DatasetSpec, Split
from fastscnn.evaluation.metrics import Confusion
from fastscnn.media import images
from fastscnn.model.label_set import IGNORE_INDEX, LabelSet
from fastscnn.network import checkpoint
from fastscnn.network.fast_scnn import FastSCNN
from fastscnn.training.job import Progress
from fastscnn.training.train import train
from fastscnn.upsampling import upsample

RESULT = Path(__file__).parent / "accuracy" / "cityscapes19.json"
# Not mapped: Bicyclist, which is a rider and a bicycle, and LabelMeFacade's other classes.
CLEAR = {
    "Sky": "sky", "Building": "building", "Pole": "pole", "Road": "road", "Pavement": "sidewalk", "Tree": "vegetation",
    "SignSymbol": "traffic sign", "Fence": "fence", "Car": "car", "Pedestrian": "person", "pavement": "sidewalk",
    "door": "building", "window": "building",
} | {name: name for name in ("vegetation", "building", "car", "road", "sky")}  # fmt: skip
STEPS_A_MESSAGE = 100


def main(data: str, facade: Path, soft: Path, /, init: Path, out: Path, steps: int = 1500) -> None:
    """Train, score and write the result.

    Args:
        data: camvid:ROOT.
        facade: Folder of LabelMeFacade.
        soft: Folder of the soft labels.
        init: Weights to start from.
        out: Folder of the run.
        steps: Steps of 8 crops.
    """
    camvid = datasets.load(data)
    sources = [
        Source(mapped(camvid, soft / "camvid", out / "camvid"), "all", 1.0),
        Source(mapped(divided(facade), soft / "facade", out / "facade"), "all", 0.25),
    ]
    changes = {**trial("cgnet").changes, "crop": (360, 384), "warmup": 100, "iterations": steps, "distillation": 1.0,
               "class_weights": "none", "validate_every": 1000}  # fmt: skip
    recipe = dataclasses.replace(SHORT, **changes)
    resume = (out / "resume.safetensors").exists()
    train(recipe, mixture.load(sources), out, validation=None, init=init, on_step=tell, on_message=print, resume=resume)
    files.write(RESULT, json.dumps({"steps": steps, **scores(camvid, soft / "camvid", out)}, indent=1).encode() + b"\n")


def tell(progress: Progress) -> None:
    """Print the loss now and then."""
    if progress.step % STEPS_A_MESSAGE == 0:
        print(f"step {progress.step}: {progress.loss:.3f}", flush=True)


def mapped(spec: DatasetSpec, soft: Path, folder: Path) -> DatasetSpec:
    """Write the labels of the train split with Cityscapes' classes into a folder; return the dataset with its soft labels."""
    table = np.full(256, IGNORE_INDEX, np.uint8)
    for index, name in enumerate(spec.label_set.names):
        if name in CLEAR:
            table[index] = LABELS.names.index(CLEAR[name])
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for pair in spec.pairs("train"):
        images.write(folder / "labels" / f"{pair.image.stem}.png", table[spec.read(pair)[1]])
        link = folder / "images" / pair.image.name
        if not link.exists():
            link.symlink_to(pair.image.resolve())
    meaning = SoftClasses(LABELS.names, soft_train_ids(LABELS.names, {}, LABELS.names), SOFT_TERMS)
    split = Split("images/*", "labels/{stem}.png", soft=os.path.relpath(soft.resolve(), folder.resolve()) + "/{stem}.npz")
    return DatasetSpec(folder.name, folder, LabelSet(LABELS.names), {"all": split}, soft=meaning)


def scores(camvid: DatasetSpec, soft: Path, out: Path) -> dict[str, object]:
    """Return mIoU and IoU of student and teacher on val, in percent."""
    model = checkpoint.load(out / "last.safetensors")[0].eval()
    names = camvid.label_set.names
    classes = SoftClasses(LABELS.names, soft_train_ids(LABELS.names, SOFT_TO_CAMVID, names))
    to_camvid = classes.to_classes(range(len(names)), len(names))  # sums 19 classes into 11
    found = {"student": Confusion(len(names)), "teacher": Confusion(len(names))}
    for pair in camvid.pairs("val"):
        image, truth = camvid.read(pair)
        teacher = (classes.read(soft / f"{pair.image.stem}.npz", truth.shape) / 255).astype(np.float32)
        by_name: dict[str, Float32Array] = {"student": student(model, image), "teacher": teacher}
        for name, probabilities in by_name.items():
            summed = np.einsum("shw,sc->chw", probabilities, to_camvid)
            logits = np.log(summed + 1e-6).astype(np.float32)
            found[name].add(upsample.labels(logits, truth.shape), truth)
    return {
        name: {"miou": confusion.miou(), "iou": dict(zip(names, confusion.iou(), strict=True))}
        for name, confusion in found.items()
    }


def student(model: FastSCNN, image: UInt8Array) -> Float32Array:
    """Return the probabilities of the network, float32 [19, h, w]."""
    with torch.no_grad():
        probabilities: Float32Array = torch.softmax(model(torch.from_numpy(image.copy())[None])[0], 0).numpy()
    return probabilities


if __name__ == "__main__":
    tyro.cli(main)
