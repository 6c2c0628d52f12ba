/* SPDX-License-Identifier: Apache-2.0 */
#include "api/docker/internal.h"
#include "base/mem.h"
#include "base/parse.h"
#include "oci/digest.h"

#include <regex.h>
#include <string.h>

static const char *container_id(const struct http_request *r)
{
	return http_param(r, "id");
}

static const char *const list_filters[] = { "id",	"name",	   "label",	"status",
					    "ancestor", "before",  "since",	"exited",
					    "volume",	"network", "health",	"publish",
					    "expose",	"is-task", "isolation", NULL };

struct list_options {
	struct filters filters;
	bool all, size;
	int64_t limit;
	int64_t before, since; /* creation times */
	struct strv ancestors; /* ids of the images that the filter names */
};

static bool id_has_prefix(const char *value, const void *arg)
{
	const struct container_view *v = arg;

	return str_has_prefix(v->id, value);
}

/* A regular expression, with or without the slash in front; what is none matches itself. */
static bool name_matches(const char *value, const void *arg)
{
	const struct container_view *v = arg;
	autofree char *slashed = xasprintf("/%s", v->name);
	regex_t re;

	if (str_equal(v->name, value) || str_equal(slashed, value))
		return true;
	if (regcomp(&re, value, REG_EXTENDED | REG_NOSUB) != 0)
		return false;
	bool found =
		regexec(&re, v->name, 0, NULL, 0) == 0 || regexec(&re, slashed, 0, NULL, 0) == 0;
	regfree(&re);
	return found;
}

static bool image_matches(const char *value, const void *arg)
{
	const struct container_config *c = arg;
	const char *hex = strchr(c->image_id ? c->image_id : "", ':');
	size_t len = strlen(c->image ? c->image : "");

	if (str_equal(c->image, value) || str_equal(c->image_id, value) ||
	    (hex && strlen(value) >= 4 && str_has_prefix(hex + 1, value)))
		return true;
	/* "busybox" also means "busybox:latest". */
	return strlen(value) > len
		       ? strncmp(value, c->image, len) == 0 && str_equal(value + len, ":latest")
		       : str_has_prefix(c->image, value) &&
				 str_equal(c->image + strlen(value), ":latest");
}

static bool volume_matches(const char *value, const void *arg)
{
	const struct container_view *v = arg;

	for (size_t i = 0; i < v->mounts.n; i++) {
		if (str_equal(v->mounts.v[i].name, value) ||
		    str_equal(v->mounts.v[i].destination, value))
			return true;
	}
	return false;
}

static bool network_matches(const char *value, const void *arg)
{
	const struct container_view *v = arg;

	for (size_t i = 0; i < v->endpoints.n; i++) {
		if (str_equal(v->endpoints.v[i].network_id, value))
			return true;
	}
	for (size_t i = 0; i < v->config.endpoints.n; i++) {
		if (str_equal(v->config.endpoints.v[i].network, value))
			return true;
	}
	return str_equal(v->config.network_mode, value);
}

/* "80", "80/tcp", "8000-8010/udp": does it name this port? */
static bool port_in(const char *value, unsigned port, const char *protocol)
{
	const char *slash = strchr(value, '/');
	autofree char *range = slash ? xstrndup(value, (size_t)(slash - value)) : xstrdup(value);
	char *dash = strchr(range, '-');
	int64_t first, last;

	if (dash)
		*dash++ = '\0';
	if (parse_int64(range, &first) < 0 || parse_int64(dash ? dash : range, &last) < 0)
		return false;
	return port >= first && port <= last && str_equal(slash ? slash + 1 : "tcp", protocol);
}

static bool is_public(const struct port_mapping *p, const void *value)
{
	return port_in(value, p->host_port, p->protocol);
}

static bool is_private(const struct port_mapping *p, const void *value)
{
	return port_in(value, p->container_port, p->protocol);
}

static bool publish_matches(const char *value, const void *arg)
{
	return container_publishes(arg, is_public, value);
}

