"""Regenerate the tables of docs/*.md from the JSON files in this folder: python benchmarks/tables.py"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from ablation import KNOWLEDGE, TRIALS, Trial

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"


def read(name: str) -> Any:
    """Read one of the JSON files."""
    return json.loads((HERE / name).read_text())


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])


def accuracy() -> str:
    """IoU per class of the bundled weights, by backend, precision and input size, beside that of CGNet."""
    columns = {
        "ONNX Runtime": "onnx", "PyTorch": "torch", "int8": "int8", "input 456x608": "456x608", "input 720x960": "720x960",
        "ms+flip": "ms-flip",
    }
    reports = [read(f"accuracy/camvid-test-{name}.json") for name in columns.values()]
    peer = read("accuracy/cgnet-test.json")
    rows = [
        [label, *(f"{report['iou'][label]:.2f}" for report in reports), str(peer["iou"][label])] for label in reports[0]["iou"]
    ]
    rows.append(["**mIoU**", *(f"{report['miou']:.2f}" for report in (*reports, peer))])
    rows.append(["pixels", *(f"{report['pixel_accuracy']:.2f}" for report in reports), ""])
    return table(["CamVid test, %", *columns, "CGNet"], rows)


def labels() -> str:
    """Full-size labels by the lazy rule, compiled and in NumPy, compared with PyTorch."""
    columns = {"2 threads, ms": "lazy_ms", "1 thread, ms": "one_thread_ms", "NumPy, ms": "numpy_ms", "PyTorch, ms": "torch_ms"}
    rows = [
        [row["image"], str(row["classes"]), *(f"{row[key]:.1f}" if key in row else "" for key in columns.values()),
         f"{row['ratio']:.0f}", str(row["labels_that_differ"]), str(row["of_them_not_tied"])]
        for row in read("speed/labels.json")
    ]
    return table(["image", "classes", *columns, "PyTorch / 2 threads", "labels that differ", "where no classes tie"], rows)


def mmseg() -> str:
    """All backends compared with mmsegmentation's four configurations, from one run."""
    found = read("speed/engines.json")["mmseg"]
    default, best = found["mmseg_ms"]["default"], min(found["mmseg_ms"].values())
    rows = [
        [f"fastscnn, {name}", f"{taken:.1f}", f"{default / taken:.1f}", f"{best / taken:.1f}"]
        for name, taken in sorted(found["fastscnn_ms"].items(), key=lambda item: item[1])
    ]
    version = f"mmsegmentation {found['mmseg_version']}"
    rows += [[f"{version}, {name}", f"{taken:.0f}", f"{default / taken:.1f}", f"{best / taken:.1f}"]
             for name, taken in found["mmseg_ms"].items()]
    return table(["1024x2048, median", "ms", "speed-up over mmseg default", "over mmseg tuned"], rows)


def agreement() -> str:
    """Agreement and scores of every backend on CamVid test."""
    found = read("speed/engines.json")["labels"]
    whole = found["torch float32"]["miou"]
    rows = [
        [name, f"{one['labels']:.3f}", f"{one['miou']:.2f}", f"{one['miou'] - whole:+.3f}",
         f"{one['class']} {-one['worst']:+.2f}" if "class" in one else ""]
        for name, one in found.items()
    ]
    return table(["backend", "equal labels, %", "mIoU", "change", "worst class"], rows)


def engines() -> str:
    """Stages of a frame by backend and size, with throughput, memory and cold start."""
    rows = []
    for report in read("speed/engines.json")["reports"]:
        stages = {name: stage["p50"] for name, stage in report["stages"].items()}
        roof, plain = report["roofline"], 1e3 / report["stages"]["frame"]["mean"]
        rows.append([
            f"{report['backend']} {report['precision']}", f"{report['size'][0]}x{report['size'][1]}",
            *(f"{stages[name]:.1f}" for name in ("decode", "network", "labels", "write", "frame")),
            f"{plain:.1f}", f"{report['stream_fps']:.1f}", f"{roof['limit_ms']:.1f} ({roof['share']:.0f} %)",
            f"{report['peak_memory_mib']:.0f}", f"{report['cold_start_s']:.2f}",
        ])
    head = ["backend", "size", "decode", "network", "labels", "write", "frame", "frames/s", "stream", "limit (share)", "MiB",
            "cold start, s"]
    return table(head, rows)


