"""Who the workers of a run are, and how they meet; the workers here are threads that talk over loopback."""

import concurrent.futures
import json
import socket
import time

import numpy as np
import pytest
import tensorflow as tf

from command_line import UserError
from training import devices, meeting
from training.clusters import Cluster
from training.config import TrainConfig
from training.workers import LOST, PeerLost, Workers, find_workers

TWO = ["one:2222", "two:2222"]
SERVED = Workers(Cluster(("chief:1", "worker:1"), ("server:1",)))


def workers_of(hosts, index):
    return Workers(Cluster(tuple(hosts), index=index))


def found(monkeypatch, tf_config=None, **flags):
    if tf_config is None:
        monkeypatch.delenv("TF_CONFIG", raising=False)
    else:
        monkeypatch.setenv("TF_CONFIG", tf_config if isinstance(tf_config, str) else json.dumps(tf_config))
    workers = find_workers(TrainConfig(**flags))
    return list(workers.addresses), workers.index, workers.is_chief


def task(kind, index, **cluster):
    return {"cluster": cluster, "task": {"type": kind, "index": index}}


def test_workers_are_those_of_the_flags_or_of_tf_config(monkeypatch):
    assert found(monkeypatch) == ([], 0, True)
    assert found(monkeypatch, worker_hosts="one:2222,two:2222", task_index=1) == (TWO, 1, False)
    assert found(monkeypatch, worker_hosts="one:2222, two:2222 ", task_index=1) == (TWO, 1, False)
    assert found(monkeypatch, task("worker", 1, worker=TWO)) == (TWO, 1, False)
    # TensorFlow's own form has a job for the chief, whose place is before the workers'.
    assert found(monkeypatch, task("worker", 0, chief=["a:1"], worker=TWO)) == (["a:1", *TWO], 1, False)
    assert found(monkeypatch, task("chief", 0, chief=["a:1"], worker=TWO)) == (["a:1", *TWO], 0, True)
    assert found(monkeypatch, "{}") == ([], 0, True)
    # Before parameter servers the chief is the only one that runs; the others do as it asks.
    assert found(monkeypatch, task("chief", 0, chief=["a:1"], worker=TWO, ps=["c:1"])) == (["a:1", *TWO], 0, True)
    assert not found(monkeypatch, task("ps", 0, chief=["a:1"], worker=TWO, ps=["c:1"]))[2]
    served = {"worker_hosts": "a:1,b:1", "ps_hosts": "c:1,d:1"}
    assert found(monkeypatch, **served, task_index=0) == (["a:1", "b:1"], 0, True)
    assert not found(monkeypatch, **served, task_index=0, job_name="ps")[2]
    # Flags come first.
    assert found(monkeypatch, task("worker", 1, worker=["x:1", "y:1"]), worker_hosts="a:1,b:2", task_index=0)[1] == 0


