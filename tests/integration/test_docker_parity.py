# SPDX-License-Identifier: Apache-2.0
"""What Debian's docker client and Docker's Python SDK get from kistld, compared with what dockerd gives: found by
running both side by side, kept here as data. Where dockerd's versions differ, the newest wording counts."""

import pytest

from harness import Daemon  # noqa: F401  (the fixtures' type)


@pytest.fixture
def sleeper(docker):
    """Name of a running container."""
    docker("run", "-d", "--name", "sleeper", "--stop-signal", "KILL", "busybox", "sleep", "100")
    return "sleeper"


# ---- exec ----


def test_name_without_value_unsets_variable(docker, sleeper):
    """The client sends "-e NAME" as it is when it has no such variable."""
    assert "FROM_IMAGE=yes" in docker("exec", sleeper, "env")
    assert "FROM_IMAGE" not in docker("exec", "-e", "FROM_IMAGE", sleeper, "env")
    assert "FROM_IMAGE" not in docker("run", "--rm", "-e", "FROM_IMAGE", "busybox", "env")


def test_exec_failures(docker, sleeper):
    assert "executable file" in docker("exec", sleeper, "nosuch", code=127)
    assert "unable to find user nosuch" in docker("exec", "-u", "nosuch", sleeper, "id", code=126)
