# SPDX-License-Identifier: Apache-2.0
"""docker compose, unmodified, against kistld: version 1 (Debian 12's docker-compose) and version 2 (the plug-in of
later Debians, where one is installed or $KISTL_COMPOSE names it). With --full also nginx, PostgreSQL and redis from
Debian's packages as real services; else busybox plays their parts."""

import json
import os
import shutil
import subprocess
import textwrap
import urllib.request

import pytest

from harness import Client, program, until
from parity import free_port

PLUGINS = [os.environ.get("KISTL_COMPOSE"), "/usr/libexec/docker/cli-plugins/docker-compose",
           "/usr/lib/docker/cli-plugins/docker-compose"]
COMPOSE = {"v1": shutil.which("docker-compose"), "v2": next((p for p in PLUGINS if p and os.path.exists(p)), None)}
pytestmark = pytest.mark.skipif(os.geteuid() != 0 or not COMPOSE["v1"], reason="needs root and docker-compose")


class Project:
    """A directory with a compose file, and the command that reads it."""

    def __init__(self, daemon, version, path, text, **values):
        self.daemon, self.version, self.path, self.name = daemon, version, path, path.name.replace("_", "")
        for key, value in values.items():
            text = text.replace("@" + key + "@", str(value))
        (path / "docker-compose.yml").write_text(textwrap.dedent(text))
        env = {"PATH": os.environ["PATH"], "HOME": str(path), "DOCKER_HOST": daemon.host, "COMPOSE_HTTP_TIMEOUT": "60",
               "COMPOSE_PROJECT_NAME": self.name, "LANG": "C.UTF-8"}
        self.compose = Client([COMPOSE[version]], env)

    def __call__(self, *args, **kw):
        return self.compose(*args, cwd=self.path, **kw)

    def containers(self, service=None):
        """Documents of the service's containers, in the order of their numbers."""
        labels = [f"com.docker.compose.project={self.name}"] + ([f"com.docker.compose.service={service}"] if service else [])
        filters = json.dumps({"label": labels}).replace('"', "%22").replace(" ", "").replace("[", "%5B").replace("]", "%5D")
        found = self.daemon.request("GET", f"/containers/json?all=1&filters={filters}")[1]
        documents = [self.daemon.request("GET", f"/containers/{c['Id']}/json")[1] for c in found]
        return sorted(documents, key=lambda d: d["Name"])

    def one(self, service):
        found = self.containers(service)
        assert len(found) == 1, found
        return found[0]


@pytest.fixture(params=[v for v, path in COMPOSE.items() if path])
def project(request, daemon, image, tmp_path):
    made = []

    def make(text, **values):
        made.append(Project(daemon, request.param, tmp_path, text, **values))
        return made[-1]

    yield make
    for p in made:
        p("down", "-v", "-t", "0", code=None)
    assert daemon.alive(), "kistld has died:\n" + daemon.log()[-4000:]
    daemon.clean(images=False)


def fetch(port, path="/"):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as r:
            return r.read().decode()
    except OSError:
        return None


SMALL = """
    version: "2.4"
    services:
      web:
        image: busybox
        command: sh -c "echo from-web-$$HOSTNAME > /www/index.html; exec httpd -f -p 80 -h /www"
        ports: ["127.0.0.1:@port@:80"]
        networks: [front, back]
        volumes: ["site:/www"]
        depends_on: {db: {condition: service_healthy}}
        environment: {MODE: test}
        labels: {role: web}
        stop_signal: KILL
      db:
        image: busybox
        command: sh -c "echo starting; sleep 1; touch /data/ready; while :; do echo db-answer | nc -l -p 5432; done"
        healthcheck: {test: ["CMD", "test", "-f", "/data/ready"], interval: 200ms, retries: 50, timeout: 5s}
        networks:
          back: {aliases: [database]}
        volumes: ["data:/data"]
        stop_signal: KILL
      worker:
        image: busybox
        command: sh -c "echo working; sleep 1000"
        networks: [back]
        stop_signal: KILL
    networks:
      front: {}
      back: {internal: true}
    volumes: {site: {}, data: {labels: {keep: "yes"}}}
"""


