# `make help` lists the targets. Everything goes into .venv; nothing outside this folder changes.
SHELL := /bin/sh

# `python3.x` to make .venv with: the first of PYTHONS that is there, or PYTHON=/path/to/python.
# Not simply the newest. 3.8 to 3.11 run MXNet 1.9.1 with numpy 1.23.5 as it is, and 3.11 is the
# fastest of them and has wheels for everything; 3.12 needs one name put back into numpy 1.26, 3.13
# twenty into numpy 2, and there MXNet is installed against its own metadata; 3.8 and 3.9 get the
# oldest scipy and pandas.
PYTHONS := python3.11 python3.10 python3.12 python3.9 python3.8 python3.13 python3 python
PYTHON ?=
VENV ?= .venv
PY := $(VENV)/bin/python

# GPU=1 installs requirements-gpu.txt; later calls stay with what .venv has until GPU=0.
GPU ?= $(if $(wildcard $(VENV)/.ready-gpu),1,0)
ifeq ($(GPU),1)
DEVICE := gpu
REQUIREMENTS := requirements-gpu.txt
MXNET := mxnet-cu112
MARKS := not slow and not cluster
else
DEVICE := cpu
REQUIREMENTS := requirements.txt
MXNET := mxnet
MARKS := not slow and not gpu and not cluster
endif

READY := $(VENV)/.ready-$(DEVICE)
READY_DEV := $(VENV)/.ready-dev

# A .venv whose Python has gone, or is not the PYTHON= asked for, is made again.
IDENTITY := -c 'import sys; print(sys.version, sys.base_prefix)'
ifneq ($(wildcard $(READY)),)
HAVE := $(shell $(PY) $(IDENTITY) 2>/dev/null)
WANT := $(if $(PYTHON),$(shell "$(PYTHON)" $(IDENTITY) 2>/dev/null),$(HAVE))
REMAKE := $(if $(HAVE),$(if $(findstring $(HAVE),$(WANT)),,remake),remake)
endif

USABLE := -c 'import sys, ensurepip, venv; sys.exit(not (3, 8) <= sys.version_info[:2] <= (3, 13))'
NO_PYTHON := no Python 3.8 to 3.13 with venv found among: $(or $(PYTHON),$(PYTHONS)); \
	install one (Debian: apt install python3 python3-venv) or give PYTHON=/path/to/python

