# Every target that needs the environment sets it up first, once: the stamp file remembers.
VENV ?= .venv
PYTHON ?= python3
# processes of the test run, one thread each
WORKERS ?= 2

BIN := $(VENV)/bin/python
STAMP := $(VENV)/.nl_detectron-setup
EXPLORE_STAMP := $(VENV)/.nl_detectron-explore
EXPORT_STAMP := $(VENV)/.nl_detectron-export
VIDEO_STAMP := $(VENV)/.nl_detectron-video
PEERS_STAMP := $(VENV)/.nl_detectron-peers
# the site's packages are apart from the others: they need none of these, and no torch
DOCS_VENV ?= .venv-docs
DOCS_STAMP := $(DOCS_VENV)/.nl_detectron-docs
DEMO := $(BIN) tools/relay_demo.py --config-file configs/Demo
PIP := $(BIN) -m pip install --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-twin demo-keypoints demo-keypoints-twin demo-video demo-video-twin explore test coverage test-fast test-gpu gpu-proof setup-browser setup-export setup-video setup-peers bench bench-report evidence evidence-quick evidence-report notebook docs lint clean

help: ## list these targets
	@echo "usage: make TARGET [VENV=$(VENV)] [PYTHON=$(PYTHON)] [ARGS='more arguments']"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-22s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## make the environment (or complete your own: VENV=path), several GB the first time

$(STAMP): requirements.txt requirements-dev.txt nl_detectron_cli/requirements-detectron2.txt nl_detectron_cli/detectron2_wheel.py pyproject.toml setup.py tools/setup_env.py
	@command -v $(PYTHON) > /dev/null || { \
		echo "There is no '$(PYTHON)' here. Name your Python 3.10 or newer: make PYTHON=python3.11 setup" >&2; exit 1; }
	@$(PYTHON) tools/setup_env.py --venv $(VENV) --dev
	@touch $@

demo: $(STAMP) ## train Mask R-CNN with non-local blocks on the relay data set and draw its predictions
	$(DEMO)/relay_mask_rcnn_nl.yaml $(ARGS)

demo-twin: $(STAMP) ## the same without non-local blocks, to compare
	$(DEMO)/relay_mask_rcnn.yaml $(ARGS)

demo-keypoints: $(STAMP) ## train Keypoint R-CNN with non-local blocks on the relay data set
	$(DEMO)/relay_keypoint_rcnn_nl.yaml --start-from configs/Demo/relay_mask_rcnn_nl.yaml $(ARGS)

demo-keypoints-twin: $(STAMP) ## the same without non-local blocks, to compare
	$(DEMO)/relay_keypoint_rcnn.yaml --start-from configs/Demo/relay_mask_rcnn.yaml $(ARGS)

demo-video: $(VIDEO_STAMP) ## train a video classifier with a non-local block on the spacetime relay
	$(DEMO)/relay_video_c2d_nl.yaml $(ARGS)

demo-video-twin: $(VIDEO_STAMP) ## the same without the block, to compare
	$(DEMO)/relay_video_c2d.yaml $(ARGS)

$(EXPLORE_STAMP): $(STAMP) requirements-explore.txt
	$(PIP) -r requirements-explore.txt
	@touch $@

explore: $(EXPLORE_STAMP) ## a page that shows what blocks attend to, by default the demo's: ARGS="--config-file FILE ..."
	$(BIN) tools/explore.py $(or $(ARGS),--config-file configs/Demo/relay_mask_rcnn_nl.yaml \
		--opts MODEL.WEIGHTS output/relay_demo/relay_mask_rcnn_nl/seed1/model_final.pth)

test: $(STAMP) ## run the tests
	OMP_NUM_THREADS=1 $(BIN) -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

coverage: $(STAMP) ## run the tests and list the lines that they do not run
	@$(MAKE) --no-print-directory test ARGS="--cov=nl_detectron --cov-report=term-missing:skip-covered $(ARGS)"

