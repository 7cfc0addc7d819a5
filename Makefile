# Each target does all its set-up in .venv, so that it works on a fresh machine with Python 3.11+, git and make.
PYTHON ?= python3
BIN = .venv/bin

.PHONY: demo test lint types tables clean

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
	$(BIN)/ssbench tables --results results --readme README.md

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/demo: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

.venv/test: .venv/demo
	$(BIN)/python -m pip install --quiet --constraint constraints.txt "pip>=25.1"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group dev
	touch $@

clean:
	rm -rf .venv build dist *.egg-info
