/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/ttrpc-conn.h"

#include "base/mem.h"

#include <assert.h>

#define BACKLOG_MAX ((size_t)16 << 20)

struct ttrpc_conn {
	uv_pipe_t pipe;
	struct ttrpc_parser parser;
	const struct ttrpc_conn_ops *ops;
	void *arg;
};

struct write_req {
	uv_write_t req;
	uint8_t bytes[];
};

static bool is_closing(const struct ttrpc_conn *c)
{
	return uv_is_closing((const uv_handle_t *)&c->pipe);
}

static void on_closed(uv_handle_t *handle)
{
	struct ttrpc_conn *c = handle->data;

	c->ops->on_closed(c->arg);
	ttrpc_parser_done(&c->parser);
	free(c);
}

void ttrpc_conn_close(struct ttrpc_conn *c)
{
	if (!is_closing(c))
		uv_close((uv_handle_t *)&c->pipe, on_closed);
}

static void on_alloc(uv_handle_t *handle, size_t suggested UNUSED, uv_buf_t *ret)
{
	struct ttrpc_conn *c = handle->data;

	*ret = uv_buf_init(ttrpc_parser_reserve(&c->parser), TTRPC_READ_CHUNK);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf UNUSED)
{
	struct ttrpc_conn *c = stream->data;
	struct ttrpc_frame frame;

	ttrpc_parser_commit(&c->parser, n > 0 ? (size_t)n : 0);
	while (!is_closing(c) && ttrpc_parser_next(&c->parser, &frame))
		c->ops->on_frame(c->arg, &frame);
	if (n < 0)
		ttrpc_conn_close(c);
}

static void ignore_closed(void *arg UNUSED)
{
}

/* The owner hears nothing of a connection that it never got. */
static const struct ttrpc_conn_ops deaf = { .on_closed = ignore_closed };

struct ttrpc_conn *ttrpc_conn_new(struct loop *l, int fd, const struct ttrpc_conn_ops *ops,
				  void *arg, struct error *err)
{
	assert(loop_is_current(l));
	struct ttrpc_conn *c = xnew(struct ttrpc_conn);
	int r = uv_pipe_init(loop_uv(l), &c->pipe, 0);
	assert(r == 0);

	c->pipe.data = c;
	c->ops = ops;
	c->arg = arg;
	ttrpc_parser_init(&c->parser);
	r = uv_pipe_open(&c->pipe, fd);
	if (r < 0)
		close(fd);
	else
		r = uv_read_start((uv_stream_t *)&c->pipe, on_alloc, on_read);
	if (r < 0) {
		c->ops = &deaf;
		ttrpc_conn_close(c);
		error_errno(err, -r, "open a ttrpc connection");
		return NULL;
	}
	return c;
}

static void on_written(uv_write_t *req, int status)
{
	struct ttrpc_conn *c = req->handle->data;

	free(CONTAINER_OF(req, struct write_req, req));
	if (status < 0)
		ttrpc_conn_close(c);
}

int ttrpc_conn_send(struct ttrpc_conn *c, enum ttrpc_frame_type type, uint32_t stream,
		    const ProtobufCMessage *m, struct error *err)
{
	size_t len = protobuf_c_message_get_packed_size(m);

	if (is_closing(c))
		return error_set(err, ERROR_UNAVAILABLE, "ttrpc: closed");
	if (len > TTRPC_PAYLOAD_MAX)
		return error_set(err, ERROR_RESOURCE_EXHAUSTED,
				 "message of %zu bytes exceeds the maximum of %zu", len,
				 TTRPC_PAYLOAD_MAX);
	if (uv_stream_get_write_queue_size((uv_stream_t *)&c->pipe) > BACKLOG_MAX) {
		ttrpc_conn_close(c);
		return error_set(err, ERROR_UNAVAILABLE, "ttrpc: peer does not read");
	}

	struct write_req *w = xmalloc(sizeof(*w) + TTRPC_HEADER_SIZE + len);
	struct ttrpc_frame head = { .stream = stream, .type = (uint8_t)type, .len = len };
	uv_buf_t buf = uv_buf_init((char *)w->bytes, (unsigned)(TTRPC_HEADER_SIZE + len));

	ttrpc_header_write(w->bytes, &head);
	protobuf_c_message_pack(m, w->bytes + TTRPC_HEADER_SIZE);
	int r = uv_write(&w->req, (uv_stream_t *)&c->pipe, &buf, 1, on_written);
	if (r < 0) {
		free(w);
		ttrpc_conn_close(c);
		return error_errno(err, -r, "write to a ttrpc connection");
	}
	return 0;
}
