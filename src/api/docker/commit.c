/* SPDX-License-Identifier: Apache-2.0 */
/* New images of containers (POST /commit) and of archives (POST /images/create?fromSrc=...). */

#include "api/docker/change.h"
#include "api/docker/internal.h"
#include "base/fs.h"
#include "base/mem.h"
#include "engine/files.h"
#include "image/make.h"
#include "oci/reference.h"

#include <fcntl.h>
#include <semaphore.h>
#include <string.h>

#define CHANGES_MAX 256
#define COPY_SIZE (256 << 10)

/* --- configurations --- */

static bool is_empty(const struct json *j)
{
	switch (json_type(j)) {
	case JSON_ARRAY:
		return json_array_len(j) == 0;
	case JSON_OBJECT:
		return json_object_len(j) == 0;
	case JSON_STRING:
		return json_string(j)[0] == '\0';
	default:
		return json_type(j) == JSON_NULL;
	}
}

static int add_missing(const char *key, struct json *value, void *arg)
{
	if (!json_get(arg, key))
		json_set(arg, key, json_ref(value));
	return 0;
}

/* What the user says of the image over what the container has: sets and labels are united, of the
 * environment the user's values count, anything else is either's. */
static void merge_env(struct json *mine, const struct json *theirs)
{
	struct json *env = json_get(mine, "Env");

	if (json_type(env) != JSON_ARRAY) {
		env = json_new_array();
		json_set(mine, "Env", env);
	}
	size_t own = json_array_len(env);
	for (size_t i = 0; i < json_array_len(theirs); i++) {
		const char *s = json_string(json_array_get(theirs, i));
		size_t n = s ? strcspn(s, "=") : 0;
		bool known = !s;

		for (size_t k = 0; k < own && !known; k++) {
			const char *t = json_string(json_array_get(env, k));

			known = t && strncmp(s, t, n + 1) == 0;
		}
		if (!known)
			json_add(env, json_new_string(s));
	}
}

static void merge_config(struct json *mine, const struct json *theirs)
{
	static const char *const sets[] = { "ExposedPorts", "Labels", "Volumes" };
	static const char *const values[] = { "User",	     "WorkingDir", "StopSignal",
					      "Healthcheck", "OnBuild",	   "Shell" };

	for (size_t i = 0; i < ARRAY_SIZE(sets); i++) {
		if (is_empty(json_get(theirs, sets[i])))
			continue;
		if (json_type(json_get(mine, sets[i])) != JSON_OBJECT)
			json_set(mine, sets[i], json_new_object());
		json_object_each(json_get(theirs, sets[i]), add_missing, json_get(mine, sets[i]));
	}
	for (size_t i = 0; i < ARRAY_SIZE(values); i++)
		if (is_empty(json_get(mine, values[i])) && !is_empty(json_get(theirs, values[i])))
			json_set(mine, values[i], json_ref(json_get(theirs, values[i])));
	merge_env(mine, json_get(theirs, "Env"));
	if (is_empty(json_get(mine, "Entrypoint"))) {
		if (is_empty(json_get(mine, "Cmd")))
			json_set(mine, "Cmd", json_ref(json_get(theirs, "Cmd")));
		json_set(mine, "Entrypoint", json_ref(json_get(theirs, "Entrypoint")));
	}
}

/* The members that an image's configuration has; those that say nothing are left out. */
static struct json *image_members(const struct json *config)
{
	static const char *const members[] = { "User",	      "ExposedPorts", "Env",
					       "Entrypoint",  "Cmd",	      "Volumes",
					       "WorkingDir",  "Labels",	      "StopSignal",
					       "Healthcheck", "OnBuild",      "Shell" };
	struct json *j = json_new_object();

	for (size_t i = 0; i < ARRAY_SIZE(members); i++)
		if (!is_empty(json_get(config, members[i])))
			json_set(j, members[i], json_ref(json_get(config, members[i])));
	return j;
}

