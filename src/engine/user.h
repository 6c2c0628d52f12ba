#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Users and groups by the container's own /etc/passwd and /etc/group, read safely beneath the
 * rootfs (openat2 RESOLVE_IN_ROOT, regular files only, bounded). Parsers are sans-IO.
 */

#include "base/error.h"

#define USER_GROUPS_MAX 1024

struct user_ids {
	uint32_t uid, gid;
	uint32_t groups[USER_GROUPS_MAX];
	size_t n_groups;
	char *home; /* owned, NULL unknown */
};

void user_ids_done(struct user_ids *u);
/* spec: "", "uid", "user", "uid:gid", "user:group" ...; passwd and group texts may be NULL.
 * Numbers 0 to 2^31-1. INVALID_ARGUMENT with Docker's words ("unable to find user x: no matching
 * entries in passwd file"). */
int user_resolve_text(const char *spec, const char *passwd, const char *group,
		      const char *const *group_add, size_t n_group_add, struct user_ids *ret,
		      struct error *err);
int user_resolve(int rootfs_fd, const char *spec, const char *const *group_add, size_t n_group_add,
		 struct user_ids *ret, struct error *err);

enum groups_policy {
	GROUPS_DOCKER, /* the user's by /etc/group, unless the spec names a group */
	GROUPS_MERGE,  /* the user's by /etc/group in any case */
	GROUPS_STRICT, /* none of /etc/group */
};
/* The main group belongs to the supplementary ones in any case. */
int user_resolve_text_by(const char *spec, const char *passwd, const char *group,
			 const char *const *group_add, size_t n_group_add,
			 enum groups_policy policy, struct user_ids *ret, struct error *err);
int user_resolve_by(int rootfs_fd, const char *spec, const char *const *group_add,
		    size_t n_group_add, enum groups_policy policy, struct user_ids *ret,
		    struct error *err);
