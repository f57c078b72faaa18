# The two commands of the README are `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: install demo test lint bench matrix clean

install: $(VENV)/.installed

$(VENV)/.installed: requirements.txt requirements-s3.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed." if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

demo: install
	$(BIN)/python manage.py demo $(DEMO_OPTIONS)

test: install
	$(BIN)/python -m pytest $(TEST_OPTIONS)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy .

bench: install
	$(BIN)/python benchmarks/run.py
	$(BIN)/python benchmarks/backup.py
	$(BIN)/python benchmarks/restore.py
	$(BIN)/python benchmarks/copy.py
	$(BIN)/python benchmarks/triggers.py
	$(BIN)/python benchmarks/catalog.py
	$(BIN)/python benchmarks/auth.py

matrix: test

clean:
	-$(BIN)/python manage.py pg stop
	rm -rf $(VENV) var .mypy_cache .ruff_cache .pytest_cache
