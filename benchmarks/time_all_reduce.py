"""Times the all-reduce of a training step, between processes on loopback or the machines that --worker_hosts names.

    python benchmarks/time_all_reduce.py --workers 2 4 --megabytes 1.1 102 241 --json all_reduce.json

starts that many processes here and times each volume with each number of them. It sums as the trainer's step sums
gradients: float32, by TensorFlow's ring over gRPC. To time the network between machines, run the same command on each,
with --worker_hosts and --task_index as for the trainer; the chief prints.
"""

import dataclasses
import json
import socket
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

if not __package__:
    # A script run by its path finds only its own folder; this adds the folder of the zoo's packages.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import command_line
from benchmarks import environment, results, timing
from command_line import UserError
from whole_files import write_json


@dataclasses.dataclass(frozen=True)
class AllReduceConfig:
    """Times the sum of float32 arrays over worker processes."""

    workers: tuple[int, ...] = (2, 4)
    """Numbers of processes to start here."""
    megabytes: tuple[float, ...] = (1.1, 102.2, 240.9)
    """Volumes, in 10**6 bytes; by default the gradients of ResNet-20 for CIFAR, ResNet-50 and ResNet-152."""
    parts: tuple[int, ...] = (1,)
    """Numbers of arrays to divide a volume into."""
    num_batches: int = 10
    """All-reduces to time."""
    burn_in: int = 2
    """All-reduces of burn-in before these."""
    worker_hosts: str | None = None
    """HOST:PORT of every worker, separated by commas, to time between machines; the same on each."""
    task_index: int | None = None
    """Index of this process among them, from 0."""
    worker_timeout_secs: float = 300.0
    """How long to wait for the other workers at the start, in seconds."""
    json: Path | None = None
    """File to write all times and the environment to."""


def main(config):
    """Measures, and prints a line for each row."""
    timing.check_step_counts(config.num_batches, config.burn_in)
    for name in ("workers", "megabytes", "parts"):
        if min(getattr(config, name), default=0) <= 0:
            raise UserError(f"--{name} is {getattr(config, name)}, expected numbers above 0")
    if config.json:
        results.check_path(config.json)
    described, rows = environment.describe_environment(), []

    def write(path, described, rows):
        write_json(path, {"environment": described, "results": rows})

    with results.finished_kept(config.json, write, described, rows):
        for count in config.workers if config.worker_hosts is None else (None,):
            of_count, shown = (_on_loopback(config, count), True) if count else _as_worker(config)
            rows += of_count if shown else []
            for row in of_count if shown else ():
                print(
                    f"{row['workers']} workers, {row['megabytes']:g} MB in {row['parts']} part(s): median "
                    f"{row['median_seconds']:.4f} s, min {min(row['seconds']):.4f}, max {max(row['seconds']):.4f}, "
                    f"n {len(row['seconds'])}",
                    flush=True,
                )
    if config.json and rows:
        write(config.json, described, rows)


def _on_loopback(config, count):
    """The rows that `count` processes of this script measure."""
    holders = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    hosts = ",".join(f"127.0.0.1:{holder.getsockname()[1]}" for holder in holders)
    for holder in holders:
        holder.close()
    flags = [f"--num_batches={config.num_batches}", f"--burn_in={config.burn_in}", f"--worker_hosts={hosts}"]
    flags += ["--megabytes", *map(str, config.megabytes), "--parts", *map(str, config.parts)]
    flags += [f"--worker_timeout_secs={config.worker_timeout_secs}"]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.json"
        command = [sys.executable, __file__, *flags, f"--json={file}"]
        processes = [
            subprocess.Popen([*command, f"--task_index={index}"], stdout=subprocess.DEVNULL) for index in range(count)
        ]
        try:
            if any([process.wait() for process in processes]):
                raise UserError(f"the all-reduce of {count} workers failed; they have said why")
        finally:
            for process in processes:
                process.kill()
                process.wait()
        return json.loads(file.read_text(encoding="utf-8"))["results"]


def _as_worker(config):
    """The rows that this worker measures, and whether it is the one to show them."""
    from training import devices
    from training.config import TrainConfig
    from training.workers import find_workers

    names = ("worker_hosts", "task_index", "worker_timeout_secs")
    train_config = TrainConfig(**{name: getattr(config, name) for name in names})
    workers = find_workers(train_config)
    devices.make_strategy(
        train_config, workers, flags={"megabytes": list(config.megabytes), "parts": list(config.parts)}
    )
    with workers.explain_losses():
        return [
            _time(config, workers, megabytes, parts) for megabytes in config.megabytes for parts in config.parts
        ], workers.is_chief


def _time(config, workers, megabytes, parts):
    import tensorflow as tf

    size = max(1, round(megabytes * 1e6 / 4 / parts))
    values = [tf.ones([size]) for _ in range(parts)]

    @tf.function(autograph=False)
    def sum_over_workers():
        def add():
            context = tf.distribute.get_replica_context()
            return [total[-1] for total in context.all_reduce(tf.distribute.ReduceOp.SUM, values)]

        return [workers.strategy.experimental_local_results(last)[0] for last in workers.strategy.run(add)]

    sums = {float(last) for last in sum_over_workers()}
    if sums != {float(workers.strategy.num_replicas_in_sync)}:
        raise AssertionError(f"ones over {workers.strategy.num_replicas_in_sync} replicas added up to {sums}")
    seconds = timing.time_steps(
        lambda: [last.numpy() for last in sum_over_workers()], config.num_batches, config.burn_in
    )
    return {
        "workers": workers.count,
        "megabytes": megabytes,
        "parts": parts,
        "burn_in": config.burn_in,
        "seconds": seconds,
        "median_seconds": statistics.median(seconds),
    }


if __name__ == "__main__":
    command_line.run(main, AllReduceConfig)
