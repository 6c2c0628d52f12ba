/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each layer has two things to become: content (a blob in the store) and a snapshot (committed
 * under its chain id). pipeline_step() looks at every layer and starts what can be started; poll()
 * then waits for workers, for other pipelines and for cancellation.
 *
 * Durability: a snapshot's record must not reach the disk before its files do. Linking therefore
 * waits until all layers are unpacked, and the first commit syncs the file system for all of them.
 * It happens earlier, and then again, only for a layer that needs its parents mounted, or when
 * somebody else is about to make a chain id above ours (he waits for what we hold).
 */
#include "image/pipeline.h"

#include "base/hex.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/random.h"
#include "store/leases.h"

#include <assert.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>

#define INGEST_RETRY_MS 200
#define IMPLIED_MAX 1000000

enum part {
	PART_UNKNOWN, /* not looked at, or look again */
	PART_OTHERS,  /* another pipeline makes it */
	PART_OURS,    /* ours to make: we hold its flight */
	PART_RUNNING,
	PART_READY, /* snapshot: unpacked, but not linked */
	PART_THERE,
};

struct layer {
	struct descriptor descriptor;
	char *diff_id;
	char chain[DIGEST_MAX];
	char id[13];		       /* for progress */
	char *content_key, *chain_key; /* flights */
	enum part content, snapshot;
	bool answered, needs_parent, unpacked_here, told_done;
	struct ingest *ingest;
	struct worker unpacker;
	struct error unpack_error; /* kept until it is known whether the download is to blame */
	char *key;		   /* active snapshot */
	struct strv implied;
	unsigned seq; /* of unpacks */
};

/* --- set-up --- */

int pipeline_prepare(struct pipeline *p, const struct manifest *m, const struct image_config *c,
		     struct error *err)
{
	assert(m->layers.n == c->diff_ids.n);
	if (snapshotter_capabilities(p->ctx.store, p->snapshotter, &p->capabilities, err) < 0)
		return -1;
	p->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (p->wake < 0)
		return error_errno(err, errno, "eventfd");
	p->layers = xnew_array(struct layer, m->layers.n + 1);
	for (; p->n < m->layers.n; p->n++) {
		struct layer *l = &p->layers[p->n];

		descriptor_copy(&l->descriptor, &m->layers.v[p->n]);
		l->diff_id = xstrdup(c->diff_ids.v[p->n]);
		image_config_chain_id(c, p->n + 1, l->chain);
		snprintf(l->id, sizeof(l->id), "%.12s", digest_hex(l->descriptor.digest));
		l->content_key = xasprintf("layer:%s", l->descriptor.digest);
		l->chain_key = xasprintf("chain:%s:%s:%s", p->ctx.ns, p->snapshotter, l->chain);
		l->unpacker = WORKER_INIT;
	}
	return 0;
}

static void report(struct pipeline *p, const struct layer *l, enum progress_phase phase,
		   int64_t current)
{
	transfer_progress(p->transfer, phase, l->id, NULL, current, l->descriptor.size);
}

/* --- what is there --- */

static bool content_there(struct pipeline *p, const struct layer *l)
{
	struct content_info info = { 0 };
	bool there = content_stat(&p->ctx, l->descriptor.digest, &info, NULL) == 0;

	content_info_done(&info);
	return there;
}

static bool snapshot_there(struct pipeline *p, const struct layer *l)
{
	struct snapshot_info info = { 0 };
	bool there = snapshot_stat(&p->ctx, p->snapshotter, l->chain, &info, NULL) == 0 &&
		     info.kind == SNAPSHOT_COMMITTED;

	snapshot_info_done(&info);
	return there;
}

/* There, and held by our lease from before we looked. */
static bool hold(struct pipeline *p, const struct layer *l, const char *type, const char *resource,
		 bool (*there)(struct pipeline *p, const struct layer *l))
{
	if (!there(p, l))
		return false;
	if (lease_add(&p->ctx, p->ctx.lease, type, resource, NULL) == 0 && there(p, l))
		return true;
	(void)lease_remove(&p->ctx, p->ctx.lease, type, resource, NULL);
	return false;
}

static bool hold_content(struct pipeline *p, const struct layer *l)
{
	return hold(p, l, "content", l->descriptor.digest, content_there);
}

