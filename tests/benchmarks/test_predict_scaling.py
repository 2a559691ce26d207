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
    (step,) = rows_of("2026-11-22-input-step.json")
    networks = {network.name: network for network in predict_scaling.NETWORKS}
    ready = statistics.median(step["images_per_second"]["ready"])
    assert networks["resnet_v1_50"].step_seconds == pytest.approx(32 / ready, rel=1e-4)
    row = next(row for row in rows_of("2026-11-24-resnet_v2_152.json") if row["pass"] == "forward_backward")
    assert networks["resnet_v2_152"].step_seconds == pytest.approx(row["statistics"]["median"], rel=1e-4)
    assert networks["resnet_v2_152"].parameters == row["parameters"]
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
