/* SPDX-License-Identifier: Apache-2.0 */
#include "api/docker/internal.h"
#include "base/mem.h"
#include "base/parse.h"
#include "oci/digest.h"

#include <string.h>

static struct image_service *api_images(const struct http_request *r)
{
	return engine_images(api_engine(r));
}

static const char *const list_filters[] = { "before", "dangling", "label", "reference",
					    "since",  "until",	  NULL };

static bool is_true(const char *value, const void *arg)
{
	bool wanted = str_equal(value, "true") || str_equal(value, "1");

	return wanted == *(const bool *)arg;
}

/* path.Match without classes: '*' matches within a component, '?' one character. */
static bool glob_match(const char *pattern, const char *s)
{
	const char *star = NULL, *back = NULL;

	while (*s) {
		if (*pattern == '*') {
			star = pattern++;
			back = s;
		} else if (*pattern == *s || (*pattern == '?' && *s != '/')) {
			pattern++;
			s++;
		} else if (star && *back != '/') {
			pattern = star + 1;
			s = ++back;
		} else {
			return false;
		}
	}
	while (*pattern == '*')
		pattern++;
	return *pattern == '\0';
}

/* A pattern may name "busybox", "busybox:1*", or the full "docker.io/library/busybox". */
static bool reference_matches(const char *value, const void *arg)
{
	const char *tag = arg, *at = strchr(tag, '@'), *colon = at ? at : strrchr(tag, ':');
	autofree char *name = colon ? xstrndup(tag, (size_t)(colon - tag)) : xstrdup(tag);
	autoreference struct reference ref = REFERENCE_INIT;

	if (glob_match(value, tag) || glob_match(value, name))
		return true;
	if (reference_parse(tag, &ref, NULL) < 0)
		return false;
	autofree char *full = reference_string(&ref);
	autofree char *full_name = reference_name(&ref);
	return glob_match(value, full) || glob_match(value, full_name);
}

/* With a filter by reference an image shows the names that match, and is out when none does. */
static bool narrow_names(const struct filters *f, struct strv *names)
{
	if (!filters_has(f, "reference"))
		return true;
	for (size_t i = names->n; i-- > 0;) {
		if (!filters_any(f, "reference", reference_matches, names->v[i]))
			strv_remove(names, i);
	}
	return names->n > 0;
}

static bool image_matches(const struct filters *f, const struct image_details *d, bool all)
{
	bool dangling = d->tags.n == 0;

	if (dangling && !all && !filters_has(f, "dangling") && d->digests.n == 0)
		return false;
	return filters_any(f, "dangling", is_true, &dangling) &&
	       filters_labels(f, &d->config.config.labels);
}

/* What the image's files take, as Docker counts; what is not unpacked takes its archives. */
int64_t image_shown_size(const struct image_details *d)
{
	return d->unpacked > 0 ? d->unpacked : d->size;
}

/* fn on each layer: its chain id and size. */
static void each_layer(const struct image_details *d,
		       void (*fn)(const char *chain, int64_t size, void *arg), void *arg)
{
	char chain[DIGEST_MAX];

	for (size_t i = 0; i < d->config.diff_ids.n; i++) {
		image_config_chain_id(&d->config, i + 1, chain);
		fn(chain, d->unpacked > 0 ? d->layer_sizes[i] : d->layers.v[i].size, arg);
	}
}

struct layer_sum {
	struct map *seen;
	int64_t size;
};

static void add_new_layer(const char *chain, int64_t size, void *arg)
{
	struct layer_sum *s = arg;

	if (map_get(s->seen, chain))
		return;
	map_set(s->seen, chain, s);
	s->size += size;
}

int64_t images_layers_size(const struct image_details_list *images)
{
	CLEANUP(map_done) struct map seen = MAP_INIT;
	struct layer_sum sum = { .seen = &seen };

	for (size_t i = 0; i < images->n; i++)
		each_layer(&images->v[i], add_new_layer, &sum);
	return sum.size;
}

static void add_known_layer(const char *chain, int64_t size, void *arg)
{
	struct layer_sum *s = arg;

	if (map_get(s->seen, chain))
		s->size += size;
}

int64_t image_shared_size(const struct image_details_list *images, size_t index)
{
	CLEANUP(map_done) struct map seen = MAP_INIT;
	struct layer_sum sum = { .seen = &seen };

	for (size_t i = 0; i < images->n; i++)
		if (i != index)
			each_layer(&images->v[i], add_new_layer, &sum);
	sum.size = 0;
	each_layer(&images->v[index], add_known_layer, &sum);
	return sum.size;
}