static bool hold_snapshot(struct pipeline *p, const struct layer *l)
{
	autofree char *type = xasprintf("snapshots/%s", p->snapshotter);

	return hold(p, l, type, l->chain, snapshot_there);
}

/* PART_UNKNOWN becomes something else. Looked at again after the flight is ours: who had it before
 * may just have made it. */
static enum part decide(struct pipeline *p, const struct layer *l, const char *key,
			bool (*held)(struct pipeline *p, const struct layer *l))
{
	if (held(p, l))
		return PART_THERE;
	if (!flight_begin(p->service->flights, key, p->wake))
		return PART_OTHERS;
	if (!held(p, l))
		return PART_OURS;
	flight_end(p->service->flights, key);
	return PART_THERE;
}

bool pipeline_is_complete(struct pipeline *p)
{
	for (size_t i = 0; i < p->n; i++)
		if (!content_there(p, &p->layers[i]) || !snapshot_there(p, &p->layers[i]))
			return false;
	return true;
}

/* --- unpacking --- */

static int prepare_key(struct pipeline *p, struct layer *l, const char *parent, struct error *err)
{
	char random[17];

	random_hex(8, random);
	l->key = xasprintf("extract-%s %s", random, l->chain);
	if (snapshot_prepare(&p->ctx, p->snapshotter, l->key, parent, NULL, NULL, err) == 0)
		return 0;
	free(TAKE_PTR(l->key));
	return -1;
}

static void drop_key(struct pipeline *p, struct layer *l)
{
	if (l->key)
		(void)snapshot_remove(&p->ctx, p->snapshotter, l->key, NULL);
	free(TAKE_PTR(l->key));
}

/* The parents as one read-only tree that is mounted nowhere. The view is not needed beyond that:
 * the parents are held by the lease. */
static int open_parents(struct pipeline *p, const char *parent, struct error *err)
{
	automounts struct mounts mounts = MOUNTS_INIT;
	autofree char *key = NULL;
	char random[17];
	int fd;

	random_hex(8, random);
	key = xasprintf("parents-%s", random);
	if (snapshot_view(&p->ctx, p->snapshotter, key, parent, NULL, &mounts, err) < 0)
		return -1;
	if (mounts.n != 1)
		fd = error_set(err, ERROR_INTERNAL, "a view of %zu mounts", mounts.n);
	else
		fd = mount_open_detached(&mounts.v[0], err);
	(void)snapshot_remove(&p->ctx, p->snapshotter, key, NULL);
	return fd;
}

static struct json *unpack_message(const struct pipeline *p, const struct layer *l)
{
	bool overlay = p->capabilities & SNAPSHOT_OVERLAY_WHITEOUTS;
	struct json *j = json_new_object();

	json_set_string(j, "op", "unpack");
	json_set_string(j, "media_type", l->descriptor.media_type);
	json_set_string(j, "diff_id", l->diff_id);
	json_set_string(j, "whiteouts", overlay ? "overlay" : "delete");
	return j;
}

/* input is borrowed. */
static int start_unpack(struct pipeline *p, size_t index, int input, struct error *err)
{
	struct layer *l = &p->layers[index];
	bool rebase = p->capabilities & SNAPSHOT_CAN_REBASE;
	const char *below = index > 0 ? p->layers[index - 1].chain : "";
	autoclose int dir = -EBADF;
	autoclose int lower = -EBADF;

	assert(l->snapshot == PART_OURS && !l->key);
	if (prepare_key(p, l, rebase ? "" : below, err) < 0)
		return -1;
	dir = snapshot_layer_fd(&p->ctx, p->snapshotter, l->key, err);
	if (dir < 0)
		return -1;
	if (l->needs_parent) {
		lower = open_parents(p, below, err);
		if (lower < 0)
			return -1;
	}
	if (worker_spawn(&l->unpacker, p->service->worker, "unpack", err) < 0)
		return -1;
	const int fds[] = { input, dir, lower };

	l->snapshot = PART_RUNNING;
	return worker_tell(&l->unpacker, unpack_message(p, l), fds, lower >= 0 ? 3 : 2, err);
}

