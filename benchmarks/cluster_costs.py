"""What limits a cluster of 10, 100 and 1,000 nodes, and what a million images cost: arithmetic, not a measurement.

    python benchmarks/cluster_costs.py --rate 20 --image-kb 150 --result-kb 60 --cores 32 --storage-gb 5 --tasks 500 --price 1.0
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

_IMAGES_PER_TASK = 64  # fastscnn.cluster.label sends as many to a worker at a time
_NODES = (1, 10, 100, 1000)


@dataclass(frozen=True)
class Inputs:
    """What the arithmetic starts from.

    Attributes:
        rate: images per second of one core (benchmarks/cluster.py).
        image_kb, result_kb: read and written for each image.
        cores: of a node.
        storage_gb: gigabytes per second that the storage serves to all nodes together.
        tasks: per second that the process of the command hands out.
        price: of a node for an hour.
    """

    rate: float
    image_kb: float
    result_kb: float
    cores: int
    storage_gb: float
    tasks: float
    price: float


def limits(inputs: Inputs, nodes: int) -> dict[str, float]:
    """Return the images per second that each part allows; the least of them is the rate of the cluster.

    Example:
        >>> limits(Inputs(20, 150, 50, 32, 2, 100, 1), 10)
        {'cores': 6400, 'storage': 10000.0, 'scheduler': 6400}
    """
    return {
        "cores": nodes * inputs.cores * inputs.rate,
        "storage": 1e6 * inputs.storage_gb / (inputs.image_kb + inputs.result_kb),
        "scheduler": inputs.tasks * _IMAGES_PER_TASK,
    }


def cost(inputs: Inputs, nodes: int) -> float:
    """Return the cost of a million images: the hours that they take, times the price of all nodes.

    Example:
        >>> round(cost(Inputs(20, 150, 50, 32, 2, 1000, 1), 10), 3)
        0.434
    """
    return 1e6 / min(limits(inputs, nodes).values()) / 3600 * nodes * inputs.price


def main() -> None:
    """Print a table for clusters of several sizes."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in Inputs.__dataclass_fields__:
        parser.add_argument(f"--{name.replace('_', '-')}", type=int if name == "cores" else float, required=True)
    inputs = Inputs(**vars(parser.parse_args()))
    print("| nodes | cores allow | storage allows | scheduler allows | images per second | limit | a million images |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for nodes in _NODES:
        allowed = limits(inputs, nodes)
        least = min(allowed, key=allowed.__getitem__)
        columns = [f"{value:,.0f}" for value in (nodes, *allowed.values(), allowed[least])]
        print(f"| {' | '.join(columns)} | {least} | {cost(inputs, nodes):.2f} |")


if __name__ == "__main__":
    main()
