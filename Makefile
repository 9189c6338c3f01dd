# Each target does its own set-up: a .venv in this folder with pinned versions (constraints.txt).
PYTHON ?= python3.11
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt
# torch first and by its pin: what comes later must not pull another build
INSTALL = $(PIP) "torch==$$(sed -n 's/^torch==//p' constraints.txt)" && $(PIP) -e

.PHONY: quickstart train-demo shapes-demo moving-demo test test-fast lint bench clean

quickstart: $(VENV)/.quickstart
	$(BIN)/python -m curation.quickstart build quickstart-corpus
	$(BIN)/curate run manifests/quickstart.yaml --out runs/quickstart
	@echo
	$(BIN)/python -m curation.quickstart check runs/quickstart quickstart-corpus/planted.jsonl
	@echo
	@echo "Look at it: open runs/quickstart/report.html in a browser, and drag a threshold."
	@echo "Try next, with $(BIN)/ before each or after '. $(BIN)/activate':"
	@echo "  curate report runs/quickstart                      that page again, after another decision"
	@echo "  curate why runs/quickstart images/0007.jpg         one record's whole story"
	@echo "  curate select runs/quickstart --set 'select.keep=[\"aesthetic >= p50\"]'   decide again, in seconds"
	@echo "  curate plan manifests/quickstart.yaml              what a run would do and cost"
	@echo "  curate stages                                      what else can be measured"

# From a manifest to a model on a CPU: make the corpus, curate it, train on its shards, and look at what was learnt.
train-demo: DEMO := digits
shapes-demo: DEMO := shapes
moving-demo: DEMO := moving
train-demo shapes-demo moving-demo: $(VENV)/.demo
	$(BIN)/python -m curation.demo build $(DEMO) $(DEMO)-corpus
	$(BIN)/curate run manifests/$(DEMO).yaml --out runs/$(DEMO)
	$(BIN)/curate train manifests/$(DEMO).yaml
	$(BIN)/python -m curation.demo judge $(DEMO) runs/$(DEMO) --picture runs/$(DEMO)/samples.png

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 --dist loadgroup

# What to run while one writes: about four minutes on two cores.
test-fast: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m "not slow"

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.dev
	$(PIP) imagededup
	$(BIN)/python -m benchmarks

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV) || python3 -m venv $(VENV)

$(VENV)/.quickstart: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing (a few minutes the first time) ..."
	@$(INSTALL) ".[quickstart]"
	@touch $@

$(VENV)/.demo: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing (a few minutes the first time) ..."
	@$(INSTALL) ".[train,video,quickstart]"
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing (a few minutes the first time) ..."
	@$(INSTALL) ".[dev,quickstart]"
	@touch $@

clean:
	rm -rf $(VENV) runs quickstart-corpus digits-corpus shapes-corpus moving-corpus
