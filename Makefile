# make demo | dev | test | test-long | test-fast | test-postgres | test-ui | test-deploy | test-tryton | check | docs | schema | audit-deps | sbom | focus | einvoice | test-clickhouse | test-s3 | test-spark | mutation | ui | api | bench | bench-api | bench-costs | bench-finance | bench-documents | bench-usage | chaos | chance | down | lock | clean;   PYTHON=python3.13 for another Python
PYTHON ?= python3
VENV := .venv$(if $(filter python3,$(PYTHON)),,-$(notdir $(PYTHON)))
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# And what fetches the provider's bills, tests and checks.
DEVELOPED := $(VENV)/.developed
# The official validators of FOCUS files, each in an environment of its own: neither runs beside our pandas.
FOCUS_1_0 := $(subst .venv,.venv-focus-1.0,$(VENV))
FOCUS_1_2 := .venv-focus-1.2
# Engines that count usage: ClickHouse beside what the tests have; Spark as a server, its client is in DEVELOPED.
# And an object store, the client and a server, beside what the tests have.
CLICKHOUSE := $(subst .venv,.venv-clickhouse,$(VENV))
S3 := $(subst .venv,.venv-s3,$(VENV))
SPARK := $(subst .venv,.venv-spark,$(VENV))
# A ledger that finance may be, as a server of its own; nothing of it is imported.
TRYTON := $(subst .venv,.venv-tryton,$(VENV))
# What looks at the locks, beside what they install: see supply_chain/tools.in.
SUPPLY_CHAIN := $(subst .venv,.venv-supply-chain,$(VENV))

.PHONY: demo dev test test-long test-fast test-postgres test-ui test-deploy test-tryton check docs schema audit-deps sbom focus einvoice test-clickhouse test-s3 test-spark mutation ui api bench bench-api bench-costs bench-finance bench-documents bench-usage chaos chance down lock clean

demo: $(INSTALLED)
	@$(BIN)/arcadia demo

# What developers need beside what runs, and the client that fetches bills; `make test` and `make check` see to it.
dev: $(DEVELOPED)

