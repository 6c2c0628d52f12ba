/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One layer: bytes come from earlier (the file), from a registry, or from a foreign URL, and go
 * through the hash into the file and the unpack pipe. A transfer that breaks goes on with Range
 * where it stopped; a server that sends everything again has the known part skipped.
 */
#include "base/fs.h"
#include "base/mem.h"
#include "worker/fetch.h"
#include "worker/headers.h"
#include "worker/retry.h"

#include <string.h>
#include <sys/stat.h>

#define READ_CHUNK (256 << 10)

struct transfer {
	struct fetch *fetch;
	struct blob *blob;
	struct digester *digester;
	struct http_response response;
	int64_t size, offset; /* offset: bytes that are hashed and written */
	int64_t skip;	      /* of this response's body */
	int64_t asked;	      /* first byte that was asked for */
	bool head_checked;
	bool no_range;
	int64_t last_report;
	struct error err; /* why on_data ended it */
};

static void transfer_done(struct transfer *t)
{
	digester_free(t->digester);
	http_response_done(&t->response);
	error_done(&t->err);
	closep(&t->blob->fd);
	closep(&t->blob->pipe);
	t->blob->fd = t->blob->pipe = -1;
}

/* An unpacker that left (it has seen enough, or failed and says so itself) is no error here. */
static void feed(struct transfer *t, const char *p, size_t n)
{
	int r = t->blob->pipe < 0 ? 0 : fs_write_all(t->blob->pipe, p, n);

	if (r < 0) {
		close(t->blob->pipe);
		t->blob->pipe = -1;
	}
}

/* Where does this response's body begin? */
static int check_head(struct transfer *t)
{
	int64_t first = 0, last, total;

	t->head_checked = true;
	if (t->response.status == 206 &&
	    (header_content_range(http_header(&t->response, "content-range"), &first, &last,
				  &total) < 0 ||
	     first > t->offset || (total >= 0 && total != t->size)))
		return error_set(&t->err, ERROR_DATA_LOSS,
				 "the registry sent another range than bytes %lld to %lld",
				 (long long)t->offset, (long long)t->size - 1);
	t->skip = t->offset - first;
	return 0;
}

static int write_at(int fd, const char *p, size_t n, int64_t offset, struct error *err)
{
	while (n > 0) {
		ssize_t r = pwrite(fd, p, n, offset);

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return error_errno(err, errno, "write layer");
		p += r;
		n -= (size_t)r;
		offset += r;
	}
	return 0;
}

static int on_data(const void *data, size_t n, void *arg)
{
	struct transfer *t = arg;
	const char *p = data;

	if (!t->head_checked && check_head(t) < 0)
		return -1;
	if (t->skip > 0) {
		size_t skip = (size_t)MIN(t->skip, (int64_t)n);

		t->skip -= (int64_t)skip;
		p += skip;
		n -= skip;
	}
	if ((int64_t)n > t->size - t->offset)
		return error_set(&t->err, ERROR_DATA_LOSS,
				 "layer '%s' is longer than the %lld bytes of its descriptor",
				 t->blob->descriptor->digest, (long long)t->size);
	if (n == 0)
		return 0;
	digester_update(t->digester, p, n);
	if (write_at(t->blob->fd, p, n, t->offset, &t->err) < 0)
		return -1;
	feed(t, p, n);
	t->offset += (int64_t)n;
	channel_progress(t->fetch->channel, (int64_t)t->blob->n, t->offset, t->size,
			 &t->last_report);
	return 0;
}

/* What an earlier try left in the file. */
static int replay(struct transfer *t, struct error *err)
{
	autofree char *chunk = xmalloc(READ_CHUNK);

	if (t->blob->existing > t->size) {
		if (ftruncate(t->blob->fd, 0) < 0)
			return error_errno(err, errno, "truncate layer");
		t->blob->existing = 0;
	}
	while (t->offset < t->blob->existing) {
		size_t want = (size_t)MIN(t->blob->existing - t->offset, (int64_t)READ_CHUNK);
		ssize_t r = pread(t->blob->fd, chunk, want, t->offset);

		if (r < 0)
			return error_errno(err, errno, "read layer");
		if (r == 0)
			break; /* there is less than we were told */
		digester_update(t->digester, chunk, (size_t)r);
		feed(t, chunk, (size_t)r);
		t->offset += r;
	}
	return 0;
}

