"""The processes of a run on several machines, as the flags or TF_CONFIG name them."""

import json
import os
from typing import NamedTuple

from command_line import UserError


class Cluster(NamedTuple):
    """The processes of a run, seen from one of them.

    Attributes:
      workers: HOST:PORT of each worker, the chief's first; () in a run of one process.
      servers: HOST:PORT of each parameter server; () in a run without.
      job: What this process is: "worker", the chief too, or "ps".
      index: Its place among these.
    """

    workers: tuple[str, ...] = ()
    servers: tuple[str, ...] = ()
    job: str = "worker"
    index: int = 0

    @property
    def is_chief(self):
        """Whether this process writes checkpoints, curves and the log."""
        return self.job == "worker" and self.index == 0


def find_cluster(config):
    """The processes that the flags name, or else TF_CONFIG.

    Args:
      config: A TrainConfig.

    Raises:
      UserError: If they contradict each other or themselves.
    """
    if config.worker_hosts is not None:
        cluster, source = _of_flags(config), "--worker_hosts"
    else:
        given = {name: getattr(config, name) is not None for name in ("task_index", "ps_hosts")}
        for name, is_given in (given | {"job_name": config.job_name == "ps"}).items():
            if is_given:
                raise UserError(f"--{name} needs --worker_hosts, HOST:PORT of every worker, apart by commas")
        cluster, source = _of_tf_config(), "TF_CONFIG"
    _check(cluster, source)
    return cluster


def _of_flags(config):
    if config.task_index is None:
        raise UserError("--worker_hosts needs --task_index, the place of this worker among them, from 0")
    if config.job_name == "ps" and config.ps_hosts is None:
        raise UserError("--job_name=ps needs --ps_hosts, HOST:PORT of every parameter server, apart by commas")
    workers, servers = (
        tuple(address.strip() for address in hosts.split(",")) if hosts is not None else ()
        for hosts in (config.worker_hosts, config.ps_hosts)
    )
    return Cluster(workers, servers, config.job_name, config.task_index)


def _of_tf_config():
    """What TF_CONFIG says; one process without it."""
    try:
        config = json.loads(os.environ.get("TF_CONFIG") or "{}")
        cluster, task = config.get("cluster", {}), config.get("task", {})
        chiefs, workers, servers = (list(cluster.get(job, ())) for job in ("chief", "worker", "ps"))
        if not chiefs + workers + servers:
            return Cluster()
        kind, index = task["type"], int(task["index"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"TF_CONFIG is not what TensorFlow writes ({error!r}), expected such as "
            '{"cluster": {"worker": ["a:2222", "b:2222"]}, "task": {"type": "worker", "index": 0}}'
        ) from error
    if kind not in ("chief", "worker", "ps"):
        raise UserError(
            f"TF_CONFIG makes this process a {kind!r}, expected chief, worker or ps; for an evaluator start "
            "eval_image_classifier.py --watch"
        )
    if servers and not chiefs:
        raise UserError(
            "TF_CONFIG names parameter servers but no chief, which deals out their steps: name one under "
            '"cluster": {"chief": [...]}'
        )
    place = index + (len(chiefs) if kind == "worker" else 0)
    return Cluster((*chiefs, *workers), tuple(servers), "ps" if kind == "ps" else "worker", place)


def _check(cluster, source):
    addresses = cluster.workers + cluster.servers
    for address in addresses:
        host, _, port = address.rpartition(":")
        if not host or not (port.isdecimal() and 0 < int(port) < 2**16):
            raise UserError(
                f"{source}: {address!r} is not the address of a worker, expected HOST:PORT with a port of 1 to 65535"
            )
    if len(set(addresses)) < len(addresses):
        raise UserError(f"{source} names a worker twice: {', '.join(addresses)}")
    if cluster.servers and len(cluster.workers) < 2:
        raise UserError(
            f"{source} names {len(cluster.servers)} parameter server(s) and {len(cluster.workers)} worker(s), expected "
            "at least two: the first, the chief, deals out the steps and does none"
        )
    peers, name = (cluster.servers, "parameter servers") if cluster.job == "ps" else (cluster.workers, "workers")
    if peers and not 0 <= cluster.index < len(peers):
        raise UserError(
            f"{source} names {len(peers)} {name}, so a task index of {cluster.index} is none: 0 is the first"
        )
