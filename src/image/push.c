/* SPDX-License-Identifier: Apache-2.0 */
/* image_push and image_login: what the store has, to a push worker. */
#include "base/fs.h"
#include "base/mem.h"
#include "image/endpoints.h"
#include "image/tree.h"
#include "image/worker.h"
#include "oci/digest.h"

#include <stdio.h>
#include <string.h>

/* The worker reads on only as its uploads proceed: never let it have so many that both wait. */
#define WINDOW 4

struct push {
	struct image_service *service;
	const struct transfer *transfer;
	struct store_ctx ctx;
	struct reference ref;
	char *name;
	struct image_tree tree;
	struct worker worker;
	size_t sent, confirmed; /* blobs */
	size_t manifests;
};

static void push_done(struct push *p)
{
	worker_end(&p->worker);
	image_tree_done(&p->tree);
	reference_done(&p->ref);
	free(p->name);
}

static void report(struct push *p, const struct descriptor *d, enum progress_phase phase,
		   const char *text, int64_t current)
{
	char id[13];

	/* People know layers; the config is nothing to them. */
	if (media_kind(d->media_type) != MEDIA_KIND_LAYER)
		return;
	snprintf(id, sizeof(id), "%.12s", digest_hex(d->digest));
	transfer_progress(p->transfer, phase, id, text, current, d->size);
}

/* --- where a blob may be mounted from --- */

static char *source_label(const struct push *p)
{
	return xasprintf(LABEL_SOURCE "%s", p->ref.domain);
}

static size_t common_prefix(const char *a, const char *b)
{
	size_t n = 0;

	while (a[n] && a[n] == b[n])
		n++;
	return n;
}

/* The repository nearest by name comes first: credentials are likeliest to reach it. */
static struct json *mount_sources(const struct push *p, const struct content_info *info)
{
	autofree char *key = source_label(p);
	const char *known = kvs_get(&info->labels, key);
	autostrv struct strv all = STRV_INIT;
	autostrv struct strv sorted = STRV_INIT;

	if (!str_empty(known))
		strv_split(&all, known, ",");
	while (all.n > 0) {
		size_t best = 0;

		for (size_t i = 1; i < all.n; i++)
			if (common_prefix(all.v[i], p->ref.path) >=
			    common_prefix(all.v[best], p->ref.path))
				best = i;
		if (!str_equal(all.v[best], p->ref.path) && *all.v[best])
			strv_push(&sorted, all.v[best]);
		strv_remove(&all, best);
	}
	return json_new_strv(&sorted);
}

/* The registry has it in this repository from now on. */
static void note_source(struct push *p, const struct descriptor *d)
{
	struct content_info info = { 0 };
	autofree char *key = source_label(p);
	autostrv struct strv all = STRV_INIT;
	autokvs struct kvs labels = KVS_INIT;
	autofree char *joined = NULL;
	const char *known;

	if (content_stat(&p->ctx, d->digest, &info, NULL) < 0)
		return;
	known = kvs_get(&info.labels, key);
	if (!str_empty(known))
		strv_split(&all, known, ",");
	if (!strv_contains(&all, p->ref.path)) {
		strv_push(&all, p->ref.path);
		joined = strv_join(&all, ",");
		kvs_set(&labels, key, strlen(joined) < 2048 ? joined : p->ref.path);
		(void)content_set_labels(&p->ctx, d->digest, &labels, NULL);
	}
	content_info_done(&info);
}

/* --- the conversation --- */

static int send_item(struct push *p, const char *op, size_t n, const struct descriptor *d,
		     struct error *err)
{
	struct descriptor bare = { .media_type = d->media_type,
				   .digest = d->digest,
				   .size = d->size };
	struct content_info info = { 0 };
	autoclose int fd = content_open(&p->ctx, d->digest, NULL, err);
	struct json *j;

	if (fd < 0 || content_stat(&p->ctx, d->digest, &info, err) < 0)
		return -1;
	j = json_new_object();
	json_set_string(j, "op", op);
	json_set_int(j, "n", (int64_t)n);
	bare.size = info.size;
	json_set(j, "descriptor", descriptor_to_json(&bare));
	if (str_equal(op, "blob"))
		json_set(j, "mount_from", mount_sources(p, &info));
	content_info_done(&info);
	return worker_tell(&p->worker, j, &fd, 1, err);
}

