"""Preprocessing on other machines, by tf.data service.

Start a dispatcher and some workers, each in a process where the data set lies under the same path:

    dispatcher = tf.data.experimental.service.DispatchServer(
        tf.data.experimental.service.DispatcherConfig(port=5050))
    worker = tf.data.experimental.service.WorkerServer(
        tf.data.experimental.service.WorkerConfig(dispatcher_address="HOST:5050", port=5051))
    dispatcher.join()

and give the trainer --data_service_address=grpc://HOST:5050.
"""

import socket

import tensorflow as tf

from command_line import UserError

# Batches are dealt to this many streams in turn. One worker makes a stream, so workers beyond this number are idle.
# Each stream reads all records, and decodes its own part of them.
STREAMS = 8


def check_address(address):
    """Raises a UserError unless `address` is grpc://HOST:PORT and something answers there."""
    protocol, _, rest = address.partition("://")
    host, _, port = rest.rpartition(":")
    if protocol != "grpc" or not host or not port.isdigit():
        raise UserError(f"data service address is {address!r}, expected one like grpc://127.0.0.1:5050")
    try:
        # TensorFlow itself would wait for an hour, silently.
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except (OSError, UnicodeError) as error:  # UnicodeError of a name such as "a..b".
        raise UserError(f"no data service answers at {address} ({error}): start its dispatcher first") from error


def distribute(make_stream, address):
    """Lets the workers of a tf.data service make the batches, in the order in which one machine would make them.

    With dynamic sharding each source element goes to one worker. The source of each stream is a single element, so
    the worker that asks first makes the whole stream. Taking one batch of each stream in turn restores the order.

    Args:
      make_stream: A function from an index below STREAMS to the dataset of that stream's batches: numbers index,
        index + STREAMS and so on.
      address: grpc://HOST:PORT of the dispatcher.
    Returns:
      A tf.data.Dataset. If a worker is lost, it waits, and ends once another worker has taken its place.
    """
    check_address(address)
    streams = [
        tf.data.Dataset.range(1)
        .flat_map(lambda _, index=index: make_stream(index))
        .apply(
            tf.data.experimental.service.distribute(
                processing_mode=tf.data.experimental.service.ShardingPolicy.DYNAMIC, service=address
            )
        )
        for index in range(STREAMS)
    ]
    # The streams are endless: one that ends was lost with its worker, and continuing without it would skip records.
    turns = tf.data.Dataset.range(STREAMS).repeat()
    return tf.data.Dataset.choose_from_datasets(streams, turns, stop_on_empty_dataset=True)