# All tests but those of the targets below. A file's tests share a process, and what its fixtures have made. Three
# processes: on two cores one of them often waits for PostgreSQL.
test: $(DEVELOPED)
	@$(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder -m "not long"

# Those that take long by their nature: servers are killed and restarted, whole programs run, months are repeated.
test-long: $(DEVELOPED) $(FOCUS_1_0)/.installed
	@$(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder -m long

# The rules of the money alone, while you change them.
test-fast: $(DEVELOPED)
	@$(BIN)/pytest -n 2 arcadia_pipelines_tests/billing

# The month end, prices, proofs and roles on another PostgreSQL, in Sydney's time: Debian's, or POSTGRES=/path/to/bin.
POSTGRES ?= /usr/lib/postgresql/15/bin
POSTGRES_TESTS := month/test_month_end.py month/test_prices.py proof/test_audit.py proof/test_replay.py storage/test_roles.py storage/test_session.py storage/test_backup.py
test-postgres: $(DEVELOPED)
	@test -x "$(POSTGRES)/initdb" || { echo "make test-postgres: no PostgreSQL in $(POSTGRES): run sudo apt-get install postgresql-15, or say make test-postgres POSTGRES=/path/to/its/bin" >&2; exit 1; }
	@$(BIN)/pytest -n 2 --postgres "$(POSTGRES)" -k "not data_is_corrupted" $(addprefix arcadia_pipelines_tests/,$(POSTGRES_TESTS))

# The dashboard in a headless Chromium: the system's, or CHROMIUM=/path/to/it, or what `playwright install` fetched.
test-ui: $(DEVELOPED)
	@$(BIN)/pytest arcadia_pipelines_tests/api/ui

# The systemd units of deploy/, by systemd-analyze.
test-deploy: $(DEVELOPED)
	@$(BIN)/pytest arcadia_pipelines_tests/deploy

# Invoices in the books of a real Tryton, which runs beside the tests, on their PostgreSQL.
test-tryton: $(DEVELOPED) $(TRYTON)/.installed
	@$(BIN)/pytest arcadia_pipelines_tests/finance/tryton --tryton $(TRYTON)/bin

check: $(DEVELOPED)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@# In a Dagster home of its own: this folder's would start the embedded database and leave it running.
	@home=$$(mktemp -d); echo 'telemetry: {enabled: false}' > $$home/dagster.yaml; \
	DAGSTER_HOME=$$home $(BIN)/dagster definitions validate -w workspace.yaml --log-level warning; \
	status=$$?; rm -rf $$home; exit $$status
	@$(BIN)/python docs/generate.py check

# docs/cli.md from the commands' help, and the reference in docs/tables.md from the database's comments.
docs: $(INSTALLED)
	@$(BIN)/python docs/generate.py docs

# sql/schema.sql: the schema as all migrations leave it.
schema: $(INSTALLED)
	@$(BIN)/python docs/generate.py schema

# Whether advisories are known against what any lock pins. OSV is asked, or a copy of it: OSV=https://.../v1/query.
audit-deps: $(SUPPLY_CHAIN)/.installed
	@$(SUPPLY_CHAIN)/bin/python supply_chain/locks.py audit requirements*.lock conformance/*.lock supply_chain/*.lock $(if $(OSV),--osv "$(OSV)")

# What requirements.lock brings, as CycloneDX: dist/sbom.cdx.json.
sbom: $(SUPPLY_CHAIN)/.installed
	@$(SUPPLY_CHAIN)/bin/python supply_chain/locks.py sbom requirements.lock dist/sbom.cdx.json

# Whether the sample year, exported, passes FOCUS 1.2: two minutes. Needs a Python 3.12, as that validator does.
focus: $(DEVELOPED) $(FOCUS_1_2)/.installed
	@conformance/focus.sh $(BIN) $(FOCUS_1_2)/bin/python

# Whether the sample year's e-invoices pass Peppol's rules: RULES=folder of PINT A-NZ billing's compiled Schematron (XSLT).
einvoice: $(DEVELOPED)
	@test -n "$(RULES)" || { echo "make einvoice: Peppol's rules may not be handed on, so they are not here: get the resources of PINT A-NZ billing 1.1 from https://docs.peppol.eu/poac/aunz/pint-aunz/, and say make einvoice RULES=/path/to/trn-invoice/schematron" >&2; exit 1; }
	@$(BIN)/pytest arcadia_pipelines_tests/documents/einvoice --rules "$(RULES)"

# Whether ClickHouse counts usage as PostgreSQL does; in process, 150 MB.
test-clickhouse: $(DEVELOPED) $(CLICKHOUSE)/.installed
	@PYTHONPATH="$(CURDIR)/$(CLICKHOUSE)" $(BIN)/pytest arcadia_pipelines_tests/usage/engines/test_clickhouse.py

# Whether usage and documents in an object store are as in a folder: S3, over HTTP.
test-s3: $(DEVELOPED) $(S3)/.installed
	@PYTHONPATH="$(CURDIR)/$(S3)" $(BIN)/pytest arcadia_pipelines_tests/usage/engines/test_s3.py

# Whether Spark itself does: needs Java 17 or later, and 450 MB.
test-spark: $(DEVELOPED) $(SPARK)/.installed
	@command -v java > /dev/null || { echo "make test-spark: no java: run sudo apt-get install default-jre-headless" >&2; exit 1; }
	@SPARK_PYTHON="$(CURDIR)/$(SPARK)/bin/python" $(BIN)/pytest arcadia_pipelines_tests/usage/engines/test_spark.py

# Changes billing/ in a thousand ways, and looks whether its tests notice. See [tool.mutmut] in pyproject.toml.
mutation: $(DEVELOPED)
	@rm -rf mutants
	@$(BIN)/mutmut run --max-children $(or $(N),1)
	@$(BIN)/mutmut results
	@$(BIN)/mutmut export-cicd-stats > /dev/null
	@$(BIN)/python -c 'import json; s = json.load(open("mutants/mutmut-cicd-stats.json")); noticed = s["killed"] + s["timeout"]; print("killed %d of %d, survived %d: %.1f %%" % (noticed, s["total"], s["total"] - noticed, 100 * noticed / s["total"]))'

ui: $(INSTALLED)
	@$(BIN)/arcadia db up
	@DAGSTER_HOME="$(CURDIR)" $(BIN)/arcadia ui

api: $(INSTALLED)
	@$(BIN)/arcadia api

# The month end, with N deployments: 100,000 unless given.
bench: $(DEVELOPED)
	@$(BIN)/python benchmarks/month_end.py $(N) $(if $(MIX),--mix)

bench-api: $(DEVELOPED)
	@$(BIN)/python benchmarks/api.py $(N)

bench-costs: $(DEVELOPED)
	@$(BIN)/python benchmarks/costs.py $(N)

bench-finance: $(DEVELOPED)
	@$(BIN)/python benchmarks/finance.py $(N)

bench-documents: $(DEVELOPED)
	@$(BIN)/python benchmarks/documents.py $(N)

bench-usage: $(DEVELOPED)
	@PYTHONPATH=. $(BIN)/python benchmarks/usage.py $(or $(N),100000) $(or $(ROWS),100000000)

# The month end in a storm of writers and kills, then proofs and an oracle: SEED=1 MINUTES=5 N=3000 deployments. A disk
# that gets full takes root, a clock that steps libfaketime.
chaos: $(DEVELOPED)
	@$(BIN)/python -m chaos $(if $(SEED),--seed $(SEED)) $(if $(MINUTES),--minutes $(MINUTES)) $(if $(N),--deployments $(N))

# Months of small worlds by chance, line by line beside the same oracle: WORLDS=100 SEED=1 (the first one's) TENANTS=12.
WORLDS ?= 100
chance: $(DEVELOPED)
	@$(BIN)/pytest -n 2 arcadia_pipelines_tests/month/test_by_chance.py --worlds $(WORLDS) --first-world $(or $(SEED),1) --tenants $(or $(TENANTS),12)

down: $(INSTALLED)
	@$(BIN)/arcadia db down

$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] <= (3, 13) else "$(PYTHON) is Python %d.%d: Arcadia needs 3.11 to 3.13, say make PYTHON=python3.12" % sys.version_info[:2])'
	@echo "installing what runs into $(VENV) (a minute, once)"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --compile --no-deps --require-hashes -r requirements.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@$(BIN)/python -m compileall -q arcadia_pipelines
	@touch $@

$(DEVELOPED): $(INSTALLED) requirements-dev.lock
	@echo "installing what developers need into $(VENV) (once)"
	@$(BIN)/pip install --quiet --disable-pip-version-check --compile --no-deps --require-hashes -r requirements-dev.lock
	@touch $@

$(FOCUS_1_0)/.installed: conformance/focus-1.0.lock
	@echo "installing FOCUS's validator of version 1.0 into $(FOCUS_1_0) (once)"
	@$(PYTHON) -m venv --clear $(FOCUS_1_0)
	@$(FOCUS_1_0)/bin/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $<
	@touch $@

$(FOCUS_1_2)/.installed: conformance/focus-1.2.lock
	@is_3_12='import sys; sys.exit(sys.version_info[:2] != (3, 12))'; export PYENV_VERSION=3.12; \
	for python in $(PYTHON) python3.12 none; do ! $$python -c "$$is_3_12" 2> /dev/null || break; done; \
	test $$python != none || { echo "make focus: the validator needs Python 3.12: say make focus PYTHON=/path/to/python3.12" >&2; exit 1; }; \
	echo "installing FOCUS's validator of version 1.2 into $(FOCUS_1_2) (once)"; \
	$$python -m venv --clear $(FOCUS_1_2)
	@$(FOCUS_1_2)/bin/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $<
	@touch $@

$(CLICKHOUSE)/.installed: conformance/clickhouse.lock
$(S3)/.installed: conformance/s3.lock
$(CLICKHOUSE)/.installed $(S3)/.installed: $(DEVELOPED)
	@echo "installing what $(filter %.lock,$^) names into $(@D) (once)"
	@rm -rf $(@D)
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes --target $(@D) -r $(filter %.lock,$^)
	@touch $@

# Spark is published as source: what builds it comes first, from the same lock.
$(SPARK)/.installed: conformance/spark.lock
	@echo "installing Spark into $(SPARK) (once)"
	@$(PYTHON) -m venv --clear $(SPARK)
	@sed -n '/^setuptools==/,/[^\\]$$/p' $< > $(SPARK)/build.lock
	@$(SPARK)/bin/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $(SPARK)/build.lock
	@$(SPARK)/bin/pip install --quiet --disable-pip-version-check --no-deps --require-hashes --no-build-isolation -r $<
	@touch $@

$(TRYTON)/.installed: conformance/tryton.lock
	@echo "installing Tryton into $(TRYTON) (once)"
	@$(PYTHON) -m venv --clear $(TRYTON)
	@$(TRYTON)/bin/pip install --quiet --disable-pip-version-check --compile --no-deps --require-hashes -r $<
	@touch $@

$(SUPPLY_CHAIN)/.installed: supply_chain/tools.lock
	@echo "installing the tools that look at the locks into $(SUPPLY_CHAIN) (once)"
	@$(PYTHON) -m venv --clear $(SUPPLY_CHAIN)
	@$(SUPPLY_CHAIN)/bin/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $<
	@touch $@

# Needs uv. One lock for every supported Python and platform, and no package index's address in it; one more for the
# rest, which fits the first.
lock:
	uv pip compile --universal --python-version 3.11 --extra build --generate-hashes --no-header -o requirements.lock pyproject.toml
	uv pip compile --universal --python-version 3.11 --extra dev --constraints requirements.lock --overrides requirements-dev.overrides --generate-hashes --no-header -o requirements-dev.lock pyproject.toml
	$(PYTHON) supply_chain/locks.py rest requirements.lock requirements-dev.lock
	uv pip compile --universal --python-version 3.11 --overrides conformance/focus-1.0.overrides --generate-hashes --no-header -o conformance/focus-1.0.lock conformance/focus-1.0.in
	uv pip compile --universal --python-version 3.12 --generate-hashes --no-header -o conformance/focus-1.2.lock conformance/focus-1.2.in
	uv pip compile --universal --python-version 3.11 --overrides conformance/clickhouse.overrides --generate-hashes --no-header -o conformance/clickhouse.lock conformance/clickhouse.in
	uv pip compile --universal --python-version 3.11 --constraints requirements.lock --constraints requirements-dev.lock --generate-hashes --no-header -o conformance/s3.lock conformance/s3.in
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header -o conformance/spark.lock conformance/spark.in
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header -o conformance/tryton.lock conformance/tryton.in
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header -o supply_chain/tools.lock supply_chain/tools.in

clean: down
	rm -rf .venv* .arcadia mutants
