# SPDX-License-Identifier: Apache-2.0
"""What goes wrong outside of Kistl: registries that lie, stall or are gone, disks that are full, runtimes that
are missing, users who may not. Each has its exit code and a message that names the thing, and leaves nothing."""

import os

import pytest

from registry import HostileRegistry

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def hostile():
    r = HostileRegistry()
    yield r
    r.close()


@pytest.fixture(scope="module")
def plain(daemon):
    return daemon.plain


def test_unknown_image(plain, hostile):
    ref = hostile.reference("no/such:1")
    out = plain("pull", ref, code=1)
    assert ref in out.err or "no/such" in out.err
    assert "no/such" in plain("run", "--rm", ref, "true", code=125).err
