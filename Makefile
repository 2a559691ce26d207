# `make demo` and `make test` start from nothing but Python 3.11+, make and a package index.
PYTHON ?= python3
VENV ?= .venv
RUN = $(VENV)/bin/python
READY = $(VENV)/.ready
DEMO_DIR = runs/digits-resnet_v2_50

# Another release of PyTorch, or a build without CUDA: make torch TORCH="torch==2.13.0 torchvision==0.28.0 timm"
TORCH ?= torch torchvision timm

.PHONY: demo test test-all torch browser lint clean

# Trains on the embedded digits (a finished run is only evaluated), scores the checkpoint, times a few steps.
demo: $(READY)
	$(RUN) train_image_classifier.py --model_name=resnet_v2_50 --train_dir=$(DEMO_DIR)
	$(RUN) eval_image_classifier.py --checkpoint_path=$(DEMO_DIR)
	$(RUN) benchmarks/time_forward_backward.py --model resnet_v2_50 --batch_size 8 --num_batches 10 --burn_in 2

test: $(READY)
	$(RUN) -m pytest -n 2 --dist loadfile -m "not slow"

test-all: torch
	$(RUN) -m pytest -n 2 --dist loadfile

# Some tests compare with PyTorch, torchvision and timm where they are installed; they are not among what `make` installs
# by itself, since PyTorch's wheel for Linux may bring gigabytes of CUDA.
torch: $(READY)
	$(RUN) -m pip install --quiet --disable-pip-version-check $(TORCH)

# One test looks at a run's report in a browser where there is one; on a machine of one's own, install it as one likes.
browser:
	@command -v chromium >/dev/null || \
	  { [ "$$(id -u)" = 0 ] && apt-get update -q && apt-get install -qy --no-install-recommends chromium; } || \
	  { echo "error: no chromium, and only root of a Debian system can install it by make browser" >&2; exit 1; }

lint: $(READY)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache

# An environment that was not finished is made anew: the mark comes last.
$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $(PYTHON) is older than 3.11; give another: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@
