"""push: weights and their model card, to the Hugging Face Hub."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from fastscnn.base import files
from fastscnn.cli.console import STDERR, configure, is_quiet, show
from fastscnn.cli.options import Quiet, Verbose, described, path, required, switch, value

USAGE = "[options] FILE ... --to hf://OWNER/NAME"


def run(
    weights: Annotated[Positional[tuple[Path, ...]], required(
        "Weight files, .onnx and .safetensors, of the same weights.", "FILE ...")],
    *,
    to: Annotated[str, value("ADDRESS", str), required("hf://OWNER/NAME, or hf://OWNER/NAME@BRANCH.")],
    private: Annotated[bool, switch("Create a private repository.")] = False,
    license_id: Annotated[str | None, value("ID", str), described(
        "Licence, such as cc-by-4.0, of weights whose card states no terms of the training data.", name="license")] = None,
    card: Annotated[Path | None, path("FILE"), described(
        "Write the model card, README.md on the hub, to this file, and upload nothing.")] = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Upload weights and a model card to the Hugging Face Hub; create the repository if it does not exist.

    Files are named model.onnx, model-int8.onnx and model.safetensors, by their content. Log in with `hf auth login`, or set
    HF_TOKEN.
    """
    from fastscnn.hub import push

    configure(quiet, verbose)
    if card:
        files.write(card, push.readme(weights, to, license_id).encode())
        show(f"Wrote {card}")
        return 0
    with nullcontext() if is_quiet() else STDERR.status("uploading"):
        done = push.push(weights, to, private, license_id)
    show(f"Uploaded to {done}")
    show(f"Next: fastscnn segment IMAGE --weights {to}")
    return 0
