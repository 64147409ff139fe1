# align.c. Every program is one C file and needs no Makefile: its third line builds it. This file
# saves typing, runs the tests and remakes what is made.
#
#   make            the programs, in this folder
#   make test       all tests plain and under ASan+UBSan; where there is clang, its warnings
#   make test-long  what takes longer: all with clang, kernels, AVX2, threads (TEST_MINUTES=N: stop then)
#   make aarch64    programs and unit tests for 64-bit Arm, run by qemu (test/test_aarch64.sh)
#   make demo       the whole pipeline and a report: out/demo (six minutes; SEED=N)
#   make bench      speed against this machine's limits (dev/bench.c)
#   make sft_model  data/sft again, the model that ships (about a minute)
#   make rm_model   data/rm again, the reward model that ships (half a minute)
#   make data       the default data set again (seconds)
#   make prefs      the default preferences again (seconds)

# As many at a time as there are processors: a hundred test programs are to be compiled.
MAKEFLAGS += -j$(shell nproc 2>/dev/null || echo 2)

CC = gcc
CFLAGS = -O3 -march=native -fno-math-errno -fopenmp
WARN = -std=gnu11 -Wall -Wextra -Wshadow -Wno-unused-function -Werror
SANITIZE = -O1 -g1 -march=native -fno-math-errno -fopenmp -fsanitize=address,undefined -fno-sanitize-recover=all
LIBS = -lopenblas -lcjson -lm
SEED = 1
PROGRAMS = train_sft train_rm train_dpo train_kto train_orpo train_ppo train_spin generate evaluate score report
TOOLS = reviews gold prefs ppo_frontier bench interval verdict loglik auc imdb_overopt frontier
TESTS = losses exact common flags machine bf16 amx tokenizer dataset corpora chat directory model checkpoint sample sample_amx benchmark reviews stats kl reward distance ppo
SCRIPTS = test/test_kernels.sh test/test_programs.sh test/test_signals.sh test/test_trl_flags.sh test/test_generate.sh test/test_data.sh test/test_fetch.sh test/test_corpora.sh test/test_default.sh test/test_prefs.sh test/test_dpo.sh test/test_kto_orpo.sh test/test_rm.sh test/test_spin.sh test/test_evaluate.sh test/test_benchmark.sh test/test_ppo.sh test/test_ppo_frontier.sh test/test_docs.sh test/test_onefile.sh test/test_report.sh test/test_bench.sh test/test_repro.sh test/test_campaign.sh
# label serves a page, for which it needs libmicrohttpd: it is made where that is installed.
ifneq ($(shell echo '\#include <microhttpd.h>' | $(CC) -E - >/dev/null 2>&1 && echo yes),)
PROGRAMS += label
TESTS += label
endif
HEADERS = $(wildcard *.h lib/*/*.h data/*.h test/*.h dev/*.h)

all: $(PROGRAMS)

$(PROGRAMS): %: %.c $(HEADERS)
	$(CC) $(CFLAGS) $< -o $@ $(LIBS)
label build/%/label build/%/test_label: private LIBS += -lmicrohttpd

# What takes longer than `make test` may, on the plain build. (`make aarch64` is apart: it needs packages
# and a quarter of an hour of a processor.)
LONG_SCRIPTS = test/test_accelerate.sh test/test_vectors.sh test/test_threads.sh test/test_all_kernels.sh test/test_label_page.sh

# Builds of everything for the tests: build/plain, build/asan, build/clang; and one without AVX-512.
BUILT = $(PROGRAMS) $(TOOLS) $(TESTS:%=test_%)
plain = $(CC) $(CFLAGS) $(WARN)
asan = $(CC) $(SANITIZE) $(WARN)
avx2 = $(CC) $(CFLAGS) -march=haswell $(WARN)
clang = clang $(CFLAGS) -O2 $(WARN) # -O3 takes half as long again to compile
define builds
build/$(1)/%: %.c $$(HEADERS) ; @mkdir -p $$(@D) && $$($(1)) $$< -o $$@ $$(LIBS)
build/$(1)/%: data/%.c $$(HEADERS) ; @mkdir -p $$(@D) && $$($(1)) $$< -o $$@ $$(LIBS)
build/$(1)/%: test/%.c $$(HEADERS) ; @mkdir -p $$(@D) && $$($(1)) $$< -o $$@ $$(LIBS)
build/$(1)/%: dev/%.c $$(HEADERS) ; @mkdir -p $$(@D) && $$($(1)) $$< -o $$@ $$(LIBS)
build/$(1)/%: dev/repro/%.c $$(HEADERS) ; @mkdir -p $$(@D) && $$($(1)) $$< -o $$@ $$(LIBS)
# the programs that test_label starts
build/$(1)/test_label: $(addprefix build/$(1)/,label generate evaluate train_sft train_rm train_dpo train_kto train_orpo)
build/$(1)/test_amx: test/test_bf16.c
build/$(1)/test_sample_amx: test/test_sample.c
$(1): $$(BUILT:%=build/$(1)/%)
endef
$(foreach b,plain asan clang avx2,$(eval $(call builds,$(b))))
# The programs are made as a user makes them; of those with warnings only the warnings are of interest.
$(PROGRAMS:%=build/plain/%): build/plain/%: %
	@mkdir -p $(@D)
	$(plain) -fsyntax-only $<.c && cp $< $@

test: plain asan $(if $(shell command -v clang),clang-warnings)
	@sh test/run.sh $(foreach b,plain asan,$(addprefix $(b):,$(TESTS) $(SCRIPTS)))

clang-warnings: $(PROGRAMS:%=build/warnings/%.c) $(TESTS:%=build/warnings/test/test_%.c)
build/warnings/%.c: %.c $(HEADERS)
	@mkdir -p $(@D)
	@$(clang) -fsyntax-only $< && touch $@
build/warnings/test/test_amx.c build/warnings/test/test_sample_amx.c: $(HEADERS)

test-long: plain $(if $(shell command -v clang),clang) $(if $(filter x86_64,$(shell uname -m)),build/avx2/gold $(TESTS:%=build/avx2/test_%))
	@sh test/run.sh $(addprefix avx2:,$(TESTS)) $(addprefix plain:,$(LONG_SCRIPTS)) $(addprefix clang:,$(TESTS) $(SCRIPTS))

aarch64: build/plain/train_sft build/plain/generate
	@BIN=build/plain sh test/test_aarch64.sh

bench: build/plain/bench build/plain/bench_decode
	sh dev/bench.sh

demo: $(PROGRAMS) build/plain/prefs build/plain/reward_frontier
	@sh dev/demo.sh --seed $(SEED)

sft_model: train_sft
	./train_sft && rm -rf data/sft && cp -r out/sft/final data/sft

rm_model: train_rm
	./train_rm && rm -rf data/rm && cp -r out/rm/final data/rm

data: build/plain/reviews
	build/plain/reviews --write_data data

prefs: build/plain/prefs
	build/plain/prefs --write_data data

clean:
	rm -rf build $(PROGRAMS)

.PHONY: all plain asan clang clang-warnings test test-long aarch64 demo bench sft_model rm_model data prefs clean
