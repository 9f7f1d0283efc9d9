# demo  test  test-all  sanitize  lint  build  bench: each creates the environment first if needed. CI calls the same targets.
# gpu  gpu-train: use the installed PYTHON and torch; download nothing.
PYTHON ?= python3
VENV := .venv
RUN := runs/demo
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
SOURCES := setup.py pyproject.toml $(shell find csrc -type f 2>/dev/null)

.PHONY: demo test test-all sanitize lint build bench gpu gpu-train clean

demo: build  ## train MoCo on the embedded digits; compare it with raw pixels and an untrained encoder
	rm -rf $(RUN)
	$(BIN)/contrastkit train moco --out $(RUN)
	$(BIN)/contrastkit knn $(RUN) --baselines
	$(BIN)/contrastkit probe $(RUN) --baselines
	@echo "the run is in $(RUN): recipe.json metrics.jsonl curves.png probe.png encoder.safetensors ..."

# One worker per core. Each takes runs of neighbouring tests, which share the fixtures of a module.
PYTEST := $(BIN)/python -m pytest -q -n auto --dist worksteal
test: build  ## the fast tests
	$(PYTEST)

test-all: build  ## all tests, including slow ones
	$(PYTEST) -m "slow or not slow"

# Runs in a copy, whose package precedes the installed one. Leaks are not checked: torch and Python have their own.
SANITIZED := build/sanitize
FLAGS := -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
sanitize: build  ## the tests of ops under AddressSanitizer and UBSan, for each instruction set of the CPU kernels
	rm -rf $(SANITIZED) && mkdir -p $(SANITIZED)
	cp -r setup.py pyproject.toml README.md LICENSE csrc contrastkit cli tests $(SANITIZED)
	rm -f $(SANITIZED)/contrastkit/_C* $(SANITIZED)/contrastkit/cli
	cd $(SANITIZED) && CONTRASTKIT_CUDA=0 CFLAGS="$(FLAGS)" CXXFLAGS="$(FLAGS)" LDFLAGS="$(FLAGS)" \
		$(abspath $(BIN))/python setup.py --quiet build_ext --inplace
	cd $(SANITIZED) && for isa in baseline avx2 avx512; do \
		CONTRASTKIT_ISA=$$isa ASAN_OPTIONS=detect_leaks=0 PYTHONPATH=$(abspath $(SANITIZED)) \
		LD_PRELOAD="$$(c++ -print-file-name=libasan.so) $$(c++ -print-file-name=libubsan.so)" \
		$(abspath $(BIN))/python -m pytest -q -p no:cacheprovider tests/ops -k "cpu and not compile" || exit 1; done

# mypy finds packages by their folders; the folder of contrastkit.cli is cli/.
lint: build  ## style, formatting and types of everything
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	ln -sfn ../cli contrastkit/cli
	$(BIN)/mypy

build: $(VENV)/installed  ## the environment, and the extension built against its torch

bench: build
	$(BIN)/contrastkit bench-kernels

OUT ?= build/gpu
DEVICE ?= cuda
gpu:  ## on a machine with a GPU, in 8 minutes: build, tests, a step of every method, timings; skip with SKIP="bench parts"
	$(PYTHON) -m benchmarks.gpu check --device $(DEVICE) --out $(OUT) --skip $(SKIP)

gpu-train:  ## train ResNet-18 on CIFAR-10 for 8.5 minutes; start with DATA=DIR, repeat to resume
	$(PYTHON) -m benchmarks.gpu train --device $(DEVICE) --out $(OUT) --minutes 8.5 --data-dir "$(DATA)" --stop-after "$(STOP_AFTER)"

# No build isolation, so that the build sees the torch that will load it. Its tools are therefore installed first.
$(VENV)/tools: constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch torchvision setuptools wheel ninja pybind11 numpy
	touch $@

$(VENV)/installed: $(VENV)/tools $(SOURCES)
	$(PIP) --no-build-isolation --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info contrastkit/_C*
