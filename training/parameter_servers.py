"""Training with parameter servers, by TensorFlow's ParameterServerStrategy.

The variables are on the servers. The chief hands out steps. Each worker takes its own batches, computes a step with the
weights as it finds them, and updates them, while others do the same. They wait for each other only when the chief saves
or evaluates, and no two runs are the same. If a worker dies, its step goes to another, and it is left out until it is
back. If a server dies, its variables are lost, and the chief goes on from the last checkpoint.

Source: Dean et al., Large Scale Distributed Deep Networks, NIPS 2012, section 4.1 (asynchronous SGD).
"""

import concurrent.futures
import contextlib
import logging
import re
import signal
import sys
import time

import tensorflow as tf

from command_line import UserError, first_line
from data.record_errors import ERRORS_OF_RECORDS
from training import meeting

_BETWEEN_CALLS_SECS = 0.2
# What an HTTP/2 client, such as gRPC's, sends first: the preface, and an empty settings frame.
_HTTP2_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"


def check(config, precision):
    """Checks that the flags work with independent steps.

    Args:
      config: A TrainConfig.
      precision: What its precision resolves to here.

    Raises:
      UserError: If one does not.
    """
    for name, why in (
        ("sync_batch_norm", "a step is one worker's"),
        ("profile_steps", "no step is done by the process that would trace it"),
        ("data_service_address", "each worker makes its own batches"),
    ):
        if getattr(config, name):
            raise UserError(f"--{name} does not go with parameter servers, where {why}; leave one of them out")
    if config.shard_policy == "file":
        raise UserError(
            "--shard_policy=file does not go with parameter servers: each worker reads all records, in an order of its "
            "own; leave it out"
        )
    if precision == "float16":
        raise UserError(
            "float16 does not go with parameter servers, where workers would change its loss scale under each other's "
            "hands; give --precision=float32 or --precision=bfloat16"
        )
    if (config.num_gpus or 0) > 1:
        raise UserError(
            f"--num_gpus is {config.num_gpus}; a worker of parameter servers takes one GPU: start as many workers, and "
            "show each its own by CUDA_VISIBLE_DEVICES"
        )
    if config.dataset_name == "synthetic":
        raise UserError("--dataset_name=synthetic does not go with parameter servers, whose workers read records")


def serve(cluster, num_gpus):
    """Makes this process, a server or a worker of one, do what the chief asks; it ends with the chief's run.

    Args:
      cluster: A clusters.Cluster with servers, in which this process is not the chief.
      num_gpus: GPUs that a worker uses, 0 or 1 (None: 1 if there is one); a server uses none.

    Raises:
      UserError: If its port is taken.
    """
    spec = _spec(cluster)
    place = cluster.index if cluster.job == "ps" else cluster.index - 1
    address = spec[cluster.job][place]
    meeting.listen(address, name_of(cluster, cluster.job, place)).close()
    gpus = 0 if cluster.job == "ps" else 1 if num_gpus is None else num_gpus
    server = tf.distribute.Server(
        tf.train.ClusterSpec(spec),
        job_name=cluster.job,
        task_index=place,
        protocol="grpc",
        config=tf.compat.v1.ConfigProto(device_count={"GPU": gpus}),
    )
    print(f"{name_of(cluster, cluster.job, place)} is there for the chief ({cluster.workers[0]})", flush=True)
    while server:  # Its `join` would block signals.
        signal.pause()


def connect(cluster, timeout_secs):
    """Connects the chief with all others.

    Args:
      cluster: A clusters.Cluster with servers, in which this process is the chief.
      timeout_secs: How long to wait for them.

    Returns:
      A tf.distribute.ParameterServerStrategy.

    Raises:
      UserError: If one, named in the message, is not reached in time, or the chief's own port is taken.
    """
    meeting.listen(cluster.workers[0], "the chief").close()
    logging.getLogger("tensorflow").addFilter(lambda record: _say_in_a_line(cluster, record))
    deadline = time.monotonic() + timeout_secs
    missing = [(job, place) for job in ("worker", "ps") for place in range(len(_spec(cluster)[job]))]
    while missing:
        with concurrent.futures.ThreadPoolExecutor(len(missing)) as pool:
            reached = list(pool.map(lambda other: _is_reached(_spec(cluster)[other[0]][other[1]]), missing))
        missing = [other for other, is_reached in zip(missing, reached, strict=True) if not is_reached]
        if missing and time.monotonic() > deadline:
            who = ", ".join(name_of(cluster, *other) for other in missing)
            raise UserError(
                f"{who} did not come within {timeout_secs:g} s; start it with the same --ps_hosts, or raise "
                "--worker_timeout_secs"
            )
        time.sleep(_BETWEEN_CALLS_SECS if missing else 0)
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec(_spec(cluster)), task_type="chief", task_id=0, rpc_layer="grpc"
    )
    return tf.distribute.ParameterServerStrategy(resolver)


