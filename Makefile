# `make book` runs the book, `make test` tests it, `make lab` opens it. Each installs first.
# tests/README.md says what is tested where; data/README.md says which command makes which result.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed
PYTEST := $(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder --benchmark-disable

# Each of these is a notebook in notebooks/experiments that measures something once, for data/results.
EXPERIMENTS := cifar10 crossing exact forge_costs memorisation paths places snark stages trained_start

.PHONY: install book test test-notebooks test-all test-ui test-lowest lint fuzz kills interrupts audit bench growth \
	results paper examples reproducibility gpu $(EXPERIMENTS) lab app site film clean

install: $(STAMP)

$(STAMP): pyproject.toml polkit/book/jupyter_config.json
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[test,snark,app,site,course]'
	install -D polkit/book/jupyter_config.json .venv/etc/jupyter/jupyter_config.json # which --editable leaves out
	touch $(STAMP)

book: install
	$(BIN)/polkit book --out build/book

lab: install
	$(BIN)/jupyter lab notebooks/01_primer.ipynb

# The book as pages, from the stored chapters: build/site/index.html opens from disk, without a network.
site: install
	$(BIN)/python -m notebooks.site.build build/site $(REPOSITORY)

# The README's picture: the panel on the site's front page, while T'/k grows.
film: site
	$(BIN)/python -m tests.browser.film build/site

# Three panels of the book for a lecture hall, at http://127.0.0.1:8866 of this machine alone; APP="--port 8900" for
# another port.
app: install
	$(BIN)/python notebooks/app/serve.py $(APP)

lint: install
	$(BIN)/ruff check polkit polkit_course tests notebooks
	$(BIN)/ruff format --check polkit polkit_course tests notebooks

OTHERS := notebooks/appendices notebooks/experiments notebooks/app

# Two files at a time, one on each core of the smallest machine; notebooks beside the chapters are `test-notebooks`.
test: lint
	$(PYTEST) $(addprefix --ignore=,$(OTHERS))

test-notebooks: install
	$(PYTEST) $(OTHERS)

# Everything: the slow tests too; then the browser's alone, since some of them are timed, with what the first ones
# computed; 10,000 mutated proofs, and 50 kills and 20 interrupts of each command.
test-all: export POLKIT_TEST_HOME := $(CURDIR)/build/test-home
test-all: lint
	rm -rf $(POLKIT_TEST_HOME)
	$(PYTEST) -m "not benchmark and not ui" --ignore=tests/benchmarks
	$(MAKE) test-ui
	$(MAKE) --jobs 2 fuzz kills interrupts

# The panels in JupyterLab, the app and the site, in a Chromium.
test-ui: install
	$(BIN)/pytest tests/browser -m "not benchmark" -s

# 10,000 mutated proofs; `make test` judges some hundred. The last line counts them by kind; FUZZ="--seed 7" draws others.
fuzz: install
	$(BIN)/python -W error tests/fuzzing.py --mutations 10000 $(FUZZ)

# 50 times SIGKILL for each of `prove`, `spoof`, `calibrate` and `reproduce`: the last line counts what was lost.
kills: install
	$(BIN)/python tests/kills.py 50

# 20 times Ctrl-C for each of these, `verify` and `book`.
interrupts: install
	$(BIN)/python tests/kills.py 20 --interrupt

# The installed packages: yanked, altered, outside their bounds, imported and not named, known to be vulnerable.
audit: install
	$(BIN)/python -m pip install --quiet pip-audit
	$(BIN)/python tests/supply.py audit

# Each dependency, and what the tests need, at the lowest release that pyproject.toml allows, in a venv of its own.
test-lowest:
	test -x .venv-lowest/bin/python || $(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet packaging
	mkdir -p build && .venv-lowest/bin/python tests/supply.py lowest > build/lowest.txt
	.venv-lowest/bin/python -m pip install --quiet --constraint build/lowest.txt \
		--editable '.[test,snark,app,site,course]'
	.venv-lowest/bin/pytest tests --ignore=tests/browser --ignore=tests/test_batch.py \
		--ignore=tests/test_site_pages.py

# The committed results in the strict regime; data/README.md has the rest.
results: install
	$(BIN)/polkit reproduce all matrix --regime strict --repeats 3 --publish data/results/digits
	$(BIN)/polkit reproduce figure-2 figure-5 --task fashion --regime strict --spoof-steps 50 170 --repeats 3 \
		--out build/fashion-strict --publish data/results/fashion-strict
	rm data/results/fashion-strict/claims.csv # two lengths judge none
	$(BIN)/python -m tests.readme

# The paper's claims in the paper's regime, beside the results of the strict one: proofs of the paper's k = 100, and
# spoofs that claim a tenth of the rate and k = 10. On `fashion` Attacks II and III over T', and Attack I.
paper: PAPERS := --regime paper --checkpoint-interval 100 --spoof-interval 10
paper: install
	$(BIN)/polkit reproduce all $(PAPERS) --repeats 5 --out build/paper --publish data/results/digits
	$(BIN)/polkit reproduce figure-2 figure-5 --task fashion $(PAPERS) --repeats 5 --out build/paper-fashion \
		--publish data/results/fashion
	$(BIN)/polkit reproduce table-3 --task fashion --regime paper --checkpoint-interval 100 --repeats 5 \
		--out build/fashion-table-3 --publish data/results/fashion-table-3
	rm data/results/fashion-table-3/claims.csv # one table judges few
	$(BIN)/python -m tests.readme

# The setting in which the adversarial examples decide: twenty trainings over T', and three over the learning rate that
# the spoofs claim; the like on `fashion`, five trainings; and five with the paper's k for the spoofs.
examples: DECIDE := --regime paper --epochs 400
examples: install
	$(BIN)/polkit reproduce examples $(DECIDE) --repeats 20 --out build/examples --publish data/results/examples
	$(BIN)/polkit reproduce learning-rates $(DECIDE) --repeats 3 --out build/learning-rates \
		--publish data/results/learning-rates
	$(BIN)/polkit reproduce examples-fashion --task fashion --regime paper --spoof-interval 1 --repeats 5 \
		--out build/examples-fashion --publish data/results/examples-fashion
	$(BIN)/polkit reproduce k-100 --regime paper --checkpoint-interval 100 --repeats 5 \
		--out build/k-100 --publish data/results/k-100
	rm $(patsubst %,data/results/%/claims.csv,examples examples-fashion learning-rates k-100) # none is judged there

# The notebook says what it measures; the executed copy goes to build/experiments, the tables to data/results, where
# data/README.md lists them. P="-p task folder:PATH" sets parameters. Minutes each; `cifar10` needs the data and hours.
crossing exact memorisation paths stages trained_start: OUT := digits
snark: OUT := snark
forge_costs: OUT := folder-32x32
cifar10: OUT := cifar10
places: OUT := fashion
$(EXPERIMENTS): install
	mkdir -p build/experiments
	$(BIN)/papermill notebooks/experiments/$@.ipynb build/experiments/$@.ipynb -p out data/results/$(OUT) $(P)

# Seconds and memory beside a bare training loop's, into data/results/bench.csv, floors that are missed too; nothing
# must run beside it.
bench: install
	$(BIN)/pytest tests/benchmarks -m slow -s --benchmark-columns=median,iqr,rounds

# What is stored and what it would cost otherwise, the cheapest spoofs that pass, and how every cost grows.
growth: install
	$(BIN)/python -m tests.benchmarks storage
	$(BIN)/python -m tests.benchmarks growth
	$(BIN)/python -m tests.benchmarks optimum

# What the environment changes of a proof's bytes: data/results/digits/reproducibility.csv.
reproducibility: install
	$(BIN)/python tests/reproducibility.py data/results/digits/reproducibility.csv

# The paper's scale on one GPU: both regimes at CIFAR-10's size, E = 200, six runs side by side, the shortest first. It
# was never run on a GPU: only on tiny data, on a CPU. The images lie in $POLKIT_DATA; no network is needed. It stops
# after 11 minutes and writes the tables to build/gpu; called again, it goes on. A run that is stopped begins anew (a
# proof does not): GPU="--time-limit 60" gives the longest spoofs their time, GPU="--regime paper" asks for less.
gpu: install
	$(BIN)/polkit reproduce paper-scale --task cifar10 --device cuda --repeats 1 --workers 6 --time-limit 11 \
		--out build/gpu $(GPU)

clean:
	rm -rf build .venv .venv-lowest