static struct json *summary_document(const struct http_request *r, const struct image_details *d)
{
	struct json *j = json_new_object();

	json_set_string(j, "Id", d->id);
	json_set_string(j, "ParentId", "");
	json_set(j, "RepoTags", json_new_strv(&d->tags));
	json_set(j, "RepoDigests", json_new_strv(&d->digests));
	json_set_int(j, "Created", d->created / NSEC_PER_SEC);
	json_set_int(j, "Size", image_shown_size(d));
	if (!api_at_least(r, 44))
		json_set_int(j, "VirtualSize", image_shown_size(d));
	json_set_int(j, "SharedSize", -1);
	json_set(j, "Labels",
		 d->config.config.labels.n > 0 ? json_new_kvs(&d->config.config.labels) : NULL);
	json_set_int(j, "Containers", -1);
	return j;
}

struct created_limit {
	struct http_request *request;
	struct error *err;
	int64_t created;
	bool found;
};

static bool created_of(const char *value, const void *arg)
{
	struct created_limit *l = (struct created_limit *)(uintptr_t)arg;
	CLEANUP(image_details_done) struct image_details d = { 0 };

	l->found = image_lookup(api_images(l->request), api_ns(l->request), value, &d, l->err) == 0;
	l->created = d.created;
	return true;
}

static bool bad_flag(const char *value, const void *arg)
{
	bool flag;

	*(const char **)(uintptr_t)arg = value;
	return parse_bool(value, &flag) < 0;
}

static bool bad_pattern(const char *value, const void *arg UNUSED)
{
	const char *open = strchr(value, '[');

	return open && !strchr(open, ']');
}

static int check_values(const struct filters *f, struct error *err)
{
	const char *value = "";

	if (filters_has(f, "dangling") && filters_any(f, "dangling", bad_flag, &value))
		return error_set(err, ERROR_INVALID_ARGUMENT, "invalid filter 'dangling=[%s]'",
				 value);
	if (filters_has(f, "reference") && filters_any(f, "reference", bad_pattern, NULL))
		return error_set(err, ERROR_INVALID_ARGUMENT, "syntax error in pattern");
	return 0;
}

/* before=IMAGE and since=IMAGE */
static int find_limit(const struct filters *f, const char *name, struct created_limit *l)
{
	if (filters_has(f, name))
		filters_any(f, name, created_of, l);
	return filters_has(f, name) && !l->found ? -1 : 0;
}

HANDLER(images_list)
{
	CLEANUP(filters_done) struct filters f = { 0 };
	CLEANUP(image_details_list_done) struct image_details_list images = { 0 };
	struct created_limit before = { .request = r, .err = err };
	struct created_limit since = { .request = r, .err = err };
	struct json *list;

	if (filters_parse(r, list_filters, &f, err) < 0 || check_values(&f, err) < 0 ||
	    image_list_details(api_images(r), api_ns(r), &images, err) < 0 ||
	    find_limit(&f, "before", &before) < 0 || find_limit(&f, "since", &since) < 0)
		return -1;
	list = json_new_array();
	for (size_t i = 0; i < images.n; i++) {
		struct image_details *d = &images.v[i];

		if ((before.found && d->created >= before.created) ||
		    (since.found && d->created <= since.created))
			continue;
		bool tags = narrow_names(&f, &d->tags), digests = narrow_names(&f, &d->digests);
		if (image_matches(&f, d, http_query_bool(r, "all", false)) && (tags || digests))
			json_add(list, summary_document(r, d));
	}
	http_reply_json(r, 200, list);
	return 0;
}

struct json *image_health_document(const struct healthcheck *h)
{
	struct json *j = json_new_object();

	json_set(j, "Test", json_new_strv(&h->test));
	if (h->interval)
		json_set_int(j, "Interval", h->interval);
	if (h->timeout)
		json_set_int(j, "Timeout", h->timeout);
	if (h->start_period)
		json_set_int(j, "StartPeriod", h->start_period);
	if (h->retries)
		json_set_int(j, "Retries", h->retries);
	return j;
}

/* Members of a container's configuration that images never had a use for: gone since 1.50. */
static void add_container_members(struct json *j)
{
	static const char *const flags[] = { "AttachStdin", "AttachStdout", "AttachStderr",
					     "Tty",	    "OpenStdin",    "StdinOnce" };

	json_set_string(j, "Hostname", "");
	json_set_string(j, "Domainname", "");
	for (size_t i = 0; i < ARRAY_SIZE(flags); i++)
		json_set_bool(j, flags[i], false);
	json_set_string(j, "Image", "");
}

