#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Run-time facts of one container, and their JSON. They are written to
 * <state>/containers/<ns>/<id>/state.json at every change (tmpfs, no sync), and to the store as a
 * record of kind "container.state" when a run begins or ends, so that a reboot leaves what is
 * known.
 */

#include "engine/engine.h"

struct run_state {
	enum container_status status;
	int64_t started_at, finished_at;
	int pid;
	int exit_code;
	bool oom_killed;
	bool stopped_by_user;
	bool unsettled; /* ended, and its policies have not been applied yet */
	char *error;
	int64_t restart_count;
	uint64_t restart_delay; /* ms, of the last restart */
	char *health;
	int64_t health_failures;
	struct endpoints endpoints;
	char *boot_id; /* of the host, when this was written */
	/* Of pods: */
	bool start_failed;
	bool has_user;
	int64_t uid, gid;
	uint32_t *groups;
	size_t n_groups;
	char *home; /* what it has as HOME */
};

void run_state_done(struct run_state *s);
void run_state_copy(struct run_state *dst, const struct run_state *src);
struct json *run_state_to_json(const struct run_state *s);
int run_state_from_json(const struct json *j, struct run_state *ret, struct error *err);
/* -1 for an unknown word. */
int container_status_parse(const char *s);