test-fast: $(STAMP) ## run the quick tests, under about 0.3 s each, and a few cases of each large table
	OMP_NUM_THREADS=1 $(BIN) -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder -m "not slow and not several" $(ARGS)

test-gpu: $(STAMP) ## run the tests that need a CUDA device
	@cuda=$$($(BIN) -c 'import torch; print(torch.cuda.is_available())') || exit 1; \
	if [ "$$cuda" = True ]; then $(BIN) -m pytest -m gpu $(ARGS); \
	else echo "no CUDA device here: nothing to run"; fi

gpu-proof: $(STAMP) ## test and measure everything on a GPU into docs/gpu.md, in at most ten minutes
	$(BIN) -W ignore -m benchmarks.gpu_proof $(ARGS)

setup-browser: $(EXPLORE_STAMP) ## install what the explorer's browser tests need, besides Debian's chromium
	$(PIP) "playwright>=1.64,<2"

$(EXPORT_STAMP): $(STAMP) requirements-export.txt
	$(PIP) -r requirements-export.txt
	@touch $@

setup-export: $(EXPORT_STAMP) ## install what ONNX export and its tests need

$(VIDEO_STAMP): $(STAMP) requirements-video.txt
	$(PIP) -r requirements-video.txt
	@touch $@

setup-video: $(VIDEO_STAMP) ## install PyAV, which video models need, and which brings FFmpeg

# The packages' own lists ask for a second OpenCV, which needs X11 libraries.
$(PEERS_STAMP): $(STAMP) requirements-peers.txt
	$(PIP) --no-deps -r requirements-peers.txt
	@touch $@

setup-peers: $(PEERS_STAMP) ## install mmcv's and PyTorchVideo's blocks, which tests and benchmarks compare with

bench: $(PEERS_STAMP) ## measure everything into benchmarks/results.md, in under 25 minutes on two cores
	$(BIN) -W ignore -m benchmarks.run $(ARGS)
	$(BIN) -m benchmarks.report

bench-report: $(STAMP) ## make benchmarks/results.md and its plot from benchmarks/results/*.json
	$(BIN) -m benchmarks.report $(ARGS)

evidence: $(STAMP) ## train the runs of docs/evidence.md that are missing (hours; it may be stopped), and make the page
	$(BIN) -W ignore -m benchmarks.evidence.sweep $(ARGS)
	$(BIN) -W ignore -m benchmarks.evidence.report

evidence-quick: $(STAMP) ## baseline, control and one block, one short run each, in under 15 minutes on two cores
	$(BIN) -W ignore -m benchmarks.evidence.sweep --quick $(ARGS)
	$(BIN) -W ignore -m benchmarks.evidence.report --quick

evidence-report: $(STAMP) ## make docs/evidence.md and its pictures from benchmarks/evidence/results/*.json
	$(BIN) -W ignore -m benchmarks.evidence.report

notebook: $(STAMP) ## run docs/notebook.py and make its page, in minutes; ARGS=--quick runs a short form in seconds
	$(BIN) -W ignore -m benchmarks.notebook $(ARGS)

$(DOCS_STAMP): requirements-docs.txt
	@$(PYTHON) -m venv $(DOCS_VENV)
	@$(DOCS_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-docs.txt
	@touch $@

docs: $(DOCS_STAMP) ## make the documentation's site in build/site and check all its links; ARGS="..."
	@NO_MKDOCS_2_WARNING=1 $(DOCS_VENV)/bin/python -m mkdocs build --strict $(ARGS)

lint: $(STAMP) ## check style, formatting and types
	$(BIN) -m ruff check .
	$(BIN) -m ruff format --check .
	$(BIN) -m basedpyright --pythonpath $(BIN)

clean: ## delete output/ and caches; the environment stays
	rm -rf output build/site .pytest_cache .ruff_cache .coverage .coverage.* htmlcov
	find nl_detectron tools tests configs benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