static int apply_changes(struct http_request *r, struct json *config, struct error *err)
{
	const char *changes[CHANGES_MAX];
	size_t n = http_query_all(r, "changes", changes, ARRAY_SIZE(changes));

	for (size_t i = 0; i < MIN(n, ARRAY_SIZE(changes)); i++)
		if (change_apply(config, changes[i], err) < 0)
			return -1;
	return 0;
}

/* repo and tag of the query as a full name; NULL without error: none is asked for. */
static int wanted_name(struct http_request *r, char **ret, char **ret_familiar, struct error *err)
{
	autoreference struct reference ref = REFERENCE_INIT;
	const char *repo = api_query(r, "repo"), *tag = api_query(r, "tag");

	if (!repo)
		return 0;
	if (reference_parse(repo, &ref, err) < 0)
		return -1;
	if (ref.digest)
		return error_set(err, ERROR_INVALID_ARGUMENT, "cannot import digest reference");
	if (tag && !reference_tag_valid(tag))
		return error_set(err, ERROR_INVALID_ARGUMENT, "invalid tag format");
	if (tag)
		str_replace(&ref.tag, tag);
	reference_default_tag(&ref);
	*ret = reference_string(&ref);
	*ret_familiar = reference_familiar(&ref);
	return 0;
}

static void emit(struct http_request *r, const char *type, const char *action, const char *id,
		 const struct kvs *attributes)
{
	struct engine_event e = {
		.ns = api_ns(r), .type = type, .action = action, .id = id, .attributes = *attributes
	};

	engine_emit(api_engine(r), &e);
}

/* --- commit --- */

static int commit_layer(struct http_request *r, const char *id, struct image_make *m,
			char image_id[DIGEST_MAX], struct error *err)
{
	struct files_layer layer = FILES_LAYER_INIT;

	if (files_layer_open(api_engine(r), api_ns(r), id, http_query_bool(r, "pause", true),
			     &layer, err) < 0)
		return -1;
	m->input = -1;
	m->dir = layer.dir;
	m->lower = layer.lower;
	int result = image_make(engine_images(api_engine(r)), m, image_id, err);
	files_layer_close(&layer);
	return result;
}

/* The image's record may be gone; its content is there as long as the container. */
static int base_of(struct http_request *r, const struct container_view *v,
		   struct image_details *ret, struct error *err)
{
	if (image_lookup(engine_images(api_engine(r)), api_ns(r), v->config.image_id, ret, err) < 0)
		return error_wrap(err, "the image of container %s", v->id);
	return 0;
}

static void emit_commit(struct http_request *r, const struct container_view *v,
			const char *image_id, const char *familiar)
{
	autokvs struct kvs attributes = KVS_INIT;
	const char *comment = api_query(r, "comment");

	kvs_copy(&attributes, &v->config.labels);
	kvs_set(&attributes, "comment", comment ? comment : "");
	kvs_set(&attributes, "image", v->config.image);
	kvs_set(&attributes, "imageID", image_id);
	kvs_set(&attributes, "imageRef", familiar ? familiar : "");
	kvs_set(&attributes, "name", v->name);
	emit(r, "container", "commit", v->id, &attributes);
}

static int commit(struct http_request *r, const struct container_view *v, struct json *body,
		  struct error *err)
{
	CLEANUP(image_details_done) struct image_details base = { 0 };
	autojson struct json *document = container_inspect_document(http_request_arg(r), v);
	autojson struct json *config =
		json_type(body) == JSON_OBJECT ? json_copy(body) : json_new_object();
	autofree char *name = NULL, *familiar = NULL;
	char image_id[DIGEST_MAX];
	struct json *reply;

	if (wanted_name(r, &name, &familiar, err) < 0 || apply_changes(r, config, err) < 0 ||
	    base_of(r, v, &base, err) < 0)
		return -1;
	merge_config(config, json_get(document, "Config"));
	autojson struct json *members = image_members(config);
	autofree char *created_by = strv_join(&v->config.args, " ");
	struct image_make m = {
		.ns = api_ns(r),
		.base = &base.image.target,
		.config = members,
		.author = api_query(r, "author"),
		.comment = api_query(r, "comment"),
		.created_by = created_by,
		.name = name,
	};
	if (commit_layer(r, v->id, &m, image_id, err) < 0)
		return -1;
	emit_commit(r, v, image_id, familiar);
	reply = json_new_object();
	json_set_string(reply, "Id", image_id);
	http_reply_json(r, 201, reply);
	return 0;
}

