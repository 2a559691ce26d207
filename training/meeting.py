"""Lets the workers of a run meet before TensorFlow connects them, since it would silently wait for a missing one.

Each worker listens on its own address, as TensorFlow will. All others call the chief, say who they are and with which
flags they were started, and wait for the answer. The chief lets all go on at once, or tells all of them which worker is
missing, does not fit, or cannot be reached at the address that the others will use.
"""

import contextlib
import json
import select
import socket
import time

from command_line import UserError

_BETWEEN_CALLS_SECS = 0.2
_BETWEEN_LOOKS_SECS = 1.0


def meet(workers, flags, timeout_secs):
    """Returns when every worker has come.

    Args:
      workers: A workers.Workers.
      flags: A JSON-able dict that has to be the same everywhere.
      timeout_secs: How long to wait.

    Raises:
      UserError: If a worker did not come in time, or came with other flags or addresses; the message names it.
    """
    deadline = time.monotonic() + timeout_secs
    if workers.is_chief:
        fault = _receive(workers, flags, deadline, timeout_secs)
    else:
        fault = _call(workers, flags, deadline, timeout_secs)
    if fault:
        raise UserError(fault)


def _receive(workers, flags, deadline, timeout_secs):
    """The chief's part; returns what is wrong, or None."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(listen(workers.addresses[0], "the chief", workers.count))
        callers, fault = {}, None
        while not fault:
            # One that has died meanwhile, or that was stopped, is waited for again.
            callers = {index: caller for index, caller in callers.items() if not _has_left(caller)}
            missing = sorted(set(range(1, workers.count)) - callers.keys())
            if not missing:
                break
            left = deadline - time.monotonic()
            if left <= 0:
                who = ", ".join(f"worker {index} ({workers.addresses[index]})" for index in missing)
                fault = f"{who} did not come within {timeout_secs:g} s; start it, or raise --worker_timeout_secs"
                break
            listener.settimeout(min(left, _BETWEEN_LOOKS_SECS))
            with contextlib.suppress(TimeoutError):
                caller = stack.enter_context(listener.accept()[0])
                hello = _read(caller, min(10.0, left))
                if not isinstance(hello, dict) or hello.keys() != {"index", "addresses", "flags"}:
                    # Not one of our workers, or one that died at once.
                    continue
                callers[hello["index"]] = caller
                fault = _misfit(workers, flags, hello) or _unreachable(workers, hello["index"], min(10.0, left))
                if _has_left(caller):  # It died while it was looked at.
                    fault = None
        for caller in callers.values():
            with contextlib.suppress(OSError):
                caller.sendall(json.dumps({"fault": fault}).encode() + b"\n")
    return fault


def _call(workers, flags, deadline, timeout_secs):
    """The part of all other workers; returns what is wrong, or None."""
    hello = {"index": workers.index, "addresses": workers.addresses, "flags": flags}
    with listen(workers.addresses[workers.index], f"worker {workers.index}"):
        while (left := deadline - time.monotonic()) > 0:
            with contextlib.suppress(OSError), connect(workers.addresses[0], left) as chief:
                chief.sendall(json.dumps(hello).encode() + b"\n")
                # The chief's clock may have started later; as long as it is there, it will answer.
                answer = _read(chief, timeout_secs + 15.0)
                if answer is not None:
                    return answer["fault"]
            time.sleep(_BETWEEN_CALLS_SECS)
    return (
        f"the chief, worker 0 ({workers.addresses[0]}), did not answer within {timeout_secs:g} s; start it, or raise "
        "--worker_timeout_secs"
    )


def listen(address, who, backlog=128):
    """A socket that listens at this process's address; TensorFlow, which follows, would not say what is wrong with it.

    Raises:
      UserError: If that fails; the message names this process as `who`.
    """
    # On all of this machine's addresses, of both versions of the protocol: the name that others use for it may not be
    # one of its own, and may lead to either.
    place = ("", int(address.rpartition(":")[2]))
    try:
        if _has_version_6():
            return socket.create_server(place, family=socket.AF_INET6, dualstack_ipv6=True, backlog=backlog)
        return socket.create_server(place, backlog=backlog)
    except OSError as error:
        raise UserError(f"{who} cannot listen at {address}: {error}; name another port in every worker") from error


def _has_version_6():
    """Whether a socket can listen by both versions of the internet protocol."""
    if not socket.has_dualstack_ipv6():
        return False
    try:
        socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True).close()
    except OSError:  # Switched off.
        return False
    return True


def connect(address, timeout_secs):
    """A socket connected to HOST:PORT; OSError if nothing answers."""
    host, _, port = address.rpartition(":")
    try:
        return socket.create_connection((host.strip("[]"), int(port)), timeout_secs)
    except UnicodeError as error:  # Such as "a..b", whose middle is empty.
        raise OSError(f"{host} is no name of a machine ({error})") from error


def _has_left(caller):
    """Whether the other end, which says nothing more, has closed a connection."""
    try:
        return bool(select.select([caller], [], [], 0)[0]) and not caller.recv(1, socket.MSG_PEEK)
    except OSError:
        return True


def _unreachable(workers, index, timeout_secs):
    try:
        connect(workers.addresses[index], timeout_secs).close()
    except OSError as error:
        return (
            f"worker {index} came, but the chief cannot reach {workers.addresses[index]}: {error}; open the port "
            "between the machines, or mend the address in every worker"
        )
    return None


def _misfit(workers, flags, hello):
    if hello["addresses"] != list(workers.addresses):
        theirs = ", ".join(hello["addresses"])
        return f"worker {hello['index']} counts on other workers ({theirs}) than the chief; give all the same list"
    different = [name for name in flags if hello["flags"].get(name) != flags[name]]
    if different:
        texts = [f"--{name} is {hello['flags'].get(name)}, the chief's is {flags[name]}" for name in different]
        return f"worker {hello['index']} was started with other flags: {'; '.join(texts)}; give all the same"
    return None


def _read(connection, timeout_secs):
    """Reads one line of JSON; None if something else or nothing comes."""
    connection.settimeout(timeout_secs)
    try:
        with connection.makefile("rb") as file:
            return json.loads(file.readline())
    except (OSError, ValueError):
        return None
