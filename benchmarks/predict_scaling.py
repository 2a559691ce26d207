"""Predicts steps with many workers, as docs/scaling.md explains, and prints the table of that page.

    python benchmarks/predict_scaling.py

Only the steps of one worker and the loopback's two figures were measured.
"""

import json
import math
from pathlib import Path
from typing import NamedTuple

_ALL_REDUCE = Path(__file__).resolve().parent / "results" / "2026-11-24-all-reduce.json"
PACK_BYTES = 32 * 2**20  # As training/step.py sends them.
OTHER_SUMS = 2  # A step's metrics, and whether any worker was asked to stop.
WORKERS = (8, 16, 64, 256, 1024)


class Network(NamedTuple):
    """A network with the measured step of one worker: batch size, parameters, seconds."""

    name: str
    batch_size: int
    parameters: int
    step_seconds: float


class Link(NamedTuple):
    """The link between two neighbours in the ring: bytes per second, and seconds that any message takes."""

    name: str
    bytes_per_second: float
    message_seconds: float


# Float32, 2 cores of an AMD EPYC (AVX2), medians of 2026-11-27. The sources, in results/: -input-pipeline.json, -v1_5-
# train.json, and -resnet_v2_152.json, forward_backward, which leaves out the update.
NETWORKS = (
    Network("resnet_cifar_v1_20", 128, 269_722, 128 / 464.42),
    Network("resnet_v1_50", 16, 25_557_032, 2.3152),
    Network("resnet_v2_152", 32, 60_236_904, 12.697),
)


def links():
    """The links of the table: the loopback as measured, and three assumed ones."""
    medians = {
        row["megabytes"]: row["median_seconds"]
        for row in json.loads(_ALL_REDUCE.read_text(encoding="utf-8"))["results"]
        if row["workers"] == 2
    }
    # Two workers send 2 (2 - 1) / 2 = 1 times the volume in 2 messages, one after the other.
    loopback = Link("loopback as measured", 102.2e6 / medians[102.2], medians[0.004] / 2)
    return (loopback, *(Link(f"{gigabits} Gb/s, 0.1 ms", gigabits * 1e9 / 8, 1e-4) for gigabits in (10, 25, 100)))


def all_reduce_seconds(workers, parameters, link):
    """Seconds that a ring takes to sum float32 gradients while nothing else runs."""
    volume = 4 * parameters
    sums = math.ceil(volume / PACK_BYTES) + OTHER_SUMS
    messages = 2 * (workers - 1)
    return messages / workers * volume / link.bytes_per_second + messages * link.message_seconds * sums


def efficiency(network, workers, link):
    """Step time of one worker over that of `workers` workers, each with the same batch size; in [0, 1]."""
    return network.step_seconds / (network.step_seconds + all_reduce_seconds(workers, network.parameters, link))


def table():
    """The lines of the table, as Markdown."""
    columns = links()
    yield "| network, its step | workers | " + " | ".join(link.name for link in columns) + " |"
    yield "| --- | --- |" + " --- |" * len(columns)
    for network in NETWORKS:
        for workers in WORKERS:
            cells = [
                f"{all_reduce_seconds(workers, network.parameters, link):.3g} s, "
                f"{100 * efficiency(network, workers, link):.1f} %"
                for link in columns
            ]
            name = f"`{network.name}`, {network.step_seconds:.3g} s" if workers == WORKERS[0] else ""
            yield f"| {name} | {workers:,} | " + " | ".join(cells) + " |"


if __name__ == "__main__":
    print("\n".join(table()))
