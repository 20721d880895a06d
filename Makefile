# Everything a fresh machine needs: git, make, Python 3.11 or later with its venv module.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
SITE := _build/html
COVERAGE := _build/coverage.json

.DEFAULT_GOAL := help
test save: export TQDM_DISABLE := 1
test save: export PYTHONDONTWRITEBYTECODE :=
.PHONY: help setup refresh test lint lab save readme map site digest claims clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or later is needed; say which with: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

setup: $(INSTALLED) ## create .venv and install the pinned dependencies

refresh: $(INSTALLED) ## measure the embedded corpus, train, gate and package the models
	$(BIN)/vmaf-research refresh --codecs libx264,libsvtav1 --height 180 --frames 160 --features canonical6 --out runs/refresh

test: $(INSTALLED) ## notebooks, digests and tests, with coverage
	@mkdir -p $(dir $(COVERAGE))
	OMP_NUM_THREADS=1 $(BIN)/python -m slipcover --json --out $(COVERAGE) -m pytest -n 2 --dist loadgroup
	$(BIN)/python -m slipcover --merge $(COVERAGE) --out $(COVERAGE) --fail-under 97

lint: $(INSTALLED) ## ruff; README, map, refusals and schemas as generated
	$(BIN)/ruff check .
	$(BIN)/python docs/readme.py --check
	$(BIN)/python docs/house_map.py --check
	$(BIN)/python docs/refusals.py --check
	$(BIN)/python docs/schemas.py --check

lab: $(INSTALLED) ## JupyterLab on the repository, at the start notebook; the notebooks are trusted
	@$(BIN)/jupyter trust --log-level=ERROR nbs/*.ipynb nbs/*/*.ipynb digests/*.ipynb
	$(BIN)/jupyter lab --ServerApp.root_dir="$(CURDIR)" nbs/00_start.ipynb

save: $(INSTALLED) ## run all notebooks and keep their outputs, cleaned
	$(BIN)/nbdev_export
	OMP_NUM_THREADS=1 $(BIN)/nbdev_test --save --n-workers 2
	OMP_NUM_THREADS=1 $(BIN)/nbdev_test digests --save --n-workers 2
	$(BIN)/python docs/claims.py --restate
	$(BIN)/nbdev_clean
	$(BIN)/nbdev_clean --fname digests
	$(BIN)/python docs/readme.py
	$(BIN)/python docs/house_map.py
	$(BIN)/python docs/schemas.py

readme: $(INSTALLED) ## README.md from nbs/index.ipynb
	$(BIN)/python docs/readme.py

map: $(INSTALLED) ## docs/map.md and its pictures from the imports of the code
	$(BIN)/python docs/house_map.py

site: $(INSTALLED) ## the static site in _build/html
	OMP_NUM_THREADS=1 $(BIN)/python docs/build.py $(SITE)
	@echo "open $(SITE)/index.html"

digest: $(INSTALLED) ## a new digest from the template: make digest NAME=what-it-asks
	$(BIN)/python docs/new_digest.py "$(NAME)"

claims: $(INSTALLED) ## run all digests, derive every number that they claim, and print it
	OMP_NUM_THREADS=1 $(BIN)/python docs/claims.py --derive

clean: ## remove what was built, but not .venv and runs/
	rm -rf _build .pytest_cache .ruff_cache .hypothesis
