#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where `cp` puts what: Docker's rules about paths, which are cp(1)'s with "dir/." added. Pure;
 * strings that are returned are malloc'ed.
 */

#include "base/error.h"

/* "CONTAINER:PATH": true, with the container's name. A path that begins with '/' or '.' and one
 * without a colon are local. *ret_path is borrowed. */
bool copy_split(const char *arg, char **ret_container, const char **ret_path);
/* Lexically shortest: no "//", ".", and ".." only at the beginning; "" is ".". */
char *copy_clean(const char *path);
/* "dir/" and "dir/." can only be directories. */
bool copy_names_directory(const char *path);
/* Cleaned directory and last component of path; "." for "dir/.". */
void copy_split_entry(const char *path, char **ret_dir, char **ret_base);

/* `base` of the source becomes `name` in the directory `dir`; "." are the directory's contents. */
struct copy_plan {
	char *dir;
	char *name;
};

void copy_plan_done(struct copy_plan *p);
int copy_plan(const char *source_base, bool source_is_dir, const char *to, bool exists, bool is_dir,
	      struct copy_plan *ret, struct error *err);
/* An archive's path with its first component, which is base, replaced by name. */
char *copy_rename(const char *path, const char *base, const char *name);
