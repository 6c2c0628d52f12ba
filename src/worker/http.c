/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An easy handle owns its connections, so idle handles are the connection pool: an exchange takes
 * the one that was used last, since its connection is the most likely to be alive.
 *
 * The system's certificates are read once, at the start, because the sandbox takes the file system
 * away later.
 */
#include "worker/http.h"

#include "base/fs.h"
#include "base/macros.h"
#include "base/mem.h"
#include "base/parse.h"
#include "base/time.h"
#include "worker/curl.h"
#include "worker/headers.h"

#include <assert.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <strings.h>

#define IDLE_MAX 16
#define CA_MAX (8 << 20)
#define DIAL_TIMEOUT_MS 30000
#define FIELDS_MAX 256

struct http {
	pthread_mutex_t lock;
	CURL *idle[IDLE_MAX];
	size_t n_idle;
	char *http_proxy, *https_proxy, *no_proxy;
	int64_t stall_ms;
	char *ca;
	size_t ca_len;
};

struct exchange {
	const struct http *http;
	const struct http_request *request;
	struct http_response *response;
	int64_t body_pos;  /* of the request */
	int64_t last_byte; /* monotonic ns */
	curl_off_t moved;  /* both directions */
	bool cut, stalled, headers_too_big, body_too_big, refused;
};

static const char *const ca_files[] = {
	"/etc/ssl/certs/ca-certificates.crt",
	"/etc/pki/tls/certs/ca-bundle.crt",
	"/etc/ssl/ca-bundle.pem",
	"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
	"/etc/ssl/cert.pem",
};

static void load_system_ca(struct http *h)
{
	for (size_t i = 0; i < ARRAY_SIZE(ca_files); i++) {
		autobuf struct buf b = BUF_INIT(CA_MAX);

		if (fs_read(AT_FDCWD, ca_files[i], &b) == 0) {
			h->ca = buf_steal(&b, &h->ca_len);
			return;
		}
	}
}

struct http *http_new(const struct http_config *config)
{
	struct http *h = xnew(struct http);

	curl_global_init(CURL_GLOBAL_DEFAULT);
	pthread_mutex_init(&h->lock, NULL);
	h->http_proxy = xstrdup(config->http_proxy);
	h->https_proxy = xstrdup(config->https_proxy);
	h->no_proxy = xstrdup(config->no_proxy);
	h->stall_ms = config->stall_ms > 0 ? config->stall_ms : 60000;
	load_system_ca(h);
	return h;
}

void http_free(struct http *h)
{
	if (!h)
		return;
	for (size_t i = 0; i < h->n_idle; i++)
		curl_easy_cleanup(h->idle[i]);
	free(h->http_proxy);
	free(h->https_proxy);
	free(h->no_proxy);
	free(h->ca);
	pthread_mutex_destroy(&h->lock);
	free(h);
}

void http_request_done(struct http_request *q)
{
	strv_done(&q->headers);
	*q = HTTP_REQUEST_INIT;
}

static void response_clear(struct http_response *r)
{
	strv_done(&r->names);
	strv_done(&r->values);
	buf_clear(&r->body);
	r->body.overflow = false;
	r->header_bytes = 0;
	r->status = 0;
	r->failure = HTTP_FAILURE_NONE;
}

void http_response_done(struct http_response *r)
{
	response_clear(r);
	buf_done(&r->body);
}

const char *http_header(const struct http_response *r, const char *name)
{
	for (size_t i = 0; i < r->names.n; i++)
		if (str_equal(r->names.v[i], name))
			return r->values.v[i];
	return NULL;
}

static CURL *handle_take(struct http *h)
{
	CURL *c = NULL;

	pthread_mutex_lock(&h->lock);
	if (h->n_idle > 0)
		c = h->idle[--h->n_idle];
	pthread_mutex_unlock(&h->lock);
	if (!c)
		c = curl_easy_init();
	assert(c);
	return c;
}

