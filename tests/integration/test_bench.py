# SPDX-License-Identifier: Apache-2.0
"""bench/bench measures, tells about the bars, and leaves nothing behind."""

import json
import os
import pathlib
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = os.environ.get("KISTL_BUILD", str(ROOT / "build"))


def bench(*args):
    return subprocess.run([ROOT / "bench/bench", "--build", BUILD, "--quick", "--quiet", *args], capture_output=True,
                          text=True, timeout=240)


def mounts_below(path):
    with open("/proc/self/mountinfo") as f:
        return [line for line in f if str(path) in line]


def test_kistl_beside_crun(tmp_path):
    directory = tempfile.mkdtemp(prefix="test-bench.", dir="/var/tmp")
    r = bench("--dir", directory, "--peers", "", "--runs", "2", "--only", "run,exec,start,calls,size", "--json", str(tmp_path / "out.json"))
    assert r.returncode == 0, r.stderr
    document = json.loads((tmp_path / "out.json").read_text())
    tests = {(row["test"], row["subject"]) for row in document["results"]}
    assert ("exec CONTAINER true", "crun") in tests and ("exec CONTAINER true", "kistl") in tests
    assert all(row["median"] > 0 for row in document["results"])
    assert ("GET /containers/json?all=1", "kistl") in tests and ("ps -a of 50 containers", "kistl") in tests
    assert {bar["name"] for bar in document["bars"]} == {"run --rm over crun run of the same bundle",
                                                          "slowest read-only call", "start of the command"}
    assert "bar: start of the command: " in r.stdout
    assert mounts_below(directory) == []
    os.rmdir(directory)


def test_pods(tmp_path):
    directory = tempfile.mkdtemp(prefix="test-bench.", dir="/var/tmp")
    r = bench("--dir", directory, "--peers", "", "--runs", "1", "--pods", "5", "--probes", "4", "--only", "cri", "--json",
              str(tmp_path / "out.json"))
    assert r.returncode == 0, r.stderr
    document = json.loads((tmp_path / "out.json").read_text())
    medians = {row["test"]: row["median"] for row in document["results"]}
    assert set(medians) == {"start of a pod", "stop and removal of a pod", "start of 8 pods at once",
                            "stop and removal of 8 pods at once", "exec probes, one at a time", "exec probes, 8 at a time",
                            "shim of a pod, RSS", "shim of a pod, PSS", "recovery of 5 pods"}
    assert all(m > 0 for m in medians.values())
    assert {bar["name"] for bar in document["bars"]} == {"shim of a pod, RSS"}
    assert mounts_below(directory) == []
    os.rmdir(directory)


def test_unknown_peer():
    r = bench("--peers", "rkt")
    assert r.returncode == 2 and "unknown peer 'rkt'" in r.stderr
