#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/* What a mount's option words mean; shared by the files that implement base/mount.h. */

#include "base/mount.h"

struct mount_attrs {
	uint64_t set, clear;			  /* MOUNT_ATTR_* */
	unsigned long classic_set, classic_clear; /* MS_* */
};

struct mount_plan {
	bool bind;
	bool recursive;		   /* rbind */
	struct mount_attrs top;	   /* of the mount itself */
	struct mount_attrs tree;   /* of all that is below as well ("rro") */
	unsigned long propagation; /* MS_SHARED ... or 0 */
	bool propagation_tree;
	struct strv data;  /* what remains, for the file system */
	const char *idmap; /* of a bind: the user namespace; borrowed from the mount */
};

/* UNIMPLEMENTED for words that would be wrong to ignore (uidmap=, gidmap=). */
int mount_plan_make(const struct mount *m, struct mount_plan *ret, struct error *err);
void mount_plan_done(struct mount_plan *p);

/* By mount(2), on target. */
int mount_classic(const struct mount *m, const struct mount_plan *p, const char *target,
		  struct error *err);

/* Splits overlay's "a:b\:c::d" into paths; those after a double colon are data-only. */
struct overlay_layers {
	struct strv lower, data;
};

void overlay_layers_split(const char *value, struct overlay_layers *ret);
void overlay_layers_done(struct overlay_layers *l);
