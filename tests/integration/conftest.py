# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the end-to-end tests (test_e2e_*.py).

`daemon` is one kistld per module: tests share it and clean up after themselves by the `kistl` fixture, which
removes the containers that a test leaves; when the module ends, images go too and the host must be as before.
`registry` is Debian's docker-registry, one for the whole run, with the images of images.py in it."""

import os
import pathlib
import shutil
import sys
import tempfile

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from harness import Daemon  # noqa: E402
from registry import Registry  # noqa: E402


def pytest_addoption(parser):
    parser.addoption("--full", action="store_true", help="the long form of what is random: 50 rounds, not 8")


def pytest_configure(config):
    config.addinivalue_line("markers", "full: only with --full")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--full"):
        return
    full = [i for i in items if i.get_closest_marker("full")]
    items[:] = [i for i in items if i not in full]
    config.hook.pytest_deselected(items=full)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """What is skipped is not tested: with CI=true that is a failure."""
    outcome = yield
    report = outcome.get_result()
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("CI") == "true":
        report.outcome = "failed"
        report.longrepr = f"skipped under CI: {report.longrepr}"


@pytest.fixture(scope="session")
def scratch():
    """A directory for the whole run, on a real file system (overlayfs does not stack on every tmpfs)."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="kistl-e2e-", dir=os.environ.get("KISTL_TEST_DIR", "/var/tmp")))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def registry(scratch):
    r = Registry(scratch / "registry")
    yield r
    r.close()


@pytest.fixture(scope="session")
def busybox(registry, scratch):
    """Reference of the busybox image in the registry."""
    import images

    return images.push_busybox(registry, scratch)


@pytest.fixture(scope="session")
def busybox_archive(busybox, scratch):
    return scratch / "busybox.tar"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    d = Daemon()
    yield d
    d.close()


@pytest.fixture(scope="module")
def image(daemon, busybox_archive):
    """The busybox image in the module's daemon: its reference."""
    daemon.client("load", "-q", "-i", busybox_archive)
    return "busybox"


@pytest.fixture
def kistl(daemon, image):
    """kistl with the image loaded; containers and volumes that the test leaves are removed."""
    yield daemon.client
    assert daemon.alive(), "kistld has died:\n" + daemon.log()[-4000:]
    daemon.clean(images=False)


@pytest.fixture
def docker(daemon, image):
    """Debian's unmodified docker client on kistld's socket."""
    yield daemon.docker
    assert daemon.alive(), "kistld has died:\n" + daemon.log()[-4000:]
    daemon.clean(images=False)


@pytest.fixture
def fresh(request):
    """fresh(...) makes a Daemon that lives for one test and must leave nothing."""
    made = []

    def make(*args, **kw):
        d = Daemon(*args, **kw)
        made.append(d)
        return d

    yield make
    failed = []
    for d in made:
        try:
            d.close()
        except AssertionError as e:
            failed.append(str(e))
    assert not failed, "\n".join(failed)
