# make demo [DATA=<archive>] [MODEL=<directory or hub name>] [PARAMS='<key>=<value> ...'] [EXIT=1]
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
BENCH_INPUTS := build/bench
NUMERIC_TESTS := tests/test_blink_parity.py tests/support/test_near_ties.py tests/evaluation tests/models \
	$(addprefix tests/bench/test_,same_numbers.py plain_is_blink.py gpu_arithmetic.py) \
	$(addprefix tests/training/test_,objectives.py gradient_cache.py optimizer.py)
S3_TESTS := $(addprefix tests/store/test_,artifacts.py garbage.py runs.py s3.py s3_commands.py s3_deletions.py \
	stores.py unfinished_uploads.py)
# The tests start hundreds of Python processes. Without files of bytecode, each would compile the modules that it imports.
unexport PYTHONDONTWRITEBYTECODE
# Processes that run tests. Each takes up to 3 GB of memory and waits for a part of its time: one more than two cores.
WORKERS ?= 3
PARALLEL := --numprocesses $(WORKERS) --dist loadgroup --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help install demo test test-all test-isa test-nightly test-cluster bench lint lock docs images release clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED) ## Create the virtual environment .venv with the pinned versions

PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt

# pip 23 resolves the same packages for minutes. With --no-compile, Python compiles only the modules that it imports.
# Install torch first: if an index offers several builds of the pinned version, no other package influences the choice.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "expected Python 3.11 or newer, got " + sys.version)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) pip
	$(PIP_INSTALL) torch
	$(PIP_INSTALL) -e '.[train,airflow,mlflow,otlp,serve,test]'
	touch $@

demo: $(INSTALLED) ## Run the whole recipe on a real Airflow; DATA=archive MODEL=bert PARAMS='key=value' EXIT=1
	$(BIN)/python -m zeshel_tasks.demo \
		$(if $(DATA),--data '$(DATA)') $(if $(MODEL),--model '$(MODEL)') $(foreach param,$(PARAMS),--param '$(param)') \
		$(if $(filter-out 0,$(EXIT)),--exit)

test: $(INSTALLED) ## Run the tests that need no Airflow server, browser, second host or cluster
	$(BIN)/python -m pytest $(PARALLEL) -m 'not airflow and not browser and not hosts and not cluster'

# The second run is skipped where radosgw is not installed: tests/support/s3_servers.
test-all: $(INSTALLED) ## Run all tests except those that need a cluster, and those of S3 also against Ceph's radosgw
	$(BIN)/python -m pytest $(PARALLEL) -m 'not cluster'
	S3_SERVER=radosgw $(BIN)/python -m pytest $(PARALLEL) -k s3 $(S3_TESTS)

# The variables select the kernels of torch, of MKL (matrix products in fp32) and of oneDNN (in bf16), and the threads.
test-isa: $(INSTALLED) ## Run the numeric tests with the kernels for SSE, AVX2 and, if the CPU has it, AVX-512
	ATEN_CPU_CAPABILITY=default MKL_CBWR=COMPATIBLE ONEDNN_MAX_CPU_ISA=SSE41 OMP_NUM_THREADS=1 \
		$(BIN)/python -m pytest $(PARALLEL) $(NUMERIC_TESTS)
	ATEN_CPU_CAPABILITY=avx2 MKL_CBWR=AVX2 ONEDNN_MAX_CPU_ISA=AVX2 OMP_NUM_THREADS=2 \
		$(BIN)/python -m pytest $(PARALLEL) $(NUMERIC_TESTS)
	if grep -qw avx512f /proc/cpuinfo; then \
		ATEN_CPU_CAPABILITY=avx512 $(BIN)/python -m pytest $(PARALLEL) $(NUMERIC_TESTS); \
		else echo 'not tested: this CPU has no AVX-512'; fi

# HYPOTHESIS_PROFILE is the one switch; tests/support/rounds.py reads it, too.
test-nightly: $(INSTALLED) ## As test-all, also S3 on Swift, with new random examples, more kills, each edge of a setting by itself
	HYPOTHESIS_PROFILE=hunt $(BIN)/python -m pytest $(PARALLEL) -m 'not cluster' --timeout 3600
	for server in radosgw swift; do HYPOTHESIS_PROFILE=hunt S3_SERVER=$$server \
		$(BIN)/python -m pytest -k s3 $(S3_TESTS) tests/test_s3_kills.py --timeout 3600 || exit; done

# Reads KUBECONFIG, HELM, IMAGE_LOAD, IMAGES_LOADED, KEEP, API_STOP and API_START: see conftest.py and image_loading.py
# in tests/cluster.
test-cluster: $(INSTALLED) ## Test the images and the chart on the cluster of kubectl's context
	$(BIN)/python -m pytest -m cluster --verbose --capture=no tests/cluster

# ARGS: see bench/stages. Without DATA or MODEL, uses the sample worlds and the small BERT.
bench: $(INSTALLED) ## Compare the speed of each stage with BLINK's; DATA=archive-or-folder MODEL=bert-directory ARGS='--stage encode'
	$(if $(and $(DATA),$(MODEL)),,$(BIN)/zeshel make-sample-inputs --out $(BENCH_INPUTS))
	$(BIN)/python -m bench.stages --data '$(or $(DATA),$(BENCH_INPUTS)/sample_worlds.tar.bz2)' \
		--model '$(or $(MODEL),$(BENCH_INPUTS)/small_bert)' $(ARGS)

lint: $(INSTALLED) ## Run ruff, mypy and import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

lock: $(INSTALLED) ## Write what the images install, with hashes, from constraints.txt
	$(BIN)/python images/lock.py

docs: $(INSTALLED) ## Generate docs/hyperparameters.md and the values in the chart's README
	$(BIN)/python -m zeshel_tasks.commands.hyperparameter_docs docs/hyperparameters.md
	$(BIN)/python helm/values_docs.py helm/zeshel

# images/build.py lists the variables that it reads.
images: ## Build the container images; SAVE=directory writes archives, TEST=1 adds the tests' S3 server
	$(PYTHON) -m images.build $(if $(SAVE),--save '$(SAVE)') $(if $(filter-out 0,$(TEST)),--test-images)

# The official chart is fetched if it is not there. The images are left out where no tool builds them.
release: $(INSTALLED) ## Write wheel, source distribution, chart and images with records and checksums to dist
	ls helm/zeshel/charts/airflow-*.tgz || $${HELM:-helm} dependency build helm/zeshel
	$(BIN)/python -m release.package

clean: ## Remove the files of demo and tests, but not .venv
	rm -rf .demo .airflow build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
