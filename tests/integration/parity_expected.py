# SPDX-License-Identifier: Apache-2.0
"""Where kistld differs from dockerd and is to: cases, fields (a regular expression), why."""

import pathlib

DOCUMENT = r"\d+\.(out|body)\.json(\[\d+\])?\."

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
    # Wording of parsers.
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
