# make demo: install, and run the demo.  make test: install what tests need, and pass the tests.
PYTHON ?= python3
PIP = -m pip install --quiet --disable-pip-version-check
# slow tests are left to CI
PYTEST ?= -n 2 --dist loadfile -m "not slow"

.PHONY: demo test check clean

demo: .venv/run
	.venv/bin/harness run demo

test: .venv/test
	.venv/bin/python -m pytest $(PYTEST)

# what CI runs beside the tests
check: .venv/test
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/pyright
	.venv/bin/lint-imports
	.venv/bin/deptry .

.venv/run: requirements/run.txt pyproject.toml
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/python $(PIP) -r requirements/run.txt
	.venv/bin/python $(PIP) --no-deps --editable .
	touch $@

.venv/test: .venv/run requirements/test.txt
	.venv/bin/python $(PIP) -r requirements/test.txt
	touch $@

clean:
	rm -rf .venv build dist runs stores
