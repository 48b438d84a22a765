"""Write the reference pages of the site from the code: the Python API, the command line and dataset.toml."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping
from pathlib import Path

from fastscnn import cli
from fastscnn.cli import cluster, dataset
from fastscnn.data import toml
from fastscnn.data.toml_labels import FORMATS
from fastscnn.training import recipes

RECIPE = "camvid"  # whose options are shown; those of another recipe have other defaults

API: Mapping[str, tuple[str, ...]] = {
    "Segment images": ("Segmenter", "Segmentation", "read_image", "inference.size.BaseSize"),
    "Weights": ("Card", "LabelSet", "push"),
    "Data": ("load_dataset", "init_dataset", "write_shards", "data.mixture.Source", "soft_labels",
             "annotations.writer.AnnotationWriter"),
    "Train, evaluate, export": (
        "train", "tune", "training.recipes.Recipe", "evaluate", "evaluation.evaluate.Report", "export",
        "exporting.report.ExportReport",
    ),
    "Labels from logits": ("upsampling.upsample.labels", "upsampling.upsample.confidence", "upsampling.upsample.ood_mask",
                           "upsampling.upsample.probabilities"),
    "Errors": ("FastSCNNError", "base.errors.ArgumentError"),
}


def write(out: Path) -> None:
    """Write the pages api.md, cli.md and dataset-toml.md into a folder."""
    out.mkdir(parents=True, exist_ok=True)
    for name, text in {"api": api(), "cli": command_line(), "dataset-toml": dataset_toml()}.items():
        (out / f"{name}.md").write_text(text, encoding="utf-8")


def api() -> str:
    """Return the page of the Python API: a directive of mkdocstrings for each object."""
    parts = ["# Python API\n\nFunctions that take data accept a name such as `camvid:PATH`, the path of a `dataset.toml`, or a "
             "`DatasetSpec`."]
    for title, names in API.items():
        parts += [f"## {title}", *(f"::: fastscnn.{name}" for name in names)]
    return "\n\n".join(parts) + "\n"


def command_line() -> str:
    """Return the page of the command line: the help texts that the parser prints."""
    parts = ["# Command line\n\nThese are the help texts of the commands, as `--help` prints them.", _block(help_of([]))]
    for verb in cli.VERBS:
        parts.append(f"## {verb}")
        for words in _calls(verb):
            parts += [*([f"### {' '.join(words)}"] if len(words) > 1 else []), _block(help_of(words))]
    return "\n\n".join(parts) + "\n"


def _calls(verb: str) -> Iterator[list[str]]:
    """Yield the words of each help text of a verb."""
    yield [verb]
    commands: Mapping[str, Mapping[str, str]] = {"dataset": dataset.COMMANDS, "cluster": cluster.COMMANDS}
    if verb in commands:
        yield from ([verb, command] for command in commands[verb])
    elif verb in ("train", "tune"):
        yield [verb, recipes.named(RECIPE).name]


def help_of(words: list[str]) -> str:
    """Return what a command prints for `--help`. Raises RuntimeError if it fails."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = cli.main([*words, "--help"])
    if code:
        raise RuntimeError(f"fastscnn {' '.join(words)} --help ends with {code}")
    return printed.getvalue().strip()


def _block(text: str) -> str:
    return f"```text\n{text}\n```"


def dataset_toml() -> str:
    """Return the page of dataset.toml: the docstring of its reader, its tables of keys, and the dataclasses that it makes."""
    keys = {"the file": toml.KEYS, "`[splits.NAME]`": toml.SPLIT_KEYS, "`[soft]`": toml.SOFT_KEYS}
    forms = {f'"{name}"': form.keys for name, form in FORMATS.items()}
    made = ("spec.DatasetSpec", "spec.Split", "soft.SoftClasses")
    return "\n\n".join([
        "# dataset.toml",
        "[Your own data](../docs/datasets.md#datasettoml) explains the keys. Any other key is an error.",
        "::: fastscnn.data.toml\n    options: {members: false, show_root_heading: false, show_root_toc_entry: false}",
        "## Keys",
        _table("table", "keys", keys),
        "## Keys of one format",
        _table("`labels_are`", "further keys", forms),
        "## In Python",
        "`fastscnn.load_dataset` returns a `DatasetSpec`.",
        *(f"::: fastscnn.data.{name}\n    options: {{members: false}}" for name in made),
    ]) + "\n"  # fmt: skip


def _table(first: str, second: str, rows: Mapping[str, tuple[str, ...]]) -> str:
    lines = [f"| {first} | {second} |", "| --- | --- |"]
    return "\n".join([*lines, *(f"| {name} | {', '.join(f'`{key}`' for key in keys)} |" for name, keys in rows.items())])
