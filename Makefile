# make demo   own virtual environment, install, run the main job on embedded real data
# make test   own virtual environment, install with the test tools, run the tests
# make quick  the tests that take no time, for use while working
# The rest needs one of them to have run, or makes it run.

PYTHON ?= python3
VENV ?= .venv
TEST_ARGS ?=
MUTANTS ?=

BIN := $(VENV)/bin
RECIPE := setup.cfg pyproject.toml intsnn/__init__.py

.PHONY: demo test quick mutants lint format types wheel clean

demo: $(VENV)/.demo
	$(BIN)/intsnn demo

test: $(VENV)/.test
	$(BIN)/python -m pytest $(TEST_ARGS)

# All but the tests of tests/long.json.
quick: $(VENV)/.test
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --quick $(TEST_ARGS)

# One-line mutants against the tests that should see them: all, or those of
# MUTANTS="kernels/neurons/compiled.py intsnn/engine/backends/stepwise/neuron_width.py:_fit".
mutants: $(VENV)/.test
	$(BIN)/python tests/mutation/mutants.py $(MUTANTS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# mypy follows neither package_dir nor __path__: it looks at a tree of links in which the package is whole.
# The planted error proves that it looks at all.
types: $(VENV)/.dev
	rm -rf build/tree
	mkdir -p build/tree/intsnn
	ln -s $(CURDIR)/intsnn/* $(CURDIR)/kernels $(CURDIR)/models $(CURDIR)/bench build/tree/intsnn/
	printf 'from .kernels.toolchain import jit\n\nwrong: int = jit.cache_folder\n' > build/tree/intsnn/planted.py
	cd build/tree && ! $(abspath $(BIN))/mypy --config-file $(CURDIR)/setup.cfg -p intsnn > planted.txt
	grep -q 'planted.py:3: error: Incompatible types' build/tree/planted.txt
	rm build/tree/intsnn/planted.py
	cd build/tree && $(abspath $(BIN))/mypy --config-file $(CURDIR)/setup.cfg -p intsnn

wheel: $(VENV)/.dev
	$(BIN)/python -m build

clean:
	rm -rf build dist *.egg-info $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# A stamp says which set of requirements is installed; a changed recipe installs again. Editable: sources need no stamp.
$(VENV)/.demo: $(RECIPE) | $(BIN)/python
	$(BIN)/python -m pip install --quiet -e .
	touch $@

$(VENV)/.test: $(RECIPE) | $(BIN)/python
	$(BIN)/python -m pip install --quiet -e '.[test]'
	touch $@ $(VENV)/.demo

$(VENV)/.dev: $(RECIPE) | $(BIN)/python
	$(BIN)/python -m pip install --quiet -e '.[test,dev]'
	touch $@ $(VENV)/.test $(VENV)/.demo
