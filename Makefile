# Two commands do everything on a fresh machine with Python 3.11 to 3.13:
#   make demo              install, train, denoise, report; `make demo DATA=folder` on your own noisy photos
#   make test              install what tests need, run them
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
DATA   ?=
OUT    ?= .demo

.DEFAULT_GOAL := help
.PHONY: help install install-dev demo test test-all lint clean

help:
	@sed -n '2,3p' Makefile | sed 's/^# *//'
	@echo "make test-all          the slow tests as well"
	@echo "make lint              ruff and mypy"

# Reports are tested in a real browser, which is Debian's where nobody has to be asked for it.
CHROMIUM     := which chromium chromium-browser google-chrome 2>/dev/null | grep -q .
GET_CHROMIUM := { [ "$$(id -u)" = 0 ] && which apt-get >/dev/null 2>&1 && echo "installing Chromium" \
	&& apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null; }

# A stamp per set of dependencies: a second run starts at once, a changed pyproject.toml installs again.
$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; (3, 11) <= v <= (3, 13) or sys.exit("unveil: $(PYTHON) is %d.%d, expected 3.11 to 3.13; set PYTHON=python3.12, say" % v)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@$(CHROMIUM) || $(GET_CHROMIUM) || echo "no Chromium here: the tests of reports in a browser will be skipped"
	touch $@

install: $(VENV)/.installed

install-dev: $(VENV)/.installed-dev

demo: $(VENV)/.installed
	$(BIN)/unveil demo --out $(OUT) $(if $(DATA),--data "$(DATA)")

# Two files of tests at a time: each has its own temporary folders and home.
test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile --no-loadscope-reorder

test-all: $(VENV)/.installed-dev
	$(BIN)/python -m pytest

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(OUT) build dist *.egg-info
