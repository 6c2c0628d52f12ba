/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pull, push, load, save: long requests on the transfer pool whose reply is a stream of JSON lines
 * (jsonmessage). The head goes out with the first line, so that what fails before has a proper
 * status.
 */

#include "api/docker/internal.h"
#include "base/fs.h"
#include "base/human.h"
#include "base/mem.h"
#include "oci/digest.h"

#include <fcntl.h>
#include <semaphore.h>
#include <string.h>

#define COPY_SIZE (256 << 10)

struct message_stream {
	struct http_request *request;
	struct cancel *cancel;
	bool started, quiet;
};

static void send_message(struct message_stream *s, struct json *take)
{
	autofree char *text = json_format(take, false);
	autofree char *line = xasprintf("%s\r\n", text);

	json_unref(take);
	if (!s->started)
		http_stream_start(s->request, 200, "application/json");
	s->started = true;
	http_stream_write(s->request, line, strlen(line));
}

static void send_status(struct message_stream *s, const char *id, const char *status)
{
	struct json *j = json_new_object();

	json_set_string(j, "status", status);
	if (id)
		json_set_string(j, "id", id);
	send_message(s, j);
}

static const char *const phase_texts[] = {
	[PROGRESS_WAITING] = "Pulling fs layer", [PROGRESS_EXISTS] = "Already exists",
	[PROGRESS_DOWNLOADING] = "Downloading",	 [PROGRESS_DOWNLOADED] = "Download complete",
	[PROGRESS_EXTRACTING] = "Extracting",	 [PROGRESS_DONE] = "Pull complete",
	[PROGRESS_RETRYING] = "Retrying",	 [PROGRESS_PREPARING] = "Preparing",
	[PROGRESS_PUSHING] = "Pushing",		 [PROGRESS_PUSHED] = "Pushed",
	[PROGRESS_MOUNTED] = "Mounted",		 [PROGRESS_LAYER_EXISTS] = "Layer already exists",
};

/* The bar that old clients print verbatim. */
static char *progress_bar(int64_t current, int64_t total)
{
	autofree char *now = human_size((double)current, 4), *all = human_size((double)total, 4);
	int filled = total > 0 ? (int)(MIN(current, total) * 50 / total) : 0;
	char bar[51];

	if (total <= 0)
		return TAKE_PTR(now);
	memset(bar, ' ', 50);
	memset(bar, '=', (size_t)filled);
	if (filled > 0)
		bar[filled - 1] = '>';
	bar[50] = '\0';
	return xasprintf("[%s]  %s/%s", bar, now, all);
}

static void on_progress(const struct progress *p, void *arg)
{
	/* Only these are under way; clients without a terminal show what has no bar. */
	bool moves = p->phase == PROGRESS_DOWNLOADING || p->phase == PROGRESS_EXTRACTING ||
		     p->phase == PROGRESS_PUSHING;
	struct message_stream *s = arg;
	struct json *j, *detail;

	if (p->phase == PROGRESS_MESSAGE) {
		send_status(s, p->id, p->text ? p->text : "");
		return;
	}
	j = json_new_object();
	detail = json_new_object();
	if (p->phase == PROGRESS_MOUNTED && p->text) {
		autofree char *status = xasprintf("Mounted from %s", p->text);

		json_set_string(j, "status", status);
	} else if (p->phase == PROGRESS_RETRYING && p->text) {
		json_set_string(j, "status", p->text);
	} else {
		json_set_string(j, "status", phase_texts[p->phase]);
	}
	if (moves && (p->total > 0 || p->current > 0)) {
		autofree char *bar = progress_bar(p->current, p->total);

		json_set_int(detail, "current", p->current);
		if (p->total > 0)
			json_set_int(detail, "total", p->total);
		json_set_string(j, "progress", bar);
	}
	json_set(j, "progressDetail", detail);
	if (p->id)
		json_set_string(j, "id", p->id);
	send_message(s, j);
}

