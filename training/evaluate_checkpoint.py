"""Scores a checkpoint on a split: what `eval_image_classifier.py` runs."""

import contextlib
import dataclasses
import pathlib
import sys
from typing import Literal

from command_line import UserError, check_at_least


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """Scores a checkpoint on every record of a split, once each.

    Flags left out come from the model.json beside the checkpoint. One that contradicts it is followed with a warning,
    but another --model_name is an error.
    """

    checkpoint_path: pathlib.Path
    """Folder of a run (its newest checkpoint), or one checkpoint."""
    dataset_name: str | None = None
    """Data set; None for the one the network was trained on."""
    dataset_dir: str | None = None
    """Folder with TFRecords and their dataset.json."""
    synthetic_num_images: int | None = None
    """Images of --dataset_name=synthetic; None for as many as in training, or 1024."""
    dataset_num_private_threads: int | None = None
    """Threads that read and preprocess; None for half of the CPUs."""
    dataset_split_name: str | None = None
    """Split; None for the data set's own evaluation split."""
    batch_size: int = 100
    """Images per batch; the result does not depend on it."""
    model_name: str | None = None
    """Network, for a checkpoint without model.json."""
    preprocessing_name: str | None = None
    """Preprocessing."""
    eval_image_size: int | None = None
    """Height and width of the images fed to the network, in pixels."""
    labels_offset: int | None = None
    """Subtracted from each label."""
    moving_averages: bool | None = None
    """Score the moving averages of the weights; None to score them if the checkpoint holds them."""
    recalibrate_batch_norm: int = 0
    """Training images on which to measure batch norm's statistics again before scoring; 0 for none."""
    watch: bool = False
    """Score each checkpoint in a run's folder once, as it appears, until the run ends."""
    watch_timeout_secs: float = 3600.0
    """Seconds without a new checkpoint after which --watch ends."""
    eval_dir: pathlib.Path | None = None
    """Folder for the results of --watch, as lines of JSON and as curves (eval_SPLIT in the run's folder)."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "float32"
    """Dtype of the activations."""
    json: pathlib.Path | None = None
    """File to write the result to, as JSON."""
    predictions: pathlib.Path | None = None
    """CSV file with a row for each record: record, label, predicted, probability, top_5, filename."""
    report: pathlib.Path | None = None
    """Page with the results: FILE.html, or a folder for report.html and the figures as PNG."""


def evaluate_checkpoint(config, show=lambda text: None):
    """Scores a checkpoint.

    Args:
      config: An EvalConfig.
      show: Called with lines that say what is scored, and on which data.

    Returns:
      The dict of `Evaluator.evaluate`, and checkpoint, model_name, dataset, split, preprocessing, image_size,
      labels_offset, precision.

    Raises:
      UserError: If a flag, the checkpoint or the data is bad, or they do not fit together.
    """
    from nets import checkpoints

    if config.eval_dir is not None:
        print("warning: --eval_dir has no effect without --watch; --json and --report keep results", file=sys.stderr)
    if config.report:
        from reports import evaluation_report

        evaluation_report.check_path(config.report)
    prefix = checkpoints.find(config.checkpoint_path)
    return Scorer(config, prefix, show).score(prefix)


class Scorer:
    """Scores checkpoints of one network on one split, tracing the network only once.

    Attributes:
      split: The split.
      best_metric: The metric of the run's best checkpoint.
      how: JSON-able; checkpoints scored with equal ones can be compared.
    """

    def __init__(self, config, prefix, show=lambda text: None):
        """Opens the network and data that the flags and a checkpoint's model.json name.

        Args:
          config: An EvalConfig.
          prefix: A checkpoint of the network.
          show: As in `evaluate_checkpoint`.

        Raises:
          UserError: As `evaluate_checkpoint`.
        """
        import tensorflow as tf

        from data import preprocessing
        from nets import nets_factory
        from training import devices
        from training.evaluation import Evaluator

        check_at_least(config, batch_size=1, eval_image_size=1, synthetic_num_images=1, dataset_num_private_threads=1)
        check_at_least(config, recalibrate_batch_norm=0)
        self._config = config
        self._show = show
        self._described = described = _describe(config, prefix)
        self._dataset = dataset = _open_data(config, described)
        self.split = config.dataset_split_name or dataset.row.eval_split
        settings, self._names = _settings(described, dataset)
        precision = devices.resolve_precision(config.precision)
        self._model = nets_factory.create_described(settings, prefix, precision)
        self._size = size = described["image_size"] or dataset.row.image_size or self._model.default_image_size
        self._family = preprocessing.find_family(described["preprocessing"])
        self._preprocess = preprocessing.Preprocess(self._family, size, size)
        gpus = [gpu.name for gpu in tf.config.list_logical_devices("GPU")]
        self._evaluator = Evaluator(self._model, gpus if len(gpus) > 1 else ())
        self.best_metric = described["training"].get("best_metric", "top_1")
        self.how = {
            "dataset": dataset.name,
            "dataset_dir": described["dataset_dir"] and str(described["dataset_dir"]),
            "split": self.split,
            "images": dataset.num_records(self.split),
            "preprocessing": described["preprocessing"]["name"],
            "image_size": size,
            "labels_offset": described["labels_offset"],
            "precision": precision,
            "moving_averages": config.moving_averages,
            "recalibrate_batch_norm": config.recalibrate_batch_norm,
        }

    def score(self, prefix):
        """Scores a checkpoint and returns the dict of `evaluate_checkpoint`."""
        from data import records
        from training.evaluation import PredictionsFile
        from training.mistakes import Mistakes

        config, dataset, split = self._config, self._dataset, self.split
        model_name, preprocessing_name = self._model.settings["model_name"], self._described["preprocessing"]["name"]
        offset = self._described["labels_offset"]
        self._model.restore(prefix, config.moving_averages)
        if config.recalibrate_batch_norm:
            self._recalibrate(prefix)
        self._show(
            f"{model_name} from {prefix}, on split {split} of {dataset.name} ({dataset.num_records(split)} images), "
            f"preprocessing {preprocessing_name} at {self._size} pixels"
        )
        with contextlib.ExitStack() as stack:
            stack.enter_context(records.explain_errors(dataset, split, offset))
            mistakes = Mistakes()
            listeners = [mistakes.add] if config.report else []
            if config.predictions:
                names = records.file_names(dataset, split)
                listeners.append(stack.enter_context(PredictionsFile(config.predictions, names)).add)

            def on_batch(batch):
                for listener in listeners:
                    listener(batch)

            batches = records.evaluation_batches(
                dataset, split, self._preprocess, config.batch_size, offset, config.dataset_num_private_threads
            )
            result = self._evaluator.evaluate(batches, self._names, on_batch)
        result = {
            "checkpoint": str(prefix),
            "model_name": model_name,
            "dataset": dataset.name,
            "split": split,
            "preprocessing": preprocessing_name,
            "image_size": self._size,
            "labels_offset": offset,
            "precision": self._model.compute_dtype.name,
            **result,
        }
        if config.report:
            from reports import evaluation_report

            self._show(f"report {evaluation_report.write(config.report, result, mistakes.worst())}")
        return result

    def _recalibrate(self, prefix):
        """Measures batch norm's statistics again, on the training batches that would come next."""
        from data import records
        from nets import checkpoints
        from training import fine_tuning, recalibration
        from training.config import from_json
        from training.input import Input

        if not self._described["training"]:
            raise UserError(
                f"--recalibrate_batch_norm needs the batches of the training, but no {checkpoints.DESCRIPTION} beside "
                f"{prefix} says how it was trained; leave the flag out"
            )
        dataset, threads = self._dataset, self._config.dataset_num_private_threads
        # Where the evaluator's flags differ from those of the training, the evaluator's hold.
        flags = dataclasses.replace(
            from_json(self._described["training"]),
            preprocessing_name=self._family.name,
            train_image_size=self._size,
            labels_offset=self._described["labels_offset"],
            # The service may be gone since the run ended; the batches are the same without it.
            data_service_address=None,
            dataset_num_private_threads=threads,
        )
        step = int(checkpoints.read(prefix, ["global_step"])["global_step"])
        with records.explain_errors(dataset, flags.dataset_split_name, flags.labels_offset):
            batches = Input(flags, dataset, self._family.settings(self._size)).training_batches(step)
            statistics, count = recalibration.estimate(
                self._model,
                (images for images, _ in batches),
                self._config.recalibrate_batch_norm,
                fine_tuning.mode_of_norms(flags, self._model),
                flags.gradient_accumulation_steps,
            )
        for name, value in statistics.items():
            self._model.variables_by_name[name].assign(value)
        self._show(f"batch norm's statistics measured anew on {count} training images")


