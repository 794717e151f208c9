# What to do with this repository. A comment after ## is a target's help line.
# What takes more than a few lines of shell is a script in hack/.

PREFIX  ?= /usr/local
GO      ?= go
VERSION ?= $(shell git describe --tags --dirty --match 'v*' 2>/dev/null || echo 0.1.0-dev)
COMMIT  ?= $(shell git describe --always --dirty --abbrev=40 --exclude '*' 2>/dev/null)

TAGS    := urfave_cli_no_docs
LDFLAGS := -s -w -E adl_entry -R 0x200000 -X adl.run/adl-runtime/runtime.version=$(VERSION:v%=%) -X adl.run/adl-runtime/runtime.commit=$(COMMIT)
BINARY  := build/adl-runtime
MANUAL  := build/man/adl-runtime.8

ifneq ($(wildcard build/go/bin/go),) # hack/bootstrap-go.sh
export PATH := $(CURDIR)/build/go/bin:$(PATH)
endif
export GO TAGS
export CGO_ENABLED := 0

.DEFAULT_GOAL := help
.PHONY: help build run test lint unit root cross fuzz conformance managers bench bench-layers bench-shell soak man completion install clean

help: ## print this list
	@echo "make TARGET, where TARGET is one of:"
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16 | sed 's/^/  /'

build: ## build build/adl-runtime
	@hack/need-go.sh
	$(GO) build -trimpath -buildvcs=false -tags $(TAGS) -ldflags '$(LDFLAGS)' -o $(BINARY).linked .
	@$(GO) run ./hack/huge $(BINARY).linked $(BINARY) && rm $(BINARY).linked

run: ## install what is missing (as root), build, make a small bundle and run it
	@hack/run.sh

test: lint cross unit root ## lint, cross, unit and root

lint: ## gofumpt, go vet, staticcheck and shellcheck
	hack/lint.sh

unit: ## tests that need no privileges
	hack/test.sh unit

root: ## tests that make containers; they need root
	hack/test.sh root

cross: ## build everything for arm64, and run its interpreter where qemu is installed
	hack/cross.sh

fuzz: ## run every fuzzer for $FUZZTIME (20s)
	hack/fuzz.sh

conformance: build ## the OCI validation programs against ours, runc and crun (root)
	hack/need-packages.sh busybox-static crun runc
	$(GO) -C tests/conformance run .

managers: ## podman, containerd and Docker on this runtime; installs them (root)
	hack/managers.sh

bench: build ## compare speed and memory with crun and runc, and check the targets (root)
	hack/bench.sh

bench-layers: build ## the same for reset, snapshot and fork, on three filesystems (root)
	hack/need-packages.sh busybox-static crun runc btrfs-progs
	$(GO) run ./tests/bench/layers -check

bench-shell: build ## the same for commands in shells, beside exec and a bare bash (root)
	hack/need-packages.sh busybox-static crun runc podman
	$(GO) run ./tests/bench/shell -check

soak: build ## 100,000 commands and 2,000 resets in 16 sandboxes, with faults (root; SOAK=flags)
	$(GO) run ./tests/soak $(SOAK)

man: build ## write build/man/adl-runtime.8
	hack/man.sh $(BINARY) $(MANUAL)

completion: ## write completion scripts for bash, zsh and fish to build/completion
	$(GO) run -tags $(TAGS) ./hack/completion build/completion

install: build man completion ## install binary, manual page and completions; PREFIX=/usr/local, DESTDIR=
	install -d $(DESTDIR)$(PREFIX)/bin
	$(GO) run ./hack/huge $(BINARY) $(DESTDIR)$(PREFIX)/bin/adl-runtime
	install -D -m 0644 $(MANUAL) $(DESTDIR)$(PREFIX)/share/man/man8/adl-runtime.8
	install -D -m 0644 build/completion/adl-runtime $(DESTDIR)$(PREFIX)/share/bash-completion/completions/adl-runtime
	install -D -m 0644 build/completion/_adl-runtime $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_adl-runtime
	install -D -m 0644 build/completion/adl-runtime.fish $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/adl-runtime.fish

clean: ## remove build/
	rm -rf build
