"""Fuzz targets for minutes, guided by coverage. An input that fails is written to the current folder, and ends the run."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from random import Random

import atheris

from fuzz.mutations import mutated

_SECONDS = 20  # that one input may take
_MEGABYTES = 3000  # that the process may take, of which PyTorch and its like take some 500 alone


def main() -> None:
    """Run one target."""
    with atheris.instrument_imports(include=["fastscnn"]):
        from fuzz.targets import TARGETS
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("target", choices=sorted(TARGETS), metavar="TARGET", help=f"One of {', '.join(sorted(TARGETS))}.")
    parser.add_argument("--minutes", type=float, default=10, help="Time of the run (default: 10).")
    options = parser.parse_args()
    target = TARGETS[options.target]

    def change(data: bytes, most: int, seed: int) -> bytes:
        random = Random(seed)
        made = mutated(data, random) if random.random() < 0.8 else atheris.Mutate(data, most)
        return bytes(made[:most])

    with tempfile.TemporaryDirectory() as name:
        folder, seeds = Path(name, "files"), Path(name, "seeds")
        folder.mkdir()
        seeds.mkdir()
        check = target.prepared(folder)
        for number, seed in enumerate(target.inputs()):
            (seeds / str(number)).write_bytes(seed)
            check(seed)  # also imports what is imported late, such as PyTorch, before the time of an input is limited
        flags = [f"-max_total_time={round(60 * options.minutes)}", f"-timeout={_SECONDS}", f"-rss_limit_mb={_MEGABYTES}",
                 "-max_len=20000", "-print_final_stats=1", f"-artifact_prefix={options.target}-"]
        atheris.Setup([sys.argv[0], *flags, str(seeds)], check, custom_mutator=change)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
