# What people type. The work is meson's; this only names it.
#
#   make            build into build/: kistl, kistld, kistl-shim, kistl-pause, kistl-image
#   make hello      install what is needed, build, run a container from an image made on the spot
#   make check      all tests
#   make install PREFIX=/usr/local DESTDIR=
#   make bench | fuzz | format | check-full | check-vm | clean

BUILD = build
PREFIX = /usr/local
DESTDIR =
PYTHON = /usr/bin/python3
# A bare root shell may have no sudo, and needs none.
SUDO = $(shell [ "$$(id -u)" = 0 ] || echo sudo -E)

PROGRAMS = src/cli/kistl src/daemon/kistld src/shim/kistl-shim src/shim/kistl-pause src/worker/kistl-image
# What runs many threads.
TSAN_TESTS = $$(meson test -C build-tsan --list 2>/dev/null | sed -n 's,.*:unit / ,,p' | \
	grep -E '^(loop|rpc|http|store|engine|image|network)/')
UBSAN = UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
TSAN = TSAN_OPTIONS=suppressions=$(CURDIR)/tests/tsan.supp:halt_on_error=1

all: $(BUILD)/build.ninja
	@ninja -C $(BUILD)
	@for p in $(PROGRAMS); do cp -pu --remove-destination $(BUILD)/$$p $(BUILD)/; done

$(BUILD)/build.ninja:
	meson setup $(BUILD) --buildtype=debugoptimized -Dwerror=true

deps:
	@tools/install-deps

hello:
	@tools/install-deps build run
	@$(MAKE) --no-print-directory all
	@$(SUDO) tools/hello $(BUILD)

install: all
	@meson configure $(BUILD) --prefix=$(PREFIX) >/dev/null
	@ninja -C $(BUILD) >/dev/null
	@DESTDIR=$(DESTDIR) meson install -C $(BUILD) --no-rebuild --strip --quiet

# Debian's clang with the address and undefined behaviour sanitizers; gcc builds everything else.
build-asan/build.ninja:
	CC=clang meson setup build-asan -Db_sanitize=address,undefined -Db_lundef=false -Dwerror=true

build-tsan/build.ninja:
	meson setup build-tsan -Db_sanitize=thread -Dwerror=true

check-unit: all build-asan/build.ninja build-tsan/build.ninja
	ninja -C build-asan
	$(SUDO) env $(UBSAN) meson test -C build-asan --no-rebuild --print-errorlogs
	ninja -C build-tsan
	$(SUDO) env $(TSAN) meson test -C build-tsan --no-rebuild --print-errorlogs $(TSAN_TESTS)
	# The shim has one thread, and a sanitizer that holds back its SIGCHLD: it comes from elsewhere.
	for t in run pods; do \
		$(SUDO) env $(TSAN) build-tsan/src/engine/test-engine-$$t $(abspath $(BUILD))/kistl-shim || exit 1; \
	done

check-integration: all
	$(SUDO) env KISTL_BUILD=$(abspath $(BUILD)) $(PYTHON) -m pytest -q -p no:cacheprovider \
		--timeout=300 tests/integration $(PYTEST_ARGS)

check: deps
	@$(MAKE) --no-print-directory all check-unit check-integration

# On a kernel of its own, with cgroup v2 only, under qemu: ten minutes.
check-vm: all
	@tools/install-deps run test vm
	tests/vm/run --build $(BUILD)
	tests/vm/run --build $(BUILD) --systemd

check-full: check
	$(MAKE) check-integration PYTEST_ARGS=--full
	$(MAKE) check-vm

bench: deps all
	$(SUDO) $(PYTHON) bench/bench --build $(BUILD) $(BENCH_ARGS)

# Ten seconds for each target, unless FUZZ_SECONDS says otherwise; finds become corpus files.
FUZZ_SECONDS = 10
fuzz: deps
	@[ -d build-fuzz ] || CC=clang meson setup build-fuzz -Dfuzz=llvm -Db_sanitize=address,undefined \
		-Db_lundef=false
	ninja -C build-fuzz
	tools/fuzz build-fuzz $(FUZZ_SECONDS)

format:
	clang-format -i $$(git ls-files 'src/*.c' 'src/*.h' 'tests/*.c')

clean:
	rm -rf $(BUILD) build-asan build-tsan build-fuzz

.PHONY: all deps hello install check check-unit check-integration check-full check-vm bench fuzz format clean
