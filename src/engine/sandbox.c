/* SPDX-License-Identifier: Apache-2.0 */
/* The table of sandboxes, their locks, records and views. */

#include "engine/sandbox.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "engine/sandbox-internal.h"

#include <assert.h>
#include <string.h>

struct sandbox *sandbox_new(struct engine *e, const char *ns, const char *id)
{
	struct sandbox *s = xnew(struct sandbox);

	assert(strlen(id) < sizeof(s->id));
	s->e = e;
	s->refs = 1;
	s->ns = xstrdup(ns);
	memcpy(s->id, id, strlen(id) + 1);
	s->dir = path_join(e->config.state, "pods", id, NULL);
	s->state = SANDBOX_NOTREADY;
	pthread_cond_init(&s->changed, NULL);
	pthread_mutex_init(&s->shim_lock, NULL);
	return s;
}

struct sandbox *sandbox_ref(struct sandbox *s)
{
	if (s)
		s->refs++;
	return s;
}

void sandbox_unref(struct sandbox *s)
{
	if (!s || --s->refs > 0)
		return;
	task_unref(s->task);
	sandbox_view_unref(s->view);
	sandbox_config_done(&s->config);
	strv_done(&s->ips);
	free(s->ns);
	free(s->dir);
	free(s->extension);
	free(s->cni_result);
	free(s->boot_id);
	pthread_cond_destroy(&s->changed);
	pthread_mutex_destroy(&s->shim_lock);
	free(s);
}

void sandbox_lock(struct sandbox *s)
{
	pthread_mutex_lock(&s->e->lock);
	while (s->busy)
		pthread_cond_wait(&s->changed, &s->e->lock);
	s->busy = true;
	pthread_mutex_unlock(&s->e->lock);
}

void sandbox_release(struct sandbox *s)
{
	pthread_mutex_lock(&s->e->lock);
	assert(s->busy);
	s->busy = false;
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->e->lock);
	sandbox_unref(s);
}

/* e->lock is held: the sandbox with this id, or the only one whose id begins so. */
static struct sandbox *find_locked(struct engine *e, const char *ns, const char *id,
				   bool *ret_ambiguous)
{
	autofree char *key = table_key(ns, id);
	struct sandbox *found = map_get(&e->sandboxes, key);

	*ret_ambiguous = false;
	if (found || id[0] == '\0')
		return found;
	MAP_FOREACH (item, &e->sandboxes) {
		struct sandbox *s = map_value(item);

		if (!str_equal(s->ns, ns) || !str_has_prefix(s->id, id))
			continue;
		*ret_ambiguous |= found != NULL;
		found = s;
	}
	return found;
}

struct sandbox *sandbox_find(struct engine *e, const char *ns, const char *id, struct error *err)
{
	bool ambiguous;

	pthread_mutex_lock(&e->lock);
	struct sandbox *s = find_locked(e, ns, id, &ambiguous);
	if (ambiguous || (s && s->making))
		s = NULL;
	sandbox_ref(s);
	pthread_mutex_unlock(&e->lock);
	if (ambiguous)
		error_set(err, ERROR_INVALID_ARGUMENT, "more than one sandbox has the prefix %s",
			  id);
	else if (!s)
		error_set(err, ERROR_NOT_FOUND, "sandbox \"%s\" not found", id);
	return s;
}

bool sandbox_is_ready(struct sandbox *s)
{
	pthread_mutex_lock(&s->e->lock);
	bool ready = s->state == SANDBOX_READY && !s->making && !s->gone;
	pthread_mutex_unlock(&s->e->lock);
	return ready;
}

void sandbox_publish(struct sandbox *s)
{
	autofree char *key = table_key(s->ns, s->id);

	pthread_mutex_lock(&s->e->lock);
	map_set(&s->e->sandboxes, key, sandbox_ref(s));
	pthread_mutex_unlock(&s->e->lock);
}

void sandboxes_free(struct engine *e)
{
	MAP_FOREACH (item, &e->sandboxes)
		sandbox_unref(map_value(item));
	map_done(&e->sandboxes);
}

void sandbox_emit(struct sandbox *s, const char *action)
{
	struct engine_event event = {
		.ns = s->ns,
		.type = "sandbox",
		.action = action,
		.id = s->id,
	};

	kvs_copy(&event.attributes, &s->config.labels);
	kvs_set(&event.attributes, "name", s->config.name);
	engine_emit(s->e, &event);
	kvs_done(&event.attributes);
}

/* e->lock is held. */
static struct json *document(const struct sandbox *s)
{
	struct json *doc = json_new_object();

	json_set(doc, "config", sandbox_config_to_json(&s->config));
	json_set_int(doc, "createdAt", s->created_at);
	json_set_bool(doc, "ready", s->state == SANDBOX_READY);
	json_set_bool(doc, "making", s->making);
	json_set_bool(doc, "attached", s->attached);
	json_set_bool(doc, "letGo", s->let_go);
	json_set(doc, "ips", json_new_strv(&s->ips));
	json_set_string(doc, "bootID", s->boot_id);
	if (s->cni_result)
		json_set_string(doc, "cniResult", s->cni_result);
	if (s->extension)
		json_set_string(doc, "extension", s->extension);
	return doc;
}