static bool expose_matches(const char *value, const void *arg)
{
	const struct container_view *v = arg;

	for (size_t i = 0; i < v->config.exposed_ports.n; i++) {
		const char *spec = v->config.exposed_ports.v[i], *slash = strchr(spec, '/');
		autofree char *number = xstrndup(spec, strcspn(spec, "/"));
		int64_t port;

		if (parse_int64(number, &port) == 0 &&
		    port_in(value, (unsigned)port, slash ? slash + 1 : "tcp"))
			return true;
	}
	return container_publishes(v, is_private, value);
}

static bool bad_status(const char *value)
{
	for (int i = 0; i < CONTAINER_STATUS_MAX; i++) {
		if (str_equal(value, container_status_name((enum container_status)i)))
			return false;
	}
	return true;
}

static bool bad_health(const char *value)
{
	return !str_equal(value, "none") && !str_equal(value, "starting") &&
	       !str_equal(value, "healthy") && !str_equal(value, "unhealthy");
}

static bool bad_number(const char *value)
{
	int64_t v;

	return parse_int64(value, &v) < 0;
}

static bool bad_port(const char *value)
{
	return strspn(value, "0123456789-") == 0;
}

struct filter_check {
	const char *name, *message; /* one %s for the value */
	bool (*bad)(const char *value);
};

struct bad_value {
	const struct filter_check *check;
	const char *value;
};

static bool take_bad(const char *value, const void *arg)
{
	struct bad_value *b = (struct bad_value *)(uintptr_t)arg;

	if (!b->check->bad(value))
		return false;
	b->value = value;
	return true;
}

/* What matches nothing because it is misspelt is told, as dockerd does. */
static int check_values(const struct filters *f, struct error *err)
{
	static const struct filter_check checks[] = {
		{ "status", "invalid filter 'status=", bad_status },
		{ "health", "invalid filter 'health=", bad_health },
		{ "exited", "strconv.Atoi: parsing \"", bad_number },
		{ "publish", "strconv.ParseUint: parsing \"", bad_port },
		{ "expose", "strconv.ParseUint: parsing \"", bad_port },
	};

	for (size_t i = 0; i < ARRAY_SIZE(checks); i++) {
		struct bad_value b = { .check = &checks[i] };

		if (!filters_has(f, checks[i].name) ||
		    !filters_any(f, checks[i].name, take_bad, &b))
			continue;
		error_set(err, ERROR_INVALID_ARGUMENT, "%s%s%s", checks[i].message, b.value,
			  i < 2 ? "'" : "\": invalid syntax");
		if (i == 0)
			return error_set(
				err, ERROR_INVALID_ARGUMENT,
				"invalid filter 'status=%s': invalid value for state (%s): "
				"must be one of created, running, paused, restarting, "
				"removing, exited, dead",
				b.value, b.value);
		return i < 3 ? -1
			     : error_wrap(err, "error while looking up for %s %s", checks[i].name,
					  b.value);
	}
	return 0;
}

static bool is_no_task(const char *value, const void *arg UNUSED)
{
	return str_equal(value, "false") || str_equal(value, "0");
}

static bool list_matches(const struct list_options *o, const struct container_view *v)
{
	const struct filters *f = &o->filters;
	autofree char *exit_code = xasprintf("%d", v->exit_code);
	bool active = v->status == CONTAINER_RUNNING || v->status == CONTAINER_PAUSED ||
		      v->status == CONTAINER_RESTARTING;
	bool wide = o->all || o->limit > 0 || filters_has(f, "status") || filters_has(f, "exited");

	if (!wide && !active)
		return false;
	if ((o->before && v->created_at >= o->before) || (o->since && v->created_at <= o->since))
		return false;
	if (filters_has(f, "exited") && v->status != CONTAINER_EXITED)
		return false;
	return filters_any(f, "id", id_has_prefix, v) && filters_any(f, "name", name_matches, v) &&
	       filters_match(f, "status", container_status_name(v->status)) &&
	       (filters_any(f, "ancestor", image_matches, &v->config) ||
		strv_contains(&o->ancestors, v->config.image_id)) &&
	       filters_any(f, "is-task", is_no_task, NULL) &&
	       filters_match(f, "exited", exit_code) &&
	       filters_any(f, "volume", volume_matches, v) &&
	       filters_any(f, "network", network_matches, v) &&
	       filters_any(f, "publish", publish_matches, v) &&
	       filters_any(f, "expose", expose_matches, v) &&
	       filters_match(f, "health", str_empty(v->health) ? "none" : v->health) &&
	       filters_labels(f, &v->config.labels);
}