static void send_error(struct message_stream *s, const struct error *err)
{
	struct json *j = json_new_object(), *detail = json_new_object();

	json_set_string(detail, "message", error_msg(err));
	json_set(j, "errorDetail", detail);
	json_set_string(j, "error", error_msg(err));
	send_message(s, j);
}

static void on_gone(void *arg)
{
	cancel_trigger(arg);
}

static void stream_init(struct message_stream *s, struct http_request *r)
{
	*s = (struct message_stream){ .request = r, .cancel = cancel_new() };
	http_on_disconnect(r, on_gone, s->cancel);
}

/* Ends the stream, or passes the error on when nothing has been sent. */
static int message_stream_end(struct message_stream *s, int result, struct error *err)
{
	if (result < 0 && !s->started) {
		http_on_disconnect(s->request, NULL, NULL);
		return -1;
	}
	if (result < 0)
		send_error(s, err);
	else if (!s->started)
		http_stream_start(s->request, 200, "application/json");
	http_stream_end(s->request);
	return 0;
}

static void drop_cancel(void *arg)
{
	cancel_unref(arg);
}

static int stream_end(struct message_stream *s, int result, struct error *err)
{
	int r = message_stream_end(s, result, err);

	/* on_gone() may just be running; what is posted now comes after it. */
	loop_post(engine_loop(api_engine(s->request)), drop_cancel, s->cancel);
	return r;
}

static void emit_image(struct http_request *r, const char *action, const char *name)
{
	struct engine_event e = {
		.ns = api_ns(r),
		.type = "image",
		.action = action,
		.id = name,
	};

	kvs_set(&e.attributes, "name", name);
	engine_emit(api_engine(r), &e);
	kvs_done(&e.attributes);
}

static int pull(struct message_stream *s, struct transfer *t, struct error *err)
{
	autoimage struct image image = { 0 };
	autoreference struct reference ref = REFERENCE_INIT;
	bool fresh = false;

	if (reference_parse(t->ref, &ref, err) < 0)
		return -1;
	if (image_pull(engine_images(api_engine(s->request)), t, &image, &fresh, err) < 0) {
		autofree char *name = reference_familiar_name(&ref);

		/* Registries hide what one may not see; Docker's clients know this wording. */
		if (error_is(err, ERROR_UNAUTHENTICATED) ||
		    error_is(err, ERROR_PERMISSION_DENIED)) {
			err->code = ERROR_NOT_FOUND;
			error_wrap(err,
				   "pull access denied for %s, repository does not exist or may "
				   "require 'docker login'",
				   name);
		}
		return -1;
	}
	reference_default_tag(&ref);
	autofree char *familiar = reference_familiar(&ref);
	autofree char *digest = xasprintf("Digest: %s", image.target.digest);
	autofree char *status =
		xasprintf("Status: %s for %s",
			  fresh ? "Downloaded newer image" : "Image is up to date", familiar);
	send_status(s, NULL, digest);
	send_status(s, NULL, status);
	emit_image(s->request, "pull", familiar);
	return 0;
}

/* fromImage may carry the tag itself; a digest goes into `tag` too. */
static char *pull_reference(const struct http_request *r)
{
	const char *image = api_query(r, "fromImage"), *tag = api_query(r, "tag");

	if (!tag)
		return xstrdup(image);
	return xasprintf(strchr(tag, ':') ? "%s@%s" : "%s:%s", image, tag);
}

