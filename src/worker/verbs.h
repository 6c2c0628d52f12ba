#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The verbs of kistl-image (oci/worker-proto.h has their contract). Each runs once, in a process of
 * its own: it receives its first message, calls worker_start(), and only then touches bytes from
 * outside or starts threads. On return main() sends "done" or the error, and the process ends.
 */

#include "worker/sandbox.h"

int worker_fetch(int sock, struct error *err);
int worker_push(int sock, struct error *err);
int worker_login(int sock, struct error *err);
int worker_unpack(int sock, struct error *err);
int worker_load(int sock, struct error *err);
int worker_save(int sock, struct error *err);
int worker_search(int sock, struct error *err);
int worker_pack(int sock, struct error *err);
int worker_extract(int sock, struct error *err);
int worker_layer(int sock, struct error *err);
int worker_import(int sock, struct error *err);

/* Confines the process for its work (sandbox_enter) and watches the socket: when the peer goes, the
 * process ends at once, whatever it is doing. Call once, before other threads. */
int worker_start(int sock, const struct sandbox *sandbox, struct error *err);