def test_life(project, docker):
    """up with a dependency on health, ps, logs, exec, scale, restart, stop, config's change, down."""
    port = free_port()
    p = project(SMALL, port=port)
    p("up", "-d", timeout=120)
    web, db = p.one("web"), p.one("db")
    assert db["State"]["Health"]["Status"] == "healthy"
    assert web["State"]["StartedAt"] > db["State"]["StartedAt"]
    assert set(web["NetworkSettings"]["Networks"]) == {f"{p.name}_front", f"{p.name}_back"}
    assert {m["Destination"]: m["Name"] for m in web["Mounts"]} == {"/www": f"{p.name}_site"}
    assert until(lambda: "from-web-" in (fetch(port) or ""))
    # Names of services and aliases, from another service.
    assert p("exec", "-T", "web", "nc", "database", "5432").strip() == "db-answer"
    assert p("exec", "-T", "worker", "wget", "-qO-", "http://web/").startswith("from-web-")
    assert "working" in p("logs", "worker") and "starting" in p("logs", "db")
    out = p("ps")
    assert "web" in out and "db" in out and f"127.0.0.1:{port}->80/tcp" in out
    # Scale up and down.
    p("up", "-d", "--scale", "worker=3", timeout=120)
    assert len(p.containers("worker")) == 3
    assert p.one("web")["Id"] == web["Id"], "what has not changed is kept"
    p("up", "-d", "--scale", "worker=1", timeout=120)
    assert len(p.containers("worker")) == 1
    # Restart, stop, start.
    p("restart", "-t", "0", "web")
    assert p.one("web")["Id"] == web["Id"] and p.one("web")["State"]["StartedAt"] != web["State"]["StartedAt"]
    assert until(lambda: "from-web-" in (fetch(port) or ""))
    p("stop", "-t", "0")
    assert {c["State"]["Status"] for c in p.containers()} == {"exited"}
    p("start", timeout=120)
    assert {c["State"]["Status"] for c in p.containers()} == {"running"}
    assert p("exec", "-T", "web", "sh", "-c", "exit 3", code=3) == ""
    # A changed service is made anew, with its volume.
    text = (p.path / "docker-compose.yml").read_text().replace("MODE: test", "MODE: changed")
    (p.path / "docker-compose.yml").write_text(text)
    p("up", "-d", timeout=120)
    changed = p.one("web")
    assert changed["Id"] != web["Id"] and "MODE=changed" in changed["Config"]["Env"]
    assert {m["Destination"]: m["Name"] for m in changed["Mounts"]} == {"/www": f"{p.name}_site"}
    p("kill", "worker")
    p("rm", "-f", "worker")
    assert p.containers("worker") == []
    p("down", "-v", "-t", "0")
    assert p.containers() == []
    assert [n for n in docker.lines("network", "ls", "--format", "{{.Name}}") if n.startswith(p.name)] == []
    assert [v for v in docker.lines("volume", "ls", "-q") if v.startswith(p.name)] == []


def test_run_and_port(project):
    port = free_port()
    p = project("""
        version: "2.4"
        services:
          tool: {image: busybox, command: "false", environment: [WHO=tool]}
          server: {image: busybox, command: httpd -f -p 80, ports: ["127.0.0.1:@port@:80"], stop_signal: KILL}
        """, port=port)
    assert p("run", "--rm", "tool", "sh", "-c", "echo $WHO; exit 4", code=4).strip() == "tool"
    p("up", "-d", "server")
    assert p("port", "server", "80").strip() == f"127.0.0.1:{port}"
    assert "httpd" in p("top", "server")
    p("pause", "server")
    assert p.one("server")["State"]["Paused"]
    p("unpause", "server")
    assert not p.one("server")["State"]["Paused"]


def test_foreground_ends_with_its_service(project):
    p = project("""
        version: "2.4"
        services:
          job: {image: busybox, command: sh -c "echo done; exit 3"}
          other: {image: busybox, command: sleep 1000, stop_signal: KILL}
        """)
    out = p("up", "--abort-on-container-exit", "--exit-code-from", "job", code=3, timeout=120)
    assert "done" in out


def test_bad_files(project):
    p = project("""
        version: "2.4"
        services:
          a: {image: "nosuch.invalid:1/x"}
        """)
    assert p("up", "-d", code=None, timeout=120).code != 0
    (p.path / "docker-compose.yml").write_text("version: '2.4'\nservices: {a: {image: busybox, network_mode: 'service:b'}}\n")
    assert p("up", "-d", code=None).code != 0
    assert p.containers() == []


