/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is there is sent by the request's thread; a followed log then lives on the loop and holds no
 * thread: each wake-up reads what has come, up to what the client takes.
 */

#include "api/docker/internal.h"
#include "base/mem.h"

#include <string.h>

struct line_shape {
	bool timestamps, details;
};

struct follow {
	struct http_request *request;
	struct loop *loop;
	struct log_reader *reader;
	bool tty;
	struct line_shape shape;
	bool draining; /* the client is slow: wait for it */
	struct loop_timer *until;
	int64_t limit;
};

static int write_line(struct http_request *r, bool tty, const struct line_shape *shape,
		      const struct log_line *l)
{
	autobuf struct buf b = BUF_INIT(BUF_NO_LIMIT);
	char time[TIME_RFC3339_MAX];
	size_t len = l->len;

	if (shape->details)
		len += strlen(l->attrs) + 1;
	if (shape->timestamps) {
		time_format_rfc3339_fixed(l->time, time);
		len += strlen(time) + 1;
	}
	if (!tty) {
		uint8_t head[8] = { l->is_stderr ? 2 : 1,
				    0,
				    0,
				    0,
				    (uint8_t)(len >> 24),
				    (uint8_t)(len >> 16),
				    (uint8_t)(len >> 8),
				    (uint8_t)len };

		buf_append(&b, head, sizeof(head));
	}
	if (shape->timestamps)
		buf_printf(&b, "%s ", time);
	if (shape->details)
		buf_printf(&b, "%s ", l->attrs);
	buf_append(&b, l->data, l->len);
	return http_stream_write(r, b.data, b.len);
}

static void follow_end(struct follow *f)
{
	loop_timer_cancel(f->until);
	log_reader_free(f->reader);
	http_stream_end(f->request);
	http_request_unref(f->request);
	free(f);
}

static void follow_wake(void *arg);

static void on_drained(void *arg)
{
	struct follow *f = arg;

	f->draining = false;
	follow_wake(f);
}

static void follow_wake(void *arg)
{
	struct follow *f = arg;
	struct log_line line;
	int r;

	if (f->draining)
		return;
	while ((r = log_reader_next(f->reader, &line, NULL)) > 0) {
		int w = write_line(f->request, f->tty, &f->shape, &line);

		if (w < 0)
			return; /* on_disconnect ends it */
		if (w > 0) {
			f->draining = true;
			http_stream_on_drain(f->request, on_drained, f);
			return;
		}
	}
	if (r < 0 || log_reader_ended(f->reader))
		follow_end(f);
}

static void on_until(void *arg)
{
	struct follow *f = arg;

	f->until = NULL;
	follow_end(f);
}

static void on_gone(void *arg)
{
	struct follow *f = arg;

	http_stream_on_drain(f->request, NULL, NULL);
	follow_end(f);
}

static void follow_start(void *arg)
{
	struct follow *f = arg;
	int64_t left = f->limit - time_realtime();

	if (http_disconnected(f->request) ||
	    log_reader_follow(f->reader, f->loop, follow_wake, f, NULL) < 0) {
		follow_end(f);
		return;
	}
	if (f->limit) {
		if (left <= 0) {
			follow_end(f);
			return;
		}
		f->until = loop_timer_start(f->loop, (uint64_t)(left / NSEC_PER_MSEC), on_until, f);
	}
	http_on_disconnect(f->request, on_gone, f);
	follow_wake(f);
}

static int parse_options(struct http_request *r, struct log_options *o, struct error *err)
{
	const char *tail = api_query(r, "tail");
	const char *since = api_query(r, "since"), *until = api_query(r, "until");
	int64_t now = time_realtime();

	o->out = http_query_bool(r, "stdout", false);
	o->errs = http_query_bool(r, "stderr", false);
	o->tail = tail && !str_equal(tail, "all") ? api_query_int(r, "tail", -1) : -1;
	if (!o->out && !o->errs)
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "Bad parameters: you must choose at least one stream");
	if (since && !str_equal(since, "0") && time_parse_docker(since, now, &o->since) < 0)
		return error_set(err, ERROR_INVALID_ARGUMENT, "invalid value for \"since\": %s",
				 since);
	if (until && !str_equal(until, "0") && time_parse_docker(until, now, &o->until) < 0)
		return error_set(err, ERROR_INVALID_ARGUMENT, "invalid value for \"until\": %s",
				 until);
	return 0;
}

HANDLER(container_logs)
{
	bool follow = http_query_bool(r, "follow", false);
	const struct line_shape shape = {
		.timestamps = http_query_bool(r, "timestamps", false),
		.details = http_query_bool(r, "details", false),
	};
	struct log_options o = { 0 };
	struct log_reader *reader = NULL;
	struct log_line line;
	bool tty;
	int got;

	if (parse_options(r, &o, err) < 0 ||
	    log_reader_open(api_engine(r), api_ns(r), http_param(r, "id"), &o, &reader, &tty, err) <
		    0)
		return -1;
	http_stream_start(r, 200, !tty && api_at_least(r, 42) ? MUX_STREAM : RAW_STREAM);
	while ((got = log_reader_next(reader, &line, NULL)) > 0) {
		if (write_line(r, tty, &shape, &line) < 0) {
			got = -1;
			break;
		}
	}
	if (got < 0 || !follow) {
		log_reader_free(reader);
		http_stream_end(r);
		return 0;
	}
	struct follow *f = xnew(struct follow);
	f->request = http_request_ref(r);
	f->loop = engine_loop(api_engine(r));
	f->reader = reader;
	f->tty = tty;
	f->shape = shape;
	f->limit = o.until;
	loop_post(f->loop, follow_start, f);
	return 0;
}
