# The superposition book. `make` alone says what there is to do; `make book` and `make test` set everything up.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help book pdf confirm test test-site test-sweep lab run sweep status data reference bench bench-peers sizes lint lock study
.PHONY: wheelhouse clean FORCE

PYTHON ?= python3
VENV := .venv
# SYSTEM=1 uses $(PYTHON) and what it has, PyTorch for instance, and installs nothing.
PY := $(if $(SYSTEM),$(PYTHON),$(VENV)/bin/python)
PROFILE ?= quick
ARGS ?=
JOBS ?= $(shell $(PYTHON) -c 'import os; print(min(8, os.cpu_count() or 1))')
unexport MPLBACKEND
# What the press sets for its kernels; benchmarks are measured under the same setting.
ONE_THREAD := OMP_NUM_THREADS=1 MALLOC_MMAP_THRESHOLD_=2147483648 MALLOC_TRIM_THRESHOLD_=4294967296

help: ## list what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'
	@echo "  PROFILE=smoke|quick|full, or any other parameter file, chooses the parameters (quick); ARGS=... is passed on."

ifdef SYSTEM
$(VENV)/ready: FORCE
	@$(PYTHON) -m lib.press.sweep.carry check
else
# The stamp is written last: an install that was interrupted has none and is taken up again by the next call.
$(VENV)/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than 3.11: name a newer one, make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@rm -f $@
	@$(PY) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@echo "installing the pinned packages into $(VENV) (some minutes the first time)"
	@$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[book,test]'
	@touch $@
endif

book: $(VENV)/ready ## execute what changed and render _build/html/index.html
	@$(PY) -m lib.press run --site --profile $(PROFILE) $(ARGS)
	@$(PY) -m lib.press.site build --profile $(PROFILE)

pdf: $(VENV)/ready ## print the book that make book made to one file, _build/book.pdf
	@$(PY) -m lib.press.site pdf

confirm: $(VENV)/ready ## run every study at quick on fresh seeds and keep what its claims came to
	@$(PY) -m lib.press confirm $(STUDY) $(ARGS)

run: $(VENV)/ready ## execute one study: make run STUDY=superposition_phases ARGS="-p seeds=3"
	@test -n "$(STUDY)" || { echo 'name the study: make run STUDY=superposition_phases ARGS="-p seeds=3"'; $(PY) -m lib.press list; exit 2; }
	@$(PY) -m lib.press run $(STUDY) --profile $(PROFILE) $(ARGS)

sweep: $(VENV)/ready ## run what a sweep lacks: make sweep STUDY=superposition_phases SWEEP=shape ARGS=--dry-run
	@test -n "$(STUDY)" -a -n "$(SWEEP)" || { echo 'name both: make sweep STUDY=superposition_phases SWEEP=shape'; ls params/*/sweep_*.yaml; exit 2; }
	@$(PY) -m lib.press.sweep run params/$(STUDY)/sweep_$(SWEEP).yaml $(ARGS)

status: $(VENV)/ready ## which executions still stand
	@$(PY) -m lib.press status

lab: $(VENV)/ready ## open the chapters as notebooks in JupyterLab
	@$(PY) -m lib.press.lab $(ARGS)

data: $(VENV)/ready ## fetch data sets: make data DATA="fashion_mnist cifar10" (no DATA: list them)
	@$(PY) -m lib.data $(if $(DATA),fetch $(DATA),list)

test: $(VENV)/ready ## unit tests, fault tests and notebook regression
	@$(ONE_THREAD) $(PY) -m pytest --nbval-lax -n $(JOBS) --dist loadfile --no-loadscope-reorder --ignore tests/browser --ignore tests/benchmarks -m "not walk and not ray" $(ARGS)

test-site: $(VENV)/ready ## the built site in a browser (after make book)
	@$(PY) -m pytest tests/browser -rs $(ARGS)

test-sweep: $(VENV)/ready ## sweeps on Ray, which it installs
	@$(if $(SYSTEM),true,$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[sweep]')
	@$(ONE_THREAD) $(PY) -m pytest tests/press/sweep -m "ray and not walk" -rs $(ARGS)

wheelhouse: $(VENV)/ready ## gather what a machine without a network needs beside PyTorch: make wheelhouse TARGET=3.12
	@$(PY) -m lib.press.sweep.carry gather $(or $(TARGET),3.11)

reference: $(VENV)/ready ## remake tests/reference/*.ipynb from the smoke profile
	@$(PY) -m lib.press.reference $(STUDY)

bench: $(VENV)/ready ## benchmarks, as ratios to a floor measured in the same run
	@$(ONE_THREAD) $(PY) -m pytest tests/benchmarks -s --benchmark-disable-gc $(ARGS)

bench-peers: $(VENV)/ready ## other libraries' TopK steps beside ours, in an environment of their own
	@$(ONE_THREAD) $(PY) tests/benchmarks/peers.py

sizes: $(VENV)/ready ## how large library, press, studies, functions and chapters are
	@$(PY) tests/sizes.py

lint: $(VENV)/ready ## ruff
	@$(PY) -m ruff check lib tests

lock: $(VENV)/ready ## renew constraints.txt from pyproject.toml
	@env -u UV_FIND_LINKS $(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --all-extras --no-annotate --custom-compile-command 'make lock' pyproject.toml -o constraints.txt

study: $(VENV)/ready ## lay the five rooms of a new study: make study NAME=my_study
	@test -n "$(NAME)" || { echo 'name the study: make study NAME=my_study'; exit 2; }
	@$(PY) -m lib.press.scaffold $(NAME)

clean: ## remove what is generated, but no fetched data, cached runs or sweeps: those by rm -r _build/runs, say
	@test ! -d _build || find _build -mindepth 1 -maxdepth 1 ! -name .gitignore ! -name data ! -name runs ! -name sweeps -exec rm -rf {} +
