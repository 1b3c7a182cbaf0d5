# geocast: make run | demo | test | check | fuzz | bench
GO ?= go
FUZZTIME ?= 10s
LINT = github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

.PHONY: help run demo test race vet fmt lint examples check fuzz bench bench-geo bench-full
help: ## what there is to make
	@grep -hE '^[a-z -]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'
run demo: ## build, and show real buses, rules, phones and a kill -9 over TCP
	$(GO) build -o bin/geocast ./cmd/geocast
	./bin/geocast demo
test: ## run the tests
	$(GO) test ./...
race: ## run the tests under the race detector
	$(GO) test -race ./...
vet: ## go vet
	$(GO) vet ./...
fmt: ## fail if a file is not formatted
	@files=$$(git ls-files '*.go') && out=$$(gofmt -l $$files) && test -z "$$out" || { echo "not formatted:"; echo "$$out"; exit 1; }
lint: ## golangci-lint, from its own module graph
	$(GO) run $(LINT) run
examples: ## build and run every example, and look at what it prints
	$(GO) test -count=1 -v ./examples
check: fmt vet lint test race examples ## what must be green before a commit
bench: ## the loads of docs/benchmarks.md on geocast and on mosquitto in turn (apt install mosquitto), about 12 minutes
	$(GO) build -o bin/geocast ./cmd/geocast
	./bin/geocast bench compare
bench-geo: ## CPU of a fix among 1,000 and 100,000 zones and movers, and of a naive scan in the same run
	$(GO) test ./rules -run '^$$' -bench '^Benchmark(Step|Near)$$' -benchtime 200000x -count 3
	$(GO) test ./rules -run '^$$' -bench 'Naive' -benchtime 30x
fuzz: ## every fuzz target for FUZZTIME
	@for p in $$($(GO) list ./...); do for f in $$($(GO) test -list '^Fuzz' $$p | grep '^Fuzz'); do \
	  echo "$$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x $$p || exit 1; done; done
bench-full: ## 15,000 idle connections of each kind, 15,000 clients back after kill -9, 1,000,000 retained topics, 1,000,000 messages for who is away, loads that are meant to break the memory bound, a start with 1,000,000 offline sessions and with 1,000,000 queued messages
	$(GO) build -o bin/geocast ./cmd/geocast
	./bin/geocast bench idle && ./bin/geocast bench idle --transport tls && ./bin/geocast bench idle --transport ws
	./bin/geocast bench return && ./bin/geocast bench return --tls && ./bin/geocast bench return --tls --resume
	./bin/geocast bench retained
	./bin/geocast bench offline && ./bin/geocast bench offline --memory 512MB
	./bin/geocast bench memory
	GEOCAST_BENCH_SESSIONS=1000000 GEOCAST_BENCH_QUEUED=1000000 $(GO) test ./broker -run '^$$' -bench StartWith -benchtime 1x -timeout 30m
