# Two commands matter: `make run` serves a model, `make test` proves the build. Both install what is missing first.
#
#   make run [MODEL=path] [ARGS="--port 9000"]   set-up, build, fetch the small model, serve it on 127.0.0.1:8000
#   make test                                    set-up, build, every test; closes with "N passed, N failed, N skipped"
#   make build                                   build/release/redoubt
#   make test-arm                                the kernels built for 64-bit Arm, their tests under QEMU
#   make soak [SOAK_SECONDS=3600]                each fuzz target for so long, then the long forms of the tests
#   make format | make clean

BUILD  := build/release
JOBS   ?= $(shell nproc)
MODEL  ?=
ARGS   ?=
SOAK_SECONDS ?= 3600

.PHONY: build run test test-arm soak format clean
.DEFAULT_GOAL := build

build:
	@scripts/setup build
	@scripts/build release redoubt

run: build
	@scripts/serve_model "$(MODEL)" $(ARGS)

test:
	@scripts/setup build test
	@scripts/build release all
	@scripts/run_tests release

test-arm:
	@scripts/setup build arm
	@scripts/build arm all
	@scripts/run_tests arm

soak:
	@scripts/setup build test check
	@scripts/fuzz $(SOAK_SECONDS)
	@scripts/build release all
	@REDOUBT_SOAK=1 scripts/run_tests release

format:
	@scripts/setup check
	@scripts/format --write

clean:
	@echo "removing build/ (the downloaded model stays in its cache folder)"
	@rm -rf build