# libmxnet.so looks for CUDA's libraries in its own folder, so that a plain `import mxnet` finds them.
LINK_CUDA := (cd "$$($(PY) -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')/mxnet" \
	&& ln -sf ../nvidia/*/lib/lib[cn]*.so.* .)

.PHONY: help setup test test-all test-cluster test-nullgpu test-gpu test-pythons lint docs search bench soak faults clean remake
.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-13s %s\n", $$1, $$2}' Makefile
	@echo "Options: PYTHON=python3.x, GPU=1 (mxnet-cu112), ARGS='...' for pytest"

setup: $(READY) ## make .venv and install (GPU=1: for NVIDIA GPUs)

$(READY): $(REQUIREMENTS) requirements-deploy.txt pyproject.toml $(REMAKE)
	@set -e; \
	clear=--clear; \
	if [ -e $@ ] && [ -z "$(REMAKE)" ]; then clear=; set -- "$(PY)"; \
	elif [ -n "$(PYTHON)" ]; then set -- "$(PYTHON)"; else set -- $(PYTHONS); fi; \
	python=; for candidate do \
	    if "$$candidate" $(USABLE) >/dev/null 2>&1; then python=$$candidate; break; fi; \
	done; \
	if [ -z "$$python" ]; then echo "$(NO_PYTHON)" >&2; exit 1; fi; \
	echo "$(VENV): $$("$$python" -V), $$(command -v "$$python"); $(REQUIREMENTS)"; \
	if [ -n "$$clear" ]; then "$$python" -m venv --clear $(VENV); fi; \
	rm -f $(VENV)/.ready-*; \
	pip="$(PY) -m pip install --quiet --disable-pip-version-check"; \
	echo "$(VENV): installing, which takes a minute or more"; \
	$$pip -r $(REQUIREMENTS) -r requirements-deploy.txt; \
	if $(PY) -c 'import sys; sys.exit(sys.version_info < (3, 13))'; then \
	    $$pip --no-deps "$$(sed -n 's/^\($(MXNET)==[^;]*\);.*/\1/p' $(REQUIREMENTS))"; fi; \
	if ! $(PY) -c 'import cv2' 2>/dev/null; then \
	    echo "$(VENV): opencv-python misses a library here, using opencv-python-headless"; \
	    $(PY) -m pip uninstall --quiet --yes opencv-python; \
	    $$pip --no-deps --force-reinstall \
	        "$$(sed -n 's/^opencv-python==/opencv-python-headless==/p' $(REQUIREMENTS))"; fi; \
	if [ $(DEVICE) = gpu ]; then $(LINK_CUDA); fi; \
	$$pip --no-deps --editable .; \
	if ! error=$$($(PY) -c 'import dsonas_mx, symbols' 2>&1); then \
	    echo "$$error" | tail -n 1 >&2; [ $(DEVICE) = gpu ]; fi; \
	$(PY) -m dsonas_mx.engine.native 2>$(VENV)/native.log \
	    || echo "$(VENV): the optional C++ operator was not built; see $(VENV)/native.log"; \
	touch $@

$(READY_DEV): requirements-dev.txt $(READY)
	@$(PY) -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

# Two threads in each of two processes would only be in each other's way. Each takes a half of the
# files, one after the other, so that what a file's tests share is made once, and then what is left.
PYTEST := OMP_NUM_THREADS=1 $(PY) -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal

test: $(READY_DEV) ## the fast tests
	$(PYTEST) -m "$(MARKS)" $(ARGS)

test-all: $(READY_DEV) ## all tests (those marked gpu after setup with GPU=1)
	$(PYTEST) -m "$(if $(filter gpu,$(DEVICE)),,not gpu and )not cluster" $(ARGS)

test-cluster: $(READY_DEV) ## experiments and searches on a SLURM that is started here (root, Debian)
	@$(PY) -c 'import sys; sys.path.insert(0, "tests/cluster"); from slurm import missing; \
	    sys.exit("no " + ", ".join(missing()) + ": apt-get install slurmctld slurmd slurm-client munge" \
	        if missing() else 0)'
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements-cluster.txt
	OMP_NUM_THREADS=1 $(PY) -m pytest -m cluster tests/cluster $(ARGS)

# The null GPU is CUDA's driver to the dynamic linker, which finds it loaded already.
NULLGPU := $(CURDIR)/build/nullgpu/libcuda.so.1

test-nullgpu: ## everything on a GPU that computes nothing, in .venv-nullgpu (4 GB); needs gcc
	$(MAKE) VENV=.venv-nullgpu GPU=1 .venv-nullgpu/.ready-dev
	tests/nullgpu/build.sh .venv-nullgpu/bin/python $(NULLGPU)
	LD_PRELOAD=$(NULLGPU) NULLGPU_DEVICES=3 OMP_NUM_THREADS=1 .venv-nullgpu/bin/python -m pytest \
	    --numprocesses auto --maxprocesses 4 -m "not slow" tests/nullgpu $(ARGS)

GPUS ?= 0
test-gpu: $(READY_DEV) ## on a machine with a GPU, after setup GPU=1: check what nobody could, 5 minutes
	$(PY) tools/check_gpu.py --gpus $(GPUS)

test-pythons: ## the fast tests on each python3.8 to 3.13 found, in .venvs/
	@mkdir -p .venvs; rm -f .venvs/summary; \
	for minor in 8 9 10 11 12 13; do \
	    python=; for candidate in python3.$$minor "$(HOME)"/.pyenv/versions/3.$$minor.*/bin/python; do \
	        if "$$candidate" $(USABLE) >/dev/null 2>&1; then python=$$candidate; break; fi; done; \
	    if [ -z "$$python" ]; then \
	        echo "3.$$minor: not found" >>.venvs/summary; continue; fi; \
	    log=.venvs/3.$$minor.log; echo "3.$$minor: testing, $$log"; \
	    if $(MAKE) VENV=.venvs/3.$$minor PYTHON="$$python" GPU=0 test >$$log 2>&1; \
	    then result=ok; else result=FAILED; fi; \
	    echo "$$("$$python" -V): $$result, $$(grep -v '^make' $$log | tail -n 1 | tr -d =)" >>.venvs/summary; \
	done; cat .venvs/summary; ! grep -q ': FAILED' .venvs/summary

lint: $(READY_DEV) ## ruff and mypy
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy $(wildcard dsonas_mx symbols train tools)

docs: $(READY) ## build the documentation, warnings are errors, into build/docs
	@$(PY) -m pip install --quiet --disable-pip-version-check -r requirements-docs.txt
	$(PY) -m mkdocs build --quiet --strict

search: $(READY) ## search, train, export and draw on Fashion-MNIST: 3 to 8 minutes on 2 cores, into runs/demo
	$(PY) tools/demo.py

bench: $(READY) ## measure the speed of this machine
	$(PY) tools/benchmark.py all

soak: $(READY) ## kill a search 50 times and compare what it finds: 10 to 20 minutes, into runs/soak
	$(PY) tools/soak.py

faults: $(READY_DEV) ## let everything go wrong, and write docs/reliability.md
	OMP_NUM_THREADS=1 $(PY) tools/reliability.py

clean: ## remove .venv, .venvs, caches, builds and the operators; runs/ stays
	rm -rf .venv .venvs .venv-nullgpu build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	rm -f dsonas_mx/native/native-*.so*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
