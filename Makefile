# Every target is one script: read scripts/<name>.sh to see what it does.
.DEFAULT_GOAL := help
.PHONY: help run stop test test-long fuzz bench fmt lint deny docs-check

help: ## list the targets
	@scripts/help.sh

run: ## build, start the server on 127.0.0.1:5555 and watch the demo move tables
	@scripts/run.sh

stop: ## stop the server that `make run` left up
	@scripts/stop.sh

test: ## set up PostgreSQL, MariaDB, MySQL and S3 in a folder of their own, run every test, tear down
	@scripts/test.sh

test-long: ## the same with the slow campaigns
	@scripts/test.sh --long

fuzz: ## make up inputs for every decoder of foreign bytes, a minute each
	@scripts/fuzz.sh

bench: ## time tideway against psql and sling; writes bench/results/
	@scripts/bench.sh

fmt: ## format the Rust code
	@scripts/fmt.sh

lint: ## clippy, warnings refused
	@scripts/lint.sh

deny: ## licences, banned crates and sources of the dependencies
	@scripts/deny.sh

docs-check: ## links, file lengths, and what the documents say of the code
	@scripts/docs-check.sh
