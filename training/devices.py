"""Chooses precision and distribution strategy from the machine's devices."""

import os
import signal
import sys
import threading

import tensorflow as tf

from command_line import UserError
from nets.processor import computes_in
from training import meeting, parameter_servers

PRECISIONS = ("auto", "float32", "bfloat16", "float16")
_NVIDIA = "/dev/nvidia0"  # What the driver of the first GPU makes.


def resolve_precision(precision):
    """Turns `auto` into the precision that pays off on this machine.

    Args:
      precision: One of PRECISIONS.

    Returns:
      "float16" on a GPU; "bfloat16" on a CPU with AMX or AVX512-BF16 (others compute in float32 and round); else
      "float32". A precision other than auto is returned as it is.

    Raises:
      UserError: If the precision is unknown.
    """
    if precision not in PRECISIONS:
        raise UserError(f"precision is {precision!r}, expected one of: {', '.join(PRECISIONS)}")
    if precision != "auto":
        return precision
    if tf.config.get_visible_devices("GPU"):
        return "float16"
    return "bfloat16" if computes_in("bfloat16") else "float32"


def make_strategy(config, workers, flags):
    """Makes the tf.distribute strategy of a run and connects its workers; called before TensorFlow does anything.

    Args:
      config: A TrainConfig.
      workers: A workers.Workers, which gets the strategy.
      flags: As in `meeting.meet`.

    Returns:
      The strategy. --strategy=auto means parameter_server if there are servers, multi_worker if there are several
      workers, else mirrored if there are several GPUs, else one device.

    Raises:
      UserError: If the machine lacks what the flags ask for, or a worker does not come.
    """
    gpus = _take_gpus(config.num_gpus)
    kind = config.strategy
    if kind == "auto":
        several = "multi_worker" if workers.count > 1 else "mirrored" if len(gpus) > 1 else "one_device"
        kind = "parameter_server" if workers.cluster.servers else several
    if (kind == "parameter_server") != bool(workers.cluster.servers):
        raise UserError(
            f"--strategy={kind} with {len(workers.cluster.servers)} parameter server(s): parameter_server needs some, "
            "from --ps_hosts or TF_CONFIG, and the others take none"
        )
    if (kind == "multi_worker") != (workers.count > 1):
        raise UserError(
            f"--strategy={kind} with {workers.count} worker(s): multi_worker needs several, from --worker_hosts and "
            "--task_index or TF_CONFIG, and the others take one"
        )
    if kind == "parameter_server":
        parameter_servers.check(config, resolve_precision(config.precision))
        workers.strategy = parameter_servers.connect(workers.cluster, config.worker_timeout_secs)
    elif kind == "multi_worker":
        workers.strategy = _connect(config, workers, flags, len(gpus))
    elif kind == "mirrored":
        workers.strategy = tf.distribute.MirroredStrategy()
    else:
        workers.strategy = tf.distribute.OneDeviceStrategy("/gpu:0" if gpus else "/cpu:0")
    return workers.strategy


def images_at_once(config, strategy):
    """The images that one device processes at a time, in training and evaluation.

    Args:
      config: A resolved TrainConfig.
      strategy: As `make_strategy` makes it.

    Raises:
      UserError: If a batch cannot be divided evenly.
    """
    replicas, parts = strategy.num_replicas_in_sync, config.gradient_accumulation_steps
    own, left = divmod(config.batch_size, replicas)
    if left:
        raise UserError(f"--batch_size is {config.batch_size}, expected a multiple of the {replicas} devices")
    if own % parts:
        raise UserError(
            f"--gradient_accumulation_steps is {parts}, expected a divisor of the {own} images that a device takes of "
            "a batch; change it or --batch_size"
        )
    return own // parts


def scoring_precision(precision):
    """Returns the precision in which a run of the given precision is scored.

    The moving statistics of a network that has just begun to train can be far from those of its batches, so that its
    activations exceed float16's largest number, 65,504, although they are finite in training.
    """
    return "float32" if precision == "float16" else precision


def scoring_devices(precision, strategy, workers):
    """Chooses the devices of the evaluation.Evaluator of a run.

    Args:
      precision: Of the run.
      strategy: As `make_strategy` makes it.
      workers: A workers.Workers.

    Returns:
      Names of this process's devices, each for a copy of the network; () if the run's own model can be scored.
    """
    if workers.cluster.servers:
        return (None,)  # The chief's own, which has no other work.
    own = strategy.extended.worker_devices
    is_as_it_is = len(own) == workers.count == 1 and scoring_precision(precision) == precision
    return () if is_as_it_is else own


def distribute(strategy, workers, batches):
    """An iterable of each device's part of the batches of this process.

    Args:
      strategy: As `make_strategy` makes it.
      workers: A workers.Workers.
      batches: Endless batches: the global ones in a run of one process, else this worker's parts of them.
    """
    local_replicas = strategy.num_replicas_in_sync // workers.count
    if local_replicas == 1 and not tf.config.get_visible_devices("GPU"):
        # They are where they are needed; the iterator that the strategy would make has a tuner, see records._finish.
        return batches
    if workers.count == 1:
        return strategy.experimental_distribute_dataset(batches)

    def split(*batch):
        return tuple(tf.reshape(value, [local_replicas, -1, *value.shape[1:]]) for value in batch)

    if local_replicas > 1:
        batches = batches.map(split, deterministic=True).unbatch()
    # If a stream might end, TensorFlow would ask every worker at every step whether it has ended.
    endless = batches.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
    return strategy.distribute_datasets_from_function(lambda context: endless)


def _take_gpus(count):
    """Hides all but the first `count` GPUs (None for all); returns those, a list of physical devices."""
    gpus = tf.config.list_physical_devices("GPU")
    is_hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    if not gpus and count is None and os.path.exists(_NVIDIA) and not is_hidden:
        print(
            f"warning: {_NVIDIA} is there, but TensorFlow finds no GPU and computes on the CPU: install its CUDA "
            "libraries by pip install 'tensorflow[and-cuda]', or give --num_gpus=0",
            file=sys.stderr,
        )
    if count is None:
        return gpus
    if not 0 <= count <= len(gpus):
        raise UserError(f"--num_gpus is {count}, this machine has {len(gpus)}")
    if count < len(gpus):
        tf.config.set_visible_devices(gpus[:count], "GPU")
    return gpus[:count]


def _connect(config, workers, flags, num_gpus):
    # What auto resolves to must be the same on all machines.
    flags = flags | {"precision": resolve_precision(config.precision), "num_gpus": num_gpus}
    meeting.meet(workers, flags, config.worker_timeout_secs)
    cluster = tf.train.ClusterSpec({"worker": list(workers.addresses)})
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        cluster,
        task_type="worker",
        task_id=workers.index,
        rpc_layer="grpc",
        # Without it the strategy would train on each worker's CPU.
        num_accelerators={"GPU": num_gpus},
    )
    strategy = tf.distribute.MultiWorkerMirroredStrategy(resolver)
    if threading.current_thread() is threading.main_thread():
        # TensorFlow has put a handler of its own in the way, which would swallow the signal until the run begins.
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))
    return strategy
