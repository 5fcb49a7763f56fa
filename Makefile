# Two commands: `make book` runs the book, `make test` tests everything. Each installs first.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed

.PHONY: install book test lab clean

install: $(STAMP)

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $(STAMP)

book: install
	$(BIN)/polkit book --out build/book

test: install
	$(BIN)/ruff check polkit tests
	$(BIN)/pytest

lab: install
	$(BIN)/jupyter lab notebooks

clean:
	rm -rf build .venv
