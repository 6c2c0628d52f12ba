#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/* clang-format off */
/*
 * What kistld and its kistl-image workers say to each other.
 *
 * A SOCK_SEQPACKET socket pair, descriptor 3 in the worker. Each packet is one JSON object of at
 * most WORKER_MESSAGE_MAX bytes, with at most WORKER_FDS_MAX descriptors (SCM_RIGHTS), whose
 * meaning goes by their order. Documents larger than a packet travel as sealed memfds. The worker
 * trusts the daemon; the daemon checks everything that a worker says. kistl-image has no other
 * input: no configuration, no environment, and it ends with its socket (the peer's death is its
 * cancellation).
 *
 * Daemon to worker: {"op": ...}; worker to daemon: {"event": ...}. Every worker ends with exactly
 * one {"event":"done"} or {"event":"error","code":N,"sys":N,"message":"..."} (codes: enum
 * error_code). {"event":"progress","n":I,"current":BYTES,"total":BYTES} comes at most every 100 ms
 * for each n.
 *
 * kistl-image fetch      (registry client: network, no file system, no privileges)
 *   < {"op":"pull","ref","platform","endpoints":[ENDPOINT...],"parallel":N,"stall_timeout_ms":N,
 *      "proxy":{"http":URL,"https":URL,"no":LIST}}   the last two may be absent, here and below
 *   > {"event":"resolved","descriptor":D,"host":"..."}
 *   > {"event":"document","kind":"index|manifest|config","descriptor":D}  [memfd]
 *   > {"event":"layer","n":I,"descriptor":D,"diff_id":"sha256:..."}  for each, then
 *     {"event":"layers","count":N}
 *   < {"op":"layer","n":I,"action":"skip"}
 *   < {"op":"layer","n":I,"action":"fetch","size":BYTES}
 *     [ingest data file, unpack pipe (optional)]
 *     `size` bytes are there from an earlier try: the worker hashes them (and feeds them to the
 *     pipe), then asks for the rest by Range. A pipe whose reader left is no error of the fetch.
 *   > {"event":"fetched","n":I,"size":BYTES}     digest verified, file complete (not synced)
 *   > {"event":"retry","n":I,"delay_ms":N,"message":"..."}   shown to the user
 * kistl-image push
 *   < {"op":"push","ref","endpoints":[...],"parallel":N}
 *   < {"op":"blob","n":I,"descriptor":D,"mount_from":["repo"...]}  [blob file]   any number
 *   < {"op":"manifest","n":I,"descriptor":D}  [file]   children first; the last one gets the tag
 *   < {"op":"end"}
 *   > {"event":"pushed","n":I,"how":"exists|mounted|uploaded"}
 * kistl-image login
 *   < {"op":"login","endpoints":[one]}
 *   > {"event":"token","identity_token":""}   then done
 * kistl-image search
 *   < {"op":"search","endpoints":[...],"term","limit":N,"hub":bool}
 *   > {"event":"found"}  [memfd: [{"name","description","star_count","is_official"}...]]
 * kistl-image unpack     (one layer: only its directory, no network)
 *   < {"op":"unpack","media_type","diff_id","whiteouts":"overlay|delete","max_bytes","max_entries"}
 *     [input: pipe or file, layer directory, lower root (optional: O_PATH of the mounted parents)]
 *   > {"event":"implied","paths":[...]}   any number
 *     directories that the layer needs but does not describe, made 0755 root:root; "." is the
 *     layer's root. Names that are not UTF-8 come in "paths64":[base64...] of the same packet.
 *   > {"event":"unpacked","diff_id":"sha256:...","raw":N,"bytes":N,"entries":N,"skipped":N}
 *     raw: the archive's size, uncompressed; bytes: data of regular files; skipped: devices and
 *     attributes that the system does not allow
 *     FAILED_PRECONDITION with message "needs parent": a hard link into a lower layer and no lower
 *     root.
 * kistl-image load       (docker-archive or OCI layout tar, perhaps compressed)
 *   < {"op":"load","platform":""}  [input, staging directory]
 *   > {"event":"blob","descriptor":D}  [O_TMPFILE file in staging, complete and hashed]
 *   > {"event":"image","names":["docker.io/library/x:tag"...],"descriptor":D}   after its blobs
 * kistl-image save
 *   < {"op":"save"}  [output]
 *   < {"op":"file","path","size"}  [file]   any number
 *   < {"op":"end"}
 * kistl-image pack, extract      (files of a container; names are base64, any bytes but NUL)
 *   < {"op":"root"}  [root directory: O_PATH of a detached mount, or of a running container's root]
 *   < {"op":"mount","target64"}  [detached mount]   any number: volumes; only with a detached root
 *   < {"op":"pack","path64","as64"}  [output (optional: without it only the stat)]
 *   > {"event":"stat","size","mode","mtime","target64"}   st_mode, ns; target64 for symlinks
 *   < {"op":"extract","path64","keep_kinds":bool,"uid":N,"gid":N}  [input]   uid, gid: of all files
 * kistl-image layer      (what a container changed)
 *   < {"op":"layer"}  [overlay's upper directory, output file]
 *   < {"op":"layer"}  [tree, output file, the tree that it began as]
 *   > {"event":"layer","digest","diff_id","size":BYTES,"raw":BYTES}   gzip
 * kistl-image import     (an archive, perhaps compressed, as a layer)
 *   < {"op":"import"}  [input, output file]
 *   > {"event":"layer"} as above
 *
 * ENDPOINT: {"url":"https://host:port/v2","host":"host:port","namespace":"docker.io",
 *   "capabilities":["pull","resolve","push"],"skip_verify":bool,"ca":"PEM...","client_cert":"PEM",
 *   "client_key":"PEM","headers":[["Name","value"]...],"dial_timeout_ms":N,
 *   "auth":{"username","password","identity_token","registry_token"}}
 */
/* clang-format on */

#include "base/error.h"
#include "base/json.h"

#define WORKER_FD 3
#define WORKER_MESSAGE_MAX (128 << 10)
#define WORKER_FDS_MAX 4

struct worker_message {
	struct json *json;
	int fds[WORKER_FDS_MAX]; /* owned; -1 beyond n_fds */
	size_t n_fds;
};

#define WORKER_MESSAGE_INIT ((struct worker_message){ .fds = { -1, -1, -1, -1 } })

void worker_message_done(struct worker_message *m);
/* Consumes json; fds are borrowed. */
int worker_send(int sock, struct json *json, const int *fds, size_t n_fds, struct error *err);
/* Blocks. UNAVAILABLE when the peer is gone. */
int worker_recv(int sock, struct worker_message *ret, struct error *err);
/* {"event":"error"} into an error, and the other way. */
int worker_error_decode(const struct json *j, struct error *err);
struct json *worker_error_encode(const struct error *err);
/* Whether a string (a file name, say) is UTF-8 and so may go into a message. */
bool worker_text_valid(const char *s);
/* A sealed memfd with these bytes, its offset at the start. */
int worker_memfd(const void *p, size_t n, struct error *err);

#define autoworkermessage CLEANUP(worker_message_done)
