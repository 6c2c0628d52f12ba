#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of apply share: apply.c (entries), apply-path.c (parents), apply-attr.c (owners,
 * times, attributes), apply-whiteout.c, apply-link.c (hard links). */

#include "base/map.h"
#include "tar/apply.h"

#include <sys/stat.h>

#define PARENT_SLOTS 4
#define DEPTH_MAX 512

/* An open parent directory. Both paths are relative to the layer; "" is the layer itself. */
struct parent {
	char *key;  /* as the entry named it, cleaned */
	char *path; /* without symlinks */
	int fd;	    /* O_PATH */
};

/* What remains to be done with a directory when nothing is created in it any more. */
struct late_dir {
	char *path;
	struct timespec mtime;
	uint32_t mode; /* with the set-id bits, which new children would inherit; 0: no change */
	char *acl;     /* system.posix_acl_default, for the same reason; or NULL */
	size_t acl_len;
};

struct apply {
	struct apply_config config;
	struct apply_stats stats;

	struct parent parents[PARENT_SLOTS];
	size_t next_parent;
	bool parents_stale; /* something was removed: for the next entry paths may lead elsewhere */

	struct map implied; /* paths of directories that no entry has described yet */
	struct map added;   /* APPLY_DELETE: paths that the layer brought, and their parents */
	struct map touched; /* APPLY_DELETE: directories whose times are settled */
	struct map copies;  /* target in the lower layers -> path of its copy here (owned) */
	bool root_described;

	struct late_dir *late;
	size_t n_late;
	size_t late_bytes;

	/* The entry at hand */
	char name[TAR_PATH_MAX + 1]; /* cleaned */
	const char *base;	     /* in name */
	const struct parent *parent;
	const struct tar_entry *entry;
	int fd; /* of the file being written, or -1 */
};

/* apply-path.c */

/* Cleans a path of the archive lexically, ".." stopping at the root: "/../a//./b/" is "a/b". */
int apply_clean(const char *path, char ret[TAR_PATH_MAX + 1], struct error *err);
/* Opens a directory by its cleaned path. NULL with errno ENOENT or ENOTDIR in err->sys when it does
 * not exist and !create. Stays valid within the entry for PARENT_SLOTS - 1 more calls. */
const struct parent *apply_parent(struct apply *a, const char *path, bool create,
				  struct error *err);
/* Opens by a path without symlinks. -errno. */
int apply_open_beneath(const struct apply *a, const char *path, int flags);
/* Removes whatever is at name; *ret_was_whiteout (may be NULL): it was an overlay whiteout. */
int apply_remove(struct apply *a, const struct parent *p, const char *name, bool *ret_was_whiteout,
		 struct error *err);
/* Canonical path of name in p; malloc'ed. */
char *apply_path(const struct parent *p, const char *name);
void apply_parents_done(struct apply *a);

/* apply-attr.c */

int apply_owner_fd(const struct apply *a, int fd, const struct tar_entry *e, struct error *err);
int apply_owner_at(const struct apply *a, const struct parent *p, const char *name,
		   const struct tar_entry *e, struct error *err);
/* name NULL: fd is the file itself; else fd is the directory that holds it. */
int apply_xattrs(struct apply *a, int fd, const char *name, const struct tar_entry *e,
		 struct error *err);
/* Removes those that the entry does not bring. */
int apply_xattrs_clear(int fd, const struct tar_entry *e, struct error *err);
/* Records what is to be done at the end. Takes path. */
int apply_late(struct apply *a, char *path, const struct tar_entry *e, struct error *err);
int apply_late_time(struct apply *a, char *path, const struct timespec *mtime, struct error *err);
int apply_late_run(struct apply *a, struct error *err);
void apply_late_done(struct apply *a);
struct timespec apply_mtime(const struct tar_entry *e);

/* apply-whiteout.c */

bool apply_is_whiteout(const struct stat *st);
/* Marks the path and its parents as the layer's own (APPLY_DELETE). */
void apply_added(struct apply *a, const char *path);
/* Makes the directory hide what is below it (APPLY_OVERLAY). */
int apply_opaque(struct apply *a, const char *path, struct error *err);
/* An entry whose base name starts with ".wh.". */
int apply_whiteout(struct apply *a, struct error *err);

/* apply-link.c */

int apply_hardlink(struct apply *a, struct error *err);
