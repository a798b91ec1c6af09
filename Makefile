# make report       notebook and PDF from scratch      make report ARGS=--short   within 20 minutes
# make test         fast tests                         make report ARGS=--fresh   train anew
# make test-faults  long ones                          make lint                  ruff
# make notebook     open JupyterLab

PYTHON ?= python3
PY := .venv/bin/python
ARGS ?=

.PHONY: report test test-faults notebook lint tools

report: tools
	$(PY) -m report.tools $(ARGS)

test: .venv/installed-dev
	$(PY) -m pytest $(ARGS)

test-faults: .venv/installed-dev
	$(PY) -m pytest -m "slow or faults" $(ARGS)

notebook: .venv/installed
	$(PY) -m jupyterlab Task4_Autoencoders.ipynb

lint: .venv/installed-dev
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

# LaTeX, pandoc and fonts: installed where that needs no question, else the command is printed.
tools: .venv/installed
	$(PY) -m report.tools.system

.venv/installed: requirements.txt
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 10) and \
	    f'Python 3.10 or newer is needed, this is {sys.version}; make PYTHON=python3.x')"
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet -r requirements.txt
	@touch $@

.venv/installed-dev: .venv/installed requirements-dev.txt
	$(PY) -m pip install --quiet -r requirements-dev.txt
	@touch $@