static int unpack_content(struct pipeline *p, size_t index, struct error *err)
{
	struct layer *l = &p->layers[index];
	autoclose int fd = content_open(&p->ctx, l->descriptor.digest, NULL, err);

	if (fd < 0)
		return -1;
	report(p, l, PROGRESS_EXTRACTING, 0);
	return start_unpack(p, index, fd, err);
}

static void take_implied(struct layer *l, const struct json *j)
{
	const struct json *coded = json_get(j, "paths64");

	(void)json_get_strv(j, "paths", &l->implied, NULL);
	/* Names that are no UTF-8. */
	for (size_t i = 0; i < json_array_len(coded); i++) {
		autobuf struct buf path = BUF_INIT(8192);
		const char *text = json_string(json_array_get(coded, i));

		if (text && base64_decode(text, strlen(text), &path) == 0)
			strv_push(&l->implied, path.data);
	}
}

static int unpack_error(const struct layer *l, struct error *why, struct error *err)
{
	error_move(err, why);
	return error_wrap(err, "unpack layer '%s'", l->descriptor.digest);
}

static int unpack_failed(struct pipeline *p, size_t index, struct error *why, struct error *err)
{
	struct layer *l = &p->layers[index];

	worker_end(&l->unpacker);
	bool parent =
		why->code == ERROR_FAILED_PRECONDITION && strstr(error_msg(why), "needs parent");

	if (parent && index == 0)
		error_set(why, ERROR_INVALID_ARGUMENT,
			  "a hard link to a file that is not in it, and no layer is below it");
	if (parent && !l->needs_parent && index > 0) {
		strv_done(&l->implied);
		drop_key(p, l);
		l->needs_parent = true;
		l->snapshot = PART_OURS;
		return 0;
	}
	if (l->content == PART_RUNNING) { /* its input may have ended with the download */
		error_move(&l->unpack_error, why);
		return 0;
	}
	return unpack_error(l, why, err);
}

static int on_unpacker(struct pipeline *p, size_t index, struct error *err)
{
	struct layer *l = &p->layers[index];
	autoworkermessage struct worker_message m = WORKER_MESSAGE_INIT;
	autoerror struct error why = ERROR_INIT;

	if (worker_read(&l->unpacker, &m, &why) < 0)
		return unpack_failed(p, index, &why, err);
	if (str_equal(worker_event(&m), "implied"))
		take_implied(l, m.json);
	else if (str_equal(worker_event(&m), "unpacked"))
		l->unpacked_here = str_equal(json_get_string(m.json, "diff_id"), l->diff_id);
	if (l->implied.n > IMPLIED_MAX)
		return error_set(err, ERROR_RESOURCE_EXHAUSTED,
				 "layer '%s' has too many directories without entries",
				 l->descriptor.digest);
	if (!l->unpacker.done)
		return 0;
	worker_end(&l->unpacker);
	if (!l->unpacked_here)
		return error_set(err, ERROR_INTERNAL, "unpack layer '%s': not verified",
				 l->descriptor.digest);
	l->snapshot = PART_READY;
	l->seq = ++p->unpacks;
	return 0;
}

/* --- downloading --- */

static struct json *layer_op(size_t index, const char *action)
{
	struct json *j = json_new_object();

	json_set_string(j, "op", "layer");
	json_set_int(j, "n", (int64_t)index);
	json_set_string(j, "action", action);
	return j;
}

static void content_found(struct pipeline *p, struct layer *l)
{
	flight_end(p->service->flights, l->content_key);
	l->content = PART_UNKNOWN; /* look again, with the lease */
}

static int tell_fetch(struct pipeline *p, size_t index, struct error *err)
{
	struct layer *l = &p->layers[index];
	struct json *op = layer_op(index, "fetch");
	bool stream = l->snapshot == PART_OURS && !l->needs_parent &&
		      (p->capabilities & SNAPSHOT_CAN_REBASE);
	int fds[2] = { ingest_fd(l->ingest), -1 };
	int r = 0, pipe_fds[2] = { -1, -1 };

	json_set_int(op, "size", ingest_size(l->ingest));
	if (stream && pipe2(pipe_fds, O_CLOEXEC) < 0) {
		json_unref(op);
		return error_errno(err, errno, "pipe");
	}
	if (stream)
		r = start_unpack(p, index, pipe_fds[0], err);
	fds[1] = pipe_fds[1];
	if (r == 0)
		r = worker_tell(p->fetch, op, fds, stream ? 2 : 1, err);
	else
		json_unref(op);
	closep(&pipe_fds[0]);
	closep(&pipe_fds[1]);
	return r;
}