def dismiss(cluster):
    """Ends all other processes of the run of a clusters.Cluster, each with status 0; called by the chief at its end."""
    # Otherwise the coordinator's threads, and the release of their tensors, would now report that they are gone.
    logging.getLogger("tensorflow").setLevel(logging.CRITICAL)
    tell = sys.unraisablehook
    sys.unraisablehook = lambda found: None if isinstance(found.exc_value, tf.errors.OpError) else tell(found)
    for job in ("worker", "ps"):
        for place in range(len(_spec(cluster)[job])):
            device = f"/job:{job}/replica:0/task:{place}/device:CPU:0"
            with contextlib.suppress(tf.errors.OpError), tf.device(device):
                tf.raw_ops.Abort(error_msg="", exit_without_error=True)


def name_of(cluster, job, place):
    """A process's name for messages, such as "worker 1 (host:2222)"; TensorFlow counts workers without the chief."""
    if job == "ps":
        return f"parameter server {place} ({cluster.servers[place]})"
    return f"worker {place + 1} ({cluster.workers[place + 1]})"


def loss(cluster, text):
    """A line that says which process was lost, from the text of TensorFlow's error."""
    found = re.search(r"/job:(ps)/(?:replica:\d+/)?task:(\d+)", text) or re.search(
        r"/job:(worker)/(?:replica:\d+/)?task:(\d+)", text
    )
    who = name_of(cluster, found[1], int(found[2])) if found else "another process"
    return (
        f"the chief: {who} was lost, its own output may say why; start it again, and then the chief, which goes on "
        "from the last checkpoint; with --max_restarts=N the chief does so by itself"
    )


@contextlib.contextmanager
def explain_errors(cluster, directory):
    """Turns TensorFlow's error from a worker's step into one line; lets the loss of a server through.

    Args:
      cluster: The clusters.Cluster.
      directory: Where the data set is.

    Raises:
      UserError: If a worker cannot read its records, or they are bad.
    """
    try:
        yield
    except ERRORS_OF_RECORDS as error:
        text = str(getattr(error, "message", error))
        if "/job:ps" in text:  # A server that was restarted and holds no variables.
            raise tf.errors.UnavailableError(None, None, text) from error
        found = re.search(r"/job:worker/replica:\d+/task:(\d+)", text)
        who = name_of(cluster, "worker", int(found[1])) if found else "a worker"
        raise UserError(
            f"{who}: {first_line(error)}; each worker reads {directory}: see that all have the "
            f"same files there, and that download_and_convert_data.py --verify={directory} finds them well"
        ) from error


def _spec(cluster):
    return {"chief": cluster.workers[:1], "worker": cluster.workers[1:], "ps": cluster.servers}


def _say_in_a_line(cluster, record):
    """Whether to show TensorFlow's own text; for a lost worker, this prints one line instead."""
    text = record.getMessage()
    lost = re.match(r"Worker /job:worker/replica:\d+/task:(\d+) failed", text)
    if lost and "/job:ps" not in text:
        who = name_of(cluster, "worker", int(lost[1]))
        print(f"{who} was lost; the others go on, and it may be started again", file=sys.stderr, flush=True)
    # The pages that its threads log are also raised as errors, and reported then.
    return "/job:" not in text and "closure" not in text


def _is_reached(address):
    """Whether a gRPC server answers; TensorFlow would wait forever for anything else."""
    try:
        with meeting.connect(address, timeout_secs=2.0) as connection:
            connection.sendall(_HTTP2_HELLO)
            return connection.recv(9)[3:4] == b"\4"  # The answer begins with a settings frame.
    except OSError:
        return False