def from_file_to_file() -> str:
    """Milliseconds from a JPEG file to label files, of this version, an earlier one, and the peers."""
    sizes = ("360x480", "1024x2048")
    found = {size: read("speed/files.json")[f"one {size}"]["milliseconds"] for size in sizes}
    rows = []
    for name in found[sizes[0]]:
        cells = []
        for size in sizes:
            taken = found[size]
            now = taken.get(name.replace("before, ", "after, "))
            faster = f" ({taken[name] / now:.1f})" if now and name.startswith("before, ") else ""
            cells.append(f"{taken[name]:.1f}{faster}")
        rows.append([name, *cells])
    return table(["ms (times that of after)", *sizes], rows)


def folders() -> str:
    """Images per second of whole commands on a folder."""
    rates = {size: read("speed/files.json")[f"folder {size}"]["images_per_second"] for size in ("360x480", "1024x2048")}
    rows = [[name, *(f"{column[name]:.1f}" for column in rates.values())] for name in rates["360x480"]]
    return table(["images/s", *rates], rows)


def shares() -> str:
    """Images per second of the network alone and from file to label file, two at a time, without start."""
    rows = []
    for size in ("360x480", "1024x2048"):
        for name, rates in read("speed/files.json")[f"share {size}"]["images_per_second"].items():
            rows.append([name, size, *(f"{rates[way]:.1f}" for way in ("network", "files")),
                         f"{100 * rates['files'] / rates['network']:.0f} %"])
    return table(["backend", "size", "network alone, images/s", "from file to label file", "share"], rows)


def ablation() -> str:
    """The trials that need CamVid only."""
    return trials(TRIALS)


def knowledge() -> str:
    """The trials of more knowledge."""
    return trials(KNOWLEDGE)


def trials(chosen: Mapping[str, Trial]) -> str:
    """Each trial and its gain over its baseline: mean over the seeds, their range, and every class."""
    runs: dict[str, list[Any]] = {name: [] for name in chosen}
    for path in sorted((HERE / "accuracy" / "ablation").glob("*.json")):
        run = json.loads(path.read_text())
        if run["name"] in runs:
            runs[run["name"]].append(run)
    classes = list(next(made for made in runs.values() if made)[0]["iou"])
    rows = []
    for name, trial in chosen.items():
        made = runs[name]
        if not made:
            continue
        scores = [run["miou"] for run in made]
        # Only common seeds are compared: the spread over seeds exceeds most effects.
        before = {run["seed"]: run["miou"] for run in runs.get(trial.against or "", ())}
        gains = [run["miou"] - before[run["seed"]] for run in made if run["seed"] in before]
        gain = f"{fmean(gains):+.2f}" if gains else ""
        spread = f" ({min(scores):.2f} to {max(scores):.2f})" if len(scores) > 1 else ""
        by_class = [f"{fmean(run['iou'][label] or 0 for run in made):.0f}" for label in classes]
        rows.append([f"`{name}`", trial.what, str(len(made)), f"{fmean(scores):.2f}{spread}", gain, *by_class])
    return table(["trial", "what", "seeds", "mIoU", "gain", *(label[:6] for label in classes)], rows)


def cityscapes19() -> str:
    """IoU on CamVid val of a network with Cityscapes' 19 classes and of its teacher."""
    found = read("accuracy/cityscapes19.json")
    columns = [found["teacher"], found["student"]]
    rows = [[label, *(f"{column['iou'][label]:.1f}" for column in columns)] for label in columns[0]["iou"]]
    rows.append(["**mean**", *(f"**{column['miou']:.2f}**" for column in columns)])
    return table(["CamVid val, %", "ESPNetv2", "student"], rows)