static int try_once(struct transfer *t, struct endpoint *e, const char *url, struct error *err)
{
	autorequest struct http_request q = HTTP_REQUEST_INIT;
	int rc;

	q.method = "GET";
	q.url = url;
	q.on_data = on_data;
	q.arg = t;
	t->head_checked = false;
	t->skip = 0;
	strv_push_printf(&q.headers, "Accept: %s, */*",
			 header_value_valid(t->blob->descriptor->media_type)
				 ? t->blob->descriptor->media_type
				 : "application/octet-stream");
	if (t->offset > 0 && !t->no_range)
		strv_push_printf(&q.headers, "Range: bytes=%lld-", (long long)t->offset);
	rc = registry_try(t->fetch->registry, e, &q, t->fetch->scope, &t->response, NULL, err);
	if (rc == 0 && t->response.status != 200 && t->response.status != 206)
		http_status_error(&q, &t->response, err);
	else if (rc == 0 && t->offset < t->size)
		error_set(err, ERROR_UNAVAILABLE,
			  "the registry's reply ended after %lld of %lld bytes",
			  (long long)t->offset, (long long)t->size);
	return rc;
}

/* Retries on one source until nothing comes any more. */
static int from_source(struct transfer *t, struct endpoint *e, const char *url, struct error *err)
{
	for (unsigned n = 1;; n++) {
		int64_t before = t->offset, delay;
		int rc, status;
		bool again;

		error_done(err);
		rc = try_once(t, e, url, err);
		status = t->response.status;
		if (t->err.code)
			return error_move(err, &t->err);
		if (t->offset == t->size)
			return 0;
		again = retry_wanted(rc, &t->response, e->answered) ||
			(rc == 0 && (status == 200 || status == 206 || status == 416));
		t->no_range |= status == 416;
		if (t->offset > before)
			n = 1;
		if (!again || n >= RETRY_ATTEMPTS)
			return -1;
		delay = retry_delay_ms(n, &t->response);
		channel_retry(t->fetch->channel, (int64_t)t->blob->n, delay, error_msg(err));
		retry_sleep(delay);
	}
}

static int from_foreign(struct transfer *t, struct error *err)
{
	const struct strv *urls = &t->blob->descriptor->urls;

	for (size_t i = 0; i < MIN(urls->n, (size_t)4); i++) {
		CLEANUP(endpoint_freep)
		struct endpoint *e = registry_foreign(t->fetch->registry, urls->v[i]);

		if (e && from_source(t, e, e->url, err) == 0)
			return 0;
		if (error_is(err, ERROR_DATA_LOSS))
			return -1;
	}
	return -1;
}

static int from_registry(struct transfer *t, struct error *err)
{
	struct fetch *f = t->fetch;
	struct registry *r = f->registry;

	for (size_t i = 0; i < r->n; i++) {
		size_t index = (f->preferred + i) % r->n;
		struct endpoint *e = &r->endpoints[index];
		autofree char *url = NULL;

		if (!(e->can & ENDPOINT_PULL) ||
		    (index != f->preferred && registry_is_alternate(r, index)))
			continue;
		url = registry_url(r, e, "blobs/%s", t->blob->descriptor->digest);
		if (from_source(t, e, url, err) == 0)
			return 0;
		/* Nobody else has bytes that would go with a wrong beginning or a full disk. */
		if (error_is(err, ERROR_DATA_LOSS) || (err && err->sys))
			return -1;
	}
	return -1;
}

int fetch_blob(struct fetch *f, struct blob *b, struct error *err)
{
	CLEANUP(transfer_done)
	struct transfer t = {
		.fetch = f,
		.blob = b,
		.digester = digester_new(b->descriptor->digest),
		.response = HTTP_RESPONSE_INIT(HTTP_ERROR_BODY_MAX),
		.size = b->descriptor->size,
	};
	char digest[DIGEST_MAX];

	if (b->pipe >= 0)
		(void)fs_set_nonblock(b->pipe, false);
	if (replay(&t, err) < 0)
		return -1;
	if (t.offset < t.size) {
		bool foreign = media_is_foreign_layer(b->descriptor->media_type) &&
			       b->descriptor->urls.n > 0;

		if (!(foreign && from_foreign(&t, err) == 0) && from_registry(&t, err) < 0)
			return error_wrap(err, "layer '%s'", b->descriptor->digest);
		error_done(err);
	}
	digester_peek(t.digester, digest);
	if (!str_equal(digest, b->descriptor->digest))
		return error_set(err, ERROR_DATA_LOSS, "layer '%s' has digest '%s'",
				 b->descriptor->digest, digest);
	return 0;
}