static void handle_put(struct http *h, CURL *c)
{
	curl_easy_reset(c);
	pthread_mutex_lock(&h->lock);
	if (h->n_idle < IDLE_MAX) {
		h->idle[h->n_idle++] = c;
		c = NULL;
	}
	pthread_mutex_unlock(&h->lock);
	if (c)
		curl_easy_cleanup(c);
}

/* --- what curl calls --- */

static void take_status_line(struct exchange *x, const char *line, size_t n)
{
	const char *space = memchr(line, ' ', n);

	response_clear(x->response); /* of a 100 Continue or a proxy's CONNECT */
	if (space && line + n - space > 3)
		x->response->status =
			(space[1] - '0') * 100 + (space[2] - '0') * 10 + (space[3] - '0');
}

static size_t on_header(char *line, size_t size, size_t n, void *arg)
{
	struct exchange *x = arg;
	struct http_response *r = x->response;
	const char *colon;
	char *name, *value;

	if (n >= 5 && strncasecmp(line, "HTTP/", 5) == 0) {
		take_status_line(x, line, n);
		return n;
	}
	r->header_bytes += n;
	if (r->header_bytes > HTTP_HEADERS_MAX || r->names.n >= FIELDS_MAX) {
		x->headers_too_big = true;
		return 0;
	}
	colon = memchr(line, ':', n);
	if (!colon)
		return n;
	name = xstrndup(line, (size_t)(colon - line));
	for (char *c = name; *c; c++)
		if (*c >= 'A' && *c <= 'Z')
			*c += 'a' - 'A';
	for (colon++; colon < line + n && (*colon == ' ' || *colon == '\t');)
		colon++;
	value = xstrndup(colon, (size_t)(line + n - colon));
	for (size_t len = strlen(value); len > 0 && strchr("\r\n \t", value[len - 1]);)
		value[--len] = '\0';
	strv_take(&r->names, name);
	strv_take(&r->values, value);
	return n;
}

static size_t on_body(char *p, size_t size, size_t n, void *arg)
{
	struct exchange *x = arg;
	struct http_response *r = x->response;
	bool good = r->status >= 200 && r->status < 300;

	if (good && x->request->on_data) {
		x->refused = x->request->on_data(p, n, x->request->arg) != 0;
		/* However long the consumer took, that was not the network. */
		x->last_byte = time_monotonic();
		return x->refused ? 0 : n;
	}
	if (!good && r->body.len + n > HTTP_ERROR_BODY_MAX) {
		x->cut = true; /* enough of an error text */
		return 0;
	}
	if (buf_append(&r->body, p, n) < 0) {
		x->body_too_big = good;
		x->cut = !good;
		return 0;
	}
	return n;
}

static size_t on_read(char *p, size_t size, size_t n, void *arg)
{
	struct exchange *x = arg;
	const struct http_request *q = x->request;
	size_t left = (size_t)(q->body_len - x->body_pos);
	ssize_t r;

	n = MIN(n * size, left);
	if (n == 0)
		return 0;
	if (q->body_fd >= 0) {
		r = pread(q->body_fd, p, n, q->body_offset + x->body_pos);
		if (r <= 0)
			return CURL_READFUNC_ABORT;
	} else {
		memcpy(p, (const char *)q->body + x->body_pos, n);
		r = (ssize_t)n;
	}
	x->body_pos += r;
	if (q->on_sent)
		q->on_sent(x->body_pos, q->arg);
	return (size_t)r;
}

static int on_seek(void *arg, curl_off_t offset, int origin)
{
	struct exchange *x = arg;

	if (origin != SEEK_SET || offset < 0 || offset > x->request->body_len)
		return CURL_SEEKFUNC_FAIL;
	x->body_pos = offset;
	return CURL_SEEKFUNC_OK;
}

static int on_tick(void *arg, curl_off_t dltotal, curl_off_t dlnow, curl_off_t ultotal,
		   curl_off_t ulnow)
{
	struct exchange *x = arg;
	int64_t now = time_monotonic();

	if (dlnow + ulnow != x->moved) {
		x->moved = dlnow + ulnow;
		x->last_byte = now;
	} else if (now - x->last_byte > x->http->stall_ms * NSEC_PER_MSEC) {
		x->stalled = true;
		return 1;
	}
	return 0;
}