def _open_data(config, described):
    """The data set to score on; a synthetic one is drawn to fit the network."""
    from data import catalog, synthetic
    from nets import nets_factory

    if described["dataset_name"] != synthetic.NAME:
        return catalog.open_dataset(described["dataset_name"], described["dataset_dir"])
    training = described["training"]
    settings = described["network"]
    num_images = config.synthetic_num_images or training.get("synthetic_num_images", 1024)
    num_classes = (settings.get("num_classes") or 1000) + described["labels_offset"]
    size = described["image_size"] or nets_factory.find_network(settings["model_name"]).default_image_size
    return synthetic.synthetic_dataset(num_images, num_classes, size, training.get("seed", 0))


def _describe(config, prefix):
    """What to score and how, from the flags and then model.json; a flag that contradicts model.json draws a warning."""
    from nets import checkpoints, nets_factory

    if config.model_name and not checkpoints.has_description(prefix):
        description = nets_factory.foreign_description(prefix, config.model_name)
        name = config.preprocessing_name
        # Without a number of classes, restoring says what the checkpoint holds in place of logits.
        network = {key: value for key, value in description["network"].items() if value is not None}
        return description | {
            "network": network,
            "preprocessing": {"name": name} if name else description["preprocessing"],
            "training": {},
            "image_size": config.eval_image_size,
            "labels_offset": config.labels_offset or 0,
            "dataset_name": config.dataset_name,
            "dataset_dir": config.dataset_dir,
        }
    description = checkpoints.read_description(prefix)
    training, recorded = description["training"], description["preprocessing"]
    if config.model_name not in (None, description["network"]["model_name"]):
        raise UserError(
            f"--model_name is {config.model_name}, but {prefix} is a {description['network']['model_name']}; leave the "
            "flag out"
        )
    name = _prefer("preprocessing_name", config.preprocessing_name, recorded["name"])
    own_data = config.dataset_name is None and config.dataset_dir is None
    return {
        "network": description["network"],
        "training": training,
        "label_names": description["label_names"],
        # The recorded numbers belong to the recorded name; another preprocessing brings its own.
        "preprocessing": recorded
        if name == recorded["name"]
        else {"name": name, "channels": description["network"].get("input_channels", 3)},
        "image_size": _prefer("eval_image_size", config.eval_image_size, recorded["image_size"]),
        "labels_offset": _prefer("labels_offset", config.labels_offset, description["labels_offset"]),
        "dataset_name": training.get("dataset_name") if own_data else config.dataset_name,
        "dataset_dir": training.get("dataset_dir") if own_data else config.dataset_dir,
    }


def _prefer(flag, given, recorded):
    if given is None or given == recorded:
        return recorded
    print(f"warning: --{flag}={given}, but the checkpoint's network was trained with {recorded}", file=sys.stderr)
    return given


def _settings(described, dataset):
    """The network's settings and a name for each class; an error if the data set's classes do not fit the network."""
    offset = described["labels_offset"]
    names = list(dataset.class_names[offset:])
    settings = {"num_classes": len(names), **described["network"]}
    if settings["num_classes"] != len(names):
        raise UserError(
            f"the network has {settings['num_classes'] or 'no'} classes, but data set {dataset.name} {len(names)} (of "
            f"{len(dataset.class_names)}, --labels_offset={offset}); give the data set it was trained on, or the offset"
        )
    if described["label_names"]:
        warning = dataset.check_class_names(described["label_names"], offset)
        if warning:
            print(f"warning: {warning}", file=sys.stderr)
    return settings, described["label_names"] or names