int sandbox_save(struct sandbox *s, struct error *err)
{
	const struct store_ctx ctx = { .store = s->e->config.store, .ns = s->ns };

	pthread_mutex_lock(&s->e->lock);
	sandbox_view_unref(TAKE_PTR(s->view));
	autojson struct json *doc = document(s);
	pthread_mutex_unlock(&s->e->lock);
	autofree char *text = json_format(doc, /* pretty */ false);
	return record_put(&ctx, SANDBOX_KIND, s->id, text, /* sync */ false, err);
}

void sandbox_note_lost(struct sandbox *s)
{
	autoerror struct error err = ERROR_INIT;

	pthread_mutex_lock(&s->e->lock);
	bool was = s->state == SANDBOX_READY;
	s->state = SANDBOX_NOTREADY;
	pthread_mutex_unlock(&s->e->lock);
	if (!was)
		return;
	if (sandbox_save(s, &err) < 0)
		log_err("save the state of sandbox '%s': %s, ignoring", s->id, error_msg(&err));
	sandbox_emit(s, "stop");
}

/* --- views --- */

struct sandbox_view *sandbox_view_ref(struct sandbox_view *v)
{
	if (v)
		v->refs++;
	return v;
}

void sandbox_view_unref(struct sandbox_view *v)
{
	if (!v || --v->refs > 0)
		return;
	sandbox_config_done(&v->config);
	strv_done(&v->ips);
	free(v->ns);
	free(v->id);
	free(v->netns_path);
	free(v->ipcns_path);
	free(v->utsns_path);
	free(v->userns_path);
	free(v->dir);
	free(v->cgroup);
	free(v->runtime);
	json_unref(v->cni_result);
	json_unref(v->extension);
	free(v);
}

void sandbox_views_done(struct sandbox_views *v)
{
	for (size_t i = 0; i < v->n; i++)
		sandbox_view_unref(v->v[i]);
	free(v->v);
	*v = (struct sandbox_views){ 0 };
}

static char *pin_or_empty(const struct sandbox *s, enum sandbox_ns which)
{
	char *path = sandbox_ns_path(s, which);

	return path ? path : xstrdup("");
}

static struct json *parse(const char *text)
{
	return text ? json_parse(text, strlen(text), SIZE_MAX, NULL) : NULL;
}

/* e->lock is held. */
static struct sandbox_view *view_of(struct sandbox *s)
{
	if (s->view)
		return sandbox_view_ref(s->view);

	struct sandbox_view *v = xnew(struct sandbox_view);
	const char *handler = s->config.runtime;

	v->refs = 2; /* the cache's and the caller's */
	v->ns = xstrdup(s->ns);
	v->id = xstrdup(s->id);
	sandbox_config_copy(&v->config, &s->config);
	v->state = s->state;
	v->created_at = s->created_at;
	strv_copy(&v->ips, &s->ips);
	v->netns_path = pin_or_empty(s, SANDBOX_NET);
	v->ipcns_path = pin_or_empty(s, SANDBOX_IPC);
	v->utsns_path = pin_or_empty(s, SANDBOX_UTS);
	v->userns_path = pin_or_empty(s, SANDBOX_USER);
	v->pid = s->pid;
	v->dir = xstrdup(s->dir);
	v->cgroup = sandbox_cgroup(s, NULL);
	v->runtime = xstrdup(handler ? handler : "");
	v->cni_result = parse(s->cni_result);
	v->extension = parse(s->extension);
	s->view = v;
	return v;
}

int engine_sandbox_get(struct engine *e, const char *ns, const char *id, struct sandbox_view **ret,
		       struct error *err)
{
	CLEANUP(sandbox_unrefp) struct sandbox *s = sandbox_find(e, ns, id, err);

	if (!s)
		return -1;
	pthread_mutex_lock(&e->lock);
	*ret = view_of(s);
	pthread_mutex_unlock(&e->lock);
	return 0;
}

static int by_age(const void *a, const void *b)
{
	const struct sandbox_view *x = *(struct sandbox_view *const *)a;
	const struct sandbox_view *y = *(struct sandbox_view *const *)b;

	return x->created_at > y->created_at ? -1 : x->created_at < y->created_at;
}

void engine_sandbox_list(struct engine *e, const char *ns, struct sandbox_views *ret)
{
	*ret = (struct sandbox_views){ 0 };
	pthread_mutex_lock(&e->lock);
	MAP_FOREACH (item, &e->sandboxes) {
		struct sandbox *s = map_value(item);

		if (!str_equal(s->ns, ns) || s->making || s->gone)
			continue;
		GROW_ARRAY(ret->v, ret->n);
		ret->v[ret->n++] = view_of(s);
	}
	pthread_mutex_unlock(&e->lock);
	if (ret->n > 1)
		qsort(ret->v, ret->n, sizeof(*ret->v), by_age);
}