def test_kistl_compose(project, daemon):
    """`kistl compose` runs the same program."""
    p = project("version: '2.4'\nservices: {a: {image: busybox, command: sleep 100, stop_signal: KILL}}\n")
    env = {**p.compose.env, "KISTL_HOST": daemon.host, "PATH": os.environ["PATH"]}
    env.pop("DOCKER_HOST")
    if p.version == "v2":
        plugins = p.path / ".docker/cli-plugins"
        plugins.mkdir(parents=True)
        (plugins / "docker-compose").symlink_to(COMPOSE["v2"])
    subprocess.run([program("kistl"), "compose", "up", "-d"], env=env, cwd=p.path, check=True, capture_output=True, timeout=60)
    assert p.one("a")["State"]["Running"]


REAL = """
    version: "2.4"
    services:
      web:
        image: services
        command: nginx -g "daemon off;"
        ports: ["127.0.0.1:@port@:80"]
        volumes: ["./site:/var/www/html:ro", "./nginx.conf:/etc/nginx/sites-enabled/default:ro"]
        depends_on: {db: {condition: service_healthy}, cache: {condition: service_healthy}}
        networks: [front, back]
        restart: unless-stopped
      db:
        image: services
        user: postgres
        environment: {PGDATA: /var/lib/postgresql/data}
        command: >
          sh -c "[ -f $$PGDATA/PG_VERSION ] || /usr/lib/postgresql/15/bin/initdb -A trust >/dev/null;
          grep -q all-hosts $$PGDATA/pg_hba.conf || echo 'host all all all trust # all-hosts' >> $$PGDATA/pg_hba.conf;
          exec /usr/lib/postgresql/15/bin/postgres -h 0.0.0.0 -k /tmp"
        healthcheck: {test: ["CMD", "/usr/lib/postgresql/15/bin/pg_isready", "-h", "127.0.0.1"], interval: 500ms, retries: 60}
        volumes: ["pgdata:/var/lib/postgresql"]
        networks: {back: {aliases: [database]}}
        stop_signal: INT
      cache:
        image: services
        command: redis-server --protected-mode no --save ""
        healthcheck: {test: ["CMD", "redis-cli", "ping"], interval: 500ms, retries: 60}
        networks: [back]
    networks: {front: {}, back: {internal: true}}
    volumes: {pgdata: {}}
"""

NGINX = """
server {
    listen 80;
    root /var/www/html;
    location / { }
}
"""


@pytest.mark.full
def test_web_database_cache(project, daemon, scratch):
    import images
    daemon.client("load", "-q", "-i", images.services_archive(scratch), timeout=300)
    port = free_port()
    p = project(REAL, port=port)
    (p.path / "site").mkdir()
    (p.path / "site/index.html").write_text("page one\n")
    (p.path / "nginx.conf").write_text(NGINX)
    p.path.chmod(0o755)
    p("up", "-d", timeout=240)
    assert until(lambda: fetch(port) == "page one\n")
    (p.path / "site/index.html").write_text("page two\n")
    assert fetch(port) == "page two\n"
    sql = ["exec", "-T", "web", "psql", "-h", "database", "-U", "postgres", "-Atc"]
    p(*sql, "CREATE TABLE t (x int); INSERT INTO t SELECT generate_series(1, 1000)")
    assert p(*sql, "SELECT sum(x) FROM t").strip() == "500500"
    redis = ["exec", "-T", "web", "redis-cli", "-h", "cache"]
    assert p(*redis, "set", "k", "v").strip() == "OK" and p(*redis, "get", "k").strip() == "v"
    # The database's volume outlives its container.
    p("stop", "db")
    p("rm", "-f", "db")
    p("up", "-d", timeout=240)
    assert p.one("db")["State"]["Health"]["Status"] == "healthy"
    assert p(*sql, "SELECT count(*) FROM t").strip() == "1000"
    # A killed server comes back by its policy, at the same port.
    before = p.one("web")
    os.kill(before["State"]["Pid"], 9)
    assert until(lambda: p.one("web")["RestartCount"] == 1 and fetch(port) == "page two\n")
    # And all of it survives the daemon.
    daemon.restart(kill=True)
    assert fetch(port) == "page two\n" and p(*redis, "get", "k").strip() == "v"
    assert "database system is ready" in p("logs", "db")
    p("restart", "-t", "5", timeout=120)
    assert until(lambda: p(*sql, "SELECT count(*) FROM t", code=None).strip() == "1000")
    p("up", "-d", "--scale", "cache=2", timeout=240)
    assert len(p.containers("cache")) == 2
