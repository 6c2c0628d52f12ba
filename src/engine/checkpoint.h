#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A running container's state, by CRIU, as the archive that checkpointctl, Podman and Kubernetes
 * know. Pool threads.
 */

#include "engine/engine.h"

struct checkpoint_options {
	const char *location; /* the archive, absolute; replaced when it is there */
	int64_t timeout;      /* seconds; 0: none */
	const char *name, *image_name, *image_ref; /* as the front end calls them */
};

/* The container goes on. On failure nothing is left at the location that was not there.
 * FAILED_PRECONDITION: it does not run, CRIU is not installed; what the runtime says. */
int engine_checkpoint(struct engine *e, const char *ns, const char *id,
		      const struct checkpoint_options *o, struct error *err);
