/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/grpc-health.h"

#include "base/list.h"
#include "base/map.h"
#include "base/mem.h"

#include "grpc.health.v1.pb-c.h"

#include <assert.h>
#include <pthread.h>

typedef Grpc__Health__V1__HealthCheckRequest health_request;
typedef Grpc__Health__V1__HealthCheckResponse health_response;

#define STATUS(name) GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__##name

struct grpc_health {
	struct grpc_service service;
	struct loop *loop;
	pthread_mutex_t lock;
	struct map serving;   /* name: &yes or &no */
	struct list watchers; /* loop only */
};

struct watcher {
	struct list node;
	struct grpc_health *health;
	struct grpc_call *call;
	char *service;
};

static bool yes = true, no = false;

static int status_of(struct grpc_health *h, const char *service)
{
	pthread_mutex_lock(&h->lock);
	const bool *serving = map_get(&h->serving, service);
	pthread_mutex_unlock(&h->lock);
	if (!serving)
		return STATUS(SERVICE_UNKNOWN);
	return *serving ? STATUS(SERVING) : STATUS(NOT_SERVING);
}

static int check(struct grpc_call *c, const ProtobufCMessage *m, ProtobufCMessage *reply,
		 struct error *err)
{
	const health_request *request = (const health_request *)m;
	health_response *response = (health_response *)reply;

	response->status = status_of(grpc_call_arg(c), request->service);
	if (response->status == STATUS(SERVICE_UNKNOWN))
		return error_set(err, ERROR_NOT_FOUND, "unknown service");
	return 0;
}

static void send_status(struct watcher *w)
{
	health_response response = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;

	response.status = status_of(w->health, w->service);
	grpc_call_send(w->call, &response.base);
}

static void on_cancel(void *arg)
{
	struct watcher *w = arg;

	list_remove(&w->node);
	grpc_call_unref(w->call);
	free(w->service);
	free(w);
}

static void add_watcher(void *arg)
{
	struct watcher *w = arg;

	list_append(&w->health->watchers, &w->node);
	send_status(w);
	grpc_call_on_cancel(w->call, on_cancel, w);
}

static int watch(struct grpc_call *c, const ProtobufCMessage *m, struct error *err)
{
	const health_request *request = (const health_request *)m;

	if (!request)
		return error_set(err, ERROR_INVALID_ARGUMENT, "the request has no message");
	struct watcher *w = xnew(struct watcher);
	w->health = grpc_call_arg(c);
	w->call = grpc_call_ref(c);
	w->service = xstrdup(request->service);
	loop_post(w->health->loop, add_watcher, w);
	return 0;
}

static const struct grpc_method methods[] = {
	{ "Check", .unary = check, .pool = JOB_OPS },
	{ "Watch", .streaming = watch, .pool = JOB_OPS },
	{ NULL },
};

struct grpc_health *grpc_health_new(struct grpc_server *s, struct loop *l)
{
	struct grpc_health *h = xnew(struct grpc_health);

	h->service = (struct grpc_service){
		.descriptor = &grpc__health__v1__health__descriptor,
		.methods = methods,
		.arg = h,
	};
	h->loop = l;
	h->serving = MAP_INIT;
	pthread_mutex_init(&h->lock, NULL);
	list_init(&h->watchers);
	map_set(&h->serving, "", &yes);
	grpc_server_add(s, &h->service);
	return h;
}

void grpc_health_set(struct grpc_health *h, const char *service, bool serving)
{
	pthread_mutex_lock(&h->lock);
	map_set(&h->serving, service, serving ? &yes : &no);
	pthread_mutex_unlock(&h->lock);
	LIST_FOREACH (w, &h->watchers, struct watcher, node) {
		if (str_equal(w->service, service))
			send_status(w);
	}
}

void grpc_health_free(struct grpc_health *h)
{
	if (!h)
		return;
	assert(list_is_empty(&h->watchers));
	map_done(&h->serving);
	pthread_mutex_destroy(&h->lock);
	free(h);
}
