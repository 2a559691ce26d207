"""The processes of a run on several machines, as named by the flags or TF_CONFIG."""

import json
import os
from typing import NamedTuple

from command_line import UserError


class Cluster(NamedTuple):
    """The processes of a run, seen from one of them.

    Attributes:
      workers: HOST:PORT of each worker, the chief first; () in a run of one process.
      servers: HOST:PORT of each parameter server; () in a run without them.
      job: Role of this process: "worker" (also for the chief) or "ps".
      index: Its place among the processes of this role.
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

    Returns:
      A Cluster; of one process if nothing names more.

    Raises:
      UserError: If they are wrong or contradict each other.
    """
    if config.worker_hosts is not None:
        cluster = _of_flags(config)
        _check(cluster, {"worker": "--worker_hosts", "ps": "--ps_hosts"})
        return cluster
    given = {name: getattr(config, name) is not None for name in ("task_index", "ps_hosts")}
    for name, is_given in (given | {"job_name": config.job_name == "ps"}).items():
        if is_given:
            raise UserError(f"--{name} needs --worker_hosts, HOST:PORT of every worker, apart by commas")
    cluster = _of_tf_config()
    _check(cluster, {"worker": "TF_CONFIG", "ps": "TF_CONFIG"})
    return cluster


def _of_flags(config):
    if config.job_name == "ps" and config.ps_hosts is None:
        raise UserError("--job_name=ps needs --ps_hosts, HOST:PORT of every parameter server, apart by commas")
    if config.task_index is None:
        hosts = "ps_hosts" if config.job_name == "ps" else "worker_hosts"
        raise UserError(f"--{hosts} needs --task_index, the place of this process among them, from 0")
    workers, servers = (
        tuple(address.strip() for address in hosts.split(",")) if hosts is not None else ()
        for hosts in (config.worker_hosts, config.ps_hosts)
    )
    return Cluster(workers, servers, config.job_name, config.task_index)


def _of_tf_config():
    """The Cluster of TF_CONFIG; one process without it."""
    try:
        config = json.loads(os.environ.get("TF_CONFIG") or "{}")
        cluster, task = config.get("cluster", {}), config.get("task", {})
        chiefs, workers, servers = (list(cluster.get(job, ())) for job in ("chief", "worker", "ps"))
        if cluster.get("master"):
            raise UserError('TF_CONFIG names a "master", as TensorFlow 1 did; name it under "chief"')
        if not chiefs + workers + servers:
            return Cluster()
        kind, index = task["type"], int(task["index"])
    except UserError:
        raise
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
    own = {"chief": chiefs, "worker": workers, "ps": servers}[kind]
    if not 0 <= index < len(own):
        raise UserError(f"TF_CONFIG makes this process {kind} {index}, but names {len(own)} such; 0 is the first")
    place = index + (len(chiefs) if kind == "worker" else 0)
    return Cluster((*chiefs, *workers), tuple(servers), "ps" if kind == "ps" else "worker", place)


def _check(cluster, sources):
    """Checks a Cluster; `sources` says for each job where its addresses come from, for messages."""
    of_jobs = {"worker": (cluster.workers, "worker"), "ps": (cluster.servers, "parameter server")}
    for job, (addresses, name) in of_jobs.items():
        for address in addresses:
            host, _, port = address.rpartition(":")
            if not host or not (port.isdecimal() and 0 < int(port) < 2**16):
                raise UserError(
                    f"{sources[job]}: {address!r} is not the address of a {name}, expected HOST:PORT with a port of 1 "
                    "to 65535"
                )
    every = cluster.workers + cluster.servers
    if len(set(every)) < len(every):
        both = " and ".join(dict.fromkeys(sources[job] for job in of_jobs if of_jobs[job][0]))
        raise UserError(f"{both}: an address is named twice: {', '.join(every)}")
    if cluster.servers and len(cluster.workers) < 2:
        raise UserError(
            f"{sources['worker']} names {len(cluster.workers)} worker(s) beside {len(cluster.servers)} parameter "
            "server(s), expected at least two: the first, the chief, deals out the steps and does none"
        )
    peers, name = of_jobs[cluster.job]
    if peers and not 0 <= cluster.index < len(peers):
        raise UserError(
            f"{sources[cluster.job]} names {len(peers)} {name}s, so a task index of {cluster.index} is none: 0 is the "
            "first"
        )
