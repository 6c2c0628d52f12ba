#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A container's files for those outside: copied out and in, compared with its image. All that is
 * read or written in a container's tree is done by a confined worker; the paths that a user gives
 * are resolved with the container's root as root. A running container shows its own mounts; of one
 * that does not run, the volumes are mounted for the time, and the container cannot be started
 * meanwhile. Pool threads.
 */

#include "engine/engine.h"

struct path_stat {
	int64_t size;
	uint32_t mode; /* st_mode */
	int64_t mtime; /* ns */
	char *target;  /* of a symlink, else NULL */
};

void path_stat_done(struct path_stat *s);

/* An archive that is being read: a pipe, at whose end files_close() tells whether it is whole. */
struct files_stream;

int files_stat(struct engine *e, const char *ns, const char *id, const char *path,
	       struct path_stat *ret, struct error *err);
/* The file or tree at path as a tar whose entries begin with `as`. NOT_FOUND. */
int files_open(struct engine *e, const char *ns, const char *id, const char *path, const char *as,
	       struct path_stat *ret, struct files_stream **ret_stream, struct error *err);
/* The whole root file system, without mounts. */
int files_export(struct engine *e, const char *ns, const char *id, struct files_stream **ret,
		 struct error *err);
int files_fd(const struct files_stream *s);
int files_close(struct files_stream *s, struct error *err);

struct extract_options {
	const char *path;
	bool keep_kinds;  /* directories and others do not replace each other */
	bool chown_users; /* all becomes the container's user's */
};

/* Begins an extraction of what is written to the pipe; files_close() waits for its end. */
int files_extract(struct engine *e, const char *ns, const char *id, const struct extract_options *o,
		  struct files_stream **ret, struct error *err);
/* No more input comes. */
void files_close_input(struct files_stream *s);

enum change_kind { CHANGE_MODIFIED = 0, CHANGE_ADDED = 1, CHANGE_DELETED = 2 };

struct changes {
	struct {
		char *path;
		enum change_kind kind;
	} * v;
	size_t n;
};

void changes_done(struct changes *c);
/* Against the image, by path. */
int files_changes(struct engine *e, const char *ns, const char *id, struct changes *ret,
		  struct error *err);

/* What a container's layer is made of, while it is read: it is paused, or cannot be started. */
struct files_layer {
	int dir, lower; /* lower -1: dir is an overlay's upper directory */
	struct container *container;
	struct task *paused;
};

#define FILES_LAYER_INIT ((struct files_layer){ .dir = -EBADF, .lower = -EBADF })

int files_layer_open(struct engine *e, const char *ns, const char *id, bool pause,
		     struct files_layer *ret, struct error *err);
void files_layer_close(struct files_layer *l);
