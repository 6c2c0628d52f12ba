/* SPDX-License-Identifier: Apache-2.0 */
/* However the bytes are cut into pieces, the same comes out, and never more than twice as much. */
#include "http/spdy.h"

#include "base/mem.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct run {
	struct spdy *s;
	struct buf out, log;
};

static enum spdy_status on_stream(uint32_t id, const struct spdy_headers *h, void **ret_user,
				  void *arg)
{
	struct run *r = arg;

	*ret_user = r;
	buf_printf(&r->log, "o%u", id);
	for (size_t i = 0; i < h->n; i++)
		buf_printf(&r->log, "%s=%s", h->v[i].name, h->v[i].value);
	return h->n % 3 == 2 ? SPDY_CANCEL : SPDY_OK;
}

static void on_data(uint32_t id, void *user, const void *p, size_t n, void *arg UNUSED)
{
	struct run *r = user;

	buf_append(&r->log, p, n);
	if (id % 3 == 0 && memchr(p, 'r', n))
		spdy_reset(r->s, id, SPDY_CANCEL);
}

static void on_end(uint32_t id, void *user UNUSED, void *arg)
{
	struct run *r = arg;

	buf_printf(&r->log, "e%u", id);
	if (id % 5 == 0)
		spdy_end(r->s, id);
}

static void on_reset(uint32_t id, void *user UNUSED, void *arg)
{
	struct run *r = arg;

	buf_printf(&r->log, "r%u", id);
}

static int run(struct run *r, const uint8_t *data, size_t size, size_t piece)
{
	static const struct spdy_ops ops = {
		.on_stream = on_stream,
		.on_data = on_data,
		.on_end = on_end,
		.on_reset = on_reset,
	};
	const struct spdy_config config = {
		.out = &r->out, .max_streams = 8, .ops = &ops, .arg = r
	};
	int result = 0;

	r->out = BUF_INIT(1 << 24);
	r->log = BUF_INIT(1 << 26);
	r->s = spdy_new(&config);
	for (size_t i = 0; i < size && result == 0; i += piece)
		result = spdy_feed(r->s, data + i, MIN(piece, size - i), NULL);
	return result;
}

static void run_done(struct run *r)
{
	spdy_free(r->s);
	buf_done(&r->out);
	buf_done(&r->log);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct run whole, cut;
	size_t piece = size > 0 ? data[0] % 7 + 1u : 1;

	if (size > 1 << 16)
		return 0;
	int a = run(&whole, data, size, size), b = run(&cut, data, size, piece);
	assert(a == b && whole.out.len == cut.out.len && !whole.log.overflow);
	assert(memcmp(whole.out.data, cut.out.data, cut.out.len) == 0);
	assert(whole.out.len <= 2 * size + 32);
	run_done(&whole);
	run_done(&cut);
	return 0;
}