static bool take_value(const char *value, const void *arg)
{
	*(const char **)(uintptr_t)arg = value;
	return true;
}

/* before=X and since=X compare with the creation of container X. */
static int created_of(struct http_request *r, const struct filters *f, const char *name,
		      int64_t *ret, struct error *err)
{
	CLEANUP(container_view_freep) struct container_view *v = NULL;
	const char *id = NULL;

	*ret = 0;
	if (!filters_has(f, name))
		return 0;
	filters_any(f, name, take_value, &id);
	if (!id || engine_inspect(api_engine(r), api_ns(r), id, &v, err) < 0)
		return -1;
	*ret = v->created_at;
	return 0;
}

static bool select_match(const struct container_view *v, void *arg)
{
	return list_matches(arg, v);
}

/* With sizes: the documents of their own, which walk the disk. */
static int sized_reply(struct http_request *r, const struct container_glances *glances,
		       struct error *err)
{
	struct json *list = json_new_array();

	for (size_t i = 0; i < glances->n; i++) {
		CLEANUP(container_view_freep) struct container_view *v = NULL;

		if (engine_inspect(api_engine(r), api_ns(r), glances->v[i].id, &v, NULL) < 0)
			continue; /* it has just gone */
		struct json *j = container_summary_document(v);
		container_list_sizes(http_request_arg(r), v, j);
		json_add(list, j);
	}
	http_reply_json(r, 200, list);
	return 0;
}

static int list_reply(struct http_request *r, struct list_options *o, struct error *err)
{
	CLEANUP(container_glances_done) struct container_glances glances = { 0 };
	autobuf struct buf text = BUF_INIT(BUF_NO_LIMIT);

	engine_select(api_engine(r), api_ns(r), select_match, o, &glances);
	if (o->limit > 0 && (int64_t)glances.n > o->limit)
		glances.n = (size_t)o->limit;
	if (o->size)
		return sized_reply(r, &glances, err);
	summaries_format(http_request_arg(r), api_ns(r), &glances, &text);
	http_reply(r, 200, "application/json", text.data, text.len);
	return 0;
}

struct ancestor_walk {
	struct http_request *request;
	struct strv *ids;
};

static bool add_ancestor(const char *value, const void *arg)
{
	const struct ancestor_walk *w = arg;
	CLEANUP(image_details_done) struct image_details d = { 0 };

	if (image_lookup(engine_images(api_engine(w->request)), api_ns(w->request), value, &d,
			 NULL) == 0)
		strv_push(w->ids, d.id);
	return false;
}

HANDLER(containers_list)
{
	struct list_options o = {
		.all = http_query_bool(r, "all", false),
		.size = http_query_bool(r, "size", false),
	};
	int result = api_query_number(r, "limit", 0, &o.limit, err);

	if (result == 0)
		result = filters_parse(r, list_filters, &o.filters, err);

	if (result == 0)
		result = check_values(&o.filters, err);
	if (result == 0)
		result = created_of(r, &o.filters, "before", &o.before, err);
	if (result == 0)
		result = created_of(r, &o.filters, "since", &o.since, err);
	if (result == 0 && filters_has(&o.filters, "ancestor"))
		filters_any(&o.filters, "ancestor", add_ancestor,
			    &(struct ancestor_walk){ r, &o.ancestors });
	if (result == 0)
		result = list_reply(r, &o, err);
	strv_done(&o.ancestors);
	filters_done(&o.filters);
	return result;
}

static int add_missing(const char *key, struct json *value, void *arg)
{
	struct json *object = arg;

	if (!json_get(object, key))
		json_set(object, key, json_ref(value));
	return 0;
}