HANDLER(commit)
{
	CLEANUP(container_view_freep) struct container_view *v = NULL;
	autojson struct json *body = NULL;
	const char *id = api_query(r, "container");

	if (api_body_json(r, &body, err) < 0)
		return -1;
	if (!id)
		return error_set(err, ERROR_INVALID_ARGUMENT, "invalid name or ID supplied: \"\"");
	if (engine_inspect(api_engine(r), api_ns(r), id, &v, err) < 0)
		return -1;
	return commit(r, v, body, err);
}

/* --- import --- */

/* The body into a pipe, on another thread than the one that waits for the worker. */
struct feed {
	struct http_request *request;
	struct error error;
	sem_t done;
	int fd, result;
};

static void feed_body(void *arg)
{
	struct feed *f = arg;
	autofree char *buf = xmalloc(COPY_SIZE);
	ssize_t n;

	while ((n = http_body_read(f->request, buf, COPY_SIZE, &f->error)) > 0)
		/* What is refused is read all the same: the client sends before it listens. */
		if (f->fd >= 0 && fs_write_all(f->fd, buf, (size_t)n) < 0)
			close(TAKE_FD(f->fd));
	if (f->fd >= 0)
		close(TAKE_FD(f->fd));
	f->result = n < 0 ? -1 : 0;
	sem_post(&f->done);
}

static int make_from_body(struct http_request *r, struct image_make *m, char image_id[DIGEST_MAX],
			  struct error *err)
{
	struct feed feed = { .request = r };
	int pipes[2];

	if (pipe2(pipes, O_CLOEXEC) < 0)
		return error_errno(err, errno, "make a pipe");
	sem_init(&feed.done, 0, 0);
	feed.fd = pipes[1];
	job_submit(engine_jobs(api_engine(r)), JOB_OPS, feed_body, NULL, &feed);
	m->input = pipes[0];
	int result = image_make(engine_images(api_engine(r)), m, image_id, err);
	close(pipes[0]);
	while (sem_wait(&feed.done) < 0 && errno == EINTR)
		continue;
	sem_destroy(&feed.done);
	error_done(&feed.error);
	return result;
}

static void reply_import(struct http_request *r, const char *image_id)
{
	autojson struct json *j = json_new_object();

	json_set_string(j, "status", image_id);
	autofree char *text = json_format(j, /* pretty */ false);
	autofree char *line = xasprintf("%s\r\n", text);
	http_reply(r, 200, "application/json", line, strlen(line));
}

int docker_images_import(struct http_request *r, struct error *err)
{
	autoplatform struct platform platform = PLATFORM_INIT;
	autojson struct json *config = json_new_object();
	autofree char *name = NULL, *familiar = NULL;
	autokvs struct kvs attributes = KVS_INIT;
	const char *message = api_query(r, "message");
	char image_id[DIGEST_MAX];

	if (!str_equal(api_query(r, "fromSrc"), "-"))
		return error_set(err, ERROR_UNIMPLEMENTED,
				 "import from a URL is not supported by Kistl: fetch '%s' and "
				 "import it from standard input",
				 api_query(r, "fromSrc"));
	if (wanted_name(r, &name, &familiar, err) < 0 || apply_changes(r, config, err) < 0)
		return -1;
	if (api_query(r, "platform") &&
	    platform_parse(api_query(r, "platform"), &platform, err) < 0)
		return -1;
	autojson struct json *members = image_members(config);
	struct image_make m = {
		.ns = api_ns(r),
		.dir = -1,
		.lower = -1,
		.config = members,
		.os = platform.os ? &platform : NULL,
		.comment = message ? message : "Imported from -",
		.name = name,
	};
	if (make_from_body(r, &m, image_id, err) < 0)
		return -1;
	kvs_set(&attributes, "name", familiar ? familiar : image_id);
	emit(r, "image", "import", image_id, &attributes);
	reply_import(r, image_id);
	return 0;
}
