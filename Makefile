# Everything runs in .venv, which is made on first need. `make` alone lists the targets.

# Interpreters to try, the best first: each is run, since one that is on the PATH need not work (pyenv's shims).
PYTHONS := python3.11 python3.12 python3.13 python3.10 python3
# The versions that pyproject.toml allows; ensurepip is missing where a distribution splits venv off.
FITS := import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))
# pip itself is not in the lock; an old bundled one cannot install a pyproject.toml in place.
PIP := pip==26.3

RUN := .venv/bin/python
RUNS := runs
STAMP := .venv/.setup-stamp
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# Shell code that leaves in $$python the first interpreter that fits, or stops with one sentence.
define find_python
for python in $(if $(PYTHON),"$(PYTHON)",$(PYTHONS)); do \
	if "$$python" -c '$(FITS)' >/dev/null 2>&1; then break; fi; \
	python=; \
done; \
if [ -z "$$python" ]; then \
	echo "No usable Python ($(or $(PYTHON),tried $(PYTHONS))): install Python 3.11 (3.10 to 3.13 work)" \
		"with its venv module, or name one with 'make setup PYTHON=/path/to/python3.11'." >&2; \
	exit 1; \
fi
endef

.DEFAULT_GOAL := help
.PHONY: help setup train test test-slurm reproduce dashboard dashboard-web bench lint format lock clean

help: ## list the targets (ARGS="..." is passed on by train, test, test-slurm, reproduce, dashboard-web and bench)
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-13s %s\n", $$1, $$2}' Makefile

setup: $(STAMP) ## make .venv and install the project into it (PYTHON=... chooses the interpreter of a new one)

train: $(STAMP) ## run the main job: a νP network under the geometric schedule
	$(RUN) train.py model=nup schedule=geometric $(ARGS)

test: $(STAMP) ## run all tests
	$(RUN) -m pytest $(ARGS)

# Packages are installed only where they are missing; the cluster lives in a temporary folder and ends with the test.
test-slurm: $(STAMP) ## run a sweep on a real SLURM (Debian's packages; needs root, installs them with apt-get)
	@if [ "$$(id -u)" != 0 ]; then echo "make test-slurm starts SLURM's daemons and needs root." >&2; exit 1; fi
	@export PATH="$$PATH:/usr/sbin"; for program in slurmctld slurmd munged sbatch; do \
		if ! command -v $$program >/dev/null; then \
			apt-get update --quiet; \
			apt-get install --quiet --yes --no-install-recommends slurmctld slurmd slurm-client munge || exit 1; \
			break; \
		fi; \
	done
	EOC_TEST_SLURM=1 $(RUN) -m pytest tests/slurm $(ARGS)

# Every experiment as a sweep, then the claims of all, with the figures that each would draw for itself.
# What is finished is not run again: stop it and go on as you like.
EXPERIMENTS := depth_curvature coordinate_check concentration lr_transfer kappa_transfer cosines catapult geometric_schedule
DATASET := digits
JOBS := 2
DATA := $(if $(filter digits,$(DATASET)),,dataset=$(DATASET))
NAME := $(DATASET)
SWEEPS := runs/reproduction/$(NAME)
reproduce: $(STAMP) ## run all experiments and judge the claims (DATASET=mnist DATA_ROOT=/path JOBS=8 EXPERIMENTS="..."; NAME=mnist_1000 ARGS="dataset.n_train=1000")
	@set -e; for name in $(EXPERIMENTS); do \
		echo "== $$name"; \
		OMP_NUM_THREADS=1 $(RUN) train.py experiment=$$name $(DATA) $(if $(DATA_ROOT),dataset.root=$(DATA_ROOT)) hydra.sweep.dir=$(SWEEPS)/$$name \
			hydra/launcher=joblib hydra.launcher.n_jobs=$(JOBS) '~hydra.callbacks.report' $(ARGS); \
	done
	$(RUN) -m eoc.analysis.claims $(SWEEPS) --to results/$(NAME) --options "$(strip $(DATA) $(ARGS))"

dashboard: $(STAMP) ## browse W&B's runs on disk in the terminal (RUNS=runs)
	@if [ -d "$(RUNS)/wandb" ]; then .venv/bin/wandb leet "$(RUNS)/wandb"; \
	else echo "$(RUNS)/wandb has no W&B runs: make train leaves one, RUNS=... names another folder." >&2; exit 1; fi

dashboard-web: $(STAMP) ## browse the runs below a folder in the browser, without account or network (RUNS=runs)
	$(RUN) -m eoc.analysis report "$(RUNS)" --serve $(ARGS)

# The benchmark's peers are installed for it alone; PyTorch stays what the lock says.
bench: $(STAMP) ## time the curvature engine against its peers (half an hour; ARGS="--steps 20" for a taste, ARGS=--publish for the docs)
	$(RUN) -m pip install --quiet -c requirements.lock -e '.[bench]'
	$(RUN) benchmarks/curvature_engine/run.py $(ARGS)

lint: $(STAMP) ## check style, format and types, changing nothing
	$(RUN) -m ruff check
	$(RUN) -m ruff format --check
	$(RUN) -m mypy

format: $(STAMP) ## put the code into the one format, and mend what the linter can
	$(RUN) -m ruff check --fix
	$(RUN) -m ruff format

# Independent of .venv, because dependencies that contradict the old lock cannot be installed under it.
lock: ## resolve requirements.lock anew, keeping its versions (LOCK=--upgrade takes the newest)
	@$(find_python); rm -rf .cache/lock; "$$python" -m venv .cache/lock
	.cache/lock/bin/python -m pip install --quiet uv
	.cache/lock/bin/uv pip compile --quiet --universal --python-version 3.10 --all-extras \
		--annotation-style line --custom-compile-command "make lock" $(LOCK) \
		--output-file requirements.lock pyproject.toml

clean: ## remove .venv, caches and build products; runs/ and data/ stay
	rm -rf .venv .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist src/*.egg-info
	find src tests -type d -name __pycache__ -prune -exec rm -rf {} +

# The stamp goes before anything changes and comes back last: without it .venv is half made and is made anew.
$(STAMP): pyproject.toml requirements.lock
	@set -e; \
	if [ -e $@ ] && $(RUN) -c '$(FITS)' 2>/dev/null; then \
		echo "Bringing .venv up to date."; rm $@; quiet=--quiet; \
	else \
		$(find_python); \
		echo "Making .venv with $$python: some 3 GB to fetch, once."; \
		rm -rf .venv; "$$python" -m venv .venv; quiet=; \
	fi; \
	$(RUN) -m pip install --quiet "$(PIP)"; \
	$(RUN) -m pip install $$quiet -c requirements.lock -e '.[dev]'; \
	touch $@