/* --- set-up --- */

static void set_body(CURL *c, struct exchange *x)
{
	const struct http_request *q = x->request;

	if (str_equal(q->method, "HEAD")) {
		curl_easy_setopt(c, CURLOPT_NOBODY, 1L);
		return;
	}
	if (str_equal(q->method, "GET")) {
		curl_easy_setopt(c, CURLOPT_HTTPGET, 1L);
		return;
	}
	curl_easy_setopt(c, CURLOPT_POST, 1L);
	curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)q->body_len);
	curl_easy_setopt(c, CURLOPT_READFUNCTION, on_read);
	curl_easy_setopt(c, CURLOPT_READDATA, x);
	curl_easy_setopt(c, CURLOPT_SEEKFUNCTION, on_seek);
	curl_easy_setopt(c, CURLOPT_SEEKDATA, x);
	if (!str_equal(q->method, "POST"))
		curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, q->method);
}

/* curl wants the list as long as the exchange. */
static struct curl_slist *set_headers(CURL *c, const struct http_request *q)
{
	struct curl_slist *list = NULL;

	for (size_t i = 0; i < q->headers.n; i++)
		list = curl_slist_append(list, q->headers.v[i]);
	if (str_equal(q->method, "POST") || str_equal(q->method, "PATCH") ||
	    str_equal(q->method, "PUT")) {
		bool typed = false;

		for (size_t i = 0; i < q->headers.n; i++)
			typed |= strncasecmp(q->headers.v[i], "content-type:", 13) == 0;
		if (!typed) /* or curl would call it a form */
			list = curl_slist_append(list, "Content-Type:");
	}
	curl_easy_setopt(c, CURLOPT_HTTPHEADER, list);
	return list;
}

static void set_blob(CURL *c, CURLoption option, const void *p, size_t n)
{
	/* Borrowed: p outlives the exchange. */
	struct curl_blob blob = { .data = (void *)p, .len = n, .flags = CURL_BLOB_NOCOPY };

	curl_easy_setopt(c, option, &blob);
}

