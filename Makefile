# make            list the targets
# Everything works in a clean clone, as root or as a user with sudo, and asks nothing.

STATICCHECK_VERSION := v0.8.2
GOVULNCHECK_VERSION := v1.9.0
VERSION  := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
UNIT      = $(shell go list ./... 2>/dev/null | grep -v -e /cmd/casd/e2e -e /bench)
E2E_TIMEOUT ?= 20m
FUZZTIME    ?= 20s
DURATION    ?= 10m
MATRIX_EVERY ?= 1
SHELL := bash

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  %-16s %s\n", $$1, $$2}'

.PHONY: build
build: ## bin/casd, static
	CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o bin/casd ./cmd/casd

.PHONY: run
run: build ## build, and serve ./data/d1 to d6 with erasure 4+2 on 127.0.0.1:9000
	@[ -d data ] || mkdir -p data/d{1..6}
	@scripts/run-hint.sh
	exec ./bin/casd serve --ec 4+2 './data/d{1...6}'

.PHONY: tools
tools: ## install the S3 clients that the tests use, where missing
	@scripts/install-test-clients.sh

.PHONY: test
test: tools lint test-unit test-race test-e2e ## everything that must pass

.PHONY: lint
lint: ## gofmt, vet, staticcheck
	@out=$$(gofmt -l $$(git ls-files '*.go')); [ -z "$$out" ] || { echo "gofmt would change:"; echo "$$out"; exit 1; }
	go vet ./...
	go run honnef.co/go/tools/cmd/staticcheck@$(STATICCHECK_VERSION) ./...

.PHONY: test-unit
test-unit: ## unit tests
	go test -timeout 10m $(UNIT)

.PHONY: test-race
test-race: ## unit tests under the race detector
	go test -race -short -timeout 15m $(UNIT)

.PHONY: test-e2e
test-e2e: tools build ## the built binary with real clients, crashes and damage
	CASD_BIN=$(CURDIR)/bin/casd go test -count=1 -timeout $(E2E_TIMEOUT) ./cmd/casd/e2e/...

.PHONY: soak
soak: tools build ## the whole fault matrix, then the built binary under load, kills, damage and gc for DURATION (default 10m)
	go test -count=1 -timeout 0 ./cas -run '^TestMatrix' -matrix.every=$(MATRIX_EVERY)
	CASD_BIN=$(CURDIR)/bin/casd CASD_SOAK=$(DURATION) go test -count=1 -timeout 0 -v -run '^TestSoak$$' ./cmd/casd/e2e

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME (default 20s)
	scripts/fuzz.sh $(FUZZTIME)

.PHONY: bench
bench: ## Go benchmarks of all packages
	go test -run '^$$' -bench . -benchmem $(UNIT)

.PHONY: bench-smoke
bench-smoke: build ## PUT and GET of the built binary beside what the directories give
	go run ./bench/smoke --casd bin/casd

.PHONY: bench-start
bench-start: build ## start after kill -9 of a store with a million chunks
	go run ./bench/start --casd bin/casd

.PHONY: govulncheck
govulncheck: ## dependencies against Go's vulnerability database, when it can be reached
	@GOVULNCHECK_VERSION=$(GOVULNCHECK_VERSION) scripts/govulncheck.sh

.PHONY: clean
clean: ## remove what was built; ./data stays
	rm -rf bin
