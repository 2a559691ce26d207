"""Makes a page with figures from what the benchmarks measured.

    python benchmarks/time_forward_backward.py --model "resnet_v2_*" --batch_size 16 --json depths.json
    python benchmarks/report.py depths.json --output depths

writes `depths/report.html`, a self-contained page, and its figures as PNG files beside it. `--output depths.html`
writes the page there and the figures as `depths-*.png`. Files from time_forward_backward.py, compare_peers.py,
compare_processes.py and time_input_pipeline.py may share one page.
"""

import dataclasses
import sys
from pathlib import Path

import tyro

if not __package__:
    # A script run by its path finds only its own folder; this adds the folder of the zoo's packages.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import command_line


@dataclasses.dataclass(frozen=True)
class ReportConfig:
    """Makes a page with figures from files that the benchmarks wrote with --json."""

    files: tyro.conf.Positional[tuple[Path, ...]]
    """The files; on the page, only rows of the same file are compared with each other."""
    output: Path = Path("benchmark_report")
    """A folder for report.html and the figures, or a file name that ends in .html; existing files are replaced."""


def main(config):
    """Writes the page and the figures, and prints where."""
    from reports import benchmark_report

    page = benchmark_report.write(config.files, config.output)
    print(f"wrote {page}")


if __name__ == "__main__":
    command_line.run(main, ReportConfig)
