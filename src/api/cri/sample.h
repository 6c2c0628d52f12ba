#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What containers and pods use, sampled when somebody asks: rates come from the sample before, the
 * size of a container's own layer from a walk that is done again only when it is old and cheap
 * enough. Any thread.
 */

#include "api/cri/internal.h"
#include "engine/usage.h"

struct samples;

struct sample {
	struct usage usage;
	uint64_t nano_cores;
	bool has_layer;
	int64_t layer_at;
	uint64_t layer_bytes, layer_inodes;
};

struct samples *samples_new(struct cri_api *api);
void samples_free(struct samples *s);
/* NOT_FOUND: it does not run any more. ret_dirs may be NULL. */
int samples_container(struct samples *s, const struct container_brief *b, struct sample *ret,
		      struct cgroup_dirs *ret_dirs, struct error *err);
/* Of the pod's own cgroup. NOT_FOUND when it has none: what its containers use must be added up. */
int samples_pod(struct samples *s, const struct sandbox_view *v, struct sample *ret,
		struct cgroup_dirs *ret_dirs, struct error *err);
/* Forgets all but those that are there. */
void samples_prune(struct samples *s);
