# Needs make and a Python from 3.11 on; the rest is installed into .venv here.

PYTHON := .venv/bin/python
MAKEFLAGS += --no-print-directory

.PHONY: help install demo test check bench device clean

help:
	@echo 'make install   this package and its tools, into .venv'
	@echo 'make demo      make data, train and evaluate a small model (minutes)'
	@echo 'make test      all tests; ARGS="-k checkpoints" for some, JOBS=4 side by side'
	@echo 'make check     format, lint, types and all tests'
	@echo 'make bench     time a train step on the data of the demo'
	@echo 'make device    measure and check a GPU or TPU; ARGS=--help says how'
	@echo 'make clean     remove the demo, caches and builds'

install: .venv/installed

.venv/installed: pyproject.toml
	@$(PYTHON) -m pip --version >/dev/null 2>&1 || \
	  { python=$$(.ci/find-python oldest) && "$$python" -m venv .venv; }
	$(PYTHON) -m pip install -qq --disable-pip-version-check -e '.[dev]'
	@touch $@

demo/data/stats.json: | .venv/installed
	$(PYTHON) -m data_prep.synthetic --profile=diginetica --num_sessions=20000 \
	  --num_items=2000 --out=demo/data

demo: .venv/installed demo/data/stats.json
	$(PYTHON) -m experiments.train --config=experiments/configs/smoke.py \
	  --config.data.path=demo/data --workdir=demo/run
	$(PYTHON) -m experiments.evaluate --workdir=demo/run

# Each process compiles for itself, and takes up to 5 GB by its end.
JOBS := 2
test: .venv/installed
	$(PYTHON) -m pytest -n $(JOBS) --dist loadfile $(ARGS)

check: .venv/installed
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/pyrefly check
	@$(MAKE) test

bench: .venv/installed demo/data/stats.json
	$(PYTHON) -m experiments.benchmark train --config=experiments/configs/smoke.py \
	  --config.data.path=demo/data

# A bare machine may have no network, so nothing is installed here.
OUT := device_check
DATA :=
DEVICE_PYTHON := $(if $(wildcard .venv/installed),$(PYTHON),python3)
device:
	@$(DEVICE_PYTHON) -m experiments.device_check --out='$(OUT)' \
	  $(if $(DATA),--data='$(DATA)') $(ARGS)

clean:
	rm -rf demo build dist .pytest_cache .ruff_cache .venv-new *.egg-info
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +
