# Everything here needs Go and make; `make test` installs the Debian packages
# that the tests start (test/setup.sh).

SHELL       := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := build

GO      ?= go
# One seed for every seeded test; unset, each test picks and prints its own.
SEED    ?=
FUZZTIME ?= 5s
# 4 fuzzes a quarter of the targets, drawn anew each time; 1 all of them.
FUZZSHARE ?= 4
# How many new regions of each scenario to simulate, and of which scenarios; 0 is
# what `make test` runs.
SEEDS     ?= 0
SCENARIOS ?= all
# How many kills of clinics, and of hubs, 'make kills' makes.
KILLS   ?= 1000
# How many runs make partitions does, and how long make nemesis attacks each region.
RUNS    ?= 24
ATTACK  ?= 10m
# How long a region is watched under load.
MINUTES ?= 60
# The release's own tag; between releases the program names itself.
VERSION ?= $(shell git describe --tags --dirty 2>/dev/null)

export CGO_ENABLED = 0
export LC_ALL = C.UTF-8
# A clone owned by another user would otherwise stop every build: git refuses
# to tell its state there. The version goes in through LDFLAGS instead.
export GOFLAGS := $(strip $(filter-out -buildvcs=%,$(GOFLAGS)) -buildvcs=false)

LDFLAGS := -s -w $(if $(VERSION),-X github.com/healthpost/healthpost/node.Version=$(VERSION))
PKGS    := ./...

ifneq ($(SEED),)
export HEALTHPOST_TEST_SEED = $(SEED)
endif

.PHONY: soak build release demo test check setup unit rigs kills fuzz arm sim mutations partitions nemesis bench links nightly race clean

build: ## bin/healthpost for this machine
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/healthpost ./cmd/healthpost

release: ## static binaries for both supported machines
	GOOS=linux GOARCH=amd64 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/healthpost-linux-amd64 ./cmd/healthpost
	GOOS=linux GOARCH=arm64 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/healthpost-linux-arm64 ./cmd/healthpost

demo: build ## a whole region on this machine
	./bin/healthpost demo

# The order puts the quick answers first and ends on go test's own lines.
test: setup check fuzz unit rigs

setup:
	./test/setup.sh

check: ## formatting and vet
	@unformatted=$$(gofmt -l $$(git ls-files -co --exclude-standard '*.go' 2>/dev/null || find . -name '*.go' -not -path './.git/*')); \
	if [ -n "$$unformatted" ]; then echo "gofmt: $$unformatted" >&2; exit 1; fi
	$(GO) vet $(PKGS)
	cd test/interop && $(GO) vet ./... # a module of its own

unit: ## the tests of every package that ships
	$(GO) test -count=1 -timeout 20m $$($(GO) list $(PKGS) | grep -v /test/)

# One after the other: they start processes, browsers and emulators that want
# the machine to themselves.
rigs: ## rules, scripts, simulation, real processes, browser, arm64
	$(GO) test -count=1 -timeout 20m -p 1 ./test/...
	cd test/interop && $(GO) test -count=1 -timeout 10m ./... # a module of its own

fuzz: ## fuzz targets for FUZZTIME each, two at a time: a drawn quarter, or FUZZSHARE=1
	./test/fuzz.sh $(FUZZTIME) $(FUZZSHARE)

kills: setup ## clinics and hubs that are killed KILLS times each, paused, out of memory, with clocks that jump
	HEALTHPOST_KILLS=$(KILLS) $(GO) test -count=1 -v -timeout 8h ./test/e2e -run 'Killed|Line|Paused|OutOfMemory|ClocksJump|Seen$$'

arm: setup ## the same ledger on amd64 and arm64, and the pure packages' own tests on arm64
	HEALTHPOST_LEDGER=100000 $(GO) test -count=1 -v ./test/arm/...
	GOARCH=arm64 $(GO) test -count=1 -exec qemu-aarch64-static ./record ./seal ./fhir ./chart ./store

sim: ## whole regions in virtual time, on all cores: make sim SEEDS=200, make sim SEED=7 SCENARIOS=hubs
	$(GO) test -count=1 -v ./raftlog ./sync
	$(GO) test -count=1 -v -timeout 8h ./test/sim -args -sim.seeds=$(SEEDS) -sim.scenarios=$(SCENARIOS)

partitions: ## hubs cut apart in every way, ten minutes each in virtual time: make partitions RUNS=100
	HEALTHPOST_PARTITIONS=$(RUNS) $(GO) test -count=1 -v -timeout 8h -run 'TestPartitions' ./raftlog

nemesis: setup ## hubs and clinics as processes, disturbed while staff work: make nemesis ATTACK=30m
	HEALTHPOST_NEMESIS=$(ATTACK) $(GO) test -count=1 -v -timeout 8h ./test/nemesis

mutations: ## deliberately broken builds: what names their invariant must see each
	$(GO) test -count=1 -v -timeout 8h ./test/sim -run Mutations -args -sim.mutations=-1

bench: ## every benchmark but those of links, one line each
	$(GO) test -run='^$$' -bench=. -benchmem $$($(GO) list $(PKGS) | grep -v /test/link)

links: setup ## what sessions cost on bad links: real boxes at both ends, an hour; HEALTHPOST_JOIN=1000000 joins a longer ledger
	$(GO) test -run='^$$' -bench=Link -benchtime=1x -timeout=2h -v ./test/link

soak: setup ## a busy region with faults: make soak MINUTES=60
	HEALTHPOST_SOAK=$(MINUTES) $(GO) test -count=1 -v -timeout 8h ./test/soak

race: ## every test under the race detector, which needs a C compiler
	CGO_ENABLED=1 $(GO) test -race -count=1 -timeout 40m $(PKGS)

nightly: setup check ## the long tier
	$(MAKE) fuzz FUZZTIME=60s FUZZSHARE=1
	$(MAKE) race
	$(MAKE) bench
	$(MAKE) links
	$(MAKE) arm
	$(MAKE) sim SEEDS=600
	$(MAKE) mutations
	$(MAKE) sim SEEDS=1 SCENARIOS=big
	$(MAKE) kills
	$(MAKE) partitions RUNS=100
	$(MAKE) nemesis
	HEALTHPOST_TEST_OPS=all $(MAKE) unit rigs
	HEALTHPOST_CUTS=300 $(GO) test -count=1 -timeout 4h -run PowerCut ./test/disks
	HEALTHPOST_PAYLOADS=500 $(GO) test -count=1 -timeout 60m -run 'Hostile|FormsGiveText|SlowAndIdle' ./web
	$(MAKE) soak

clean:
	rm -rf bin