static int start_fetch(struct pipeline *p, size_t index, struct error *err)
{
	struct layer *l = &p->layers[index];
	autofree char *ref = xasprintf("layer-%s", l->descriptor.digest);
	autoerror struct error why = ERROR_INIT;

	if (ingest_open(&p->ctx, ref, l->descriptor.size, l->descriptor.digest, &l->ingest, &why) <
	    0) {
		if (why.code == ERROR_ALREADY_EXISTS) {
			content_found(p, l);
			return 0;
		}
		if (why.code == ERROR_UNAVAILABLE) { /* somebody's API client writes it */
			p->busy_ingest = true;
			return 0;
		}
		return error_move(err, &why);
	}
	l->content = PART_RUNNING;
	return tell_fetch(p, index, err);
}

/* The worker waits for an answer for each layer that it announced. */
static int answer_skip(struct pipeline *p, size_t index, struct error *err)
{
	struct layer *l = &p->layers[index];

	l->answered = true;
	if (!p->fetch)
		return 0;
	return worker_tell(p->fetch, layer_op(index, "skip"), NULL, 0, err);
}

static int on_fetched(struct pipeline *p, struct layer *l, struct error *err)
{
	autoerror struct error why = ERROR_INIT;

	l->answered = true;
	if (ingest_commit(l->ingest, l->descriptor.size, l->descriptor.digest,
			  /* verified= */ true, p->labels, NULL, &why) < 0 &&
	    why.code != ERROR_ALREADY_EXISTS)
		return error_move(err, &why);
	ingest_close(TAKE_PTR(l->ingest));
	content_found(p, l);
	report(p, l, PROGRESS_DOWNLOADED, l->descriptor.size);
	if (l->unpack_error.code)
		return unpack_error(l, &l->unpack_error, err);
	if (l->snapshot == PART_RUNNING)
		report(p, l, PROGRESS_EXTRACTING, 0);
	return 0;
}

static int on_fetch(struct pipeline *p, struct error *err)
{
	autoworkermessage struct worker_message m = WORKER_MESSAGE_INIT;
	const char *event;
	int64_t n;
	struct layer *l;

	if (worker_read(p->fetch, &m, err) < 0)
		return -1;
	if (p->fetch->done) {
		p->fetch_done = true;
		return 0;
	}
	event = worker_event(&m);
	n = json_get_int(m.json, "n", -1);
	if (n < 0 || (size_t)n >= p->n || p->layers[n].content != PART_RUNNING)
		return error_set(err, ERROR_INTERNAL, "kistl-image fetch: unexpected '%.32s'",
				 event);
	l = &p->layers[n];
	if (str_equal(event, "fetched"))
		return on_fetched(p, l, err);
	if (str_equal(event, "progress"))
		report(p, l, PROGRESS_DOWNLOADING, json_get_int(m.json, "current", 0));
	else if (str_equal(event, "retry"))
		transfer_progress(p->transfer, PROGRESS_RETRYING, l->id,
				  json_get_string(m.json, "message"),
				  json_get_int(m.json, "delay_ms", 0), 0);
	return 0;
}

/* --- linking --- */

static bool is_linkable(const struct layer *l)
{
	return l->snapshot == PART_THERE || (l->snapshot == PART_READY && l->content == PART_THERE);
}

/* How far the chain may be linked now. */
static size_t link_limit(const struct pipeline *p)
{
	bool rebase = p->capabilities & SNAPSHOT_CAN_REBASE;
	size_t limit = 0;

	while (limit < p->n && is_linkable(&p->layers[limit]))
		limit++;
	if (limit == p->n || !rebase || p->layers[limit].needs_parent ||
	    p->layers[limit].snapshot == PART_OTHERS)
		return limit;
	return 0;
}

