/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One layer: read and inflate | hash | parse and write, a thread each over shared buffers. Which of
 * them is the slow one depends on the layer (many small files: writing; few large ones: inflating),
 * so the kernel's scheduler divides the cores among them.
 *
 * All state is static: the process handles one layer, and on an error it ends while the other
 * threads may still be in the middle of something.
 */

#include "base/hex.h"
#include "base/mem.h"
#include "oci/digest.h"
#include "oci/worker-proto.h"
#include "tar/apply.h"
#include "worker/meter.h"
#include "worker/stream.h"
#include "worker/verbs.h"

#include <pthread.h>
#include <string.h>

#define IMPLIED_PACKET (48 << 10)
#define DEFAULT_MAX_BYTES (1LL << 40)
#define DEFAULT_MAX_ENTRIES 10000000

enum { READER_HASH, READER_APPLY };

static struct unpack {
	int sock;
	int input;
	int dir;
	int lower;
	bool overlay;
	uint64_t max_bytes, max_entries;
	char *diff_id; /* wanted; "" for any */

	struct stream stream;
	struct digester *digester;
	uint64_t raw; /* bytes hashed */
} unpack;

static void *hash_thread(void *arg)
{
	struct unpack *u = arg;
	const uint8_t *p;
	size_t n;

	while (ring_read(&u->stream.ring, READER_HASH, &p, &n, NULL)) {
		digester_update(u->digester, p, n);
		u->raw += n;
		ring_leave(&u->stream.ring, READER_HASH);
	}
	return NULL;
}

/* *ret_end: the archive's end mark has been met. */
static int apply_buffer(struct tar *t, struct apply *a, const uint8_t *p, size_t n, bool *ret_end,
			struct error *err)
{
	for (;;) {
		struct tar_data d;
		int r = tar_next(t, &p, &n, &d, err);
		switch (r) {
		case TAR_NEED_INPUT:
			return 0;
		case TAR_END:
			*ret_end = true;
			return 0;
		case TAR_ENTRY:
			r = apply_entry(a, tar_entry(t), err);
			break;
		case TAR_DATA:
			r = apply_data(a, d.p, d.n, d.offset, err);
			break;
		case TAR_ENTRY_END:
			r = apply_entry_end(a, err);
			break;
		default:
			break;
		}
		if (r < 0)
			return -1;
	}
}

static int apply_all(struct unpack *u, struct apply *a, struct error *err)
{
	CLEANUP(tar_freep) struct tar *t = tar_new();
	autoerror struct error broken = ERROR_INIT;
	struct meter meter = { .sock = u->sock, .total = u->stream.size };
	const uint8_t *p;
	size_t n;
	bool end = false;

	/* What follows the end mark counts for the digest, so it is read to the end. */
	while (ring_read(&u->stream.ring, READER_APPLY, &p, &n, &broken)) {
		if (!end && apply_buffer(t, a, p, n, &end, err) < 0)
			return -1;
		ring_leave(&u->stream.ring, READER_APPLY);
		if (meter_report(&meter, atomic_load(&u->stream.consumed), /* force= */ false,
				 err) < 0)
			return -1;
	}
	if (broken.code != ERROR_OK)
		return error_move(err, &broken);
	if (tar_finish(t, err) < 0)
		return -1;
	return meter_report(&meter, atomic_load(&u->stream.consumed), /* force= */ true, err);
}

static int send_implied(struct unpack *u, const struct strv *paths, struct error *err)
{
	for (size_t i = 0; i < paths->n;) {
		struct json *j = json_new_object(), *plain = json_new_array();
		struct json *coded = json_new_array();
		size_t bytes = 0;
		for (; i < paths->n && bytes < IMPLIED_PACKET; i++) {
			autobuf struct buf b = BUF_INIT(BUF_NO_LIMIT);
			const char *path = paths->v[i];
			bytes += 2 * strlen(path) + 16; /* escapes and base64 */
			if (worker_text_valid(path)) {
				json_add(plain, json_new_string(path));
				continue;
			}
			base64_encode(path, strlen(path), &b);
			json_add(coded, json_new_string(b.data));
		}
		json_set_string(j, "event", "implied");
		json_set(j, "paths", plain);
		json_set(j, "paths64", coded);
		if (worker_send(u->sock, j, NULL, 0, err) < 0)
			return -1;
	}
	return 0;
}

