/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "oci/worker-proto.h"
#include "worker/archive.h"
#include "worker/meter.h"
#include "worker/stream.h"
#include "worker/verbs.h"

#include <string.h>

#define DECOMPRESSED_MAX (1ULL << 40)

/* Static for the same reason as unpack's. */
static struct load {
	int sock;
	int input;
	int staging;
	bool have_want;
	struct platform want;
	struct stream stream;
} load;

static int on_blob(const struct descriptor *d, int fd, void *arg, struct error *err)
{
	struct load *l = arg;
	struct json *j = json_new_object();

	json_set_string(j, "event", "blob");
	json_set(j, "descriptor", descriptor_to_json(d));
	return worker_send(l->sock, j, &fd, 1, err);
}

static int on_image(const struct strv *names, const struct descriptor *d, void *arg,
		    struct error *err)
{
	struct load *l = arg;
	struct json *j = json_new_object();

	json_set_string(j, "event", "image");
	json_set(j, "names", json_new_strv(names));
	json_set(j, "descriptor", descriptor_to_json(d));
	return worker_send(l->sock, j, NULL, 0, err);
}

static int take_buffer(struct tar *t, struct archive *a, const uint8_t *p, size_t n, bool *ret_end,
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
			r = archive_entry(a, tar_entry(t), err);
			break;
		case TAR_DATA:
			r = archive_data(a, d.p, d.n, err);
			break;
		case TAR_ENTRY_END:
			r = archive_entry_end(a, err);
			break;
		default:
			break;
		}
		if (r < 0)
			return -1;
	}
}

static int take_all(struct load *l, struct archive *a, struct error *err)
{
	CLEANUP(tar_freep) struct tar *t = tar_new();
	autoerror struct error broken = ERROR_INIT;
	struct meter meter = { .sock = l->sock, .total = l->stream.size };
	const uint8_t *p;
	size_t n;
	bool end = false;

	while (ring_read(&l->stream.ring, 0, &p, &n, &broken)) {
		if (!end && take_buffer(t, a, p, n, &end, err) < 0)
			return -1;
		ring_leave(&l->stream.ring, 0);
		if (meter_report(&meter, atomic_load(&l->stream.consumed), false, err) < 0)
			return -1;
	}
	if (broken.code != ERROR_OK)
		return error_move(err, &broken);
	if (tar_finish(t, err) < 0)
		return -1;
	return meter_report(&meter, atomic_load(&l->stream.consumed), true, err);
}

static int take_message(struct load *l, struct worker_message *m, struct error *err)
{
	const char *platform = json_get_string(m->json, "platform");

	if (!str_equal(json_get_string(m->json, "op"), "load") || m->n_fds != 2)
		return error_set(err, ERROR_INVALID_ARGUMENT, "expected a load message");
	if (!str_empty(platform)) {
		if (platform_parse(platform, &l->want, err) < 0)
			return -1;
		l->have_want = true;
	}
	l->input = TAKE_FD(m->fds[0]);
	l->staging = TAKE_FD(m->fds[1]);
	return 0;
}

int worker_load(int sock, struct error *err)
{
	CLEANUP(worker_message_done) struct worker_message m = WORKER_MESSAGE_INIT;
	struct load *l = &load;

	l->sock = sock;
	if (worker_recv(sock, &m, err) < 0 || take_message(l, &m, err) < 0)
		return -1;
	struct sandbox sandbox = { .phase = SANDBOX_ARCHIVE, .dir = &l->staging };
	if (worker_start(sock, &sandbox, err) < 0)
		return -1;
	struct decompress_limits limits = { .max_bytes = DECOMPRESSED_MAX, .all_formats = true };
	if (stream_start(&l->stream, l->input, &limits, /* readers= */ 1, err) < 0)
		return -1;
	CLEANUP(archive_freep) struct archive *a = archive_new(l->staging);
	struct archive_events events = { .blob = on_blob, .image = on_image, .arg = l };
	if (take_all(l, a, err) < 0) {
		ring_stop(&l->stream.ring);
		return -1;
	}
	return archive_interpret(a, l->have_want ? &l->want : NULL, &events, err);
}