HANDLER(images_create)
{
	autoplatform struct platform platform = PLATFORM_INIT;
	CLEANUP(registry_auth_done) struct registry_auth auth = { 0 };
	autofree char *ref = NULL;
	struct message_stream s;
	bool has_auth;
	int result;

	if (!api_query(r, "fromImage") && api_query(r, "fromSrc"))
		return docker_images_import(r, err);
	if (!api_query(r, "fromImage"))
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "images/create: 'fromImage' is required");
	ref = pull_reference(r);
	if (registry_auth_parse(http_header(r, "X-Registry-Auth"), &auth, &has_auth, err) < 0)
		return -1;
	if (api_query(r, "platform") &&
	    platform_parse(api_query(r, "platform"), &platform, err) < 0)
		return -1;
	stream_init(&s, r);
	struct transfer t = {
		.ns = api_ns(r),
		.ref = ref,
		.platform = platform.os ? &platform : NULL,
		.auth = has_auth ? &auth : NULL,
		.cancel = s.cancel,
		.progress = on_progress,
		.arg = &s,
	};
	result = stream_end(&s, pull(&s, &t, err), err);
	return result;
}

static int push(struct message_stream *s, struct transfer *t, const char *tag, struct error *err)
{
	char digest[DIGEST_MAX];
	int64_t size = 0;
	struct json *j, *aux;

	if (image_push(engine_images(api_engine(s->request)), t, digest, &size, err) < 0)
		return -1;
	autofree char *text = xasprintf("%s: digest: %s size: %lld", tag, digest, (long long)size);
	send_status(s, NULL, text);
	j = json_new_object();
	aux = json_new_object();
	json_set_string(aux, "Tag", tag);
	json_set_string(aux, "Digest", digest);
	json_set_int(aux, "Size", size);
	json_set(j, "progressDetail", json_new_object());
	json_set(j, "aux", aux);
	send_message(s, j);
	emit_image(s->request, "push", t->ref);
	return 0;
}

HANDLER(image_push_handler)
{
	CLEANUP(registry_auth_done) struct registry_auth auth = { 0 };
	const char *name = http_param(r, "name");
	const char *tag = api_query(r, "tag") ? api_query(r, "tag") : "latest";
	autofree char *ref = NULL;
	struct message_stream s;
	bool has_auth;
	int result;

	if (registry_auth_parse(http_header(r, "X-Registry-Auth"), &auth, &has_auth, err) < 0)
		return -1;
	ref = xasprintf("%s:%s", name, tag);
	stream_init(&s, r);
	struct transfer t = {
		.ns = api_ns(r),
		.ref = ref,
		.auth = has_auth ? &auth : NULL,
		.cancel = s.cancel,
		.progress = on_progress,
		.arg = &s,
	};
	result = stream_end(&s, push(&s, &t, tag, err), err);
	return result;
}

/* The other half of a load or save: body or archive through a pipe, on a thread of the ops pool. */
struct side {
	struct http_request *request;
	const struct strv *names;
	struct cancel *cancel;
	struct error error;
	sem_t done;
	int fd, result;
};

static void side_load(void *arg)
{
	struct side *s = arg;
	autofree char *buf = xmalloc(COPY_SIZE);
	ssize_t n;

	while ((n = http_body_read(s->request, buf, COPY_SIZE, &s->error)) > 0) {
		if (fs_write_all(s->fd, buf, (size_t)n) < 0)
			break;
	}
	close(TAKE_FD(s->fd));
	s->result = n < 0 ? -1 : 0;
	sem_post(&s->done);
}

static void side_save(void *arg)
{
	struct side *s = arg;

	s->result = image_save(engine_images(api_engine(s->request)), api_ns(s->request), s->names,
			       s->fd, s->cancel, &s->error);
	close(TAKE_FD(s->fd));
	sem_post(&s->done);
}

static void side_join(struct side *s)
{
	while (sem_wait(&s->done) < 0 && errno == EINTR)
		continue;
	sem_destroy(&s->done);
	error_done(&s->error);
}

/* "Loaded image: x" goes as a stream line, as Docker has it. */
static void on_load_progress(const struct progress *p, void *arg)
{
	struct message_stream *s = arg;
	struct json *j;

	if (p->phase != PROGRESS_MESSAGE) {
		if (!s->quiet)
			on_progress(p, arg);
		return;
	}
	j = json_new_object();
	autofree char *line = xasprintf("%s\n", p->text ? p->text : "");
	json_set_string(j, "stream", line);
	send_message(s, j);
}

