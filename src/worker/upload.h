#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/* One blob's way to a registry; part of `kistl-image push`. */

#include "worker/channel.h"
#include "worker/registry.h"

struct push {
	struct registry *registry;
	struct channel *channel;
	struct endpoint *endpoint;
	char *scope;
};

struct upload_blob {
	struct descriptor descriptor;
	int64_t n;
	int fd;			/* owned */
	struct strv mount_from; /* repositories on this registry that may have it */
};

/* Blocks. *ret_how: "exists", "mounted" or "uploaded"; *ret_from (may be NULL) the repository
 * mounted from, borrowed from b. */
int upload_blob(struct push *p, struct upload_blob *b, const char **ret_how, const char **ret_from,
		struct error *err);
void upload_blob_done(struct upload_blob *b);
