# SPDX-License-Identifier: Apache-2.0
"""Where kistld differs from dockerd and is to: cases, fields (a regular expression), why; and where only that pair of
values is meant, kistld's and dockerd's."""

import pathlib

DOCUMENT = r"\d+\.(out|body)\.json(\[\d+\])?\.((Containers|Images)\[\d+\]\.)?"

EXPECTED = [
    # What is built otherwise.
    ("*", DOCUMENT + r"HostConfig\.Runtime", "the default runtime is crun"),
    ("*", DOCUMENT + r"(HostnamePath|HostsPath|ResolvConfPath|LogPath)", "files are made at create, not at first start"),
    ("*", DOCUMENT + r"GraphDriver(\.Data)?\.(Data|MergedDir|UpperDir|LowerDir|WorkDir)",
     "images have no mount of their own; a container's is in its shim's namespace"),
    ("*", DOCUMENT + r"(RepoDigests|Descriptor\..*)", "every image has a digest, as with dockerd's containerd image store"),
    ("look/images_--digests", r"1\.out", "every image has a digest, as with dockerd's containerd image store"),
    ("look/info_--format_{{json_.}}", r".*", "tells what this daemon is"),
    ("api/GET /info*", r".*body\.json\..*", "tells what this daemon is"),
    ("api/GET /version*", r".*body\.json\..*", "tells what this daemon is"),
    ("*", r".*\.com\.docker\.network\.(bridge\.name|driver\.mtu)", "the default bridge has kistld's name"),
    ("look/info_--format_{{json_.Plugins*", r"1\.out", "tells what this daemon is"),
    ("create/--*", DOCUMENT + r"HostConfig\.SecurityOpt", "no SELinux here: nothing to disable for host namespaces"),
    ("create/*_container:w-run*", DOCUMENT + r"HostConfig\.(IpcMode|PidMode|NetworkMode)", "keeps what was asked for"),
    ("create/--blkio-weight*", r".*", "kistld leaves it to the start whether the kernel has weights"),
    ("create/--log-opt*", r".*", "options are checked at create, as dockerd does with others"),
    # What is off says so before it looks at parameters.
    *((f"api/* /{what}*", r"1\..*", "swarm and plug-ins are off, whatever the parameters")
      for what in ("swarm", "nodes", "services", "secrets", "configs", "tasks", "plugins")),
    ("api/GET /distribution/*", r"1\..*", "asks a registry, in words of its own"),
    ("api/POST /images/create*", r"1\..*", "asks a registry, in words of its own"),
    ("api/GET /v1.41/info", r".*body\.json\..*", "tells what this daemon is"),
    # Networks.
    ("*", DOCUMENT + r"NetworkSettings\.Networks\.(none|host)\.(NetworkID|EndpointID)",
     "none and host are not networks: nothing is attached to them"),
    ("*inspect_none", DOCUMENT + r"Containers.*", "none and host are not networks: nothing is attached to them"),
    ("api/GET /networks/none", DOCUMENT + r"Containers.*", "none and host are not networks: nothing is attached to them"),
    ("*", DOCUMENT + r"NetworkSettings\.Networks\.[\w-]+\.NetworkID", "what has ended is attached to nothing",
     (r"", r"<id>")),
    ("*", DOCUMENT + r"NetworkSettings\.Networks\.[\w-]+\.Aliases",
     "the short id is a name of its own (DNSNames), and lists show what inspect shows"),
    ("api/GET /system/df", DOCUMENT + r"(NetworkSettings\.Networks\..*\.GwPriority|HostConfig\.NetworkMode)",
     "of newer versions, as in the lists"),
    ("create/--network_w-net_--ip_10.99.1.1", DOCUMENT + r"(HostConfig\.MaskedPaths|.*\.GwPriority)",
     "of newer versions, which refuse this only at the start as kistld does"),
    ("life/commit*", DOCUMENT + r"(ContainerConfig\..*|Container|RootFS\.Layers|DockerVersion|Parent)",
     "images keep no record of the container that they were made from; a commit is a layer, even without changes"),
    ("run/*ls_/dev", r"1\.out", "crun makes /dev/core"),
    ("life/cp_*", r"2\.out", "headers of directories: pax, where Go's writer needs none"),
    ("api/GET /containers//json", r"1\..*", "no redirect to where nothing is"),
    ("api/POST /containers/create*BlkioWeight*", r"1\..*", "kistld leaves it to the start whether the kernel has weights"),
    ("api/*", r"1\.status", "a wrong value is the client's mistake", (400, 500)),
    ("api/*", r"1\.body\.json\.message", "a wrong value is told in our words, not in strconv's",
     (r".*", r"strconv\..*")),
    ("api/GET /containers/*/top?ps_args=bogus*", r"1\.body\.json\.message", "says who has failed: ps"),
    ("api/POST /containers/*/attach*", r"1\..*", "before an upgrade errors come as JSON"),
    ("api/GET /images/*/get", r"1\.body\.json\.message", "one wording for images that are not there"),
    ("api/GET /events?filters=*bogus*", r"1\..*", "an unknown filter is refused, as in every list"),
    ("api/GET /networks/*verbose=*", r"1\.body\.json\.Services", "empty, where dockerd leaves it out"),
    ("api/GET /images/get", r"1\..*", "an archive of nothing is refused"),
    ("api/*/push*", r"1\.body\.json\.message", "of two errors, the reference's comes first"),
    ("api/*", r"1\.body\.json\.message", "names the reference", (r"invalid reference.*", r"invalid reference.*")),
    # Wording of parsers.
    *((f"api/* {body}", r"1\..*", "errors of JSON are worded by our parser, not by Go's, and are all 400")
      for body in ("{", "[[]]", "null", '"x"', "{} {}")),
    ("api/POST /*/create", r"1\.body\.json\.message", "errors of JSON are worded by our parser, not by Go's"),
    ("api/POST /*/nosuch/*", r"1\.body\.json\.message", "errors of JSON are worded by our parser, not by Go's"),
    ("api/* {*", r"1\.body\.json\.message", "errors of JSON are worded by our parser, not by Go's"),
    ("api/*filters=*", r"1\.body\.json\.message", "errors of JSON are worded by our parser, not by Go's"),
    ("*busybox_nosuch", r"1\.err", "crun's words"),
    ("run/*busybox_/etc/passwd", r"1\.err", "crun's words"),
    ("api/POST *nosuch/attach*", r"1\.body(\.json\.message)?", "before an upgrade errors come as JSON"),
    ("*", DOCUMENT + r"NetworkSettings\.Networks\.[\w-]+\.DNSNames", "known from creation on"),
    ("*", DOCUMENT + r"(DockerVersion|Parent)", "no legacy store: images name no parent and no builder"),
    ("api/*/logs*", r"1\.body\.json\.message", "of two errors, swarm's comes first"),
    ("api/*/resize*", r"1\.body\.json\.message", "names the parameter"),
    ("api/* nosuch/*t=*", r"1\..*", "of two errors, the missing container's comes first"),
    # Go prints sets in any order, kistld in a fixed one.
    ("life/run_*_diff_ctr", r"2\.out", "sorted by path"),
]

# Cases that wait for their mending.
PENDING = set((pathlib.Path(__file__).parent / "parity-pending.txt").read_text().splitlines())
