# Two commands do all the set-up: `make demo` and `make test`. Both are quick when repeated.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test soak lint bench notebook clean

demo: $(VENV)/.installed-demo
	$(BIN)/fti-demo --out demo

test: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

# Every fault on every engine and store: over an hour on two cores.
soak: $(VENV)/.installed-dev
	$(BIN)/pytest -m soak --numprocesses 2 --dist loadfile --no-loadscope-reorder

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.installed-dev
	$(BIN)/python bench/start.py
	$(BIN)/python bench/compose.py
	$(BIN)/python bench/train.py
	$(BIN)/python bench/store.py
	$(BIN)/python bench/ingest.py

# Runs docs/quickstart.ipynb and writes its results into it.
notebook: $(VENV)/.installed-dev
	$(BIN)/jupyter nbconvert --execute --to notebook --inplace \
	    --ExecutePreprocessor.record_timing=False docs/quickstart.ipynb

clean:
	rm -rf $(VENV) demo build *.egg-info

$(VENV)/bin/pip:
	$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 10) <= v < (3, 14) else f"fti-qdrant needs Python 3.10 to 3.13, and $(PYTHON) is {v[0]}.{v[1]}; make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed-%: pyproject.toml | $(VENV)/bin/pip
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[$*]'
	touch $@