/* What the image says where the user says nothing, member by member. */
static void merge_members(struct json *config, const char *key, struct json *image)
{
	struct json *own = json_get(config, key);

	if (json_type(own) != JSON_OBJECT) {
		own = json_new_object();
		json_set(config, key, own);
	}
	json_object_each(image, add_missing, own);
	json_unref(image);
}

/* Inspect shows the configuration as it is merged from the image's and the user's. */
static void show_image_config(struct create_request *c, const struct image_config *image)
{
	struct json *config = json_get(c->extension, "Config");
	bool none = c->entrypoint.n == 0 && !c->entrypoint_set;

	if (none && c->cmd.n == 0 && image->config.cmd.n > 0)
		json_set(config, "Cmd", json_new_strv(&image->config.cmd));
	if (none && image->config.entrypoint.n > 0)
		json_set(config, "Entrypoint", json_new_strv(&image->config.entrypoint));
	if (image->config.volumes.n > 0)
		merge_members(config, "Volumes", json_new_keys(&image->config.volumes));
	if (image->config.healthcheck)
		merge_members(config, "Healthcheck",
			      image_health_document(image->config.healthcheck));
}

/* Image, its platform and what of its configuration the container takes over. */
static int apply_image(struct http_request *r, struct create_request *c, struct error *err)
{
	CLEANUP(image_details_done) struct image_details d = { 0 };
	struct image_service *images = engine_images(api_engine(r));
	struct transfer t = { .ns = api_ns(r) };
	char chain[DIGEST_MAX];

	if (image_lookup(images, t.ns, c->config.image, &d, err) < 0)
		return -1;
	if (container_config_apply_image(&c->config, &d.config, &c->entrypoint, c->entrypoint_set,
					 &c->cmd, err) < 0)
		return -1;
	if (image_unpack(images, &t, &d.image, NULL, chain, err) < 0)
		return error_wrap(err, "unpack image '%s'", c->config.image);
	show_image_config(c, &d.config);
	str_replace(&c->config.image_id, d.id);
	str_replace(&c->config.chain_id, chain);
	platform_done(&c->config.platform);
	platform_copy(&c->config.platform, &d.config.platform);
	return 0;
}

static int create(struct http_request *r, struct create_request *c, struct error *err)
{
	autostrv struct strv warnings = STRV_INIT;
	const char *name = api_query(r, "name");
	struct json *reply;
	char id[65];

	if (apply_image(r, c, err) < 0)
		return -1;
	if (name && name[0] == '/')
		name++;
	if (engine_create(api_engine(r), api_ns(r), name, &c->config, c->extension, id, &warnings,
			  err) < 0)
		return -1;
	c->extension = NULL; /* taken over */
	reply = json_new_object();
	json_set_string(reply, "Id", id);
	json_set(reply, "Warnings", json_new_strv(&warnings));
	http_reply_json(r, 201, reply);
	return 0;
}

static int add_key(const char *key, struct json *value UNUSED, void *arg)
{
	strv_push(arg, key);
	return 0;
}

/* Several networks at once came with 1.44. */
static int check_version(const struct http_request *r, const struct json *body, struct error *err)
{
	const struct json *endpoints =
		json_get(json_get(body, "NetworkingConfig"), "EndpointsConfig");
	autostrv struct strv names = STRV_INIT;

	if (api_at_least(r, 44) || json_object_len(endpoints) < 2)
		return 0;
	json_object_each(endpoints, add_key, &names);
	autofree char *text = strv_join(&names, ", ");
	return error_set(err, ERROR_INVALID_ARGUMENT,
			 "Container cannot be created with multiple network endpoints: %s", text);
}

HANDLER(containers_create)
{
	autojson struct json *body = NULL;
	struct create_request c;
	int result;

	if (api_body_json(r, &body, err) < 0 || create_request_parse(body, &c, err) < 0)
		return -1;
	result = check_version(r, body, err) < 0 ? -1 : create(r, &c, err);
	create_request_done(&c);
	return result;
}

HANDLER(container_inspect)
{
	CLEANUP(container_view_freep) struct container_view *v = NULL;

	if (engine_inspect(api_engine(r), api_ns(r), container_id(r), &v, err) < 0)
		return -1;
	struct json *j = container_inspect_document(http_request_arg(r), v);
	if (http_query_bool(r, "size", false))
		container_sizes(http_request_arg(r), v, j);
	http_reply_json(r, 200, j);
	return 0;
}