static struct json *config_document(const struct image_config *c)
{
	struct json *j = json_new_object();

	add_container_members(j);
	json_set_string(j, "User", c->config.user ? c->config.user : "");
	if (c->config.exposed_ports.n > 0)
		json_set(j, "ExposedPorts", json_new_keys(&c->config.exposed_ports));
	json_set(j, "Env", json_strv_or_null(&c->config.env));
	json_set(j, "Cmd", json_strv_or_null(&c->config.cmd));
	json_set(j, "Volumes", c->config.volumes.n > 0 ? json_new_keys(&c->config.volumes) : NULL);
	json_set_string(j, "WorkingDir", c->config.working_dir ? c->config.working_dir : "");
	json_set(j, "Entrypoint", json_strv_or_null(&c->config.entrypoint));
	json_set(j, "OnBuild", json_strv_or_null(&c->config.on_build));
	json_set(j, "Labels", c->config.labels.n > 0 ? json_new_kvs(&c->config.labels) : NULL);
	if (!str_empty(c->config.stop_signal))
		json_set_string(j, "StopSignal", c->config.stop_signal);
	if (c->config.shell.n > 0)
		json_set(j, "Shell", json_new_strv(&c->config.shell));
	if (c->config.healthcheck)
		json_set(j, "Healthcheck", image_health_document(c->config.healthcheck));
	return j;
}

/* Of the container that the image was committed from; Docker dropped it with 1.45. docker-compose 1
 * asks by the newest version and fails without it. */
static struct json *empty_container_config(void)
{
	CLEANUP(image_config_done) struct image_config none = { 0 };

	return config_document(&none);
}

static struct json *inspect_document(const struct http_request *r, const struct image_details *d)
{
	struct json *j = json_new_object();
	struct json *rootfs = json_new_object();
	struct json *driver = json_new_object();
	struct json *metadata = json_new_object();
	const struct image_config *c = &d->config;

	json_set_string(j, "Id", d->id);
	json_set(j, "RepoTags", json_new_strv(&d->tags));
	json_set(j, "RepoDigests", json_new_strv(&d->digests));
	json_set_string(j, "Parent", "");
	json_set_string(j, "Comment",
			c->history.n > 0 && c->history.v[c->history.n - 1].comment
				? c->history.v[c->history.n - 1].comment
				: "");
	if (!str_empty(c->created))
		json_set_string(j, "Created", c->created);
	if (!api_at_least(r, 45))
		json_set_string(j, "Container", "");
	json_set(j, "ContainerConfig", empty_container_config());
	json_set_string(j, "DockerVersion", "");
	json_set_string(j, "Author", c->author ? c->author : "");
	json_set(j, "Config", config_document(c));
	json_set_string(j, "Architecture",
			c->platform.architecture ? c->platform.architecture : "");
	if (!str_empty(c->platform.variant))
		json_set_string(j, "Variant", c->platform.variant);
	json_set_string(j, "Os", c->platform.os ? c->platform.os : "");
	json_set_int(j, "Size", image_shown_size(d));
	if (!api_at_least(r, 44))
		json_set_int(j, "VirtualSize", image_shown_size(d));
	json_set_string(driver, "Name", store_default_snapshotter(engine_store(api_engine(r))));
	json_set(driver, "Data", NULL);
	json_set(j, "GraphDriver", driver);
	json_set_string(rootfs, "Type", "layers");
	json_set(rootfs, "Layers", json_new_strv(&c->diff_ids));
	json_set(j, "RootFS", rootfs);
	json_set_time(metadata, "LastTagTime", d->image.updated_at);
	json_set(j, "Metadata", metadata);
	json_set(j, "Descriptor", descriptor_to_json(&d->image.target));
	return j;
}

HANDLER(image_inspect)
{
	CLEANUP(image_details_done) struct image_details d = { 0 };

	if (image_lookup(api_images(r), api_ns(r), http_param(r, "name"), &d, err) < 0)
		return -1;
	http_reply_json(r, 200, inspect_document(r, &d));
	return 0;
}

static int64_t layer_size(const struct image_details *d, size_t layer)
{
	return d->unpacked > 0 ? d->layer_sizes[layer] : d->layers.v[layer].size;
}