static void emit_loaded(struct http_request *r, const struct strv *names)
{
	for (size_t i = 0; i < names->n; i++) {
		CLEANUP(image_details_done) struct image_details d = { 0 };
		autoreference struct reference ref = REFERENCE_INIT;

		if (image_lookup(engine_images(api_engine(r)), api_ns(r), names->v[i], &d, NULL) <
		    0)
			continue;
		bool named = reference_parse(names->v[i], &ref, NULL) == 0;
		autofree char *familiar = named ? reference_familiar(&ref) : xstrdup(d.id);
		struct engine_event e = {
			.ns = api_ns(r), .type = "image", .action = "load", .id = d.id
		};

		kvs_copy(&e.attributes, &d.config.config.labels);
		kvs_set(&e.attributes, "name", familiar);
		engine_emit(api_engine(r), &e);
		kvs_done(&e.attributes);
	}
}

HANDLER(images_load)
{
	autostrv struct strv names = STRV_INIT;
	struct side side = { .request = r };
	struct message_stream s;
	int pipes[2], result;

	if (pipe2(pipes, O_CLOEXEC) < 0)
		return error_errno(err, errno, "make a pipe");
	stream_init(&s, r);
	s.quiet = http_query_bool(r, "quiet", false);
	sem_init(&side.done, 0, 0);
	side.fd = pipes[1];
	job_submit(engine_jobs(api_engine(r)), JOB_OPS, side_load, NULL, &side);
	struct transfer t = {
		.ns = api_ns(r),
		.cancel = s.cancel,
		.progress = on_load_progress,
		.arg = &s,
	};
	result = image_load(engine_images(api_engine(r)), &t, pipes[0], &names, err);
	close(pipes[0]);
	emit_loaded(r, &names);
	side_join(&side);
	result = stream_end(&s, result, err);
	return result;
}

static int copy_out(struct http_request *r, int fd)
{
	autofree char *buf = xmalloc(COPY_SIZE);
	bool started = false;
	ssize_t n;

	while ((n = read(fd, buf, COPY_SIZE)) > 0) {
		if (!started)
			http_stream_start(r, 200, "application/x-tar");
		started = true;
		if (http_stream_write(r, buf, (size_t)n) < 0)
			break;
	}
	return started;
}

HANDLER(images_get)
{
	const char *names[64];
	autostrv struct strv list = STRV_INIT;
	struct side side = { .request = r, .names = &list, .cancel = cancel_new() };
	int pipes[2], started;
	size_t n;

	if (http_param(r, "name"))
		strv_push(&list, http_param(r, "name"));
	n = http_query_all(r, "names", names, ARRAY_SIZE(names));
	for (size_t i = 0; i < n; i++)
		strv_split(&list, names[i], ",");
	if (list.n == 0 || pipe2(pipes, O_CLOEXEC) < 0) {
		cancel_unref(side.cancel);
		return list.n == 0 ? error_set(err, ERROR_INVALID_ARGUMENT,
					       "images/get: no image names given")
				   : error_errno(err, errno, "make a pipe");
	}
	sem_init(&side.done, 0, 0);
	side.fd = pipes[1];
	job_submit(engine_jobs(api_engine(r)), JOB_OPS, side_save, NULL, &side);
	started = copy_out(r, pipes[0]);
	cancel_trigger(side.cancel);
	close(pipes[0]);
	while (sem_wait(&side.done) < 0 && errno == EINTR)
		continue;
	sem_destroy(&side.done);
	cancel_unref(side.cancel);
	if (!started && side.result < 0)
		return error_move(err, &side.error);
	error_done(&side.error);
	if (!started)
		http_stream_start(r, 200, "application/x-tar");
	http_stream_end(r);
	return 0;
}
