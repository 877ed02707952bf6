# The commands a contributor uses. Each sets up what it needs in .venv.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test check format results clean

demo: $(VENV)/ready  ## two cases, T1w and FLAIR with their segmentations, and a Slicer scene of the first
	$(BIN)/braingen generate --pathology wmh=0.3 --contrast T1w --contrast FLAIR --seed 7 --count 2 --out out
	$(BIN)/braingen scene out/sub-0001 --out out/sub-0001.mrb --screenshot out/sub-0001.png

test: check  ## everything that must be green
	$(BIN)/pytest -n 2 --dist loadfile

check: $(VENV)/ready  ## lint, format, types, and what PythonQt refuses
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python tools/pythonqt_lint.py $(wildcard BrainGen/*.py BrainGen/*/*.py) Testing/run_in_slicer.py

format: $(VENV)/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

results: $(VENV)/ready  ## the tables of README and docs from benchmarks/results
	$(BIN)/python benchmarks/report.py

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache

# torch first and by itself: left to other packages, pip takes the build with several GB of CUDA libraries.
$(VENV)/ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet torch==2.13.0
	$(BIN)/pip install --quiet --editable '.[dev,scene,app]'
	touch $@
