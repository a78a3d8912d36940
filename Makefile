# Everything is installed into .venv/ in this checkout, once; nothing outside it is touched.
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: approve check-aws check-service fetch redrive states audit sbom help demo local examples test search test-search test-fuzz test-sam test-unit test-media test-integration test-e2e test-page test-chaos chaos storm bench fuzz lint format lock pause resume sam invoke build deploy clean

# The first Python here that is new enough; or PYTHON=/path/to/python3.12
ifeq ($(origin PYTHON),undefined)
PYTHON := $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
    $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
endif
INSTALL = @$(if $(PYTHON),,echo "Python 3.11 or newer is needed: install it, or name it with PYTHON=…" >&2; exit 1;) $(PYTHON) local/install.py

export SAM_CLI_TELEMETRY := 0

help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 28

# The recipes of demo and local are one program without a shell, so that signals reach it.
demo: ## one video: [PORTRAIT=file] [VOICE=file] [MODEL=name]; with DASHSCOPE_API_KEY a real one, which is paid [YES=1]
	$(INSTALL) engine runtime
	@.venv/engine/bin/python local/demo.py

local: ## the stack on this machine until Ctrl-C: [PARAMS="Name=value …"] [DOCKER=1]; DASHSCOPE_API_KEY as for demo
	$(INSTALL) engine runtime
	@.venv/engine/bin/python local/run.py

fetch: ## the video of a task that make demo has left at the real service: TASK=id
	$(INSTALL) engine runtime
	@.venv/engine/bin/python local/fetch.py

check-service: ## does the real service do what we take for granted? free, but for CHECK_PORTRAIT=file [MODEL=emo-v1]
	$(INSTALL) test
	@PYTHONPATH=layers/portraitcast .venv/test/bin/python local/check_service.py

examples: ## a real report of every state into docs/examples/
	$(INSTALL) engine runtime
	@.venv/engine/bin/python local/examples.py

states: ## a job's states and transitions into docs/states.md
	$(INSTALL) test
	@.venv/test/bin/python local/states.py

test: export DOCKER ?= 0
# Measured only here, and judged at the end: what a single folder of tests runs says little.
test: COVERAGE = --cov --cov-report= --cov-fail-under=0
test: test-unit test-media test-fuzz test-search test-integration test-e2e test-sam test-chaos ## all tests, and which share of the product they run
	@.venv/test/bin/python -m coverage combine --quiet .test/coverage
	@.venv/test/bin/python -m coverage report

test-unit: ## rules and branches, without a network
	$(INSTALL) test
	COVERAGE_FILE=.test/coverage/all.unit .venv/test/bin/python -m pytest tests/unit -q -n 2 $(COVERAGE)

test-media: ## real sounds, pictures and videos, through the decoders
	$(INSTALL) test
	.venv/test/bin/python -m pytest tests/media -q -n 2

test-fuzz: ## hostile bytes for every parser: a moment of fuzz
	$(INSTALL) test
	.venv/test/bin/python -m pytest tests/fuzz -q -n 2

fuzz: ## 200,000 hostile inputs for every parser, guided by what they reach [PARSERS="videos keys"] [RUNS=n]
	$(INSTALL) fuzz || { echo "make fuzz is atheris, which comes for Linux on x86-64 and Python 3.11 to 3.14; make test-fuzz runs everywhere" >&2; exit 1; }
	@for parser in $(or $(PARSERS),$$(.venv/fuzz/bin/python tests/fuzz/cover.py)); do echo "fuzzing $$parser"; \
	    .venv/fuzz/bin/python tests/fuzz/cover.py $$parser -runs=$(or $(RUNS),200000) || exit 1; done

test-search: ## histories of a stack in memory, and pairs of functions interleaved: a moment of search
	$(INSTALL) test
	.venv/test/bin/python -m pytest tests/search -q -n 2

search: ## random histories: [MINUTES=60] [SEED=n] [MUTANT=7: a mend is taken out, and must be found] [EXPLORE=1: interleavings]
	$(INSTALL) test
	@PYTHONPATH=tests/search:tests:layers/portraitcast:layers/media:local MINUTES=$(MINUTES) SEED=$(SEED) MUTANT=$(MUTANT) \
	    EXPLORE=$(EXPLORE) .venv/test/bin/python tests/search/run.py

test-integration: ## adapters against moto and the simulator
	$(INSTALL) test
	COVERAGE_FILE=.test/coverage/all.integration .venv/test/bin/python -m pytest tests/integration -q -n 2 $(COVERAGE)

test-e2e: ## the deployed template on the local engine
	$(INSTALL) test engine runtime
	.venv/test/bin/python -m pytest tests/e2e -q -n 2 --ignore tests/e2e/test_page.py

test-sam: ## every event file by sam remote invoke, and in containers where Docker answers (DOCKER=0 leaves them out)
	$(INSTALL) test engine runtime sam
	.venv/test/bin/python -m pytest tests/sam -q -n 2 --dist loadfile

