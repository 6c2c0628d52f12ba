/* SPDX-License-Identifier: Apache-2.0 */
/* The API's life, the table of its services, and what all of them translate. */
#include "api/containerd/internal.h"

#include "api/containerd/task-table.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/mount.h"
#include "base/random.h"
#include "base/time.h"

#include "containerd.events.pb-c.h"
#include "containerd.services.containers.v1.pb-c.h"
#include "containerd.services.content.v1.pb-c.h"
#include "containerd.services.diff.v1.pb-c.h"
#include "containerd.services.events.v1.pb-c.h"
#include "containerd.services.images.v1.pb-c.h"
#include "containerd.services.introspection.v1.pb-c.h"
#include "containerd.services.leases.v1.pb-c.h"
#include "containerd.services.namespaces.v1.pb-c.h"
#include "containerd.services.snapshots.v1.pb-c.h"
#include "containerd.services.tasks.v1.pb-c.h"
#include "containerd.services.version.v1.pb-c.h"

#include <fcntl.h>
#include <string.h>

#define UUID_DIR "io.containerd.grpc.v1.introspection"
#define UUID_FILE UUID_DIR "/uuid"
#define UUID_LENGTH 36

static const struct {
	const ProtobufCServiceDescriptor *descriptor;
	const struct grpc_method *methods;
} table[] = {
	{ &containerd__services__version__v1__version__descriptor, version_methods },
	{ &containerd__services__introspection__v1__introspection__descriptor,
	  introspection_methods },
	{ &containerd__services__namespaces__v1__namespaces__descriptor, namespaces_methods },
	{ &containerd__services__leases__v1__leases__descriptor, leases_methods },
	{ &containerd__services__content__v1__content__descriptor, content_methods },
	{ &containerd__services__images__v1__images__descriptor, images_methods },
	{ &containerd__services__snapshots__v1__snapshots__descriptor, snapshots_methods },
	{ &containerd__services__containers__v1__containers__descriptor, containers_methods },
	{ &containerd__services__diff__v1__diff__descriptor, diff_methods },
	{ &containerd__services__events__v1__events__descriptor, events_methods },
	{ &containerd__services__tasks__v1__tasks__descriptor, tasks_methods },
};

_Static_assert(ARRAY_SIZE(table) <= CONTAINERD_SERVICES, "the API's services fit");

struct containerd_api *ctrd_of(const struct grpc_call *c)
{
	return grpc_call_arg(c);
}

/* Clients know a daemon by it (buildkit labels its workers with it), so it lasts. */
static char *load_uuid(const struct store *s, struct error *err)
{
	autofree char *path = path_join(store_root(s), UUID_FILE, NULL);
	autofree char *dir = path_join(store_root(s), UUID_DIR, NULL);
	autobuf struct buf text = BUF_INIT(UUID_LENGTH + 1);
	char hex[33];

	if (fs_read(AT_FDCWD, path, &text) == 0 && text.len >= UUID_LENGTH)
		return xstrndup(text.data, UUID_LENGTH);
	random_hex(16, hex);
	hex[12] = '4'; /* version and variant of RFC 9562 */
	hex[16] = "89ab"[hex[16] & 3];
	autofree char *uuid =
		xasprintf("%.8s-%.4s-%.4s-%.4s-%.12s", hex, hex + 8, hex + 12, hex + 16, hex + 20);
	int r = fs_mkdir_p(dir, 0700);
	if (r == 0)
		r = fs_write_atomic(AT_FDCWD, path, uuid, strlen(uuid), 0600, /* sync */ true);
	if (r < 0) {
		error_errno(err, -r, "write '%s'", path);
		return NULL;
	}
	return TAKE_PTR(uuid);
}

static void on_missed(struct task *t, const struct task_state *state, void *arg)
{
	struct containerd_api *a = arg;
	Containerd__Events__TaskExit event = CONTAINERD__EVENTS__TASK_EXIT__INIT;
	autoarena struct arena arena = ARENA_INIT;

	event.container_id = event.id = message_text(&arena, task_id(t));
	event.pid = (uint32_t)state->pid;
	event.exit_status = state->exit_status;
	event.exited_at = ctrd_time(&arena, state->exited_at);
	exchange_publish_missed(a->exchange, task_ns(t), "/tasks/exit", &event.base);
}

static int start_tasks(struct containerd_api *a, struct error *err)
{
	const struct task_table_config config = {
		.loop = a->config.loop,
		.jobs = a->config.jobs,
		.store = a->config.store,
		.root = a->config.root,
		.state = a->config.state,
		.shim = a->config.shim,
		.address = a->config.address,
		.on_missed = on_missed,
		.arg = a,
	};

	a->tasks = task_table_new(&config, err);
	return a->tasks ? task_table_recover(a->tasks, err) : -1;
}

struct containerd_api *containerd_api_new(const struct containerd_config *config, struct error *err)
{
	autofree char *uuid = load_uuid(config->store, err);

	if (!uuid)
		return NULL;
	struct containerd_api *a = xnew(struct containerd_api);
	a->config = *config;
	a->uuid = TAKE_PTR(uuid);
	a->exchange = exchange_new(config->loop);
	if (start_tasks(a, err) < 0) {
		containerd_api_free(a);
		return NULL;
	}
	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		a->services[a->n_services++] = (struct grpc_service){
			.descriptor = table[i].descriptor,
			.methods = table[i].methods,
			.arg = a,
		};
	return a;
}