@pytest.mark.parametrize(
    ("tf_config", "flags", "message"),
    [
        (None, {"worker_hosts": "a:1,b:1"}, "--worker_hosts needs --task_index, the place of this process"),
        (None, {"task_index": 1}, "--task_index needs --worker_hosts"),
        (None, {"worker_hosts": "a:1,b", "task_index": 0}, "'b' is not the address of a worker, expected HOST:PORT"),
        (None, {"worker_hosts": "a:99999,b:1", "task_index": 0}, "'a:99999' is not the address of a worker"),
        (None, {"worker_hosts": "a:1,a:1", "task_index": 0}, "--worker_hosts: an address is named twice: a:1, a:1"),
        (None, {"worker_hosts": "a:1,b:1", "task_index": 2}, "names 2 workers, so a task index of 2 is none"),
        ("{", {}, "TF_CONFIG is not what TensorFlow writes"),
        ({"cluster": {"worker": TWO}}, {}, "TF_CONFIG is not what TensorFlow writes"),
        (task("evaluator", 0, worker=TWO), {}, "eval_image_classifier.py --watch"),
        (task("worker", 0, worker=TWO, ps=["c:1"]), {}, "TF_CONFIG names parameter servers but no chief"),
        (
            task("chief", 0, chief=["a:1"], ps=["c:1"]),
            {},
            "1 worker(s) beside 1 parameter server(s), expected",
        ),
        (task("worker", 0, master=["a:1"], worker=["b:1"]), {}, "as TensorFlow 1 did; name it under"),
        (task("ps", 0, worker=TWO), {}, "makes this process ps 0, but names 0 such"),
        (task("worker", -1, chief=["a:1"], worker=["b:1"]), {}, "makes this process worker -1, but names 1 such"),
        (task("chief", 1, chief=["a:1"], worker=["b:1"]), {}, "makes this process chief 1, but names 1 such"),
        (None, {"ps_hosts": "c:1"}, "--ps_hosts needs --worker_hosts"),
        (None, {"worker_hosts": "a:1,b:1", "task_index": 0, "job_name": "ps"}, "--job_name=ps needs --ps_hosts"),
        (
            None,
            {"worker_hosts": "a:1,b:1", "ps_hosts": "c:1", "job_name": "ps", "task_index": 1},
            "--ps_hosts names 1 parameter servers, so a task index of 1 is none",
        ),
        (
            None,
            {"worker_hosts": "a:1,b:1", "ps_hosts": "b:1", "task_index": 0},
            "--worker_hosts and --ps_hosts: an address is",
        ),
    ],
    ids=[
        "no_index",
        "no_hosts",
        "no_port",
        "no_such_port",
        "twice",
        "past_the_end",
        "no_json",
        "no_task",
        "evaluator",
        "no_chief_of_servers",
        "no_worker_of_servers",
        "master",
        "server_of_none",
        "before_the_first",
        "second_chief",
        "servers_alone",
        "no_servers",
        "past_the_servers",
        "both",
    ],
)
def test_what_names_no_workers_is_an_error(monkeypatch, tf_config, flags, message):
    with pytest.raises(UserError) as error:
        found(monkeypatch, tf_config, **flags)
    assert message in str(error.value)


def test_one_process_tells_itself():
    workers = Workers()
    assert workers.agree(True, False, 1) == (True, False, True)
    assert workers.from_chief(lambda: {"a": [1]}) == {"a": [1]}
    np.testing.assert_array_equal(workers.sum([np.float64([1.5])])[0], [1.5])


class Told(Workers):
    """A worker to whom the chief tells what it is to tell, and who is asked by nobody else."""

    def __init__(self, chiefs, others_differ=False):
        super().__init__(Cluster(tuple(TWO), index=1))
        self.chiefs, self.others_differ = chiefs, others_differ

    def from_chief(self, make):
        return self.chiefs

    def agree(self, *wishes):
        return tuple(bool(wish) or self.others_differ for wish in wishes)


def test_workers_with_other_data_do_not_begin():
    same = {"data set": {"name": "cifar10", "records": [50_000]}, "--num_epochs": 164}
    Told(same).check_same(json.loads(json.dumps(same)))
    with pytest.raises(UserError, match=r"worker 1 has another data set, --num_epochs than the chief; give all the s"):
        Told(same).check_same({"data set": {"name": "fashion_mnist", "records": [60_000]}, "--num_epochs": 90})
    with pytest.raises(UserError, match="another worker has other data or flags than the chief"):
        Told(same, others_differ=True).check_same(same)
    Workers().check_same(same)


def test_a_lost_peer_is_named_and_ends_with_a_status_of_its_own():
    message = "Connection reset by peer\nfrom remote target /job:worker/replica:0/task:1 while calling"
    with (
        pytest.raises(PeerLost, match=r"^worker 0: worker 1 \(two:2222\) was lost") as error,
        workers_of(TWO, 0).explain_losses(),
    ):
        raise tf.errors.UnavailableError(None, None, message)
    assert error.value.status == LOST == 75
    # In one process there is no peer to lose.
    with pytest.raises(tf.errors.UnavailableError), Workers().explain_losses():
        raise tf.errors.UnavailableError(None, None, message)