static int link_layer(struct pipeline *p, size_t index, struct error *err)
{
	struct layer *l = &p->layers[index];
	bool rebase = p->capabilities & SNAPSHOT_CAN_REBASE;
	const char *below = index > 0 ? p->layers[index - 1].chain : "";
	/* Implied directories are changed at the commit: the last one makes these safe too. */
	bool sync = l->seq > p->synced || index + 1 == p->n;
	autoerror struct error why = ERROR_INIT;
	autokvs struct kvs labels = KVS_INIT;
	int r;

	if (rebase)
		r = snapshot_commit_onto(&p->ctx, p->snapshotter, l->chain, l->key, below,
					 &l->implied, NULL, sync, &why);
	else
		r = snapshot_commit(&p->ctx, p->snapshotter, l->chain, l->key, NULL, sync, &why);
	if (r < 0 && why.code != ERROR_ALREADY_EXISTS)
		return error_move(err, &why);
	if (r < 0)
		drop_key(p, l);
	free(TAKE_PTR(l->key));
	if (r == 0 && sync)
		p->synced = p->unpacks;
	kvs_set(&labels, LABEL_UNCOMPRESSED, l->diff_id);
	if (content_set_labels(&p->ctx, l->descriptor.digest, &labels, err) < 0)
		return -1;
	flight_end(p->service->flights, l->chain_key);
	l->snapshot = PART_UNKNOWN;
	return 0;
}

/* --- the loop --- */

static unsigned busy(const struct pipeline *p)
{
	unsigned n = 0;

	for (size_t i = 0; i < p->n; i++)
		n += p->layers[i].content == PART_RUNNING || p->layers[i].snapshot == PART_RUNNING;
	return n;
}

static int look(struct pipeline *p, size_t index, struct error *err)
{
	struct layer *l = &p->layers[index];

	if (l->content == PART_UNKNOWN || l->content == PART_OTHERS)
		l->content = decide(p, l, l->content_key, hold_content);
	if (l->snapshot == PART_UNKNOWN || l->snapshot == PART_OTHERS)
		l->snapshot = decide(p, l, l->chain_key, hold_snapshot);
	if (l->content == PART_OURS && !p->fetch)
		return error_set(err, ERROR_NOT_FOUND, "layer '%s' is not in the content store",
				 l->descriptor.digest);
	if (l->content != PART_THERE)
		return 0;
	if (l->unpacked_here && !l->told_done) {
		report(p, l, PROGRESS_DONE, 0);
		l->told_done = true;
	}
	if (l->answered)
		return 0;
	if (l->snapshot == PART_THERE)
		report(p, l, PROGRESS_EXISTS, 0);
	return answer_skip(p, index, err);
}

/* May this layer be unpacked from its content now? */
static bool can_unpack(const struct pipeline *p, size_t index)
{
	const struct layer *l = &p->layers[index];
	bool alone = (p->capabilities & SNAPSHOT_CAN_REBASE) && !l->needs_parent;

	if (l->content != PART_THERE || l->snapshot != PART_OURS)
		return false;
	return alone || index == 0 || p->layers[index - 1].snapshot == PART_THERE;
}

static int pipeline_step(struct pipeline *p, struct error *err)
{
	size_t limit;

	p->busy_ingest = false;
	for (size_t i = 0; i < p->n; i++)
		if (look(p, i, err) < 0)
			return -1;
	limit = link_limit(p);
	for (size_t i = 0; i < limit; i++) {
		if (p->layers[i].snapshot != PART_READY)
			continue;
		if (link_layer(p, i, err) < 0 || look(p, i, err) < 0)
			return -1;
	}
	for (size_t i = 0; i < p->n && busy(p) < p->service->max_downloads; i++) {
		struct layer *l = &p->layers[i];

		if (l->content == PART_OURS && start_fetch(p, i, err) < 0)
			return -1;
		if (can_unpack(p, i) && unpack_content(p, i, err) < 0)
			return -1;
	}
	return 0;
}

int pipeline_start(struct pipeline *p, struct error *err)
{
	for (size_t i = 0; i < p->n; i++)
		report(p, &p->layers[i], PROGRESS_WAITING, 0);
	return pipeline_step(p, err);
}

