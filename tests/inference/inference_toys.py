"""What the tests of inference share: a way to write checkpoints, and to classify in this process."""

from data import preprocessing
from inference.classify import ClassifyConfig, classify
from nets import checkpoints

NAMES = ["zero", "one", "two", "three", "four", "five", "six"]


def write_checkpoint(folder, model, label_names, preprocessing_name="digits", image_size=32):
    """Writes a SlimModel and what describes it, as a run of the trainer leaves them."""
    model.save(folder / "model.ckpt-1")
    (folder / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-1"\n')
    description = {
        "network": model.settings,
        "preprocessing": preprocessing.PREPROCESSING[preprocessing_name].settings(image_size),
        "labels_offset": 0,
        "label_names": label_names,
        "training": {},
    }
    checkpoints.write_description(folder, description)


def run(checkpoint, *images, **flags):
    """Classifies; returns the results and the failures."""
    results, failures = [], []
    config = ClassifyConfig(images=tuple(map(str, images)), checkpoint_path=checkpoint, **flags)
    counts = classify(config, results.append, lambda name, reason: failures.append((name, reason)))
    assert counts == (len(results), len(failures))
    return results, failures
