#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Applies the entries of one layer's tar to a directory, by containerd's rules (images.md 2.5).
 * Nothing outside that directory is ever touched, whatever the entries say: parents are opened
 * beneath it without following a symlink, symlinks in them are followed by hand with the directory
 * as root, and the last component is created exclusively by *at() calls.
 *
 * Feed it apply_entry(), then apply_data() for the entry's bytes, then apply_entry_end(); after the
 * last entry apply_finish(). The process' working directory and umask are used (umask: 0). One
 * thread.
 */

#include "base/strv.h"
#include "tar/tar.h"

enum apply_whiteouts {
	/* Into an empty directory: whiteouts become overlayfs' own. */
	APPLY_OVERLAY,
	/* Onto a copy of the parent: whiteouts delete what the layer itself did not add. */
	APPLY_DELETE,
	/* Onto whatever is there, mounts included: whiteouts are ordinary names, and times of
	 * directories that the archive does not name are left alone. */
	APPLY_PLAIN,
};

struct apply_owner {
	uint32_t uid, gid;
};

struct apply_config {
	int dir;   /* borrowed */
	int lower; /* the mounted parents, to copy targets of hard links from; or -1. Borrowed */
	enum apply_whiteouts whiteouts;
	uint64_t max_entries; /* 0: no limit */
	/* APPLY_PLAIN: a directory replaces nothing but a directory, and only that replaces it. */
	bool keep_kinds;
	const struct apply_owner *owner; /* of everything, whatever the archive says; or NULL */
};

struct apply_stats {
	uint64_t bytes; /* written as data of files */
	uint64_t entries;
	uint64_t skipped; /* devices and attributes that this system does not allow to make */
};

struct apply;

struct apply *apply_new(const struct apply_config *config);
void apply_free(struct apply *a);
/* INVALID_ARGUMENT: the entry makes no sense; RESOURCE_EXHAUSTED: a limit or a full disk;
 * FAILED_PRECONDITION "needs parent": a hard link to a lower layer without `lower`. */
int apply_entry(struct apply *a, const struct tar_entry *e, struct error *err);
int apply_data(struct apply *a, const void *p, size_t n, int64_t offset, struct error *err);
int apply_entry_end(struct apply *a, struct error *err);
/* Sets the directories' times and adds the implied directories (which no entry described) to
 * implied. */
int apply_finish(struct apply *a, struct strv *implied, struct error *err);
const struct apply_stats *apply_stats(const struct apply *a);

DEFINE_CLEANUP(struct apply *, apply_free)