def training() -> str:
    """Training speed of the three systems."""
    systems = read("speed/training.json")["systems"]
    names = {"ours": "`fastscnn train camvid`", "plain": "plain loop, same network", "mmseg": "mmsegmentation 1.2.2's model"}
    ours = systems["ours"]["images_per_second"]
    rows = [
        [names[key], f"{figures['images_per_second']:.1f}", f"{ours / figures['images_per_second']:.1f}",
         f"{figures['peak_memory_mib'] / 1024:.1f}"]
        for key, figures in systems.items()
    ]
    return table(["system", "images/s", "speed-up of fastscnn", "peak memory, GiB"], rows)


def corruptions() -> str:
    """Accuracy on corrupted images by kind and strength, of earlier weights and of the bundled ones."""
    before, after = (read(f"accuracy/corruptions-{name}.json") for name in ("before", "after"))
    if before["kinds"].keys() != after["kinds"].keys() or before["images"] != after["images"]:
        raise ValueError("accuracy/corruptions-before.json and -after.json: measured on other kinds or images.")

    def cell(old: float, new: float) -> str:
        return f"{old:.1f} -> {new:.1f}"

    rows = [["clean", cell(before["clean"], after["clean"]), "", "", f"{after['clean'] - before['clean']:+.1f}"]]
    for kind, old in before["kinds"].items():
        new = after["kinds"][kind]
        rows.append([kind.replace("_", " "), *map(cell, old["miou"], new["miou"]), f"{new['mean'] - old['mean']:+.1f}"])
    by_strength = [
        cell(*(fmean(kind["miou"][place] for kind in found["kinds"].values()) for found in (before, after)))
        for place in range(3)
    ]
    rows.append(["**mean**", *by_strength, f"{after['mean'] - before['mean']:+.1f}"])
    return table(["mIoU before -> after, %", "strength 1", "strength 2", "strength 3", "gain of the mean"], rows)


def reliability() -> str:
    """What the reliability suite found for each promise."""
    found = read("reliability.json")["promises"]
    rows = [
        [one["promise"], f"{one['cases']:,}", str(one["failed"]), str(one["skipped"]),
         ", ".join(f"{name}: {value:,}" for name, value in one["figures"].items()), f"{one['seconds']:.0f}"]
        for one in found.values()
    ]
    return table(["promise", "cases", "failed tests", "skipped tests", "figures", "s"], rows)


def wrong_changes() -> str:
    """What the tests did to random wrong changes of each group of modules."""
    groups: dict[str, list[dict[str, str]]] = {}
    for mutant in read("random_mutants.json"):
        groups.setdefault(mutant["group"], []).append(mutant)
    rows = []
    for group, mutants in groups.items():
        found = Counter(mutant["outcome"] for mutant in mutants)
        files = {mutant["module"] for mutant in mutants}
        killed = found["killed"] + found["timeout"]
        rows.append([group, str(len(files)), *map(str, (len(mutants), killed, found["equivalent"], found["survived"]))])
    return table(["group", "modules", "changes", "caught", "equivalent", "missed"], rows)


