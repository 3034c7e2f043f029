# LMForge: `make demo` shows it, `make test` tests it, `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CACHE ?= $(HOME)/.cache/lmforge
UV := $(CACHE)/uv/bin/uv
PY := .venv/bin/python
export CLUSTER ?= native
export NODES ?= 2
# Some machines forbid Python to keep bytecode; importing torch and DeepSpeed then takes three times as long.
unexport PYTHONDONTWRITEBYTECODE
# Training processes share two cores in tests: one thread each.
export OMP_NUM_THREADS ?= 1

help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

venv: .venv/.synced ## The development environment (.venv) as uv.lock says

.venv/.synced: pyproject.toml uv.lock | $(UV)
	@echo "▸ installing the Python environment (uv.lock)"
	@$(UV) sync --quiet --all-extras --frozen --python 3.11 --no-python-downloads || { \
		echo "No Python 3.11 found: apt-get install -y python3 python3-venv"; exit 1; }
	@touch $@

$(UV):
	@command -v python3 >/dev/null || { echo "python3 is missing: apt-get install -y python3 python3-venv"; exit 1; }
	@echo "▸ installing uv"
	@python3 -m venv $(CACHE)/uv || { echo "python3-venv is missing: apt-get install -y python3-venv"; exit 1; }
	@$(CACHE)/uv/bin/pip install --quiet uv

demo: venv ## Cluster, images, chart, and the main job on real text, to the end
	@$(PY) -m e2e.demo

up: venv ## Bring the cluster up
	@$(PY) -m e2e.cluster up

images: up ## Build the images and give them to the cluster
	@$(PY) -m e2e.cluster images

down: venv ## Remove the cluster and all of its traces (caches stay)
	@$(PY) -m e2e.cluster down

generate: venv ## Write crds/, the chart's copies and its values anew
	@$(PY) -m lmforge_api.crd crds charts/lmforge/files/crds
	@$(PY) -m charts.generate

check: venv ## Lint, types, import rules, generated files
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check --quiet . || { echo "unformatted files: run make format"; exit 1; }
	@.venv/bin/mypy operator/lmforge_api operator/lmforge_operator operator/lmforge_cli workloads/lmforge_workloads e2e charts
	@.venv/bin/lint-imports
	@$(PY) -m lmforge_api.crd --check crds charts/lmforge/files/crds
	@$(PY) -m charts.generate --check

format: venv ## Format the code
	@.venv/bin/ruff check --fix --quiet .
	@.venv/bin/ruff format --quiet .

servers: ## Debian's redis-server and docker-registry, which tests start on ports of their own
	@for server in redis-server docker-registry; do \
		command -v $$server >/dev/null || { echo "▸ installing $$server"; \
		DEBIAN_FRONTEND=noninteractive; export DEBIAN_FRONTEND; \
		apt-get update -qq && apt-get install -y -qq --no-install-recommends $$server >/dev/null || { \
		echo "$$server is missing: apt-get install -y $$server (as root)"; exit 1; }; }; done

test-fast: venv servers ## Tests without a cluster, in under two minutes
	@.venv/bin/pytest -q -m "not distributed and not integration and not cluster and not model"

test: check images servers ## All tests: unit, integration, distributed numerics, end to end on the cluster
	@.venv/bin/pytest

test-serving: images ## InferenceService on the cluster with the real engines
	@.venv/bin/pytest $(addprefix e2e/scenarios/serving,.py _traffic.py _adapters.py _canary.py _llamacpp.py _onnx.py _nodes.py _node_cache.py)

test-finetune: images ## FineTune on the cluster with a real model, to answers of the served result
	@.venv/bin/pytest $(addprefix e2e/scenarios/finetune,.py _methods.py _distributed.py _registry.py)

test-queueing: venv ## TrainingJobs in the queues of the real Kueue, beside an API server of its own
	@.venv/bin/pytest e2e/scenarios/queueing.py

bench: images ## All benches (see README for what each measures)
	@$(PY) -m e2e.bench

clean: ## Remove what builds left in the tree
	@rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

include e2e/cluster/cluster.mk

.PHONY: help venv demo up images down generate check format servers test-fast test test-serving test-finetune test-queueing bench clean