void containerd_api_add(struct containerd_api *a, struct grpc_server *server)
{
	for (size_t i = 0; i < a->n_services; i++)
		grpc_server_add(server, &a->services[i]);
}

void containerd_api_event(struct containerd_api *a, const Containerd__Types__Envelope *e)
{
	exchange_forward(a->exchange, e);
}

void containerd_api_free(struct containerd_api *a)
{
	if (!a)
		return;
	task_table_free(a->tasks);
	exchange_free(a->exchange);
	free(a->uuid);
	free(a);
}

int ctrd_ctx(struct grpc_call *c, struct store_ctx *ret, struct error *err)
{
	const char *ns = grpc_call_metadata(c, "containerd-namespace");
	const char *lease = grpc_call_metadata(c, "containerd-lease");

	if (str_empty(ns))
		return error_set(err, ERROR_FAILED_PRECONDITION,
				 "namespace is required: failed precondition");
	if (!identifier_valid(ns))
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "namespace '%.128s' is not a valid identifier", ns);
	*ret = (struct store_ctx){
		.store = ctrd_of(c)->config.store,
		.ns = ns,
		.lease = str_empty(lease) ? NULL : lease,
	};
	return 0;
}

Google__Protobuf__Timestamp *ctrd_time(struct arena *a, int64_t ns)
{
	Google__Protobuf__Timestamp *t = message_new(a, &google__protobuf__timestamp__descriptor);

	t->seconds = ns / NSEC_PER_SEC;
	t->nanos = (int32_t)(ns % NSEC_PER_SEC);
	return t;
}

int64_t ctrd_nanoseconds(const Google__Protobuf__Timestamp *t)
{
	int64_t ns;

	if (!t || __builtin_mul_overflow(t->seconds, NSEC_PER_SEC, &ns) ||
	    __builtin_add_overflow(ns, (int64_t)t->nanos, &ns))
		return 0;
	return ns;
}

Google__Protobuf__Any *ctrd_any(struct arena *a, const char *type, const void *p, size_t n)
{
	Google__Protobuf__Any *any = message_new(a, &google__protobuf__any__descriptor);

	any->type_url = message_text(a, type);
	any->value.data = arena_alloc(a, n + 1);
	any->value.len = n;
	memcpy(any->value.data, p, n);
	return any;
}

Containerd__Types__Descriptor *ctrd_descriptor(struct arena *a, const struct descriptor *d)
{
	Containerd__Types__Descriptor *out = CTRD_NEW(a, types__descriptor);

	out->media_type = message_text(a, d->media_type);
	out->digest = message_text(a, d->digest);
	out->size = d->size;
	out->annotations =
		message_map(a, &containerd__types__descriptor__annotations_entry__descriptor,
			    &d->annotations, &out->n_annotations);
	return out;
}

Containerd__Types__Mount **ctrd_mounts(struct arena *a, const struct mounts *m, size_t *ret_n)
{
	Containerd__Types__Mount **out = message_array(a, m->n);

	for (size_t i = 0; i < m->n; i++) {
		out[i] = CTRD_NEW(a, types__mount);
		out[i]->type = message_text(a, m->v[i].type);
		out[i]->source = message_text(a, m->v[i].source);
		out[i]->target = message_text(a, m->v[i].target);
		out[i]->options = message_texts(a, &m->v[i].options);
		out[i]->n_options = m->v[i].options.n;
	}
	*ret_n = m->n;
	return out;
}

void ctrd_take_mounts(Containerd__Types__Mount *const *m, size_t n, struct mounts *ret)
{
	for (size_t i = 0; i < n; i++) {
		struct mount *out = mounts_add(ret, m[i]->type, m[i]->source, m[i]->target);

		for (size_t k = 0; k < m[i]->n_options; k++)
			strv_push(&out->options, m[i]->options[k]);
	}
}

const char *ctrd_mask_key(const char *path, const char *prefix)
{
	size_t n = strlen(prefix);

	return strncmp(path, prefix, n) == 0 && path[n] == '.' && path[n + 1] ? path + n + 1 : NULL;
}

static void replace_all(const struct kvs *have, const struct kvs *want, struct kvs *ret)
{
	for (size_t i = 0; i < have->n; i++)
		kvs_set(ret, have->v[i].key, "");
	for (size_t i = 0; i < want->n; i++)
		kvs_set(ret, want->v[i].key, want->v[i].value);
}

int ctrd_label_changes(const struct kvs *have, const struct kvs *want, const field_mask *mask,
		       struct kvs *ret, struct error *err)
{
	if (!mask || mask->n_paths == 0)
		replace_all(have, want, ret);
	for (size_t i = 0; mask && i < mask->n_paths; i++) {
		const char *path = mask->paths[i];
		const char *key = ctrd_mask_key(path, "labels");
		const char *value = key ? kvs_get(want, key) : NULL;

		if (key)
			kvs_set(ret, key, value ? value : "");
		else if (str_equal(path, "labels"))
			replace_all(have, want, ret);
		else
			return error_set(err, ERROR_INVALID_ARGUMENT,
					 "cannot update '%.128s', only labels", path);
	}
	return 0;
}

void items_add(struct arena *a, struct items *i, void *item)
{
	if (i->n == i->room) {
		size_t room = i->room ? i->room * 2 : 16;
		void **v = message_array(a, room);

		if (i->n > 0)
			memcpy(v, i->v, i->n * sizeof(*v));
		i->v = v;
		i->room = room;
	}
	i->v[i->n++] = item;
}
