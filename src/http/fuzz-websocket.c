/* SPDX-License-Identifier: Apache-2.0 */
/* However the bytes are cut into pieces, the same messages and answers come out. */
#include "http/websocket.h"

#include "base/mem.h"

#include <assert.h>
#include <string.h>

#define CLOSE_MAX 127

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct run {
	struct websocket *w;
	struct buf out, log;
	bool in_message;
};

static void on_piece(const struct websocket_piece *p, void *arg)
{
	struct run *r = arg;

	assert(p->first != r->in_message);
	assert(p->len > 0 || p->last);
	if (p->first)
		buf_putc(&r->log, p->type == WEBSOCKET_TEXT ? 't' : 'b');
	buf_append(&r->log, p->data, p->len);
	if (p->last)
		buf_putc(&r->log, ';');
	r->in_message = !p->last;
}

static void on_close(unsigned code, void *arg)
{
	struct run *r = arg;

	buf_printf(&r->log, "c%u", code);
}

static int run(struct run *r, const uint8_t *data, size_t size, size_t piece)
{
	static const struct websocket_ops ops = { .on_piece = on_piece, .on_close = on_close };
	const struct websocket_config config = {
		.out = &r->out, .max_message = 5000, .ops = &ops, .arg = r
	};
	int result = 0;

	*r = (struct run){ .out = BUF_INIT(1 << 24), .log = BUF_INIT(1 << 24) };
	r->w = websocket_new(&config);
	for (size_t i = 0; i < size && result == 0; i += piece)
		result = websocket_feed(r->w, data + i, MIN(piece, size - i), NULL);
	return result;
}

static void run_done(struct run *r)
{
	websocket_free(r->w);
	buf_done(&r->out);
	buf_done(&r->log);
}

static void fuzz_handshake(const char *text)
{
	static const char *const supported[] = { "a", "b.c", NULL };
	char accept[WEBSOCKET_ACCEPT_SIZE];

	websocket_accept(text, accept, NULL);
	websocket_has_token(text, "upgrade");
	websocket_choose(text, supported);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct run whole, cut;
	size_t piece = size > 0 ? data[0] % 7 + 1u : 1;

	if (size > 1 << 16)
		return 0;
	int a = run(&whole, data, size, size), b = run(&cut, data, size, piece);
	/* Of text that turns out not to be UTF-8, more or less may have been passed on. */
	assert(a == b && whole.out.len == cut.out.len && whole.out.len <= size + CLOSE_MAX);
	assert(memcmp(whole.out.data, cut.out.data, cut.out.len) == 0);
	if (a == 0) {
		assert(whole.log.len == cut.log.len);
		assert(memcmp(whole.log.data, cut.log.data, cut.log.len) == 0);
	}
	run_done(&whole);
	run_done(&cut);
	autofree char *text = xstrndup((const char *)data, size);
	fuzz_handshake(text);
	return 0;
}
