/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attach: the client's socket goes to the shim, and the daemon is out of the way. A client that
 * comes before the start (docker run does) is kept until there is a shim to take it.
 */

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/time.h"
#include "engine/internal.h"
#include "engine/log-options.h"

#include <poll.h>
#include <string.h>
#include <strings.h>

#define ANNOUNCED_WAIT (2 * NSEC_PER_SEC)
#define DEFAULT_DETACH_KEYS "ctrl-p,ctrl-q"

/* One key: a character, or "ctrl-" and one of a-z @ [ \ ] ^ _. -1 for others. */
static int parse_key(const char *s)
{
	if (strlen(s) == 1)
		return (unsigned char)s[0];
	if (strncasecmp(s, "ctrl-", 5) != 0 || strlen(s) != 6)
		return -1;
	char c = s[5];
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 1;
	if (c == '@')
		return 0;
	return c >= '[' && c <= '_' ? c - '[' + 27 : -1;
}

static int parse_keys(const char *text, struct attach_request *ret, struct error *err)
{
	autostrv struct strv keys = STRV_INIT;

	strv_split(&keys, text, ",");
	if (keys.n > DETACH_KEYS_MAX)
		return error_set(err, ERROR_INVALID_ARGUMENT, "too many detach keys");
	for (size_t i = 0; i < keys.n; i++) {
		int key = parse_key(keys.v[i]);

		if (key < 0)
			return error_set(err, ERROR_INVALID_ARGUMENT,
					 "Invalid detach keys (%s) provided", text);
		ret->detach_keys[i] = (uint8_t)key;
	}
	ret->n_detach_keys = keys.n;
	return 0;
}

int attach_request_fill(const struct attach_options *o, const char *default_keys, bool tty,
			struct attach_request *ret, struct error *err)
{
	const char *keys = !str_empty(o->detach_keys) ? o->detach_keys
			   : !str_empty(default_keys) ? default_keys
						      : DEFAULT_DETACH_KEYS;

	*ret = (struct attach_request){
		.want_in = o->in,
		.want_out = o->out,
		.want_err = o->errs,
		.mux = o->mux && !tty,
		.hangup = o->hangup && tty,
	};
	/* Only a terminal has keys that mean something. */
	return tty && !o->no_detach_keys ? parse_keys(keys, ret, err) : 0;
}

char *container_log_uri(const struct container *c, struct error *err)
{
	const struct log_subject subject = {
		.id = c->id,
		.name = c->name,
		.dir = c->dir,
		.default_driver = c->e->config.log_driver,
		.config = &c->config,
	};
	char *uri;

	return log_uri(&subject, &uri, err) < 0 ? NULL : uri;
}

char *stdio_uri(bool open_stdin, bool once)
{
	return xasprintf("kistl-log://?driver=none&stdin=%s", !open_stdin ? "none"
							      : once	  ? "once"
									  : "open");
}

static void pending_free(struct pending_attach *p)
{
	list_remove(&p->node);
	closep(&p->fd);
	free(p);
}

void container_drop_attaches(struct container *c)
{
	LIST_FOREACH (p, &c->attaches, struct pending_attach, node)
		pending_free(p);
}

/* Those whose client has hung up. */
static size_t prune(struct container *c)
{
	size_t n = 0;

	LIST_FOREACH (p, &c->attaches, struct pending_attach, node) {
		struct pollfd poll_fd = { .fd = p->fd };

		if (poll(&poll_fd, 1, 0) == 1 && (poll_fd.revents & (POLLHUP | POLLERR)))
			pending_free(p);
		else
			n++;
	}
	return n;
}

static int keep_for_start(struct container *c, const struct attach_request *request, int fd,
			  struct error *err)
{
	if (prune(c) >= PENDING_ATTACH_MAX) {
		closep(&fd);
		return error_set(err, ERROR_RESOURCE_EXHAUSTED,
				 "too many clients wait for container %s to start", c->id);
	}
	struct pending_attach *p = xnew(struct pending_attach);
	p->request = *request;
	p->fd = fd;
	list_append(&c->attaches, &p->node);
	return 0;
}

int container_attach_pending(struct container *c, struct task *t, struct error *err UNUSED)
{
	LIST_FOREACH (p, &c->attaches, struct pending_attach, node) {
		autoerror struct error why = ERROR_INIT;

		/* A client that cannot be served loses its stream; the container starts. */
		if (task_attach(t, &p->request, p->fd, &why) < 0)
			log_warn("attach to container '%s': %s", c->id, error_msg(&why));
		pending_free(p);
	}
	return 0;
}

static int check_status(const struct container *c, struct error *err)
{
	if (c->s.status == CONTAINER_PAUSED)
		return error_set(err, ERROR_FAILED_PRECONDITION,
				 "container %s is paused, unpause the container before attach",
				 c->id);
	if (c->s.status == CONTAINER_RESTARTING)
		return error_set(err, ERROR_FAILED_PRECONDITION,
				 "container %s is restarting, wait until the container is running",
				 c->id);
	return 0;
}

int engine_attach_check(struct engine *e, const char *ns, const char *id, bool *ret_tty,
			struct error *err)
{
	CLEANUP(container_unrefp) struct container *c = container_find(e, ns, id, err);

	if (!c)
		return -1;
	pthread_mutex_lock(&e->lock);
	int r = check_status(c, err);
	*ret_tty = c->config.tty;
	pthread_mutex_unlock(&e->lock);
	return r;
}

void engine_attach_announce(struct engine *e, const char *ns, const char *id)
{
	CLEANUP(container_unrefp) struct container *c = container_find(e, ns, id, NULL);

	if (!c)
		return;
	pthread_mutex_lock(&e->lock);
	c->announced++;
	pthread_mutex_unlock(&e->lock);
}

void engine_attach_settle(struct engine *e, const char *ns, const char *id)
{
	CLEANUP(container_unrefp) struct container *c = container_find(e, ns, id, NULL);

	if (!c)
		return;
	pthread_mutex_lock(&e->lock);
	if (c->announced > 0 && --c->announced == 0)
		pthread_cond_broadcast(&c->changed);
	pthread_mutex_unlock(&e->lock);
}

void container_await_announced(struct container *c)
{
	int64_t end = time_monotonic() + ANNOUNCED_WAIT;
	struct timespec deadline = { .tv_sec = end / NSEC_PER_SEC, .tv_nsec = end % NSEC_PER_SEC };

	pthread_mutex_lock(&c->e->lock);
	while (c->announced > 0 &&
	       pthread_cond_clockwait(&c->changed, &c->e->lock, CLOCK_MONOTONIC, &deadline) == 0)
		continue;
	pthread_mutex_unlock(&c->e->lock);
}

int engine_attach(struct engine *e, const char *ns, const char *id, const struct attach_options *o,
		  int client_fd, struct error *err)
{
	autoclose int fd = client_fd;
	CLEANUP(container_releasep) struct container *c = container_acquire(e, ns, id, err);
	struct attach_request request;

	if (!c || check_status(c, err) < 0 ||
	    attach_request_fill(o, NULL, c->config.tty, &request, err) < 0)
		return -1;
	request.want_in = request.want_in && c->config.open_stdin;
	if (c->s.status == CONTAINER_RUNNING) {
		CLEANUP(task_unrefp) struct task *t = container_task(c, err);

		if (!t || task_attach(t, &request, fd, err) < 0)
			return -1;
	} else if (keep_for_start(c, &request, TAKE_FD(fd), err) < 0) {
		return -1;
	}
	container_emit(c, "attach", NULL, NULL);
	return 0;
}