/* 204, or 304 when there was nothing to do. */
static int changed_reply(struct http_request *r, bool changed)
{
	http_reply_empty(r, changed ? 204 : 304);
	return 0;
}

HANDLER(container_start)
{
	bool changed;

	if (engine_start(api_engine(r), api_ns(r), container_id(r), &changed, err) < 0)
		return -1;
	return changed_reply(r, changed);
}

/* ?t=; -2: the container's own. */
static int query_timeout(struct http_request *r, int *ret, struct error *err)
{
	int64_t t;

	if (api_query_number(r, "t", -2, &t, err) < 0)
		return -1;
	*ret = (int)MIN(MAX(t, (int64_t)-2), (int64_t)INT32_MAX);
	return 0;
}

HANDLER(container_stop)
{
	bool changed;
	int timeout;

	if (query_timeout(r, &timeout, err) < 0 ||
	    engine_stop(api_engine(r), api_ns(r), container_id(r), timeout, api_query(r, "signal"),
			&changed, err) < 0)
		return -1;
	return changed_reply(r, changed);
}

HANDLER(container_restart)
{
	int timeout;

	if (query_timeout(r, &timeout, err) < 0 ||
	    engine_restart(api_engine(r), api_ns(r), container_id(r), timeout,
			   api_query(r, "signal"), err) < 0)
		return -1;
	http_reply_empty(r, 204);
	return 0;
}

HANDLER(container_kill)
{
	const char *text = api_query(r, "signal");
	int signal = text ? signal_parse(text) : 9;

	if (signal < 0)
		return error_set(err, ERROR_INVALID_ARGUMENT, "Invalid signal: %s", text);
	if (engine_kill(api_engine(r), api_ns(r), container_id(r), signal, err) < 0)
		return str_has_prefix(error_msg(err), "cannot kill")
			       ? -1
			       : error_wrap(err, "cannot kill container: %s", container_id(r));
	http_reply_empty(r, 204);
	return 0;
}

HANDLER(container_pause)
{
	if (engine_pause(api_engine(r), api_ns(r), container_id(r), err) < 0)
		return -1;
	http_reply_empty(r, 204);
	return 0;
}

HANDLER(container_unpause)
{
	if (engine_unpause(api_engine(r), api_ns(r), container_id(r), err) < 0)
		return -1;
	http_reply_empty(r, 204);
	return 0;
}

HANDLER(container_rename)
{
	const char *name = api_query(r, "name");

	if (!name)
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "Neither old nor new names may be empty");
	if (engine_rename(api_engine(r), api_ns(r), container_id(r), name + (name[0] == '/'), err) <
	    0)
		return error_is(err, ERROR_INVALID_ARGUMENT) || error_is(err, ERROR_ABORTED)
			       ? error_wrap(err, "Error when allocating new name")
			       : -1;
	http_reply_empty(r, 204);
	return 0;
}

HANDLER(container_update)
{
	autojson struct json *body = NULL;
	struct resources resources = { 0 };
	struct json *reply, *policy;
	int result;

	if (api_body_json(r, &body, err) < 0 || resources_parse(body, &resources, err) < 0)
		return -1;
	policy = json_get(body, "RestartPolicy");
	result = engine_update(api_engine(r), api_ns(r), container_id(r), &resources,
			       json_get_string(policy, "Name"),
			       json_get_int(policy, "MaximumRetryCount", 0), err);
	resources_done(&resources);
	if (result < 0)
		return -1;
	reply = json_new_object();
	json_set(reply, "Warnings", json_new_array());
	http_reply_json(r, 200, reply);
	return 0;
}

HANDLER(container_remove)
{
	CLEANUP(container_view_freep) struct container_view *v = NULL;

	if (http_query_bool(r, "link", false) &&
	    engine_inspect(api_engine(r), api_ns(r), container_id(r), &v, err) < 0)
		return -1;
	if (v)
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "links are not supported, use a network of your own");
	if (engine_remove(api_engine(r), api_ns(r), container_id(r),
			  http_query_bool(r, "force", false), http_query_bool(r, "v", false),
			  err) < 0)
		return -1;
	http_reply_empty(r, 204);
	return 0;
}

