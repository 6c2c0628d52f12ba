#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Directory trees as tar entries. The tree may change while it is read and may belong to somebody
 * hostile: nothing in it is followed, every step is by descriptor, a file has exactly the length
 * that its header says. Names are in order, so that the same tree gives the same bytes. One thread.
 */

#include "base/error.h"
#include "base/map.h"

#include <sys/stat.h>

enum pack_kind {
	PACK_PLAIN,
	PACK_OVERLAY, /* an overlay's upper directory: its whiteouts become .wh. files */
};

struct packer {
	enum pack_kind kind;
	/* Mounts of the kernel's own file systems are left empty. */
	bool skip_kernel;
	/* Empty files that runtimes mount on are left out. */
	bool layer;
	int (*write)(void *arg, const void *p, size_t n, struct error *err);
	void *arg;

	/* private */
	struct map links; /* "dev:ino" -> path of the first one (owned) */
	uint8_t *chunk;
	unsigned depth;
};

void packer_done(struct packer *p);
/* name in dir as `path` of the archive, with all below it. ENOENT in err->sys when it is gone. */
int pack_entry(struct packer *p, int dir, const char *name, const char *path, struct error *err);
/* The directory dir itself as `path` ("" leaves its own entry out), with all below it. */
int pack_directory(struct packer *p, int dir, const char *path, struct error *err);
/* What makes `upper` out of `lower`: changed and new entries, whiteouts for what is not there. */
int pack_difference(struct packer *p, int lower, int upper, struct error *err);
int pack_end(struct packer *p, struct error *err);
