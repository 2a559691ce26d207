"""The prediction of docs/scaling.md: its formula by hand, its sources, its table."""

import json
import pathlib
import statistics

import pytest

from benchmarks import predict_scaling

ROOT = pathlib.Path(__file__).parents[2]


def rows_of(name):
    return json.loads((ROOT / "benchmarks" / "results" / name).read_text())["results"]


def test_the_formula_by_hand():
    # 4 MB in one pack; 4 workers send 2 x 3 / 4 of it at 1 MB/s, and 6 messages for each of 1 + 2 sums of 0.01 s.
    link = predict_scaling.Link("slow", 1e6, 0.01)
    assert predict_scaling.all_reduce_seconds(4, 1_000_000, link) == pytest.approx(6.0 + 6 * 3 * 0.01)
    # 40 MB take two packs of 32 MiB.
    assert predict_scaling.all_reduce_seconds(2, 10_000_000, link) == pytest.approx(40.0 + 2 * 4 * 0.01)
    network = predict_scaling.Network("any", 1, 1_000_000, 6.18)
    assert predict_scaling.efficiency(network, 4, link) == pytest.approx(0.5)
    assert predict_scaling.all_reduce_seconds(1, 1_000_000, link) == 0


def test_the_sources_are_the_committed_measurements():
    networks = {network.name: network for network in predict_scaling.NETWORKS}
    small = next(row for row in rows_of("2026-11-27-input-pipeline.json") if row["measure"] == "cifar")
    name, batch_size = small["setup"]["model"], small["setup"]["batch_size"]
    pace = statistics.median(small["images_per_second"][name])
    assert networks[name].step_seconds == pytest.approx(batch_size / pace, rel=1e-4)
    assert networks[name].batch_size == batch_size
    rows = [*rows_of("2026-11-27-v1_5-train.json"), *rows_of("2026-11-27-resnet_v2_152.json")]
    for name, timed in (("resnet_v1_50", "train_step"), ("resnet_v2_152", "forward_backward")):
        row = next(row for row in rows if (row["model"], row["pass"]) == (name, timed))
        assert networks[name].step_seconds == pytest.approx(statistics.median(row["step_seconds"]), rel=1e-4)
        assert (networks[name].parameters, networks[name].batch_size) == (row["parameters"], row["batch_size"])
    rows = {(row["workers"], row["megabytes"]): row for row in rows_of("2026-11-24-all-reduce.json")}
    loopback = predict_scaling.links()[0]
    assert loopback.message_seconds * 2 == statistics.median(rows[2, 0.004]["seconds"])
    assert 102.2e6 / loopback.bytes_per_second == pytest.approx(statistics.median(rows[2, 102.2]["seconds"]))


def test_the_page_shows_the_table_and_the_volumes():
    page = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    assert "\n".join(predict_scaling.table()) in page
    for network in predict_scaling.NETWORKS:
        volume = f"| `{network.name}` | {network.parameters:,} | {4 * network.parameters / 1e6:.2f} |"
        assert volume in page