static void on_pushed(struct push *p, const struct descriptor *d, const struct json *j)
{
	const char *how = json_get_string(j, "how");

	if (str_equal(how, "exists"))
		report(p, d, PROGRESS_LAYER_EXISTS, NULL, 0);
	else if (str_equal(how, "mounted"))
		report(p, d, PROGRESS_MOUNTED, json_get_string(j, "from"), 0);
	else
		report(p, d, PROGRESS_PUSHED, NULL, d->size);
	note_source(p, d);
}

/* One message of the worker. */
static int take_event(struct push *p, struct error *err)
{
	autoworkermessage struct worker_message m = WORKER_MESSAGE_INIT;
	const struct descriptors *blobs = &p->tree.blobs;
	const char *event;
	int64_t n;

	if (worker_next(&p->worker, p->transfer->cancel, &m, err) < 0)
		return -1;
	event = worker_event(&m);
	n = json_get_int(m.json, "n", -1);
	if (p->worker.done || n < 0)
		return 0;
	if ((size_t)n >= blobs->n) { /* a manifest */
		p->manifests += str_equal(event, "pushed");
		return 0;
	}
	if (str_equal(event, "pushed")) {
		p->confirmed++;
		on_pushed(p, &blobs->v[n], m.json);
	} else if (str_equal(event, "progress")) {
		report(p, &blobs->v[n], PROGRESS_PUSHING, NULL, json_get_int(m.json, "current", 0));
	} else if (str_equal(event, "retry")) {
		report(p, &blobs->v[n], PROGRESS_RETRYING, json_get_string(m.json, "message"),
		       json_get_int(m.json, "delay_ms", 0));
	}
	return 0;
}

static int send_all(struct push *p, struct error *err)
{
	const struct descriptors *blobs = &p->tree.blobs;
	const struct descriptors *documents = &p->tree.documents;
	struct json *end;

	for (; p->sent < blobs->n; p->sent++) {
		while (p->sent - p->confirmed >= WINDOW)
			if (take_event(p, err) < 0)
				return -1;
		if (send_item(p, "blob", p->sent, &blobs->v[p->sent], err) < 0)
			return -1;
	}
	while (p->confirmed < blobs->n)
		if (take_event(p, err) < 0)
			return -1;
	for (size_t i = 0; i < documents->n; i++)
		if (send_item(p, "manifest", blobs->n + i, &documents->v[i], err) < 0)
			return -1;
	end = json_new_object();
	json_set_string(end, "op", "end");
	if (worker_tell(&p->worker, end, NULL, 0, err) < 0)
		return -1;
	while (!p->worker.done)
		if (take_event(p, err) < 0)
			return -1;
	return 0;
}

static int push_prepare(struct push *p, struct error *err)
{
	const struct transfer *t = p->transfer;
	autoimage struct image image = { 0 };
	autofree char *familiar = NULL;
	autofree char *text = NULL;

	if (reference_parse(t->ref, &p->ref, err) < 0)
		return -1;
	if (p->ref.digest)
		return error_set(err, ERROR_INVALID_ARGUMENT, "cannot push a digest reference");
	reference_default_tag(&p->ref);
	p->name = reference_string(&p->ref);
	familiar = reference_familiar(&p->ref);
	text = xasprintf("The push refers to repository [%s/%s]", p->ref.domain, p->ref.path);
	transfer_progress(t, PROGRESS_MESSAGE, NULL, text, 0, 0);
	if (image_get(&p->ctx, p->name, &image, NULL) < 0) {
		autofree char *bare = reference_familiar_name(&p->ref);

		return error_set(err, ERROR_NOT_FOUND,
				 "An image does not exist locally with the tag: %s", bare);
	}
	if (image_tree_load(&p->ctx, &image.target, t->platform, &p->tree, err) < 0)
		return error_wrap(err, "push '%s'", familiar);
	for (size_t i = 0; i < p->tree.blobs.n; i++)
		report(p, &p->tree.blobs.v[i], PROGRESS_PREPARING, NULL, 0);
	return 0;
}

int image_push(struct image_service *s, const struct transfer *t, char *ret_digest,
	       int64_t *ret_size, struct error *err)
{
	CLEANUP(push_done)
	struct push p = {
		.service = s,
		.transfer = t,
		.ctx = { .store = s->store, .ns = t->ns },
		.ref = REFERENCE_INIT,
		.worker = WORKER_INIT,
		.tree = IMAGE_TREE_INIT,
	};
	struct json *message;

	if (push_prepare(&p, err) < 0)
		return -1;
	message = endpoints_message(s, "push", p.ref.domain, p.name, t->auth, err);
	if (!message)
		return -1;
	if (worker_spawn(&p.worker, s->worker, "push", err) < 0) {
		json_unref(message);
		return -1;
	}
	if (worker_tell(&p.worker, message, NULL, 0, err) < 0 || send_all(&p, err) < 0)
		return -1;
	if (ret_digest)
		snprintf(ret_digest, DIGEST_MAX, "%s", p.tree.root.digest);
	if (ret_size)
		*ret_size = p.tree.root.size;
	return 0;
}

