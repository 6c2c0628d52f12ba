/* SPDX-License-Identifier: Apache-2.0 */
#include "api/docker/internal.h"
#include "base/mem.h"

#include <string.h>

struct watching {
	struct http_request *request;
	struct loop *loop;
	struct engine *engine;
	struct event_subscription *subscription;
	struct loop_timer *timer;
	struct filters filters;
	char *ns;
	int64_t since, until;
	bool ended; /* within a callback: the subscription cannot go right there */
};

static const char *const allowed_filters[] = { "config", "container", "daemon", "event",  "image",
					       "label",	 "network",   "node",	"plugin", "scope",
					       "secret", "service",   "type",	"volume", NULL };

static struct json *event_document(const struct engine_event *e)
{
	struct json *j = json_new_object(), *actor = json_new_object();
	bool old_form = str_equal(e->type, "container") || str_equal(e->type, "image");

	json_set_string(actor, "ID", e->id ? e->id : "");
	json_set(actor, "Attributes", json_new_kvs(&e->attributes));
	if (old_form) {
		json_set_string(j, "status", e->action);
		json_set_string(j, "id", e->id ? e->id : "");
		if (kvs_get(&e->attributes, "image"))
			json_set_string(j, "from", kvs_get(&e->attributes, "image"));
	}
	json_set_string(j, "Type", e->type);
	json_set_string(j, "Action", e->action);
	json_set(j, "Actor", actor);
	json_set_string(j, "scope", "local");
	json_set_int(j, "time", e->time / NSEC_PER_SEC);
	json_set_int(j, "timeNano", e->time);
	return j;
}

static bool action_matches(const char *value, const void *arg)
{
	const char *action = arg;
	size_t len = strlen(value);

	/* "exec_start: sh" is an "exec_start". */
	return strncmp(action, value, len) == 0 && (action[len] == '\0' || action[len] == ':');
}

static bool actor_matches(const char *value, const void *arg)
{
	const struct engine_event *e = arg;

	return str_has_prefix(e->id, value) || str_equal(kvs_get(&e->attributes, "name"), value);
}

/* container=x wants events of containers, and of this one; several such filters are alternatives.
 */
static bool objects_match(const struct filters *f, const struct engine_event *e)
{
	static const char *const types[] = { "container", "image", "volume", "network", "daemon" };
	bool any = false;

	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		if (!filters_has(f, types[i]))
			continue;
		any = true;
		if (str_equal(e->type, types[i]) && filters_any(f, types[i], actor_matches, e))
			return true;
		if (i == 1 && str_equal(e->type, "container") &&
		    filters_match(f, "image", kvs_get(&e->attributes, "image")))
			return true;
	}
	return !any;
}

static bool wanted(const struct watching *w, const struct engine_event *e)
{
	return str_equal(e->ns, w->ns) && (!w->until || e->time <= w->until) &&
	       filters_match(&w->filters, "type", e->type) &&
	       filters_any(&w->filters, "event", action_matches, e->action) &&
	       objects_match(&w->filters, e) && filters_labels(&w->filters, &e->attributes);
}

static void watching_end(void *arg)
{
	struct watching *w = arg;

	engine_unsubscribe(w->subscription);
	loop_timer_cancel(w->timer);
	http_stream_end(w->request);
	http_request_unref(w->request);
	filters_done(&w->filters);
	free(w->ns);
	free(w);
}

static void on_event(const struct engine_event *e, void *arg)
{
	struct watching *w = arg;

	if (w->ended || !wanted(w, e))
		return;
	autojson struct json *j = event_document(e);
	autofree char *text = json_format(j, false);
	autofree char *line = xasprintf("%s\n", text);

	/* Who lets 256 KiB of events pile up has lost interest; memory is not for them. */
	if (http_stream_write(w->request, line, strlen(line)) != 0) {
		w->ended = true;
		http_on_disconnect(w->request, NULL, NULL);
		loop_post(w->loop, watching_end, w);
	}
}

static void on_until(void *arg)
{
	struct watching *w = arg;

	w->timer = NULL;
	if (!w->ended)
		watching_end(w);
}

static void on_gone(void *arg)
{
	struct watching *w = arg;

	if (!w->ended)
		watching_end(w);
}

static void watching_start(void *arg)
{
	struct watching *w = arg;
	int64_t left = w->until - time_realtime();

	w->subscription = engine_subscribe(w->engine, w->since, on_event, w);
	if (w->ended)
		return;
	if (w->until && left <= 0) {
		watching_end(w);
		return;
	}
	if (w->until)
		w->timer = loop_timer_start(w->loop, (uint64_t)(left / NSEC_PER_MSEC), on_until, w);
	http_on_disconnect(w->request, on_gone, w);
}

static int parse_time(const struct http_request *r, const char *name, int64_t *ret,
		      struct error *err)
{
	const char *value = api_query(r, name);

	*ret = 0;
	if (value && time_parse_docker(value, time_realtime(), ret) < 0)
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "strconv.ParseInt: parsing \"%s\": invalid syntax", value);
	return 0;
}

HANDLER(system_events)
{
	struct watching *w = xnew(struct watching);

	w->engine = api_engine(r);
	w->loop = engine_loop(w->engine);
	if (parse_time(r, "since", &w->since, err) < 0 ||
	    parse_time(r, "until", &w->until, err) < 0 ||
	    filters_parse(r, allowed_filters, &w->filters, err) < 0) {
		free(w);
		return -1;
	}
	/* With an end alone, what has been up to it is asked for. */
	if (w->until && !w->since)
		w->since = 1;
	w->ns = xstrdup(api_ns(r));
	w->request = http_request_ref(r);
	http_stream_start(r, 200, "application/json");
	loop_post(w->loop, watching_start, w);
	return 0;
}
