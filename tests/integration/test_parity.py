# SPDX-License-Identifier: Apache-2.0
"""kistld and Debian's dockerd side by side: see parity.py, and parity_cases.py, parity_api.py for the cases."""

import os

import pytest

from parity import DOCKERD, Pair, differences
from parity_api import cases as api_cases
from parity_cases import cases as command_cases
from parity_expected import EXPECTED, PENDING

from harness import DOCKER

pytestmark = pytest.mark.skipif(os.geteuid() != 0 or not all(map(os.path.exists, (DOCKER, DOCKERD))),
                                reason="needs root and docker.io")


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    p = Pair(tmp_path_factory.mktemp("parity"))
    yield p
    p.close()


@pytest.mark.parametrize("case", [c for c in command_cases() + api_cases() if c.id not in PENDING],
                         ids=lambda case: case.id)
def test_same_as_dockerd(pair, case):
    ours, theirs = pair.run(case)
    found, _ = differences(case, ours, theirs, pair.newer.get(case.id, {}), EXPECTED)
    assert not found, f"{case.steps}\n" + "\n".join(f"{path}\n  kistld:  {a!r}\n  dockerd: {b!r}" for path, a, b in found)
