/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PullImage. What the kubelet hands over as a pull secret is used for the registry that it names
 * and for no other host; which host an endpoint is, image/endpoints.c knows. A pull that makes no
 * progress is given up (a registry that stalls is retried before, see image/); one whose client
 * has gone is cancelled, and leaves its downloads for the next to go on with.
 */
#include "api/cri/internal.h"

#include "base/buf.h"
#include "base/hex.h"
#include "base/mem.h"
#include "base/time.h"
#include "image/credentials.h"

#include <stdatomic.h>
#include <string.h>

#define AUTH_MAX (64 << 10)
#define WATCH_TICK_MS 500
#define PULL_ATTEMPTS 100

/* Counted: the pulling thread and the loop. */
struct pull_watch {
	struct list node; /* of the API's pulls; loop */
	struct loop_timer *timer;
	struct cri_api *api;
	atomic_uint refs;
	struct loop *loop;
	struct cancel *pull;   /* what the pull obeys */
	struct cancel *client; /* what says that the client has gone */
	int64_t timeout;
	atomic_int_fast64_t progressed;
	atomic_bool ended, stalled;
};

static void watch_unref(struct pull_watch *w)
{
	if (--w->refs > 0)
		return;
	cancel_unref(w->pull);
	cancel_unref(w->client);
	free(w);
}

static void watch_forget(struct pull_watch *w)
{
	list_remove(&w->node);
	watch_unref(w);
}

static void watch_tick(void *arg)
{
	struct pull_watch *w = arg;

	if (w->ended) {
		watch_forget(w);
		return;
	}
	if (time_monotonic() - w->progressed > w->timeout)
		w->stalled = true;
	if (w->stalled || cancel_is_set(w->client))
		cancel_trigger(w->pull);
	w->timer = loop_timer_start(w->loop, WATCH_TICK_MS, watch_tick, w);
}

static void watch_begin(void *arg)
{
	struct pull_watch *w = arg;

	list_append(&w->api->pulls, &w->node);
	watch_tick(w);
}

void cri_pulls_free(struct cri_api *api)
{
	LIST_FOREACH (w, &api->pulls, struct pull_watch, node) {
		loop_timer_cancel(w->timer);
		watch_forget(w);
	}
}

static struct pull_watch *watch_new(struct grpc_call *c)
{
	struct pull_watch *w = xnew(struct pull_watch);

	list_init(&w->node);
	w->api = cri_of(c);
	w->refs = 2;
	w->loop = cri_of(c)->config.loop;
	w->pull = cancel_new();
	w->client = cancel_ref(grpc_call_cancel(c));
	w->timeout = cri_of(c)->config.pull_timeout;
	w->progressed = time_monotonic();
	loop_post(w->loop, watch_begin, w);
	return w;
}

static void on_progress(const struct progress *p, void *arg)
{
	struct pull_watch *w = arg;

	if (p->phase != PROGRESS_RETRYING)
		w->progressed = time_monotonic();
}

/* "user:password" in base64, as Docker's config.json has it. */
static int decode_auth(const char *text, struct registry_auth *ret, struct error *err)
{
	autobuf struct buf b = BUF_INIT(AUTH_MAX);

	if (base64_decode(text, strlen(text), &b) < 0)
		return error_set(err, ERROR_INVALID_ARGUMENT, "auth.auth is no valid base64");
	char *colon = strchr(b.data, ':');
	if (!colon)
		return error_set(err, ERROR_INVALID_ARGUMENT, "auth.auth has no ':'");
	*colon = '\0';
	ret->username = xstrdup(b.data);
	ret->password = xstrdup(colon + 1); /* NULs at the end are padding */
	return 0;
}

static bool is_for(const char *server, const char *domain)
{
	autofree char *host = NULL;
	const char *s = strstr(server, "://");

	s = s ? s + 3 : server;
	host = xstrndup(s, strcspn(s, "/"));
	return str_equal(credentials_server(host), credentials_server(domain));
}

