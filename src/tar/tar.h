#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A reader of tar streams: v7, ustar, GNU (long names, base-256 numbers, sparse files), pax (also
 * its three sparse formats), star's prefix. Sans-IO: bytes in, events out. Where writers disagree
 * it reads as Go's archive/tar does, since that is what images are made and checked with. Every
 * length is bounded. Paths are reported as they are in the archive: making them safe is the
 * caller's business.
 */

#include "base/error.h"

#define TAR_PATH_MAX 4095
#define TAR_PAX_MAX (1 << 20)	   /* all records of one entry */
#define TAR_XATTR_MAX (64 << 10)   /* one value: the kernel's limit */
#define TAR_SPARSE_MAX (256 << 10) /* data segments of one file */
#define TAR_ID_MAX INT32_MAX

enum tar_type {
	TAR_FILE,
	TAR_HARDLINK,
	TAR_SYMLINK,
	TAR_CHAR,
	TAR_BLOCK,
	TAR_DIR,
	TAR_FIFO,
};

struct tar_xattr {
	char *name;
	char *value; /* any bytes, NUL added */
	size_t len;
};

struct tar_entry {
	enum tar_type type;
	char *path;
	char *link;    /* target of links, else "" */
	uint32_t mode; /* permission and special bits only */
	uint32_t uid, gid;
	uint32_t major, minor;
	int64_t size; /* of the file, holes included; 0 unless a file */
	int64_t mtime;
	uint32_t mtime_nsec;
	bool sparse;
	struct tar_xattr *xattrs;
	size_t n_xattrs;
};

enum tar_event {
	TAR_NEED_INPUT, /* everything was consumed */
	TAR_ENTRY,	/* tar_entry() is valid until the next TAR_ENTRY */
	TAR_DATA,	/* data, data_len, offset: some of the entry's bytes; holes are left out */
	TAR_ENTRY_END,
	TAR_END, /* end of archive; what follows is of no meaning */
};

struct tar_data {
	const uint8_t *p; /* within the input */
	size_t n;
	int64_t offset; /* in the file */
};

struct tar;

struct tar *tar_new(void);
void tar_free(struct tar *t);
/* Advances *in and *n. INVALID_ARGUMENT: no tar, or one that breaks a limit; the message names the
 * entry. Returns an enum tar_event or -1. */
int tar_next(struct tar *t, const uint8_t **in, size_t *n, struct tar_data *ret_data,
	     struct error *err);
const struct tar_entry *tar_entry(const struct tar *t);
/* Call at the end of input: DATA_LOSS when it stops within an entry. An archive that stops between
 * two entries without its end mark is complete. */
int tar_finish(const struct tar *t, struct error *err);

DEFINE_CLEANUP(struct tar *, tar_free)