static int send_unpacked(struct unpack *u, const struct apply_stats *stats, struct error *err)
{
	char digest[DIGEST_MAX];

	digester_peek(u->digester, digest);
	if (*u->diff_id && strcmp(u->diff_id, digest) != 0)
		return error_set(err, ERROR_FAILED_PRECONDITION,
				 "layer's content is %s, but the image's config says %s", digest,
				 u->diff_id);
	struct json *j = json_new_object();
	json_set_string(j, "event", "unpacked");
	json_set_string(j, "diff_id", digest);
	json_set_uint(j, "raw", u->raw);
	json_set_uint(j, "bytes", stats->bytes);
	json_set_uint(j, "entries", stats->entries);
	json_set_uint(j, "skipped", stats->skipped);
	return worker_send(u->sock, j, NULL, 0, err);
}

static int run(struct unpack *u, struct error *err)
{
	struct apply_config config = {
		.dir = u->dir,
		.lower = u->lower,
		.whiteouts = u->overlay ? APPLY_OVERLAY : APPLY_DELETE,
		.max_entries = u->max_entries,
	};
	CLEANUP(apply_freep) struct apply *a = apply_new(&config);
	autostrv struct strv implied = STRV_INIT;
	struct decompress_limits limits = { .max_bytes = u->max_bytes };
	pthread_t hasher;

	u->digester = digester_new(*u->diff_id ? u->diff_id : NULL);
	if (stream_start(&u->stream, u->input, &limits, /* readers= */ 2, err) < 0)
		return -1;
	int r = pthread_create(&hasher, NULL, hash_thread, u);
	if (r != 0)
		return error_errno(err, r, "start a thread");
	if (apply_all(u, a, err) < 0) {
		ring_stop(&u->stream.ring);
		return -1;
	}
	pthread_join(hasher, NULL);
	if (apply_finish(a, &implied, err) < 0)
		return -1;
	return send_implied(u, &implied, err) < 0 ? -1 : send_unpacked(u, apply_stats(a), err);
}

static int take_message(struct unpack *u, struct worker_message *m, struct error *err)
{
	const char *whiteouts = json_get_string(m->json, "whiteouts");
	const char *diff_id = json_get_string(m->json, "diff_id");
	const char *media_type = json_get_string(m->json, "media_type");

	if (!str_equal(json_get_string(m->json, "op"), "unpack") || m->n_fds < 2 || m->n_fds > 3)
		return error_set(err, ERROR_INVALID_ARGUMENT, "expected an unpack message");
	if (!str_equal(whiteouts, "overlay") && !str_equal(whiteouts, "delete"))
		return error_set(err, ERROR_INVALID_ARGUMENT, "unknown kind of whiteouts");
	if (!str_empty(diff_id) && !digest_valid(diff_id))
		return error_set(err, ERROR_INVALID_ARGUMENT, "invalid diff_id '%s'", diff_id);
	if (media_type && str_has_suffix(media_type, "+encrypted"))
		return error_set(err, ERROR_UNIMPLEMENTED, "layer is encrypted (%s)", media_type);
	u->overlay = str_equal(whiteouts, "overlay");
	u->diff_id = xstrdup(diff_id ? diff_id : "");
	u->max_bytes = json_get_uint(m->json, "max_bytes", DEFAULT_MAX_BYTES);
	u->max_entries = json_get_uint(m->json, "max_entries", DEFAULT_MAX_ENTRIES);
	u->input = TAKE_FD(m->fds[0]);
	u->dir = TAKE_FD(m->fds[1]);
	u->lower = m->n_fds > 2 ? TAKE_FD(m->fds[2]) : -EBADF;
	return 0;
}

int worker_unpack(int sock, struct error *err)
{
	CLEANUP(worker_message_done) struct worker_message m = WORKER_MESSAGE_INIT;
	struct unpack *u = &unpack;

	u->sock = sock;
	if (worker_recv(sock, &m, err) < 0 || take_message(u, &m, err) < 0)
		return -1;
	struct sandbox sandbox = { .phase = SANDBOX_UNPACK, .dir = &u->dir, .lower = &u->lower };
	if (worker_start(sock, &sandbox, err) < 0)
		return -1;
	return run(u, err);
}