/* Newest first; the layers' sizes go to the entries that made one. */
HANDLER(image_history)
{
	CLEANUP(image_details_done) struct image_details d = { 0 };
	struct json *list;
	size_t layer;

	if (image_lookup(api_images(r), api_ns(r), http_param(r, "name"), &d, err) < 0)
		return -1;
	list = json_new_array();
	layer = d.layers.n;
	for (size_t i = d.config.history.n; i-- > 0;) {
		const struct history_entry *h = &d.config.history.v[i];
		struct json *j = json_new_object();
		bool first = i + 1 == d.config.history.n;
		int64_t created = 0;

		if (h->created)
			time_parse_rfc3339(h->created, &created);
		json_set_string(j, "Id", first ? d.id : "<missing>");
		json_set_int(j, "Created", created / NSEC_PER_SEC);
		json_set_string(j, "CreatedBy", h->created_by ? h->created_by : "");
		json_set(j, "Tags", first ? json_strv_or_null(&d.tags) : NULL);
		json_set_int(j, "Size",
			     !h->empty_layer && layer > 0 ? layer_size(&d, layer - 1) : 0);
		json_set_string(j, "Comment", h->comment ? h->comment : "");
		if (!h->empty_layer && layer > 0)
			layer--;
		json_add(list, j);
	}
	http_reply_json(r, 200, list);
	return 0;
}

static void emit_image(struct http_request *r, const char *action, const char *id, const char *name,
		       const struct kvs *labels)
{
	struct engine_event e = {
		.ns = api_ns(r),
		.type = "image",
		.action = action,
		.id = id,
	};

	if (labels)
		kvs_copy(&e.attributes, labels);
	kvs_set(&e.attributes, "name", name);
	engine_emit(api_engine(r), &e);
	kvs_done(&e.attributes);
}

HANDLER(image_tag_handler)
{
	CLEANUP(image_details_done) struct image_details d = { 0 };
	const char *repo = api_query(r, "repo"), *tag = api_query(r, "tag");

	if (image_lookup(api_images(r), api_ns(r), http_param(r, "name"), &d, err) < 0)
		return -1;
	if (!repo)
		return error_set(err, ERROR_INVALID_ARGUMENT, "repo is required");
	autofree char *target = tag ? xasprintf("%s:%s", repo, tag) : xstrdup(repo);
	if (image_tag(api_images(r), api_ns(r), http_param(r, "name"), target, err) < 0)
		return -1;
	autoreference struct reference ref = REFERENCE_INIT;
	if (reference_parse(target, &ref, NULL) == 0)
		reference_default_tag(&ref);
	autofree char *familiar = ref.path ? reference_familiar(&ref) : xstrdup(target);
	emit_image(r, "tag", d.id, familiar, &d.config.config.labels);
	http_reply_empty(r, 201);
	return 0;
}

/* Losing the last name of an image that a container runs on would pull the floor from under it. */
static int check_users(struct http_request *r, const struct image_details *d, const char *name,
		       bool by_id, bool force, struct error *err)
{
	autostrv struct strv users = STRV_INIT;

	if ((!by_id && d->tags.n > 1) ||
	    engine_image_users(api_engine(r), api_ns(r), d->id, &users, NULL) < 0)
		return 0;
	for (size_t i = 0; i < users.n; i++) {
		CLEANUP(container_view_freep) struct container_view *v = NULL;
		bool running;

		if (engine_inspect(api_engine(r), api_ns(r), users.v[i], &v, NULL) < 0)
			continue;
		running = v->status == CONTAINER_RUNNING || v->status == CONTAINER_PAUSED;
		if (force && !(running && by_id))
			continue;
		if (by_id)
			return error_set(
				err, ERROR_ABORTED,
				"conflict: unable to delete %.12s (%s) - image is being used by "
				"%s container %.12s",
				digest_hex(d->id), running ? "cannot be forced" : "must be forced",
				running ? "running" : "stopped", v->id);
		return error_set(
			err, ERROR_ABORTED,
			"conflict: unable to remove repository reference \"%s\" (must force) - "
			"container %.12s is using its referenced image %.12s",
			name, v->id, digest_hex(d->id));
	}
	return 0;
}

static bool names_id(const char *name, const struct image_details *d)
{
	const char *hex = str_has_prefix(name, "sha256:") ? name + 7 : name;

	return str_has_prefix(digest_hex(d->id), hex);
}

