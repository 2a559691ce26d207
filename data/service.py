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

# Batches are dealt to this many streams in turn. A stream is made by one worker, so that more workers than these have
# nothing to do, and each stream reads all records to decode its own part of them.
STREAMS = 8


def check_address(address):
    """Raises a UserError unless `address` is grpc://HOST:PORT and something answers there."""
    protocol, _, rest = address.partition("://")
    host, _, port = rest.rpartition(":")
    if protocol != "grpc" or not host or not port.isdigit():
        raise UserError(f"data service address is {address!r}, expected one like grpc://127.0.0.1:5050")
    try:
        # TensorFlow itself would wait for an hour, without a word.
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except OSError as error:
        raise UserError(f"no data service answers at {address} ({error}): start its dispatcher first") from error


def distribute(make_stream, address):
    """Has batches made by the workers of a tf.data service, in the order that one machine would make them.

    With dynamic sharding each source element goes to one worker. The source of each stream is a single element, so
    that one worker makes the whole stream, whichever asks first; taking a batch of each stream in turn restores the
    order.

    Args:
      make_stream: A function of an index under STREAMS to the dataset of the batches of that stream: number index,
        index + STREAMS and so on.
      address: grpc://HOST:PORT of the dispatcher.
    Returns:
      A tf.data.Dataset. It waits for a worker that is lost, and ends when another is there in its place.
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
    # The streams are endless: one that ends was lost with its worker, and to go on without it would leave records out.
    turns = tf.data.Dataset.range(STREAMS).repeat()
    return tf.data.Dataset.choose_from_datasets(streams, turns, stop_on_empty_dataset=True)