@pytest.mark.parametrize(
    ("workers", "flags", "message"),
    [
        (Workers(), {"strategy": "parameter_server"}, "--strategy=parameter_server with 0 parameter server(s)"),
        (SERVED, {"strategy": "multi_worker"}, "--strategy=multi_worker with 1 parameter server(s)"),
        (SERVED, {"sync_batch_norm": True}, "--sync_batch_norm does not go with parameter servers"),
        (SERVED, {"profile_steps": (1, 2)}, "--profile_steps does not go with parameter servers"),
        (SERVED, {"data_service_address": "grpc://a:1"}, "--data_service_address does not go with parameter servers"),
        (SERVED, {"shard_policy": "file"}, "--shard_policy=file does not go with parameter servers"),
        (SERVED, {"dataset_name": "synthetic"}, "--dataset_name=synthetic does not go with parameter servers"),
        (
            Workers(),
            {"strategy": "multi_worker"},
            "--strategy=multi_worker with 1 worker(s): multi_worker needs several",
        ),
        (workers_of(TWO, 0), {"strategy": "mirrored"}, "--strategy=mirrored with 2 worker(s)"),
        (Workers(), {"num_gpus": 9}, "--num_gpus is 9, this machine has"),
        (Workers(), {"num_gpus": -1}, "--num_gpus is -1, this machine has"),
    ],
    ids=[
        "no_servers",
        "servers",
        "norms",
        "profile",
        "data_service",
        "shards",
        "synthetic",
        "alone",
        "together",
        "many_gpus",
        "negative",
    ],
)
def test_a_strategy_that_does_not_fit_is_an_error(workers, flags, message):
    with pytest.raises(UserError) as error:
        devices.make_strategy(TrainConfig(**flags), workers, {})
    assert message in str(error.value)


