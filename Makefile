# demo  test  test-all  sanitize  lint  build  bench: each makes its own environment first. README and CI call the same verbs.
# gpu  gpu-train: with the PYTHON and the torch that are there; nothing is fetched.
PYTHON ?= python3
VENV := .venv
RUN := runs/demo
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
SOURCES := setup.py pyproject.toml $(shell find csrc -type f 2>/dev/null)

.PHONY: demo test test-all sanitize lint build bench gpu gpu-train clean

demo: build  ## train MoCo on the embedded digits and judge it beside raw pixels and an untrained encoder
	rm -rf $(RUN)
	$(BIN)/contrastkit train moco --out $(RUN)
	$(BIN)/contrastkit knn $(RUN) --baselines
	$(BIN)/contrastkit probe $(RUN) --baselines
	@echo "the run is in $(RUN): recipe.json metrics.jsonl curves.png probe.png encoder.safetensors ..."

# A worker for each core. They share the tests out in runs of neighbours, which a fixture of a module serves.
PYTEST := $(BIN)/python -m pytest -q -n auto --dist worksteal
test: build  ## the fast tests
	$(PYTEST)

test-all: build  ## the slow ones too
	$(PYTEST) -m "slow or not slow"

# In a copy, whose package precedes the installed one. Leaks are torch's and Python's own.
SANITIZED := build/sanitize
FLAGS := -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
sanitize: build  ## the CPU kernels under AddressSanitizer and UBSan pass the tests of ops, on each instruction set
	rm -rf $(SANITIZED) && mkdir -p $(SANITIZED)
	cp -r setup.py pyproject.toml README.md LICENSE csrc contrastkit cli tests $(SANITIZED)
	rm -f $(SANITIZED)/contrastkit/_C* $(SANITIZED)/contrastkit/cli
	cd $(SANITIZED) && CONTRASTKIT_CUDA=0 CFLAGS="$(FLAGS)" CXXFLAGS="$(FLAGS)" LDFLAGS="$(FLAGS)" \
		$(abspath $(BIN))/python setup.py --quiet build_ext --inplace
	cd $(SANITIZED) && for isa in baseline avx2 avx512; do \
		CONTRASTKIT_ISA=$$isa ASAN_OPTIONS=detect_leaks=0 PYTHONPATH=$(abspath $(SANITIZED)) \
		LD_PRELOAD="$$(c++ -print-file-name=libasan.so) $$(c++ -print-file-name=libubsan.so)" \
		$(abspath $(BIN))/python -m pytest -q -p no:cacheprovider tests/ops -k "cpu and not compile" || exit 1; done

# mypy finds packages by their folders alone, and contrastkit.cli lies in cli/.
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
gpu:  ## on a machine with a GPU, in 8 minutes: build, tests, a step of every method, timings; SKIP="bench parts" leaves out
	$(PYTHON) -m benchmarks.gpu check --device $(DEVICE) --out $(OUT) --skip $(SKIP)

gpu-train:  ## ResNet-18 on CIFAR-10 for 8.5 minutes, begun with DATA=DIR, resumed by the same command
	$(PYTHON) -m benchmarks.gpu train --device $(DEVICE) --out $(OUT) --minutes 8.5 --data-dir "$(DATA)" --stop-after "$(STOP_AFTER)"

# The build sees the torch that will load it: no build isolation. Its tools therefore come first.
$(VENV)/tools: constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch torchvision setuptools wheel ninja pybind11 numpy
	touch $@

$(VENV)/installed: $(VENV)/tools $(SOURCES)
	$(PIP) --no-build-isolation --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info contrastkit/_C*
