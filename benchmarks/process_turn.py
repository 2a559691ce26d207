"""One turn of compare_processes.py: a process that makes a network, uses it and reports what that took.

It is started as `process_turn.py REQUEST`, a JSON text. It imports everything as late as possible, because imports are
part of what is measured. It prints one line of JSON on stdout, for the first prediction or for the training steps.
"""

import json
import pathlib
import sys
import types

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import numpy as np


def start_slim_resnets(request, images):
    """Our network, called directly, after TensorFlow was imported as in all our scripts."""
    import command_line

    command_line.import_tensorflow()
    from nets import nets_factory

    model = nets_factory.create_model(**request["settings"], seed=None)
    model.restore(request["folder"] + "/model.ckpt")
    return model(images)[0].numpy()


def start_keras(request, images):
    """Keras Applications' network, called as a function."""
    return np.asarray(_keras(request)(images, training=False))


def start_keras_predict(request, images):
    """Keras Applications' network through `predict`, which traces it."""
    return _keras(request).predict(images, verbose=0)


def _keras(request):
    import keras

    function = getattr(keras.applications, request["keras"])
    return function(
        weights=request["folder"] + "/keras.weights.h5",
        input_shape=(request["image_size"], request["image_size"], 3),
        classes=request["settings"]["num_classes"],
        classifier_activation=None,
    )


def memory_slim_resnets(request, images, labels):
    """Our training step, after TensorFlow was imported as in all our scripts, which sets the trainer's allocator."""
    import command_line

    tf = command_line.import_tensorflow()
    from benchmarks import peers
    from nets import nets_factory

    baseline = _resident_bytes()
    model = nets_factory.create_model(**request["settings"], compute_dtype=request["precision"], seed=None)
    model.restore(request["folder"] + "/model.ckpt")
    return baseline, peers.train_contestant(model, tf.constant(images), tf.constant(labels))


def memory_torch(request, images, labels):
    """PyTorch's training step, eager, without TensorFlow in the process."""
    from benchmarks import peers, torch_network  # noqa: F401 - imports torch, before the baseline.

    baseline = _resident_bytes()
    values = np.load(request["folder"] + "/weights.npz")
    model = types.SimpleNamespace(settings=request["settings"], variables_by_name=values)
    configuration = types.SimpleNamespace(passes=("train_step",), intra_op_threads=0, precision=request["precision"])
    task = peers.Task(model, configuration, images, labels)
    return baseline, peers.torch(task)


STARTS = {"slim_resnets": start_slim_resnets, "keras": start_keras, "keras_predict": start_keras_predict}
MEMORIES = {"slim_resnets": memory_slim_resnets, "torch": memory_torch}


def _resident_bytes():
    """The resident memory of this process now; Linux only."""
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status does not say VmRSS")


def main(request):
    """Does what the request says and prints it."""
    if request["measure"] == "start":
        logits = STARTS[request["contestant"]](request, np.load(request["folder"] + "/image.npy"))
        # The process that started this one stops its clock when this line arrives.
        print(json.dumps({"value": logits.tolist()}), flush=True)
        return
    from benchmarks import memory

    images, labels = (np.load(f"{request['folder']}/{name}.npy") for name in ("images", "labels"))
    baseline, contestant = MEMORIES[request["contestant"]](request, images, labels)
    value = contestant.value(contestant.step())
    for _ in range(request["steps"] - 1):
        contestant.step()
    print(json.dumps({"value": value.tolist(), "imports": baseline, "peak": memory.peak_bytes()}), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
