/* SPDX-License-Identifier: Apache-2.0 */
#include "api/docker/internal.h"
#include "base/mem.h"

#include <string.h>

/*
 * The reply's head goes out at once: clients take it as "registered" and start the container only
 * then. Everything after registration happens on the loop, so the state needs no lock.
 */
struct waiting {
	struct http_request *request;
	struct engine *engine;
	struct engine_wait *wait;
	bool finished, armed;
};

static void waiting_drop(struct waiting *w)
{
	http_request_unref(w->request);
	free(w);
}

static void on_exit_status(const struct wait_result *result, const struct error *err, void *arg)
{
	struct waiting *w = arg;
	struct json *j = json_new_object();
	/* Why a start failed is the start's to tell; this is about the waiting itself. */
	const char *message = err && err->code ? error_msg(err) : NULL;

	json_set_int(j, "StatusCode", result ? result->exit_code : 0);
	if (message) {
		struct json *e = json_new_object();

		json_set_string(e, "Message", message);
		json_set(j, "Error", e);
	}
	autofree char *text = json_format(j, false);
	autofree char *line = xasprintf("%s\n", text);
	json_unref(j);
	http_stream_write(w->request, line, strlen(line));
	http_stream_end(w->request);
	w->finished = true;
	if (w->armed)
		waiting_drop(w);
}

static void on_client_gone(void *arg)
{
	struct waiting *w = arg;

	if (w->finished)
		return;
	engine_wait_cancel(w->engine, w->wait);
	http_stream_end(w->request);
	waiting_drop(w);
}

static void arm(void *arg)
{
	struct waiting *w = arg;

	w->armed = true;
	if (w->finished)
		waiting_drop(w);
	else
		http_on_disconnect(w->request, on_client_gone, w);
}

static int parse_condition(const char *s, enum wait_condition *ret, struct error *err)
{
	static const char *const names[] = { "not-running", "next-exit", "removed" };

	*ret = WAIT_NOT_RUNNING;
	for (size_t i = 0; s && i < ARRAY_SIZE(names); i++) {
		if (str_equal(s, names[i])) {
			*ret = (enum wait_condition)i;
			return 0;
		}
	}
	return s ? error_set(err, ERROR_INVALID_ARGUMENT, "invalid condition: \"%s\"", s) : 0;
}

HANDLER(container_wait)
{
	CLEANUP(container_view_freep) struct container_view *v = NULL;
	enum wait_condition condition;
	struct waiting *w;

	if (parse_condition(api_query(r, "condition"), &condition, err) < 0 ||
	    engine_inspect(api_engine(r), api_ns(r), http_param(r, "id"), &v, err) < 0)
		return -1;
	w = xnew(struct waiting);
	w->request = http_request_ref(r);
	w->engine = api_engine(r);
	/* The registration must stand before the head goes out, the head before the result. */
	http_stream_start(r, 200, "application/json");
	if (engine_wait(w->engine, api_ns(r), v->id, condition, on_exit_status, w, &w->wait, err) <
	    0) {
		CLEANUP(error_done) struct error e = ERROR_INIT;

		error_set(&e, err->code, "%s", error_msg(err));
		on_exit_status(NULL, &e, w);
		waiting_drop(w);
		return 0;
	}
	loop_post(engine_loop(w->engine), arm, w);
	return 0;
}
