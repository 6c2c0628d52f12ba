/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/state.h"

#include "base/jsontab.h"
#include "base/mem.h"

static const char *const status_names[CONTAINER_STATUS_MAX] = {
	[CONTAINER_CREATED] = "created",   [CONTAINER_RUNNING] = "running",
	[CONTAINER_PAUSED] = "paused",	   [CONTAINER_RESTARTING] = "restarting",
	[CONTAINER_REMOVING] = "removing", [CONTAINER_EXITED] = "exited",
	[CONTAINER_DEAD] = "dead",
};

/* The document: as run_state, with the status as a word. */
struct state_doc {
	char *status;
	struct run_state s;
};

static const struct json_field state_fields[] = {
	JSON_FIELD("status", FIELD_STRING, struct state_doc, status, JSON_REQUIRED),
	JSON_FIELD("startedAt", FIELD_INT, struct state_doc, s.started_at, 0),
	JSON_FIELD("finishedAt", FIELD_INT, struct state_doc, s.finished_at, 0),
	JSON_FIELD("pid", FIELD_INT32, struct state_doc, s.pid, 0),
	JSON_FIELD("exitCode", FIELD_INT32, struct state_doc, s.exit_code, 0),
	JSON_FIELD("oomKilled", FIELD_BOOL, struct state_doc, s.oom_killed, 0),
	JSON_FIELD("stoppedByUser", FIELD_BOOL, struct state_doc, s.stopped_by_user, 0),
	JSON_FIELD("unsettled", FIELD_BOOL, struct state_doc, s.unsettled, 0),
	JSON_FIELD("error", FIELD_STRING, struct state_doc, s.error, 0),
	JSON_FIELD("restartCount", FIELD_INT, struct state_doc, s.restart_count, 0),
	JSON_FIELD("restartDelay", FIELD_UINT, struct state_doc, s.restart_delay, 0),
	JSON_FIELD("health", FIELD_STRING, struct state_doc, s.health, 0),
	JSON_FIELD("healthFailures", FIELD_INT, struct state_doc, s.health_failures, 0),
	JSON_SUB("endpoints", FIELD_ARRAY, struct state_doc, s.endpoints, endpoint_fields,
		 struct endpoint, 0),
	JSON_FIELD("bootID", FIELD_STRING, struct state_doc, s.boot_id, 0),
	JSON_FIELD("startFailed", FIELD_BOOL, struct state_doc, s.start_failed, 0),
	JSON_FIELD("hasUser", FIELD_BOOL, struct state_doc, s.has_user, 0),
	JSON_FIELD("uid", FIELD_INT, struct state_doc, s.uid, 0),
	JSON_FIELD("gid", FIELD_INT, struct state_doc, s.gid, 0),
	JSON_FIELD("home", FIELD_STRING, struct state_doc, s.home, 0),
	JSON_END,
};

const char *container_status_name(enum container_status s)
{
	return s < CONTAINER_STATUS_MAX ? status_names[s] : "unknown";
}

int container_status_parse(const char *s)
{
	for (int i = 0; i < CONTAINER_STATUS_MAX; i++)
		if (str_equal(s, status_names[i]))
			return i;
	return -1;
}

void run_state_done(struct run_state *s)
{
	free(s->error);
	free(s->health);
	free(s->boot_id);
	free(s->groups);
	free(s->home);
	endpoints_done(&s->endpoints);
	*s = (struct run_state){ 0 };
}

void run_state_copy(struct run_state *dst, const struct run_state *src)
{
	*dst = *src;
	dst->error = xstrdup(src->error);
	dst->health = xstrdup(src->health);
	dst->boot_id = xstrdup(src->boot_id);
	dst->home = xstrdup(src->home);
	if (src->n_groups > 0)
		dst->groups = xmemdup(src->groups, src->n_groups * sizeof(*src->groups));
	endpoints_copy(&dst->endpoints, &src->endpoints);
}

struct json *run_state_to_json(const struct run_state *s)
{
	/* Borrowed throughout: the document is only read. */
	const struct state_doc doc = {
		.status = (char *)container_status_name(s->status),
		.s = *s,
	};

	struct json *j = jsontab_encode(state_fields, &doc);

	if (s->n_groups > 0) {
		struct json *groups = json_new_array();

		for (size_t i = 0; i < s->n_groups; i++)
			json_add(groups, json_new_int(s->groups[i]));
		json_set(j, "groups", groups);
	}
	return j;
}

static void load_groups(const struct json *j, struct run_state *s)
{
	s->n_groups = json_array_len(j);
	if (s->n_groups > 0)
		s->groups = xnew_array(uint32_t, s->n_groups);
	for (size_t i = 0; i < s->n_groups; i++)
		s->groups[i] = (uint32_t)json_int(json_array_get(j, i), 0);
}

int run_state_from_json(const struct json *j, struct run_state *ret, struct error *err)
{
	struct state_doc doc = { 0 };

	if (jsontab_decode(state_fields, j, &doc, err) < 0) {
		jsontab_done(state_fields, &doc);
		return -1;
	}
	int status = container_status_parse(doc.status);
	if (status < 0) {
		error_set(err, ERROR_INVALID_ARGUMENT, "unknown container status '%s'", doc.status);
		jsontab_done(state_fields, &doc);
		return -1;
	}
	free(doc.status);
	*ret = doc.s;
	ret->status = (enum container_status)status;
	load_groups(json_get(j, "groups"), ret);
	return 0;
}
