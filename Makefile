# make run     score the drawn stack, or any job:  make run INPUT=DIR OUTPUT=DIR
# make test    lint, types and every test
# make lint    lint and types alone
# make soak    the long tests: 20,000 changed jobs, 200 cases through one server, kills (minutes; more beside other work)
# make cluster the paper's workflow on miniatures, on one machine and on a Slurm cluster of two nodes (needs Debian, root)
# make image   build the container and run it as the platform does (needs docker)
#
# run and test set up .venv/ by themselves; all they need is Python 3.11 or newer.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
INPUT ?= test/input/tiff
OUTPUT ?= build/output

IN_VENV := .venv/bin/python
INSTALL := $(IN_VENV) -m pip install -qq --disable-pip-version-check --requirement

.PHONY: run test soak cluster lint image fixtures expected

run: .venv/run.stamp
	@mkdir -p "$(OUTPUT)"
	@$(IN_VENV) inference.py --input "$(INPUT)" --output "$(OUTPUT)"

test: lint
	@echo "== tests"
	@OMP_NUM_THREADS=1 $(IN_VENV) -m pytest --cov --numprocesses auto --dist loadfile

soak: .venv/test.stamp
	@echo "== long tests"
	@$(IN_VENV) -m pytest -m soak -rP

cluster: .venv/test.stamp
	@.ci/cluster

lint: .venv/test.stamp
	@echo "== lint and types"
	@$(IN_VENV) -m ruff check .
	@$(IN_VENV) -m ruff format --check .
	@$(IN_VENV) -m mypy

image:
	./build.sh
	./test.sh

# After test/container/draw_fixtures.py has changed, and after it or model/ has: both outputs are committed.
fixtures: .venv/test.stamp
	$(IN_VENV) test/container/draw_fixtures.py
expected: .venv/run.stamp
	mkdir -p build
	$(IN_VENV) inference.py --input test/input/tiff --output build --device cpu
	mv build/multiple-mitotic-figure-classification.json test/expected.json

.venv/bin/python:
	@echo "== making .venv/ with $(PYTHON)"
	@$(PYTHON) -m venv .venv

.venv/run.stamp: requirements.txt | .venv/bin/python
	@echo "== installing the container's packages into .venv/ (a minute or two, once)"
	@$(INSTALL) requirements.txt
	@touch $@

.venv/test.stamp: $(wildcard requirements*.txt) .venv/run.stamp
	@echo "== installing the packages for training and tests into .venv/ (some minutes, once)"
	@$(INSTALL) requirements.txt $(patsubst %,--requirement %,$(wildcard requirements-*.txt))
	@touch $@