/* --- login --- */

/* "https://index.docker.io/v1/", "ghcr.io", "" -> the domain of references. */
static char *server_domain(const char *server)
{
	const char *scheme = str_empty(server) ? NULL : strstr(server, "://");
	const char *start = scheme ? scheme + 3 : server;
	char *host;

	if (str_empty(server))
		return xstrdup("docker.io");
	host = xstrndup(start, strcspn(start, "/"));
	if (str_equal(host, "index.docker.io") || str_equal(host, "registry-1.docker.io"))
		str_replace(&host, "docker.io");
	return host;
}

int image_login(struct image_service *s, const struct registry_auth *auth, char **ret_token,
		struct error *err)
{
	autoworker struct worker w = WORKER_INIT;
	autofree char *domain = server_domain(auth->server);
	autofree char *token = NULL;
	struct json *message = endpoints_message(s, "login", domain, NULL, auth, err);

	if (!message)
		return -1;
	if (worker_spawn(&w, s->worker, "login", err) < 0) {
		json_unref(message);
		return -1;
	}
	if (worker_tell(&w, message, NULL, 0, err) < 0)
		return -1;
	while (!w.done) {
		autoworkermessage struct worker_message m = WORKER_MESSAGE_INIT;
		const char *text;

		if (worker_next(&w, NULL, &m, err) < 0)
			return -1;
		text = json_get_string(m.json, "identity_token");
		if (str_equal(worker_event(&m), "token") && !str_empty(text))
			str_replace(&token, text);
	}
	if (ret_token)
		*ret_token = TAKE_PTR(token);
	return 0;
}

/* --- search --- */

#define SEARCH_MAX (8 << 20)

static int read_found(const struct worker_message *m, struct json **ret, struct error *err)
{
	autobuf struct buf text = BUF_INIT(SEARCH_MAX);
	int r = m->n_fds ? fs_read_fd(m->fds[0], &text) : -EINVAL;

	if (r < 0)
		return error_errno(err, -r, "kistl-image search");
	json_unref(*ret);
	*ret = json_parse(text.data, text.len, SEARCH_MAX, err);
	return *ret ? 0 : -1;
}

/* "localhost:5000/word": a host in front has a dot, a colon, or is localhost. */
static bool split_term(const char *term, char **ret_domain, const char **ret_word)
{
	size_t n = strcspn(term, "/");
	autofree char *host = xstrndup(term, n);

	*ret_word = term;
	if (!term[n] || (!strpbrk(host, ".:") && !str_equal(host, "localhost")) ||
	    str_equal(host, "docker.io") || str_equal(host, "index.docker.io")) {
		*ret_domain = xstrdup("docker.io");
		return true;
	}
	*ret_word = term + n + 1;
	*ret_domain = TAKE_PTR(host);
	return false;
}

int image_search(struct image_service *s, const char *term, int64_t limit,
		 const struct registry_auth *auth, struct json **ret, struct error *err)
{
	autoworker struct worker w = WORKER_INIT;
	autofree char *domain = NULL;
	autojson struct json *found = NULL;
	const char *word;
	bool hub = split_term(term, &domain, &word);
	autojson struct json *message = endpoints_message(s, "search", domain, NULL, auth, err);

	if (!message)
		return -1;
	json_set_string(message, "term", word);
	json_set_int(message, "limit", limit);
	json_set_bool(message, "hub", hub);
	if (worker_spawn(&w, s->worker, "search", err) < 0 ||
	    worker_tell(&w, TAKE_PTR(message), NULL, 0, err) < 0)
		return -1;
	while (!w.done) {
		autoworkermessage struct worker_message m = WORKER_MESSAGE_INIT;

		if (worker_next(&w, NULL, &m, err) < 0 ||
		    (str_equal(worker_event(&m), "found") && read_found(&m, &found, err) < 0))
			return -1;
	}
	*ret = found ? TAKE_PTR(found) : json_new_array();
	return 0;
}