/* 1: there are credentials for this image's registry, 0: there are not. */
static int read_auth(const Runtime__V1__AuthConfig *m, const char *image, struct registry_auth *ret,
		     struct error *err)
{
	autoreference struct reference ref = REFERENCE_INIT;

	if (reference_parse(image, &ref, err) < 0)
		return error_wrap(err, "image.image '%s'", image);
	if (!m || (!str_empty(m->server_address) && !is_for(m->server_address, ref.domain)))
		return 0;
	if (!str_empty(m->username)) {
		ret->username = xstrdup(m->username);
		ret->password = xstrdup(m->password);
	} else if (!str_empty(m->identity_token)) {
		ret->identity_token = xstrdup(m->identity_token);
	} else if (!str_empty(m->registry_token)) {
		ret->registry_token = xstrdup(m->registry_token);
	} else if (!str_empty(m->auth)) {
		return decode_auth(m->auth, ret, err) < 0 ? -1 : 1;
	} else {
		return 0;
	}
	return 1;
}

/* The kubelet shows users the text before ':' as the reason; it takes only UNKNOWN apart. */
static int explain(const char *image, const struct pull_watch *w, struct error *why,
		   struct error *err)
{
	if (w->stalled)
		return error_set(err, ERROR_DEADLINE_EXCEEDED,
				 "failed to pull image '%s': no progress in %lld s", image,
				 (long long)(w->timeout / NSEC_PER_SEC));
	if (why->code == ERROR_UNAVAILABLE)
		return error_set(err, ERROR_UNKNOWN, "RegistryUnavailable: '%s': %s", image,
				 error_msg(why));
	error_move(err, why);
	return error_wrap(err, "failed to pull image '%s'", image);
}

/* Pulls, and again when another client removed the image before its id could be read. */
static int pull(const struct cri_api *api, const struct transfer *t, struct image_details *ret,
		struct error *err)
{
	for (int attempt = 1;; attempt++) {
		autoimage struct image image = { 0 };
		autoerror struct error why = ERROR_INIT;

		if (image_pull(api->images, t, &image, NULL, err) < 0)
			return -1;
		if (image_lookup(api->images, CRI_NAMESPACE, image.name, ret, &why) == 0)
			return 0;
		if (!error_is(&why, ERROR_NOT_FOUND) || attempt == PULL_ATTEMPTS)
			return error_move(err, &why);
	}
}

int cri_pull_image(struct grpc_call *c, const ProtobufCMessage *m, ProtobufCMessage *r,
		   struct error *err)
{
	const Runtime__V1__PullImageRequest *request = (const Runtime__V1__PullImageRequest *)m;
	Runtime__V1__PullImageResponse *reply = (Runtime__V1__PullImageResponse *)r;
	CLEANUP(registry_auth_done) struct registry_auth auth = { 0 };
	CLEANUP(image_details_done) struct image_details d = { 0 };
	const struct cri_api *api = cri_of(c);
	autoerror struct error why = ERROR_INIT;

	if (!request->image || str_empty(request->image->image))
		return error_set(err, ERROR_INVALID_ARGUMENT, "image.image is empty");
	const char *name = request->image->image;
	int has_auth = read_auth(request->auth, name, &auth, err);
	if (has_auth < 0)
		return -1;
	struct pull_watch *w = watch_new(c);
	const struct transfer t = {
		.ns = CRI_NAMESPACE,
		.ref = name,
		.auth = has_auth ? &auth : NULL,
		.cancel = w->pull,
		.progress = on_progress,
		.arg = w,
	};
	int result = pull(api, &t, &d, &why);
	w->ended = true;
	if (result < 0)
		result = explain(name, w, &why, err);
	else
		reply->image_ref = message_text(grpc_call_arena(c), d.id);
	watch_unref(w);
	return result;
}