static bool finished(const struct pipeline *p)
{
	for (size_t i = 0; i < p->n; i++)
		if (p->layers[i].content != PART_THERE || p->layers[i].snapshot != PART_THERE)
			return false;
	return !p->fetch || p->fetch_done;
}

/* Something is to be looked at again without an event: ALREADY_EXISTS turned up, a link was made.
 */
static bool unsettled(const struct pipeline *p)
{
	for (size_t i = 0; i < p->n; i++)
		if (p->layers[i].content == PART_UNKNOWN || p->layers[i].snapshot == PART_UNKNOWN)
			return true;
	return false;
}

static int wait_events(struct pipeline *p, struct pollfd *fds, struct error *err)
{
	struct cancel *cancel = p->transfer->cancel;
	int timeout = unsettled(p) ? 0 : p->busy_ingest ? INGEST_RETRY_MS : -1;
	uint64_t count;

	fds[0] = (struct pollfd){ .fd = cancel ? cancel_fd(cancel) : -1, .events = POLLIN };
	fds[1] = (struct pollfd){ .fd = p->wake, .events = POLLIN };
	fds[2] = (struct pollfd){ .fd = p->fetch && !p->fetch_done ? p->fetch->sock : -1,
				  .events = POLLIN };
	for (size_t i = 0; i < p->n; i++)
		fds[3 + i] = (struct pollfd){ .fd = p->layers[i].unpacker.sock, .events = POLLIN };
	if (poll(fds, 3 + p->n, timeout) < 0 && errno != EINTR)
		return error_errno(err, errno, "poll");
	if (fds[0].revents)
		return error_set(err, ERROR_CANCELLED, "cancelled");
	if (fds[1].revents)
		(void)!read(p->wake, &count, sizeof(count));
	if (fds[2].revents && on_fetch(p, err) < 0)
		return -1;
	for (size_t i = 0; i < p->n; i++)
		if (fds[3 + i].revents && on_unpacker(p, i, err) < 0)
			return -1;
	return 0;
}

int pipeline_run(struct pipeline *p, struct error *err)
{
	autofree struct pollfd *fds = xnew_array(struct pollfd, p->n + 3);

	for (;;) {
		if (pipeline_step(p, err) < 0)
			return -1;
		if (finished(p))
			return 0;
		if (wait_events(p, fds, err) < 0)
			return -1;
	}
}

/* Half a download helps the next try, but not when it is what fills the disk. */
static bool disk_is_full(const struct error *err)
{
	static const char *const words[] = { "No space left", "quota exceeded", "disk is full" };

	for (size_t i = 0; err && i < ARRAY_SIZE(words); i++)
		if (strstr(error_msg(err), words[i]))
			return err->code == ERROR_RESOURCE_EXHAUSTED;
	return false;
}

static void layer_done(struct pipeline *p, struct layer *l, const struct error *err)
{
	bool wrong =
		err && err->code == ERROR_DATA_LOSS && strstr(error_msg(err), l->descriptor.digest);

	worker_end(&l->unpacker);
	drop_key(p, l);
	if (l->ingest) {
		autofree char *ref = xasprintf("layer-%s", l->descriptor.digest);

		ingest_close(TAKE_PTR(l->ingest));
		if (wrong || disk_is_full(err))
			(void)ingest_abort(&p->ctx, ref, NULL);
	}
	if (l->content == PART_OURS || l->content == PART_RUNNING)
		flight_end(p->service->flights, l->content_key);
	if (l->snapshot == PART_OURS || l->snapshot == PART_RUNNING || l->snapshot == PART_READY)
		flight_end(p->service->flights, l->chain_key);
	error_done(&l->unpack_error);
	descriptor_done(&l->descriptor);
	strv_done(&l->implied);
	free(l->diff_id);
	free(l->content_key);
	free(l->chain_key);
}

void pipeline_done(struct pipeline *p, const struct error *err)
{
	/* First the writer of the ingests. */
	if (p->fetch && !p->fetch_done)
		worker_end(p->fetch);
	for (size_t i = 0; i < p->n; i++)
		layer_done(p, &p->layers[i], err);
	free(p->layers);
	if (p->wake >= 0) {
		flight_forget(p->service->flights, p->wake);
		close(p->wake);
	}
	*p = PIPELINE_INIT;
}