/* h and w, both needed. */
static int query_size(struct http_request *r, unsigned *h, unsigned *w, struct error *err)
{
	int64_t height = api_query_int(r, "h", -1), width = api_query_int(r, "w", -1);

	if (height < 0 || width < 0 || height > 65535 || width > 65535)
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "invalid resize height '%s' or width '%s'",
				 http_query(r, "h") ? http_query(r, "h") : "",
				 http_query(r, "w") ? http_query(r, "w") : "");
	*h = (unsigned)height;
	*w = (unsigned)width;
	return 0;
}

HANDLER(container_resize)
{
	unsigned h, w;

	if (query_size(r, &h, &w, err) < 0 ||
	    engine_resize(api_engine(r), api_ns(r), container_id(r), h, w, err) < 0)
		return -1;
	http_reply_empty(r, 200);
	return 0;
}

HANDLER(exec_resize)
{
	unsigned h, w;

	if (query_size(r, &h, &w, err) < 0 ||
	    engine_exec_resize(api_engine(r), container_id(r), h, w, err) < 0)
		return -1;
	http_reply_empty(r, 200);
	return 0;
}

HANDLER(container_top)
{
	CLEANUP(top_result_done) struct top_result t = { 0 };
	struct json *reply, *rows;

	if (engine_top(api_engine(r), api_ns(r), container_id(r), api_query(r, "ps_args"), &t,
		       err) < 0)
		return -1;
	reply = json_new_object();
	rows = json_new_array();
	for (size_t i = 0; i < t.rows.n; i++)
		json_add(rows, json_new_strv(&t.rows.v[i]));
	json_set(reply, "Titles", json_new_strv(&t.titles));
	json_set(reply, "Processes", rows);
	http_reply_json(r, 200, reply);
	return 0;
}

static const char *const prune_filters[] = { "until", "label", "label!", NULL };

struct until {
	int64_t now, limit;
	bool bad;
};

static bool parse_until(const char *value, const void *arg)
{
	struct until *u = (struct until *)(uintptr_t)arg;

	u->bad = time_parse_docker(value, u->now, &u->limit) < 0;
	return true;
}

HANDLER(containers_prune)
{
	CLEANUP(filters_done) struct filters f = { 0 };
	CLEANUP(container_views_done) struct container_views views = { 0 };
	struct until until = { .now = time_realtime() };
	struct json *reply, *deleted;
	int64_t reclaimed = 0;

	until.limit = until.now;
	if (filters_parse(r, prune_filters, &f, err) < 0 ||
	    engine_list(api_engine(r), api_ns(r), &views, err) < 0)
		return -1;
	if (filters_has(&f, "until"))
		filters_any(&f, "until", parse_until, &until);
	if (until.bad)
		return error_set(err, ERROR_INVALID_ARGUMENT, "invalid 'until' filter");
	reply = json_new_object();
	deleted = json_new_array();
	for (size_t i = 0; i < views.n; i++) {
		struct container_view *v = views.v[i];
		bool stopped = v->status == CONTAINER_EXITED || v->status == CONTAINER_CREATED ||
			       v->status == CONTAINER_DEAD;

		if (!stopped || v->created_at > until.limit ||
		    !filters_labels(&f, &v->config.labels))
			continue;
		autojson struct json *sizes = json_new_object();
		container_sizes(http_request_arg(r), v, sizes);
		if (engine_remove(api_engine(r), api_ns(r), v->id, false, false, NULL) < 0)
			continue;
		json_add(deleted, json_new_string(v->id));
		reclaimed += json_get_int(sizes, "SizeRw", 0);
	}
	json_set(reply, "ContainersDeleted",
		 json_array_len(deleted) > 0 ? deleted : (json_unref(deleted), NULL));
	json_set_int(reply, "SpaceReclaimed", reclaimed);
	http_reply_json(r, 200, reply);
	return 0;
}
