# Two commands: `make book` runs the book, `make test` tests everything. Each installs first.
# `make test-ui` is the part of `make test` that drives JupyterLab in a browser; `make lab` opens the book there.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed

.PHONY: install book test test-ui test-tasks test-lowest fuzz kills audit reproducibility bench growth lab app site results \
	snark clean

install: $(STAMP)

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[test,snark,app,site,course]'
	touch $(STAMP)

book: install
	$(BIN)/polkit book --out build/book

# Two files at a time, one on each core of the smallest machine; a chapter is one file. Without: `.venv/bin/pytest`.
test: install
	$(BIN)/ruff check polkit tests notebooks
	$(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder --benchmark-disable

test-ui: install
	$(BIN)/pytest tests/browser -s

# Every chapter on tiny CIFAR files and on a tiny folder of images, and two steps of the paper's larger models: too long
# for `make test`.
test-tasks: install
	$(BIN)/pytest tests/test_book.py tests/test_paper_scale.py -m slow

# Each dependency, and what the tests need, at the lowest release that pyproject.toml allows, the other extras as pip
# chooses; in a venv of its own: 6 GB, 25 minutes.
test-lowest:
	test -x .venv-lowest/bin/python || $(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet packaging
	mkdir -p build && .venv-lowest/bin/python tests/supply.py lowest > build/lowest.txt
	.venv-lowest/bin/python -m pip install --quiet --constraint build/lowest.txt \
		--editable '.[test,snark,app,site,course]'
	.venv-lowest/bin/pytest tests --ignore=tests/browser --ignore=tests/test_book.py --ignore=tests/test_batch.py --ignore=tests/test_summary.py \
		--ignore=tests/test_site_pages.py

# 50 times SIGKILL for each of `prove`, `spoof`, `calibrate` and `reproduce`: the last line counts what was lost.
kills: install
	$(BIN)/python tests/kills.py 50

# The installed packages: yanked, altered, outside their bounds, imported and not named, known to be vulnerable.
audit: install
	$(BIN)/python -m pip install --quiet pip-audit
	$(BIN)/python tests/supply.py audit

# What the environment changes of a proof's bytes: data/results/digits/reproducibility.csv.
reproducibility: install
	$(BIN)/python tests/reproducibility.py data/results/digits/reproducibility.csv

# 10,000 mutated proofs; `make test` judges 2,000. The last line counts them by kind; FUZZ="--seed 7" draws others.
fuzz: install
	$(BIN)/python -W error tests/fuzzing.py --mutations 10000 $(FUZZ)

# Seconds and memory beside a bare training loop's, kept in data/results/bench.csv and shown in README.md, floors
# that are missed too; nothing beside it: 11 minutes, 20 and more where a step takes twice as long.
bench: install
	$(BIN)/pytest tests/benchmarks -m slow -s --benchmark-columns=median,iqr,rounds; status=$$?; \
	$(BIN)/python -m tests.readme && exit $$status

# What is stored and what it would cost otherwise, the cheapest spoofs that pass, and how every cost grows: ten minutes.
growth: install
	$(BIN)/python -m tests.benchmarks storage
	$(BIN)/python -m tests.benchmarks growth
	$(BIN)/python -m tests.benchmarks optimum

# The committed results: 147 runs on `digits`, then the tables in README.md.
results: install
	$(BIN)/polkit reproduce all matrix --repeats 3 --publish data/results/digits
	$(BIN)/python -m tests.readme

# What proofs of computation cost on this machine: data/results/snark, two minutes on two cores.
snark: install
	$(BIN)/python -m notebooks.experiments.snark

# The book as pages, from the stored chapters: build/site/index.html opens from disk, without a network.
site: install
	$(BIN)/python -m notebooks.site.build build/site

# Three panels of the book for a lecture hall, at http://127.0.0.1:8866 of this machine alone; APP="--port 8900" for
# another port.
app: install
	$(BIN)/python notebooks/app/serve.py $(APP)

lab: install
	$(BIN)/jupyter lab notebooks/01_primer.ipynb

clean:
	rm -rf build .venv .venv-lowest
