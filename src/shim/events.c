/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/events.h"

#include "base/fs.h"
#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/time.h"
#include "containerd.services.events.ttrpc.v1.pb-c.h"
#include "rpc/protobuf.h"
#include "rpc/ttrpc-client.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#define QUEUE_MAX 1024
#define TRIES_MAX 5
#define CALL_TIMEOUT_MS 5000

struct event {
	struct list node;
	const char *topic; /* static */
	int64_t when;
	const char *type; /* the descriptor's */
	uint8_t *payload;
	size_t len;
	unsigned tries;
};

static struct {
	struct loop *loop;
	char *ns, *address;
	struct list queue;
	unsigned n;
	bool busy; /* the first one is on its way */
	struct ttrpc_client *client;
	struct loop_timer *retry;
} events;

static void send_first(void);

static void event_free(struct event *e)
{
	list_remove(&e->node);
	events.n--;
	free(e->payload);
	free(e);
}

static struct event *first_event(void)
{
	return LIST_ENTRY(events.queue.next, struct event, node);
}

/* Like fs_unix_connect(), but a listener whose backlog is full makes it fail, not wait. */
static int connect_now(const char *path)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	autofree char *dir = xstrndup(path, (size_t)(path_base(path) - path));
	autoclose int dirfd = -1;
	autoclose int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int len;

	if (fd < 0)
		return -errno;
	if (strlen(path) < sizeof(sa.sun_path)) {
		len = snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", path);
	} else {
		dirfd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (dirfd < 0)
			return -errno;
		len = snprintf(sa.sun_path, sizeof(sa.sun_path), "/proc/self/fd/%d/%s", dirfd,
			       path_base(path));
	}
	if (len < 0 || (size_t)len >= sizeof(sa.sun_path))
		return -ENAMETOOLONG;
	if (connect(fd, (const struct sockaddr *)&sa, sizeof(sa)) < 0)
		return -errno;
	return TAKE_FD(fd);
}

static void on_closed(void *arg UNUSED)
{
	ttrpc_client_unref(events.client);
	events.client = NULL;
}

static struct ttrpc_client *get_client(void)
{
	if (events.client)
		return events.client;
	int fd = connect_now(events.address);
	if (fd < 0)
		return NULL;
	events.client = ttrpc_client_new(events.loop, fd, events.ns, NULL);
	if (events.client)
		ttrpc_client_on_close(events.client, on_closed, NULL);
	return events.client;
}

static void on_retry(void *arg UNUSED)
{
	events.retry = NULL;
	send_first();
}

static void failed(const char *why)
{
	struct event *e = first_event();

	events.busy = false;
	if (++e->tries >= TRIES_MAX) {
		log_warn("event %s could not be delivered (%s), dropping it", e->topic, why);
		event_free(e);
		send_first();
		return;
	}
	events.retry = loop_timer_start(events.loop, e->tries * 1000ULL, on_retry, NULL);
}

static void on_answer(const struct error *err, const void *payload UNUSED, size_t len UNUSED,
		      void *arg UNUSED)
{
	if (err && !error_is(err, ERROR_UNIMPLEMENTED)) {
		failed(error_msg(err));
		return;
	}
	events.busy = false;
	event_free(first_event());
	send_first();
}

static void send_first(void)
{
	if (events.busy || events.retry || list_is_empty(&events.queue))
		return;
	struct ttrpc_client *c = get_client();
	if (!c) {
		failed("nobody listens");
		return;
	}
	const struct event *e = first_event();
	Containerd__Services__Events__Ttrpc__V1__ForwardRequest r =
		CONTAINERD__SERVICES__EVENTS__TTRPC__V1__FORWARD_REQUEST__INIT;
	Containerd__Types__Envelope envelope = CONTAINERD__TYPES__ENVELOPE__INIT;
	Google__Protobuf__Timestamp when = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
	Google__Protobuf__Any any = GOOGLE__PROTOBUF__ANY__INIT;

	when.seconds = e->when / NSEC_PER_SEC;
	when.nanos = (int32_t)(e->when % NSEC_PER_SEC);
	any.type_url = (char *)(uintptr_t)e->type;
	any.value = (ProtobufCBinaryData){ e->len, e->payload };
	envelope.timestamp = &when;
	envelope.namespace_ = events.ns;
	envelope.topic = (char *)(uintptr_t)e->topic;
	envelope.event = &any;
	r.envelope = &envelope;
	events.busy = true;
	ttrpc_client_call_async(c, "containerd.services.events.ttrpc.v1.Events", "Forward", &r.base,
				CALL_TIMEOUT_MS, on_answer, NULL);
}

void events_start(struct loop *l, const char *ns, const char *address)
{
	events.loop = l;
	events.ns = xstrdup(ns);
	list_init(&events.queue);
	if (!str_empty(address))
		events.address = xstrdup(
			address + (str_has_prefix(address, "unix://") ? strlen("unix://") : 0));
}

void events_stop(void)
{
	LIST_FOREACH (e, &events.queue, struct event, node)
		event_free(e);
	loop_timer_cancel(events.retry);
	if (events.client) {
		ttrpc_client_close(events.client);
		ttrpc_client_unref(events.client);
	}
	free(events.ns);
	free(events.address);
}

void event_publish(const char *topic, const ProtobufCMessage *event)
{
	if (!events.address)
		return;
	if (events.n >= QUEUE_MAX) {
		/* The first may be on its way; the second is the oldest that is not. */
		struct list *oldest = events.queue.next->next;

		event_free(LIST_ENTRY(oldest, struct event, node));
	}
	struct event *e = xnew(struct event);

	e->topic = topic;
	e->type = event->descriptor->name;
	e->when = time_realtime();
	e->len = protobuf_c_message_get_packed_size(event);
	e->payload = xmalloc(e->len + 1);
	protobuf_c_message_pack(event, e->payload);
	list_append(&events.queue, &e->node);
	events.n++;
	send_first();
}

bool events_pending(void)
{
	return !list_is_empty(&events.queue);
}