/* By its id, an image with several names goes by force only. */
static int check_names(const struct image_details *d, const char *name, bool force,
		       struct error *err)
{
	if (force || !names_id(name, d) || d->tags.n <= 1)
		return 0;
	return error_set(err, ERROR_ABORTED,
			 "conflict: unable to delete %.12s (must be forced) - image is referenced "
			 "in multiple repositories",
			 digest_hex(d->id));
}

static void add_all(struct json *list, const char *key, const struct strv *values)
{
	for (size_t i = 0; i < values->n; i++) {
		struct json *j = json_new_object();

		json_set_string(j, key, values->v[i]);
		json_add(list, j);
	}
}

HANDLER(image_delete_handler)
{
	CLEANUP(image_details_done) struct image_details d = { 0 };
	autostrv struct strv untagged = STRV_INIT, deleted = STRV_INIT;
	const char *name = http_param(r, "name");
	bool force = http_query_bool(r, "force", false);
	struct json *list;

	if (image_lookup(api_images(r), api_ns(r), name, &d, err) < 0 ||
	    check_users(r, &d, name, names_id(name, &d), force, err) < 0 ||
	    check_names(&d, name, force, err) < 0 ||
	    image_untag(api_images(r), api_ns(r), name, force, &untagged, &deleted, err) < 0)
		return -1;
	list = json_new_array();
	add_all(list, "Untagged", &untagged);
	add_all(list, "Deleted", &deleted);
	for (size_t i = 0; i < untagged.n; i++)
		emit_image(r, "untag", d.id, d.id, &d.config.config.labels);
	for (size_t i = 0; i < deleted.n; i++)
		emit_image(r, "delete", deleted.v[i], deleted.v[i], NULL);
	http_reply_json(r, 200, list);
	return 0;
}

static const char *const prune_filters[] = { "dangling", "until", "label", "label!", NULL };

static bool parse_until(const char *value, const void *arg)
{
	struct created_limit *l = (struct created_limit *)(uintptr_t)arg;

	l->found = time_parse_docker(value, time_realtime(), &l->created) == 0;
	return true;
}

static int prune_until(const struct filters *f, struct created_limit *l, struct error *err)
{
	if (filters_has(f, "until"))
		filters_any(f, "until", parse_until, l);
	if (filters_has(f, "until") && !l->found)
		return error_set(err, ERROR_INVALID_ARGUMENT, "invalid 'until' filter");
	return 0;
}

HANDLER(images_prune)
{
	CLEANUP(filters_done) struct filters f = { 0 };
	CLEANUP(image_details_list_done) struct image_details_list images = { 0 };
	CLEANUP(image_details_list_done) struct image_details_list left = { 0 };
	struct created_limit until = { .created = INT64_MAX };
	const bool no = false;
	struct json *reply, *list;
	bool all;

	if (filters_parse(r, prune_filters, &f, err) < 0 || prune_until(&f, &until, err) < 0 ||
	    image_list_details(api_images(r), api_ns(r), &images, err) < 0)
		return -1;
	all = filters_has(&f, "dangling") && filters_any(&f, "dangling", is_true, &no);
	reply = json_new_object();
	list = json_new_array();
	for (size_t i = 0; i < images.n; i++) {
		struct image_details *d = &images.v[i];
		autostrv struct strv users = STRV_INIT, untagged = STRV_INIT, deleted = STRV_INIT;

		if ((d->tags.n > 0 && !all) || d->created > until.created ||
		    !filters_labels(&f, &d->config.config.labels) ||
		    engine_image_users(api_engine(r), api_ns(r), d->id, &users, NULL) < 0 ||
		    users.n > 0)
			continue;
		if (image_untag(api_images(r), api_ns(r), d->id, true, &untagged, &deleted, NULL) <
		    0)
			continue;
		add_all(list, "Untagged", &untagged);
		add_all(list, "Deleted", &deleted);
		for (size_t k = 0; k < untagged.n; k++)
			emit_image(r, "untag", d->id, d->id, &d->config.config.labels);
		for (size_t k = 0; k < deleted.n; k++)
			emit_image(r, "delete", deleted.v[k], deleted.v[k], NULL);
	}
	if (image_list_details(api_images(r), api_ns(r), &left, err) < 0) {
		json_unref(reply);
		json_unref(list);
		return -1;
	}
	json_set(reply, "ImagesDeleted",
		 json_array_len(list) > 0 ? list : (json_unref(list), NULL));
	json_set_int(reply, "SpaceReclaimed",
		     images_layers_size(&images) - images_layers_size(&left));
	http_reply_json(r, 200, reply);
	return 0;
}