/* bundle: where the system's and the peer's certificates are put together. */
static void set_tls(CURL *c, const struct http *h, const struct http_peer *peer, struct buf *bundle)
{
	curl_easy_setopt(c, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	if (peer->skip_verify) {
		curl_easy_setopt(c, CURLOPT_SSL_VERIFYPEER, 0L);
		curl_easy_setopt(c, CURLOPT_SSL_VERIFYHOST, 0L);
	} else if (peer->ca) {
		if (h->ca)
			buf_append(bundle, h->ca, h->ca_len);
		buf_putc(bundle, '\n');
		buf_puts(bundle, peer->ca);
		set_blob(c, CURLOPT_CAINFO_BLOB, bundle->data, bundle->len);
	} else if (h->ca) {
		set_blob(c, CURLOPT_CAINFO_BLOB, h->ca, h->ca_len);
	}
	if (peer->client_cert) {
		const char *key = peer->client_key ? peer->client_key : peer->client_cert;

		set_blob(c, CURLOPT_SSLCERT_BLOB, peer->client_cert, strlen(peer->client_cert));
		set_blob(c, CURLOPT_SSLKEY_BLOB, key, strlen(key));
	}
}

static void set_common(CURL *c, struct exchange *x, const struct http_peer *peer, char *error_text)
{
	const struct http *h = x->http;
	const char *proxy = url_is_https(x->request->url) ? h->https_proxy : h->http_proxy;
	int64_t dial = peer->dial_timeout_ms > 0 ? peer->dial_timeout_ms : DIAL_TIMEOUT_MS;

	curl_easy_setopt(c, CURLOPT_URL, x->request->url);
	curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(c, CURLOPT_USERAGENT, "kistl/" KISTL_VERSION);
	curl_easy_setopt(c, CURLOPT_BUFFERSIZE, 256L << 10);
	curl_easy_setopt(c, CURLOPT_UPLOAD_BUFFERSIZE, 256L << 10);
	curl_easy_setopt(c, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, (long)dial);
	curl_easy_setopt(c, CURLOPT_EXPECT_100_TIMEOUT_MS, 5000L);
	curl_easy_setopt(c, CURLOPT_PROXY, proxy ? proxy : "");
	curl_easy_setopt(c, CURLOPT_NOPROXY, h->no_proxy ? h->no_proxy : "");
	curl_easy_setopt(c, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	curl_easy_setopt(c, CURLOPT_ERRORBUFFER, error_text);
	curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(c, CURLOPT_HEADERDATA, x);
	curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(c, CURLOPT_WRITEDATA, x);
	curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, on_tick);
	curl_easy_setopt(c, CURLOPT_XFERINFODATA, x);
	curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
}

/* --- results --- */

static enum http_failure failure_of(CURLcode code)
{
	switch (code) {
	case CURLE_COULDNT_RESOLVE_PROXY:
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_CONNECT:
		return HTTP_UNREACHABLE;
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CERTPROBLEM:
	case CURLE_SSL_CIPHER:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_SSL_ISSUER_ERROR:
		return HTTP_UNTRUSTED;
	case CURLE_URL_MALFORMAT:
	case CURLE_UNSUPPORTED_PROTOCOL:
		return HTTP_REFUSED;
	default:
		return HTTP_BROKEN;
	}
}

/* curl does not say why a connection could not be made; the kernel did. */
static char *failure_text(CURL *c, CURLcode code, const char *text)
{
	const char *words = *text ? text : curl_easy_strerror(code);
	long reason = 0;

	if (code == CURLE_COULDNT_CONNECT)
		curl_easy_getinfo(c, CURLINFO_OS_ERRNO, &reason);
	return reason > 0 ? xasprintf("%s: %s", words, strerror((int)reason)) : xstrdup(words);
}

static int exchange_error(const struct exchange *x, CURLcode code, const char *text,
			  struct error *err)
{
	struct http_response *r = x->response;
	autofree char *url = url_public(x->request->url);
	const char *method = x->request->method;

	r->failure = HTTP_REFUSED;
	if (x->refused)
		return error_set(err, ERROR_ABORTED, "%s %s: ended by its reader", method, url);
	if (x->headers_too_big)
		return error_set(err, ERROR_RESOURCE_EXHAUSTED,
				 "%s %s: the response's header is larger than %d bytes", method,
				 url, HTTP_HEADERS_MAX);
	if (x->body_too_big)
		return error_set(err, ERROR_RESOURCE_EXHAUSTED,
				 "%s %s: the document is larger than %zu bytes", method, url,
				 r->body.max);
	r->failure = failure_of(code);
	if (x->stalled)
		return error_set(err, ERROR_UNAVAILABLE, "%s %s: stalled, no byte for %lld s",
				 method, url, (long long)x->http->stall_ms / 1000);
	return error_set(err, ERROR_UNAVAILABLE, "%s %s: %s", method, url, text);
}

int http_exchange(struct http *h, const struct http_peer *peer, const struct http_request *q,
		  struct http_response *ret, struct error *err)
{
	struct exchange x = {
		.http = h, .request = q, .response = ret, .last_byte = time_monotonic()
	};
	char text[CURL_ERROR_SIZE] = "";
	autobuf struct buf bundle = BUF_INIT(2 * CA_MAX);
	struct curl_slist *headers;
	CURL *c = handle_take(h);
	CURLcode code;

	response_clear(ret);
	set_common(c, &x, peer, text);
	if (url_is_https(q->url))
		set_tls(c, h, peer, &bundle);
	set_body(c, &x);
	headers = set_headers(c, q);
	code = curl_easy_perform(c);
	text_clean(text, sizeof(text) - 1);
	autofree char *why = failure_text(c, code, text);
	handle_put(h, c);
	curl_slist_free_all(headers);
	if (code == CURLE_OK || x.cut)
		return 0;
	return exchange_error(&x, code, why, err);
}