def addresses(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return [f"127.0.0.1:{port}" for port in ports]


def met(hosts, present, timeout_secs, flags_of=lambda index: {"batch_size": 32}):
    """What `meet` raised on each of the present workers, None for nothing; by index."""

    def one(index, hosts):
        try:
            meeting.meet(workers_of(hosts, index), flags_of(index), timeout_secs)
        except UserError as error:
            return str(error)

    with concurrent.futures.ThreadPoolExecutor(len(present)) as pool:
        found = {index: pool.submit(one, index, hosts) for index in present}
        return {index: result.result(timeout=30) for index, result in found.items()}


def test_workers_meet_in_any_order():
    assert met(addresses(4), [3, 1, 2, 0], timeout_secs=20) == dict.fromkeys(range(4))


def test_workers_meet_by_version_6_of_the_internet_protocol():
    try:
        with (
            socket.create_server(("::1", 0), family=socket.AF_INET6) as one,
            socket.create_server(("::1", 0), family=socket.AF_INET6) as other,
        ):
            hosts = [f"[::1]:{free.getsockname()[1]}" for free in (one, other)]
    except OSError:
        pytest.skip("needs IPv6, which this system has switched off")
    assert met(hosts, [1, 0], timeout_secs=20) == dict.fromkeys(range(2))


def test_workers_that_do_not_come_are_named_by_all():
    hosts = addresses(4)
    began = time.monotonic()
    message = (
        f"worker 1 ({hosts[1]}), worker 3 ({hosts[3]}) did not come within 1 s; start it, or raise "
        "--worker_timeout_secs"
    )
    assert met(hosts, [0, 2], timeout_secs=1) == {0: message, 2: message}
    assert time.monotonic() - began < 15


def test_a_chief_that_does_not_come_is_named():
    hosts = addresses(2)
    assert f"the chief, worker 0 ({hosts[0]}), did not answer within 1 s" in met(hosts, [1], timeout_secs=1)[1]


def test_workers_with_other_flags_do_not_begin():
    found = met(addresses(2), [0, 1], timeout_secs=20, flags_of=lambda index: {"seed": 1, "batch_size": 32 + index})
    message = "worker 1 was started with other flags: --batch_size is 33, the chief's is 32; give all the same"
    assert found == {0: message, 1: message}


def test_a_stranger_at_the_door_is_sent_away():
    hosts = addresses(2)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        chief = pool.submit(meeting.meet, workers_of(hosts, 0), {}, 20)
        for said in (b"GET / HTTP/1.1\r\n\r\n", b"[1]\n", b'{"index": 1}\n'):
            for _ in range(100):
                try:
                    with socket.create_connection(("127.0.0.1", int(hosts[0].rpartition(":")[2])), 5) as stranger:
                        stranger.sendall(said)
                    break
                except OSError:
                    time.sleep(0.05)
        meeting.meet(workers_of(hosts, 1), {}, 20)
        assert chief.result(timeout=20) is None


@pytest.mark.parametrize(("index", "who"), [(0, "the chief"), (1, "worker 1")])
def test_a_port_that_is_taken_is_an_error(index, who):
    hosts = addresses(2)
    with socket.create_server(("", int(hosts[index].rpartition(":")[2]))):
        message = met(hosts, [index], timeout_secs=1)[index]
    assert message.startswith(f"{who} cannot listen at {hosts[index]}: ")
    assert message.endswith("; name another port in every worker")


def call_as(index, hosts, flags):
    """A connection to the chief that has said hello as a worker does."""
    hello = json.dumps({"index": index, "addresses": hosts, "flags": flags}).encode() + b"\n"
    for _ in range(100):
        try:
            chief = meeting.connect(hosts[0], 5)
            chief.sendall(hello)
            return chief
        except OSError:
            time.sleep(0.05)
    raise AssertionError("the chief does not listen")


def test_a_worker_that_came_and_died_is_waited_for_again():
    hosts = addresses(3)
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        chief = pool.submit(meeting.meet, workers_of(hosts, 0), {}, 20)
        with meeting.listen(hosts[1], "worker 1"):
            call_as(1, hosts, {}).close()
        second = pool.submit(meeting.meet, workers_of(hosts, 2), {}, 20)
        time.sleep(2.5)
        assert not chief.done() and not second.done()
        meeting.meet(workers_of(hosts, 1), {}, 20)
        assert chief.result(timeout=20) is second.result(timeout=20) is None


def test_a_worker_that_came_and_died_for_good_is_named():
    hosts = addresses(2)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        chief = pool.submit(meeting.meet, workers_of(hosts, 0), {}, 3)
        # Whether or not its address leads anywhere by then.
        call_as(1, hosts, {}).close()
        with pytest.raises(UserError) as error:
            chief.result(timeout=20)
        assert f"worker 1 ({hosts[1]}) did not come within 3 s" in str(error.value)


def test_probes_of_a_waiting_workers_port_do_not_keep_the_chief_out():
    hosts = addresses(2)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        worker = pool.submit(meeting.meet, workers_of(hosts, 1), {}, 20)
        probes = 0
        while probes < 10:
            try:
                meeting.connect(hosts[1], 1).close()
                probes += 1
            except ConnectionRefusedError:
                time.sleep(0.05)
        meeting.meet(workers_of(hosts, 0), {}, 20)
        assert worker.result(timeout=20) is None


def test_a_name_with_an_empty_part_leads_nowhere():
    with pytest.raises(OSError, match="a..b is no name of a machine"):
        meeting.connect("a..b:2222", 1)


def test_several_workers_train_on_their_gpus(monkeypatch):
    """TensorFlow asks the resolver how many there are, and takes the CPU where that says nothing."""
    met, made = [], []
    monkeypatch.setattr(meeting, "meet", lambda workers, flags, timeout_secs: met.append(flags))
    monkeypatch.setattr(tf.distribute, "MultiWorkerMirroredStrategy", made.append)
    devices._connect(TrainConfig(precision="float32"), workers_of(["a:1", "b:1"], 1), {"seed": 0}, 2)
    (resolver,) = made
    assert resolver.num_accelerators() == {"GPU": 2} and resolver.task_id == 1
    assert met == [{"seed": 0, "precision": "float32", "num_gpus": 2}]


def test_a_worker_whose_address_leads_nowhere_is_named_by_all(monkeypatch):
    """TensorFlow would wait for it for an hour: it calls from where it is, but is listed with another's address."""
    hosts = addresses(3)
    listen = meeting.listen
    elsewhere = [*hosts[:2], addresses(1)[0]]
    monkeypatch.setattr(
        meeting,
        "listen",
        lambda address, who, *more: listen(elsewhere[2] if who == "worker 2" else address, who, *more),
    )
    found = met(hosts, [1, 2, 0], timeout_secs=5)
    start = f"worker 2 came, but the chief cannot reach {hosts[2]}: "
    assert found[0].startswith(start) and found[0].endswith(", or mend the address in every worker")
    # Whoever had come gets the answer; one that comes later finds nobody.
    assert found[2] == found[0]
    assert found[1] == found[0] or "did not answer within 5 s" in found[1]