test-page: ## the page in a real Chromium (not part of make test: needs chromium and chromedriver)
	@command -v chromedriver >/dev/null || { echo "Chromium and its driver are missing. Debian: apt install chromium chromium-driver" >&2; exit 1; }
	$(INSTALL) test engine runtime
	.venv/test/bin/python -m pytest tests/e2e/test_page.py -q

test-chaos: ## functions that die, and a small storm: a sample of chaos and storm
	$(INSTALL) test engine runtime
	.venv/test/bin/python -m pytest tests/chaos -q -n 2 --dist loadfile

chaos: ## functions die before and after each of their outside calls (an hour)
	$(INSTALL) test engine runtime
	.venv/test/bin/python -m pytest tests/chaos/test_crash.py --full -q -s

storm: ## 300 voices at once, three ways, and a thousand (an hour; leave the machine alone meanwhile)
	$(INSTALL) test engine runtime
	.venv/test/bin/python -m pytest tests/chaos/test_storm.py --full -q -s
	VOICES=1000 .venv/test/bin/python -m pytest tests/integration/test_loops.py -q -s -k crowd

bench: ## measure: docs/benchmarks.md [PART=polling] (a quarter of an hour; leave the machine alone)
	$(INSTALL) test engine runtime
	@PYTHONPATH=local:layers/portraitcast:layers/media .venv/test/bin/python -m bench $(PART)

lint: ## ruff, mypy, cfn-lint, checkov, sam validate
	$(INSTALL) lint sam checkov
	.venv/lint/bin/python -m ruff check
	.venv/lint/bin/python -m ruff format --check
	.venv/lint/bin/python -m mypy layers/portraitcast/portraitcast functions/submit/app.py functions/status/app.py functions/deliver/app.py local
	.venv/lint/bin/python -m mypy layers/media/portraitcast_media functions/prepare/app.py
	@for tests in unit fuzz media search integration e2e sam chaos; do echo "mypy tests/$$tests"; \
	    case $$tests in unit|fuzz) beside=;; *) beside=tests/$$tests;; esac; \
	    MYPYPATH=$$beside .venv/lint/bin/python -m mypy --config-file tests/mypy.ini --cache-dir .mypy_cache/$$tests tests/$$tests || exit 1; done
	.venv/lint/bin/cfn-lint template.yaml
	.venv/checkov/bin/checkov --config-file .checkov.yaml --file template.yaml
	AWS_DEFAULT_REGION=us-east-1 .venv/sam/bin/sam validate --lint

format: ## put the code into shape
	$(INSTALL) lint
	.venv/lint/bin/python -m ruff format
	.venv/lint/bin/python -m ruff check --fix

lock: ## choose new versions: locks/ and the layer's requirements.txt
	$(INSTALL) lock
	@.venv/lock/bin/python local/lock.py

audit: ## known vulnerabilities of all locked packages (asks a database on the network)
	$(INSTALL) audit
	@for lock in layers/*/requirements.txt locks/*.txt; do echo "$$lock"; \
	    .venv/audit/bin/pip-audit --strict --require-hashes --disable-pip -r $$lock || { \
	    echo "audit: something was found, or the database could not be asked: see above" >&2; exit 1; }; done

sbom: ## what deployed functions carry: .aws-sam/sbom.json, sbom-media.json (CycloneDX)
	$(INSTALL) sbom
	@.venv/sbom/bin/python local/sbom.py

pause: ## start no new videos: the stack of make local, else the one on AWS [STACK=name]
	$(INSTALL) engine
	@.venv/engine/bin/python local/pause.py pause

resume: ## start new videos again
	$(INSTALL) engine
	@.venv/engine/bin/python local/pause.py resume

approve: ## approve the price of a job that waits for it: NAME=acme/line-01 [STACK=name]
	$(INSTALL) engine
	@.venv/engine/bin/python local/approve.py

redrive: ## dead letters back to where they came from: [Q=uploads|media|answers|deliver|rule] [STACK=name]
	$(INSTALL) engine
	@.venv/engine/bin/python local/redrive.py

check-aws: ## does AWS do what we take for granted? once after deploying; pays nothing: [STACK=name] [JSON=1]
	$(INSTALL) engine
	@.venv/engine/bin/python local/check_aws.py

sam: ## SAM CLI, installed into .venv/sam: docs/sam.md
	$(INSTALL) sam

invoke: ## one event to one function: F=Submit E=submit-voice [JOB=acme/line-01] [DOCKER=1] [STACK=name]
	$(INSTALL) engine sam
	@.venv/engine/bin/python local/invoke.py

build: ## sam build (needs the runtime's Python): [ARCHITECTURE=x86_64]
	$(INSTALL) sam
	@.venv/sam/bin/python local/sam.py build

deploy: ## sam build && sam deploy, to your AWS account: [ARCHITECTURE=x86_64] [PARAMS="Name=value …"]
	$(INSTALL) sam
	@.venv/sam/bin/python local/sam.py deploy

clean: ## forget what was installed and built
	rm -rf .venv .local .demo .test .bench .fuzz .aws-sam .pytest_cache .mypy_cache .ruff_cache .hypothesis