def targets() -> str:
    """Labels of every export target, in its runtime, compared with ours on both splits; the details are those of test."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for one in read("accuracy/targets.json"):
        found.setdefault((one["target"], one["precision"]), {})[one["split"]] = one
    rows = []
    for both in found.values():
        val, test = both.get("val"), both["test"]
        rows.append([
            test["target"], test["runtime"], test["precision"], f"{test['output']}, {test['input']} size",
            *(f"{one['equal_labels']:.3f}" if one else "" for one in (val, test)), str(test["ties"]), str(test["others"]),
            *(signed(one["miou_before"] - one["miou"]) if one else "" for one in (val, test)),
            f"{test['worst_class']} {test['largest_loss']:.2f}" if test["worst_class"] else "none",
            f"{test['bytes'] / 1e6:.1f}",
        ])
    return table(["target", "run by", "precision", "file", "equal labels, %: val", "test", "ties", "other labels",
                  "mIoU lost: val", "test", "class that loses most", "MB"], rows)


def signed(loss: float) -> str:
    """Return a loss with its sign; zero is positive."""
    return f"{loss:+.3f}".replace("-0.000", "+0.000")


def target_times() -> str:
    """Milliseconds of every target's runtime beside ours, and the seconds of its export, by size."""
    found: dict[str, list[dict[str, Any]]] = {}
    for one in read("speed/targets.json")["targets"]:
        found.setdefault(one["target"], []).append(one)
    sizes = list(dict.fromkeys(one["size"] for rows in found.values() for one in rows))
    rows = []
    for name, measured in found.items():
        by_size = {one["size"]: one for one in measured}
        cells = [f"{by_size[size][key]:.1f}" if size in by_size else "" for size in sizes for key in ("ms", "ours_ms")]
        seconds = measured[0]["seconds"]
        made = seconds["trace"] + seconds[f"write for {name}"]
        rows.append([name, *cells, f"{made:.1f}", f"{sum(seconds.values()):.1f}"])
    head = [text for size in sizes for text in (f"{size}, ms", "ours, ms")]
    return table(["target", *head, "conversion, s", "whole export, s"], rows)


def labels_in_graph() -> str:
    """Labels in the graph, beside logits with our labels step and beside a graph of a user."""
    columns = {"`--output labels`, ms": "labels", "and `--static`": "static", "logits, our labels step": "logits",
               "upsampling added by hand": "naive"}
    rows = [[one["runtime"], one["size"], *(f"{one[key]:.1f}" for key in columns.values())]
            for one in read("speed/targets.json")["graphs"]]
    return table(["run by", "size", *columns], rows)


def gpu() -> str:
    """Our backend on an NVIDIA device, and the same network in plain PyTorch."""
    rows = []
    for row in read("speed/gpu.json")["rows"]:
        for name, found in row["systems"].items():
            rates = [f"{found[what]['fps']:.0f}" if what in found else "" for what in ("device", "host", "stream")]
            height, width = row["size"]
            differ = ""
            if name.startswith("ours"):
                agreed = found["labels_of_cpu_float32"]
                differ = f"{agreed['differ']:,} of {agreed['scenes'] * height * width:,}"
            rows.append([f"{height}x{width}", row["precision"], name, *rates, differ])
    return table(["size", "precision", "system", "on the device", "from and to the host", "two frames in progress",
                  "labels other than the CPU's in float32"], rows)


def devices() -> str:
    """Scores of the bundled weights on each device, and labels that differ from the CPU's."""
    rows = [[row["system"], row["hardware"], f"{row['miou']:.2f}", f"{row['differ']:,}"]
            for row in read("speed/devices.json")["systems"]]
    return table(["system", "hardware", "mIoU", "labels that differ"], rows)


TABLES: Mapping[str, tuple[Callable[[], str], ...]] = {
    "speed.md": (mmseg, agreement, engines, from_file_to_file, folders, shares, labels, gpu, devices),
    "accuracy.md": (accuracy, corruptions, ablation, knowledge, cityscapes19, training),
    "reliability.md": (reliability, wrong_changes),
    "deploy.md": (targets, target_times, labels_in_graph),
}


def main() -> None:
    """Replace the text between the markers of each table."""
    for name, makers in TABLES.items():
        text = (DOCS / name).read_text()
        for make in makers:
            start, end = f"<!-- {make.__name__} -->\n", f"\n<!-- /{make.__name__} -->"
            before, after = text.split(start)[0], text.split(end)[1]
            text = before + start + make() + end + after
        (DOCS / name).write_text(text)


if __name__ == "__main__":
    main()
