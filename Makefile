# Every target works from nothing: it makes .venv first. Two commands are all the set-up there is: make demo, make test.
VENV   := .venv
PY     := $(VENV)/bin/python
STAMP  := $(VENV)/.installed
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# pytest keeps its rewritten assertions as bytecode: a quarter of each worker's start
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test check fast lint docs bench clean

$(STAMP): pyproject.toml constraints.txt
	@test -x $(PY) || python3 -m venv $(VENV)
	@echo "installing the pinned environment (a few minutes the first time) ..."
	@$(PY) -m pip install --quiet -c constraints.txt "torch==2.13.0"
	@$(PY) -m pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(STAMP)  ## fit real digits exactly and write a report
	@$(VENV)/bin/saddlegan fit digits --out runs/digits --overwrite

test: $(STAMP)  ## all checks: lint, types, layers, docs, tests
	@$(MAKE) --no-print-directory --jobs 2 lint docs
	@$(PY) -m pytest --numprocesses auto

check: $(STAMP)  ## the edit loop: lint, types, layers and the fast tests, side by side
	@$(MAKE) --no-print-directory --jobs 2 lint fast

fast: $(STAMP)
	@$(PY) -m pytest --numprocesses auto -m "not slow" tests

lint: $(STAMP)
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/lint-imports
	@$(VENV)/bin/pyright

docs: $(STAMP)
	@$(PY) -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo "docs: docs/_build/html/index.html"

bench: $(STAMP)  ## ratios measured side by side in one run; never a test
	@for b in benchmarks/bench_*.py; do echo "== $$b"; $(PY) $$b || exit 1; done

clean:
	rm -rf $(VENV) docs/_build runs dist
