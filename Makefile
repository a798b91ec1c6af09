# make report       notebook and PDF from scratch        make report ARGS=--fresh   train anew
# make test         fast tests                           make test-faults           long ones
# make notebook     open JupyterLab                      make lint                  ruff

PYTHON ?= python3
PY := .venv/bin/python
ARGS ?=

.PHONY: report test test-faults notebook lint tools

report: tools
	$(PY) -m report.tools $(ARGS)

test: .venv/installed
	$(PY) -m pytest $(ARGS)

test-faults: .venv/installed
	$(PY) -m pytest -m "slow or faults" $(ARGS)

notebook: .venv/installed
	$(PY) -m jupyterlab Task4_Autoencoders.ipynb

lint: .venv/installed
	$(PY) -m ruff check .

# LaTeX, pandoc and fonts: installed where that needs no question, else the command is printed.
tools: .venv/installed
	$(PY) -m report.tools.system

.venv/installed: requirements.txt
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 10) and \
	    f'Python 3.10 or newer is needed, this is {sys.version}; make PYTHON=python3.x')"
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet -r requirements.txt
	@touch $@
