# SPDX-License-Identifier: Apache-2.0
"""The parity suite's cases by API: each endpoint of the Engine API with good and bad values of each parameter.

ENDPOINTS follows the API's description: the path, then its parameters with their types. What changes something is only
asked about objects that do not exist, or with bodies that cannot be right; what works is parity_cases.py's."""

import itertools
import json

from parity import Case

ENDPOINTS = """
GET /containers/json all:bool limit:int size:bool filters:filters
POST /containers/create name:name platform:string body:create
GET /containers/{container}/json size:bool
GET /containers/{container}/top ps_args:ps
GET /containers/{container}/logs stdout:bool stderr:bool follow:zero since:time until:time timestamps:bool tail:tail
GET /containers/{container}/changes
GET /containers/{nocontainer}/export
GET /containers/{nocontainer}/stats stream:bool
POST /containers/{nocontainer}/resize h:int w:int
POST /containers/{nocontainer}/start detachKeys:string
POST /containers/{nocontainer}/stop t:int signal:string
POST /containers/{nocontainer}/restart t:int signal:string
POST /containers/{nocontainer}/kill signal:string
POST /containers/{nocontainer}/update body:update
POST /containers/{nocontainer}/rename name:name
POST /containers/{nocontainer}/pause
POST /containers/{nocontainer}/unpause
POST /containers/{nocontainer}/attach stream:bool logs:bool detachKeys:string
POST /containers/{nocontainer}/wait condition:condition
DELETE /containers/{nocontainer} v:bool force:bool link:bool
GET /containers/{container}/archive path:path
HEAD /containers/{container}/archive path:path
PUT /containers/{nocontainer}/archive path:path noOverwriteDirNonDir:bool
POST /containers/{nocontainer}/exec body:exec
POST /containers/prune filters:badfilters
GET /images/json all:bool filters:filters digests:bool
GET /images/{image}/json
GET /images/{image}/history
POST /images/{noimage}/push tag:string
POST /images/{noimage}/tag repo:repo tag:string
DELETE /images/{noimage} force:bool noprune:bool
POST /images/prune filters:badfilters
POST /images/create fromImage:badimage fromSrc:badimage platform:platform
GET /images/{noimage}/get
GET /images/get names:noimage
GET /distribution/{noimage}/json
GET /info
GET /version
GET /_ping
HEAD /_ping
POST /commit container:nocontainer repo:repo pause:bool body:execstart
GET /events until:past since:past filters:filters
GET /system/df
POST /build/prune all:bool filters:badfilters
POST /exec/{nocontainer}/start body:execstart
POST /exec/{nocontainer}/resize h:int w:int
GET /exec/{nocontainer}/json
GET /volumes filters:filters
POST /volumes/create body:volume
GET /volumes/{volume}
DELETE /volumes/{novolume} force:bool
POST /volumes/prune filters:badfilters
GET /networks filters:filters
GET /networks/{network} verbose:bool scope:string
DELETE /networks/{nonetwork}
POST /networks/create body:network
POST /networks/{nonetwork}/connect body:connect
POST /networks/{nonetwork}/disconnect body:connect
POST /networks/prune filters:badfilters
GET /plugins filters:filters
GET /plugins/{none}/json
DELETE /plugins/{none}
POST /plugins/{none}/enable timeout:int
POST /plugins/{none}/disable
POST /plugins/{none}/set
GET /swarm
POST /swarm/leave force:bool
POST /swarm/update version:int body:none
GET /swarm/unlockkey
GET /nodes filters:filters
GET /nodes/{none}
DELETE /nodes/{none}
POST /nodes/{none}/update version:int body:none
GET /services filters:filters
GET /services/{none}
DELETE /services/{none}
POST /services/create body:service
POST /services/{none}/update version:int body:none
GET /services/{none}/logs stdout:bool
GET /tasks filters:filters
GET /tasks/{none}
GET /tasks/{none}/logs stdout:bool
GET /secrets filters:filters
POST /secrets/create body:service
GET /secrets/{none}
DELETE /secrets/{none}
POST /secrets/{none}/update version:int body:none
GET /configs filters:filters
POST /configs/create body:service
GET /configs/{none}
DELETE /configs/{none}
GET /nosuch
POST /containers/{container}
PUT /containers/json
DELETE /images/json/x/y
GET /v1.41/info
GET /v1.10/info
GET /v9.99/info
GET /vbogus/info
GET /containers//json
"""

