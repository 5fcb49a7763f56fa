# Two commands: `make book` runs the book, `make test` tests everything. Each installs first.
# `make test-ui` is the part of `make test` that drives JupyterLab in a browser; `make lab` opens the book there.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed

.PHONY: install book test test-ui test-tasks bench lab results snark clean

install: $(STAMP)

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[test,snark]'
	touch $(STAMP)

book: install
	$(BIN)/polkit book --out build/book

test: install
	$(BIN)/ruff check polkit tests
	$(BIN)/pytest

test-ui: install
	$(BIN)/pytest tests/browser -s

# Every chapter on tiny CIFAR files and on a tiny folder of images, and two steps of the paper's larger models: too long
# for `make test`.
test-tasks: install
	$(BIN)/pytest tests/test_book.py tests/test_paper_scale.py -m slow

bench: install
	$(BIN)/pytest tests/test_panels.py -s -k answers_quickly

# The committed results: 147 runs on `digits`, then the tables in README.md.
results: install
	$(BIN)/polkit reproduce all --repeats 3 --publish data/results/digits
	$(BIN)/python -m polkit.reproduce.readme

# What proofs of computation cost on this machine: data/results/snark, a minute on two cores.
snark: install
	$(BIN)/python -m polkit.reproduce.snark

lab: install
	$(BIN)/jupyter lab notebooks/01_primer.ipynb

clean:
	rm -rf build .venv
