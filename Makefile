# Each target does all its set-up in .venv, so that it works on a fresh machine with Python 3.11+, git and make.
PYTHON ?= python3
BIN = .venv/bin

.PHONY: demo test lint types tables verify gpu-rehearsal clean

demo: .venv/demo
	$(BIN)/ssbench run --method mim-block --task linear-probe --results runs

test: .venv/test
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n 2 --dist loadfile

lint: .venv/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/test
	$(BIN)/mypy

tables: .venv/demo
	$(BIN)/ssbench tables --results results --readme README.md --readme docs/textbook.md
	$(BIN)/ssbench tables --results results/tasks
	$(BIN)/ssbench list departures > docs/departures.md

verify: .venv/demo
	$(BIN)/ssbench verify --results results --readme README.md --readme docs/textbook.md
	$(BIN)/ssbench verify --results results/tasks
	$(BIN)/ssbench verify --results results/rates

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/demo: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

.venv/test: .venv/demo
	$(BIN)/python -m pip install --quiet --constraint constraints.txt "pip>=25.1"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group dev
	touch $@

# The whole GPU script with tiny sizes on the CPU, with what the GPU machine has and the carried wheels alone.
IMAGES ?= ../shared/data
PYTHON312 ?= $(firstword $(wildcard $(HOME)/.pyenv/versions/3.12.*/bin/python3.12) python3.12)
gpu-rehearsal: .venv-gpu/ready benchmarks/gpu/wheels
	PYTHON=$(CURDIR)/.venv-gpu/bin/python benchmarks/gpu/run.sh runs/gpu-rehearsal --rehearsal

.venv-gpu/ready: benchmarks/gpu/machine.txt
	$(PYTHON312) -m venv .venv-gpu
	.venv-gpu/bin/python -m pip install --quiet --requirement benchmarks/gpu/machine.txt
	touch $@

benchmarks/gpu/wheels: benchmarks/gpu/carried.txt
	benchmarks/gpu/fetch.sh $(IMAGES)

clean:
	rm -rf .venv .venv-gpu build dist *.egg-info
