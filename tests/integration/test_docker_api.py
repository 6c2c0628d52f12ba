# SPDX-License-Identifier: Apache-2.0
"""The Engine API raw: what is off answers as the Engine does, registries are asked, every field of HostConfig."""

import json
import time

import pytest


@pytest.fixture
def api(daemon, image):
    def call(method, path, body=None, want=None, version="1.47", headers=None):
        status, reply = daemon.request(method, f"/v{version}{path}", body, headers)
        assert want is None or status == want, (status, reply)
        return reply

    yield call
    daemon.clean(images=False)


NO_SWARM = "This node is not a swarm manager"
OFF = [("GET", "/swarm", 503, NO_SWARM), ("GET", "/swarm/unlockkey", 503, NO_SWARM),
       ("POST", "/swarm/update?version=1", 503, NO_SWARM), ("POST", "/swarm/leave", 503, "not part of a swarm"),
       ("POST", "/swarm/unlock", 409, "swarm is not locked"), ("POST", "/swarm/init", 501, "not supported"),
       ("POST", "/swarm/join", 501, "not supported"),
       ("GET", "/plugins/x/json", 404, 'plugin "x" not found'), ("DELETE", "/plugins/a/b:c", 404, 'plugin "a/b:c" not found'),
       ("POST", "/plugins/x/enable", 404, "not found"), ("POST", "/plugins/x/disable", 404, "not found"),
       ("POST", "/plugins/x/upgrade?remote=y", 404, "not found"), ("POST", "/plugins/x/push", 404, "not found"),
       ("POST", "/plugins/x/set", 404, "not found"), ("POST", "/plugins/pull?remote=x", 501, "not supported"),
       ("POST", "/plugins/create?name=x", 501, "not supported"), ("GET", "/plugins/privileges?remote=x", 501, "not supported"),
       ("POST", "/session", 501, "not supported"), ("POST", "/build", 501, "not supported"),
       ("PUT", "/volumes/x?version=1", 503, "only valid for cluster volumes"),
       ("GET", "/containers/x/checkpoints", 501, "experimental"), ("GET", "/nosuch", 404, "page not found")]
for kind in ("nodes", "services", "tasks", "secrets", "configs"):
    OFF += [("GET", f"/{kind}", 503, NO_SWARM), ("GET", f"/{kind}/x", 503, NO_SWARM)]
    if kind != "tasks":
        OFF += [("DELETE", f"/{kind}/x", 503, NO_SWARM), ("POST", f"/{kind}/x/update?version=1", 503, NO_SWARM)]
    if kind in ("services", "secrets", "configs"):
        OFF += [("POST", f"/{kind}/create", 503, NO_SWARM)]
    if kind in ("services", "tasks"):
        OFF += [("GET", f"/{kind}/x/logs", 503, NO_SWARM)]


def test_what_is_off(api):
    for method, path, status, words in OFF:
        reply = api(method, path, {} if method == "POST" else None, status)
        assert words in reply["message"], (method, path, reply)
    assert api("GET", "/plugins", want=200) == []


def test_distribution(api, registry, busybox):
    reply = api("GET", f"/distribution/{busybox}/json", want=200)
    assert reply["Descriptor"]["digest"].startswith("sha256:") and reply["Descriptor"]["size"] > 0
    assert reply["Platforms"][0]["os"] == "linux"
    assert api("GET", "/distribution/UPPER/json", want=400)["message"]
    assert api("GET", f"/distribution/{busybox.split('/')[0]}/nosuch:1/json")["message"]
    assert api("GET", "/images/busybox/attestations", want=200) == []
    api("GET", "/images/nosuch/attestations", want=404)


def test_search(api, busybox, docker):
    host = busybox.split("/")[0]
    found = api("GET", f"/images/search?term={host}/busy", want=200)
    assert [f["name"] for f in found if f["name"] == f"{host}/busybox"] and found[0]["is_official"] is False
    assert api("GET", f"/images/search?term={host}/nosuchthing", want=200) == []
    assert f"{host}/busybox" in docker("search", f"{host}/busybox")
    api("GET", "/images/search?term=x&limit=101", want=400)
    api("GET", "/images/search", want=400)


# Every endpoint of the API's table, with parameters that name nothing: none is unknown.
ENDPOINTS = """GET /containers/json|POST /containers/create|GET /containers/x/json|GET /containers/x/top|GET /containers/x/logs
GET /containers/x/changes|GET /containers/x/export|GET /containers/x/stats|POST /containers/x/resize|POST /containers/x/start
POST /containers/x/stop|POST /containers/x/restart|POST /containers/x/kill|POST /containers/x/update|POST /containers/x/rename
POST /containers/x/pause|POST /containers/x/unpause|POST /containers/x/attach|GET /containers/x/attach/ws
POST /containers/x/wait|DELETE /containers/x|GET /containers/x/archive|PUT /containers/x/archive|POST /containers/prune
GET /images/json|POST /build|POST /build/prune|POST /images/create|GET /images/x/json|GET /images/x/attestations
GET /images/x/history|POST /images/x/push|POST /images/x/tag|DELETE /images/x|GET /images/search|POST /images/prune
POST /auth|GET /info|GET /version|GET /_ping|POST /commit|GET /events?since=1&until=2|GET /system/df|GET /images/x/get
GET /images/get|POST /images/load|POST /containers/x/exec|POST /exec/x/start|POST /exec/x/resize|GET /exec/x/json
GET /volumes|POST /volumes/create|GET /volumes/x|PUT /volumes/x|DELETE /volumes/x|POST /volumes/prune|GET /networks
GET /networks/x|DELETE /networks/x|POST /networks/create|POST /networks/x/connect|POST /networks/x/disconnect
POST /networks/prune|GET /plugins|POST /session""".replace("\n", "|").split("|")


def test_no_endpoint_is_unknown(daemon, image):
    for line in ENDPOINTS:
        method, path = line.split()
        for version in ("", "/v1.24", "/v1.41", "/v1.47"):
            status, reply = daemon.request(method, version + path, {} if method in ("POST", "PUT") else None)
            assert not (isinstance(reply, dict) and reply.get("message") == "page not found"), line
            assert status != 500 or path in ("/auth", "/images/load"), (line, reply)
    daemon.clean(images=False)