PATHS = {"container": ["w-run", "w-made", "w-exit", "@w-paused@", "@w-net1.short@", "nosuch", "w"],
         "nocontainer": ["nosuch", "%20"], "exited": ["w-exit", "w-made", "nosuch"],
         "image": ["busybox", "busybox:latest", "rich:v1", "@rich@", "registry.example:5000/third/image:v2", "nosuch",
                   "BAD", "busybox:nosuch"],
         "noimage": ["nosuch", "nosuch:1", "BAD", "sha256:" + "1" * 64], "volume": ["w-vol", "w-vol2", "nosuch"],
         "novolume": ["nosuch"], "network": ["bridge", "host", "none", "w-net", "w-int", "nosuch"],
         "nonetwork": ["nosuch"], "none": ["nosuch"]}

VALUES = {
    "bool": ["1", "0", "true", "False", "bogus"], "int": ["5", "-1", "x", "99999999999999999999"], "zero": ["0"],
    "string": ["x", "a%20b"], "name": ["", "b%20ad", "/", "w-run"], "platform": ["bogus/bogus/bogus/bogus", "plan9/x"],
    "filters": ["{}", "x", "[]", '{"bogus":["1"]}', '{"label":{"a":true}}', '{"label":["a=1"]}', '{"label":"a"}'],
    "badfilters": ["x", "[]", '{"bogus":["1"]}', '{"label":["nosuch=1"]}', '{"until":["x"]}'],
    "ps": ["-o%20pid", "bogus%20bogus"], "time": ["0", "x", "-5", "99999999999.5"], "tail": ["1", "all", "x", "-1"],
    "condition": ["bogus", "removed"], "path": ["", "/etc", "/etc/passwd", "/nosuch", "etc", "/../etc"],
    "repo": ["", "BAD", "x:y:z"], "badimage": ["BAD", "", "nosuch-registry.invalid:1/x:y"], "past": ["1", "x", "1.5"],
    "nocontainer": ["nosuch", ""], "noimage": ["nosuch"],
}

