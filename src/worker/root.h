#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A container's root as the verbs pack and extract get it: the directory itself when it runs (its
 * own mounts are in it), else a detached mount on which the volumes are mounted here, in a mount
 * namespace of this process.
 */

#include "oci/worker-proto.h"

struct root {
	int fd;
	bool attached;
};

#define ROOT_INIT ((struct root){ .fd = -EBADF })

/* Takes {"op":"root"} and {"op":"mount"} messages; the first other one is returned. Before
 * worker_start(). */
int root_receive(int sock, struct root *ret, struct worker_message *m, struct error *err);

/* The member NAME64 (base64 of any bytes but NUL) of a message; malloc'ed. */
char *message_bytes(const struct json *j, const char *name, struct error *err);

/* What a path of a user's means: the directory that holds it, and the last component. */
struct root_path {
	int dir;	/* O_PATH */
	char name[256]; /* "." for the directory itself */
};

/* As Docker resolves it: symlinks on the way count, with the container's root as root; the last
 * component is followed only when the path says so by a "/" or "/." at its end, or `follow`. */
int root_resolve(const struct root *r, const char *path, bool follow, struct root_path *ret,
		 struct error *err);