# Bodies that are wrong, by the member that is.
MALFORMED = ["", "{", "[]", "null", '"x"', "{} {}"]
BODIES = {
    "create": ['{"Image":""}', '{"Image":"nosuch"}', '{"Image":5}', '{"Image":"busybox","Cmd":5}',
               '{"Image":"busybox","Env":"x"}', '{"Image":"busybox","Env":["=x"]}', '{"Image":"busybox","Labels":["x"]}',
               '{"Image":"busybox","HostConfig":[]}', '{"Image":"busybox","ExposedPorts":{"x/y":{}}}',
               '{"Image":"busybox","Volumes":{"relative":{}}}', '{"Image":"busybox","StopSignal":"BOGUS"}',
               '{"Image":"busybox","WorkingDir":"rel"}', '{"Image":"busybox","Healthcheck":{"Test":["BOGUS"]}}',
               '{"Image":"busybox","Healthcheck":{"Interval":1}}', '{"Image":"busybox","Hostname":"-bad-"}',
               '{"Image":"busybox","StopTimeout":"x"}', '{"Image":"busybox","Tty":"x"}'],
    "update": ['{"Memory":"x"}', '{"Memory":5}', '{"RestartPolicy":{"Name":"bogus"}}'],
    "exec": ['{"Cmd":[]}', '{"Cmd":["true"]}', '{"Cmd":"true"}'], "execstart": ["{}", '{"Detach":true}'],
    "volume": ['{"Name":5}', '{"Name":"a b"}', '{"Name":"x"}', '{"Name":"xyz","DriverOpts":{"bogus":"1"}}', '{"Labels":5}'],
    "network": ["{}", '{"Name":""}', '{"Name":"a b"}', '{"Name":"bridge"}', '{"Name":5}',
                '{"Name":"nn","IPAM":{"Config":[{"Subnet":"x"}]}}', 
                '{"Name":"nn","IPAM":{"Config":[{"Gateway":"1.2.3.4"}]}}', '{"Name":"nn","Options":{"x":5}}'],
    "connect": ["{}", '{"Container":"nosuch"}', '{"Container":5}'], "list": ["[]"], "service": ["{}"],
}
HOST_CONFIGS = """
Memory:"x" Memory:-5 Memory:1000 MemorySwap:-2 MemoryReservation:1 NanoCpus:-1 NanoCpus:1 CpuShares:-1 CpuPeriod:10
CpuQuota:10 CpusetCpus:"x" CpusetMems:"7-" BlkioWeight:5 PidsLimit:-5 OomScoreAdj:-1001 MemorySwappiness:101
RestartPolicy:{"Name":"bogus"} RestartPolicy:{"Name":"always","MaximumRetryCount":2} RestartPolicy:{"Name":"on-failure","MaximumRetryCount":-2}
NetworkMode:"bogus" NetworkMode:"container:nosuch" IpcMode:"bogus" PidMode:"bogus" UTSMode:"bogus" UsernsMode:"bogus"
CgroupnsMode:"bogus" Binds:["x"] Binds:["/a:/b:c:d"] Binds:["rel/x:/y"] Binds:"x" Mounts:[{"Type":"bogus","Target":"/x"}]
Mounts:[{"Type":"bind","Target":"/x"}] Mounts:[{"Type":"bind","Source":"/nosuch-p","Target":"/x"}] Mounts:[{"Type":"volume"}]
Mounts:[{"Type":"tmpfs","Target":"rel"}] Mounts:[{"Type":"tmpfs","Source":"x","Target":"/x"}] Tmpfs:{"rel":""}
PortBindings:{"80/bogus":[{"HostPort":"1"}]} PortBindings:{"80/tcp":[{"HostPort":"x"}]} PortBindings:{"80/tcp":[{"HostPort":"99999"}]}
PortBindings:{"80/tcp":[{"HostIp":"x"}]} LogConfig:{"Type":"json-file","Config":{"x":"1"}}
CapAdd:["BOGUS"] Devices:[{"PathOnHost":"/nosuch"}] DeviceCgroupRules:["x"] Ulimits:[{"Name":"x"}] Ulimits:[{"Name":"nofile","Soft":9,"Hard":5}]
SecurityOpt:["bogus"] SecurityOpt:["apparmor"] SecurityOpt:["seccomp={"] Sysctls:{"x":"1"} Runtime:"bogus" ShmSize:-1 Isolation:"hyperv"
ExtraHosts:["x"] Dns:["x"] Links:["nosuch:x"] Links:[":"] VolumesFrom:["nosuch"] VolumesFrom:["w-run:x"] 
AutoRemove:"x" Privileged:1 StorageOpt:{"size":"1g"} GroupAdd:5 Init:"x" OomKillDisable:true KernelMemory:5 CpuRealtimePeriod:1
DeviceRequests:[{"Driver":"bogus"}] DeviceRequests:[{"Count":-1,"Capabilities":[["gpu"]]}] Cgroup:"x" CgroupParent:"x/y" ConsoleSize:[1]
ReadonlyPaths:["/x"] MaskedPaths:"x" VolumesFrom:[""] Annotations:{"":"x"}
"""


def paths(template):
    names = [part.split("}")[0] for part in template.split("{")[1:]]
    for values in itertools.product(*(PATHS[n] for n in names)):
        path = template
        for name, value in zip(names, values):
            path = path.replace("{" + name + "}", value)
        yield path


def quoted(value):
    return value.replace('"', "%22").replace("{", "%7B").replace("}", "%7D").replace("[", "%5B").replace("]", "%5D")


def requests():
    for line in ENDPOINTS.strip().splitlines():
        method, template, *params = line.split()
        every = list(paths(template))
        # A body is wanted where there is one: without it, another error would hide what is asked.
        tail = " {}" if any(p.startswith("body:") for p in params) else ""
        if not any(p.endswith((":badfilters", "body:create")) for p in params):
            yield from (f"{method} {path}{tail}" for path in every)
        for name, kind in (p.split(":") for p in params):
            if kind == "none":
                continue
            if name == "body":
                yield from (f"{method} {every[0]} {body}".strip() for body in MALFORMED + BODIES[kind])
                continue
            yield from (f"{method} {every[0]}?{name}={quoted(v)}{tail}" for v in VALUES[kind])
    for item in HOST_CONFIGS.split():
        key, _, value = item.partition(":")
        body = json.dumps({"Image": "busybox", "HostConfig": {key: json.loads(value)}}, separators=(",", ":"))
        yield f"POST /containers/create {body}"


def cases():
    seen = dict.fromkeys(r if "/events" not in r or "until" in r else r + ("&" if "?" in r else "?") + "until=@t0@"
                         for r in requests())
    return [Case("api/" + r, r) for r in seen]
