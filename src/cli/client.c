/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/client.h"

#include "base/fs.h"
#include "base/mem.h"
#include "base/parse.h"
#include "cli/autostart.h"

#include <assert.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define DEFAULT_SOCKET "/run/kistl/kistl.sock"
#define READ_SIZE (64 * 1024)
#define REQUEST_MAX (64 * 1024 * 1024)

static char *default_socket(void)
{
	const char *runtime = getenv("XDG_RUNTIME_DIR");

	if (geteuid() != 0 && !str_empty(runtime))
		return path_join(runtime, "kistl/kistl.sock", NULL);
	return xstrdup(DEFAULT_SOCKET);
}

/* A daemon is started only where no other program may be expected: not for --host, DOCKER_HOST. */
static const char *host_from_environment(bool *ret_autostart)
{
	const char *own = getenv("KISTL_HOST"), *docker = getenv("DOCKER_HOST");

	*ret_autostart = !str_empty(own) || str_empty(docker);
	return !str_empty(own) ? own : !str_empty(docker) ? docker : NULL;
}

int client_init(struct client *c, const char *host, const char *namespace, struct error *err)
{
	const char *forced = getenv("KISTL_API_VERSION");

	*c = (struct client){ .idle_fd = -EBADF };
	if (!host)
		host = host_from_environment(&c->autostart);
	if (str_empty(namespace))
	namespace = getenv("KISTL_NAMESPACE");
	for (const char *p = namespace; p && *p; p++)
		if ((unsigned char)*p <= ' ' || *p == 0x7f)
			return error_set(err, ERROR_INVALID_ARGUMENT, "invalid namespace '%s'",
					 namespace);
	c->namespace = str_empty(namespace) ? NULL : xstrdup(namespace);
	if (!host) {
		c->socket = default_socket();
	} else if (str_has_prefix(host, "unix://") && host[7]) {
		c->socket = xstrdup(host + 7);
	} else if (host[0] == '/') {
		c->socket = xstrdup(host);
	} else {
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "unable to parse host '%s': only unix:///path is supported", host);
	}
	if (!str_empty(forced))
		c->version = xstrdup(*forced == 'v' ? forced + 1 : forced);
	return 0;
}

void client_done(struct client *c)
{
	closep(&c->idle_fd);
	c->idle_fd = -EBADF;
	free(TAKE_PTR(c->socket));
	free(TAKE_PTR(c->namespace));
	free(TAKE_PTR(c->version));
	free(TAKE_PTR(c->server_os));
}

char *client_host(const struct client *c)
{
	return xasprintf("unix://%s", c->socket);
}

int api_version_compare(const char *a, const char *b)
{
	unsigned major[2] = { 0 }, minor[2] = { 0 };

	if (sscanf(a, "%u.%u", &major[0], &minor[0]) != 2 ||
	    sscanf(b, "%u.%u", &major[1], &minor[1]) != 2)
		return 0;
	if (major[0] != major[1])
		return major[0] < major[1] ? -1 : 1;
	return minor[0] < minor[1] ? -1 : minor[0] > minor[1];
}

/* A connected socket: the idle one if the daemon has not closed it meanwhile. */
static int open_socket(struct client *c, struct error *err)
{
	int fd = TAKE_FD(c->idle_fd);
	char byte;

	if (fd >= 0) {
		if (recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN)
			return fd;
		close(fd);
	}
	fd = fs_unix_connect(c->socket);
	if (fd >= 0)
		return fd;
	if (fd == -EACCES || fd == -EPERM)
		return error_errno(err, -fd,
				   "permission denied while trying to connect to the Kistl daemon "
				   "socket at unix://%s",
				   c->socket);
	if (c->autostart && (fd == -ENOENT || fd == -ECONNREFUSED))
		return autostart_daemon(c->socket, err);
	return error_set(err, ERROR_UNAVAILABLE,
			 "Cannot connect to the Kistl daemon at unix://%s. Is kistld running?",
			 c->socket);
}

static int receive(struct exchange *ex, bool wait, struct error *err)
{
	ssize_t n;

	if (buf_reserve(&ex->in, READ_SIZE) < 0)
		return error_set(err, ERROR_RESOURCE_EXHAUSTED, "reply too large");
	do
		n = recv(ex->fd, ex->in.data + ex->in.len, READ_SIZE, wait ? 0 : MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN && !wait)
		return 2;
	if (n < 0 && errno != ECONNRESET)
		return error_errno(err, errno, "read from the daemon");
	if (n <= 0)
		return 0;
	buf_advance(&ex->in, (size_t)n);
	return 1;
}

/* Sends all, taking in whatever the daemon says meanwhile, so that neither side can block the other
 * for ever. 1: the daemon does not listen any more (its reply may say why). */
static int send_all(struct exchange *ex, const char *p, size_t len, struct error *err)
{
	while (len) {
		ssize_t n = send(ex->fd, p, len, MSG_NOSIGNAL | MSG_DONTWAIT);
		struct pollfd pfd = { ex->fd, POLLOUT | POLLIN, 0 };
		int r;

		if (n > 0) {
			p += n;
			len -= (size_t)n;
			continue;
		}
		if (errno == EPIPE || errno == ECONNRESET)
			return 1;
		if (errno != EAGAIN && errno != EINTR)
			return error_errno(err, errno, "write to the daemon");
		if (poll(&pfd, 1, -1) < 0 && errno != EINTR)
			return error_errno(err, errno, "poll");
		if (!(pfd.revents & POLLIN))
			continue;
		r = receive(ex, /* wait= */ false, err);
		if (r <= 0)
			return r < 0 ? -1 : 1;
	}
	return 0;
}

/* A chunk of a chunked body, collected here: its size goes before it. */
#define CHUNK_HEAD 16

struct body {
	struct exchange *ex;
	size_t n;
	int result; /* of the last send_all() */
	char *chunk;
};

static int body_flush(struct body *b, struct error *err)
{
	char size[CHUNK_HEAD + 1];
	int digits = snprintf(size, sizeof(size), "%zx\r\n", b->n);

	if (!b->n)
		return 0;
	assert(digits > 0 && digits <= CHUNK_HEAD);
	memcpy(b->chunk + CHUNK_HEAD - digits, size, (size_t)digits);
	memcpy(b->chunk + CHUNK_HEAD + b->n, "\r\n", 2);
	b->result = send_all(b->ex, b->chunk + CHUNK_HEAD - digits, (size_t)digits + b->n + 2, err);
	b->n = 0;
	return b->result;
}

static int body_write(void *sink, const void *p, size_t n, struct error *err)
{
	struct body *b = sink;

	while (n) {
		size_t part = MIN(n, READ_SIZE - b->n);

		memcpy(b->chunk + CHUNK_HEAD + b->n, p, part);
		b->n += part;
		p = (const char *)p + part;
		n -= part;
		if (b->n == READ_SIZE && body_flush(b, err))
			return -1;
	}
	return 0;
}

static int copy_input(void *arg, request_write_fn write, void *sink, struct error *err)
{
	autofree char *chunk = xmalloc(READ_SIZE);
	int fd = *(const int *)arg;
	ssize_t n;

	while ((n = read(fd, chunk, READ_SIZE)) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_errno(err, errno, "read input");
		if (write(sink, chunk, (size_t)n, err))
			return -1;
	}
	return 0;
}

/* 1: the daemon does not listen any more. */
static int send_stream(struct exchange *ex, const struct request *req, struct error *err)
{
	autofree char *chunk = xmalloc(READ_SIZE + 2 * CHUNK_HEAD);
	struct body b = { .ex = ex, .chunk = chunk };
	int fd = req->body_fd, r;

	r = req->produce ? req->produce(req->produce_arg, body_write, &b, err)
			 : copy_input(&fd, body_write, &b, err);
	if (r == 0)
		r = body_flush(&b, err);
	if (b.result)
		return b.result;
	return r < 0 ? -1 : send_all(ex, "0\r\n\r\n", 5, err);
}

static void build_head(const struct client *c, const struct request *req, bool versioned,
		       size_t body_len, struct buf *b)
{
	buf_printf(b, "%s %s%s%s HTTP/1.1\r\nHost: api.moby.localhost\r\n", req->method,
		   versioned ? "/v" : "", versioned ? c->version : "", req->path);
	buf_puts(b, "User-Agent: Kistl-Client/" KISTL_VERSION " (linux)\r\n");
	if (c->namespace)
		buf_printf(b, "X-Kistl-Namespace: %s\r\n", c->namespace);
	if (req->auth)
		buf_printf(b, "X-Registry-Auth: %s\r\n", req->auth);
	if (req->upgrade)
		buf_puts(b, "Connection: Upgrade\r\nUpgrade: tcp\r\n");
	if (req->body_fd > 0 || req->produce)
		buf_puts(b, "Content-Type: application/x-tar\r\nTransfer-Encoding: chunked\r\n");
	else if (req->body)
		buf_printf(b, "Content-Type: application/json\r\nContent-Length: %zu\r\n",
			   body_len);
	else if (strcmp(req->method, "GET") != 0 && strcmp(req->method, "HEAD") != 0)
		buf_puts(b, "Content-Length: 0\r\n");
	buf_puts(b, "\r\n");
}

static struct exchange *send_request(struct client *c, const struct request *req, bool versioned,
				     struct error *err)
{
	autoexchange struct exchange *ex = xnew(struct exchange);
	autobuf struct buf b = BUF_INIT(REQUEST_MAX);
	autofree char *body = req->body ? json_format(req->body, /* pretty= */ false) : NULL;
	int r;

	ex->client = c;
	ex->in = BUF_INIT(API_DOCUMENT_MAX);
	ex->piece = BUF_INIT(API_DOCUMENT_MAX);
	ex->rest = BUF_INIT(API_DOCUMENT_MAX);
	ex->document = BUF_INIT(API_DOCUMENT_MAX);
	http_parser_init(&ex->parser);
	http_parser_reset(&ex->parser, strcmp(req->method, "HEAD") == 0);
	ex->fd = open_socket(c, err);
	if (ex->fd < 0)
		return NULL;
	build_head(c, req, versioned, body ? strlen(body) : 0, &b);
	if (body)
		buf_puts(&b, body);
	if (b.overflow) {
		error_set(err, ERROR_RESOURCE_EXHAUSTED, "request too large");
		return NULL;
	}
	r = send_all(ex, b.data, b.len, err);
	if (r == 0 && (req->body_fd > 0 || req->produce))
		r = send_stream(ex, req, err);
	return r < 0 ? NULL : TAKE_PTR(ex);
}

void exchange_free(struct exchange *ex)
{
	if (ex->fd >= 0) {
		if (ex->ended && ex->parser.keep_alive && !ex->in.len && ex->client->idle_fd < 0)
			ex->client->idle_fd = TAKE_FD(ex->fd);
		else
			close(ex->fd);
	}
	http_parser_done(&ex->parser);
	buf_done(&ex->in);
	buf_done(&ex->piece);
	buf_done(&ex->rest);
	buf_done(&ex->document);
	free(ex);
}

/* Runs the parser until an event; the body piece borrows from `in` until the next call. */
static int next_event(struct exchange *ex, bool wait, const char **ret, size_t *ret_len,
		      struct error *err)
{
	for (;;) {
		size_t used;
		int ev, r;

		ev = http_parser_feed(&ex->parser, ex->in.data, ex->in.len, &used, ret, ret_len,
				      err);
		if (ev < 0)
			return -1;
		if (ev == HTTP_BODY) {
			/* Moved aside, so that `in` can go on without moving what was returned. */
			buf_clear(&ex->piece);
			if (buf_append(&ex->piece, *ret, *ret_len) < 0)
				return error_set(err, ERROR_RESOURCE_EXHAUSTED, "reply too large");
			*ret = ex->piece.data;
		}
		buf_consume(&ex->in, used);
		if (ev != HTTP_MORE)
			return ev;
		r = receive(ex, wait, err);
		if (r < 0)
			return -1;
		if (r == 2)
			return HTTP_MORE;
		if (r == 0)
			return http_parser_eof(&ex->parser, err);
	}
}

static enum error_code code_from_status(int status)
{
	static const struct {
		int status;
		enum error_code code;
	} map[] = {
		{ 400, ERROR_INVALID_ARGUMENT },  { 401, ERROR_UNAUTHENTICATED },
		{ 403, ERROR_PERMISSION_DENIED }, { 404, ERROR_NOT_FOUND },
		{ 409, ERROR_ALREADY_EXISTS },	  { 501, ERROR_UNIMPLEMENTED },
		{ 503, ERROR_UNAVAILABLE },
	};

	for (size_t i = 0; i < ARRAY_SIZE(map); i++)
		if (map[i].status == status)
			return map[i].code;
	return ERROR_UNKNOWN;
}

static int read_all(struct exchange *ex, struct buf *b, struct error *err)
{
	const char *piece;
	size_t len;
	int r;

	while ((r = exchange_read(ex, /* wait= */ true, &piece, &len, err)) == 1)
		if (buf_append(b, piece, len) < 0)
			return error_set(err, ERROR_RESOURCE_EXHAUSTED, "reply too large");
	return r;
}

static int error_from_reply(struct exchange *ex, struct error *err)
{
	autobuf struct buf b = BUF_INIT(1024 * 1024);
	autojson struct json *j = NULL;
	const char *message;
	int status = ex->parser.status;

	if (read_all(ex, &b, NULL) == 0)
		j = json_parse(b.data, b.len, b.max, NULL);
	while (b.len && (b.data[b.len - 1] == '\n' || b.data[b.len - 1] == '\r'))
		b.data[--b.len] = '\0';
	message = json_get_string(j, "message");
	if (!message && b.len)
		message = b.data;
	if (!message)
		return error_set(err, code_from_status(status),
				 "Error response from daemon: HTTP status %d", status);
	return error_set(err, code_from_status(status), "Error response from daemon: %s", message);
}

int exchange_head(struct exchange *ex, struct error *err)
{
	const char *piece;
	size_t len;
	int ev;

	if (ex->head_done)
		return 0;
	ev = next_event(ex, /* wait= */ true, &piece, &len, err);
	if (ev < 0)
		return -1;
	ex->head_done = true;
	if (ev == HTTP_END && !ex->parser.status)
		return error_set(err, ERROR_UNAVAILABLE, "the daemon closed the connection");
	if (ex->parser.status >= 400)
		return error_from_reply(ex, err);
	return 0;
}

int exchange_read(struct exchange *ex, bool wait, const char **ret, size_t *ret_len,
		  struct error *err)
{
	int ev;

	*ret = NULL;
	*ret_len = 0;
	if (ex->ended)
		return 0;
	ev = next_event(ex, wait, ret, ret_len, err);
	if (ev < 0)
		return -1;
	if (ev == HTTP_MORE)
		return 2;
	if (ev == HTTP_BODY)
		return 1;
	ex->ended = true;
	return 0;
}

struct json *exchange_next_json(struct exchange *ex, struct error *err)
{
	for (;;) {
		bool complete;
		size_t n = json_scan(&ex->scanner, ex->rest.data, ex->rest.len, &complete);
		const char *piece;
		size_t len;
		int r;

		if (buf_append(&ex->document, ex->rest.data, n) < 0) {
			error_set(err, ERROR_RESOURCE_EXHAUSTED, "document too large in reply");
			return NULL;
		}
		buf_consume(&ex->rest, n);
		if (complete) {
			struct json *j = json_parse(ex->document.data, ex->document.len,
						    API_DOCUMENT_MAX, err);

			buf_clear(&ex->document);
			return j;
		}
		r = exchange_read(ex, /* wait= */ true, &piece, &len, err);
		if (r <= 0)
			return NULL;
		buf_append(&ex->rest, piece, len);
	}
}

bool exchange_buffered(const struct exchange *ex)
{
	return ex->in.len || strspn(ex->rest.data, " \r\n\t") < ex->rest.len;
}

int exchange_json(struct exchange *ex, struct json **ret, struct error *err)
{
	autobuf struct buf b = BUF_INIT(API_DOCUMENT_MAX);

	*ret = NULL;
	if (read_all(ex, &b, err) < 0)
		return -1;
	if (!b.len)
		return 0;
	*ret = json_parse(b.data, b.len, b.max, err);
	return *ret ? 0 : error_wrap(err, "reply of the daemon");
}

static int negotiate(struct client *c, struct error *err)
{
	struct request ping = { .method = "HEAD", .path = "/_ping" };
	autoexchange struct exchange *ex = send_request(c, &ping, /* versioned= */ false, err);
	const char *version, *piece;
	size_t len;

	if (!ex || exchange_head(ex, err) < 0)
		return -1;
	version = kvs_get(&ex->parser.headers, "api-version");
	if (!version || api_version_compare(version, API_VERSION_MAX) > 0)
		version = API_VERSION_MAX;
	c->version = xstrdup(version);
	c->server_os = xstrdup(kvs_get(&ex->parser.headers, "ostype"));
	return exchange_read(ex, /* wait= */ true, &piece, &len, err);
}

int client_connect(struct client *c, struct error *err)
{
	return c->version ? 0 : negotiate(c, err);
}

struct exchange *client_send(struct client *c, const struct request *req, struct error *err)
{
	if (client_connect(c, err) < 0)
		return NULL;
	return send_request(c, req, /* versioned= */ true, err);
}

struct exchange *client_open(struct client *c, const struct request *req, struct error *err)
{
	autoexchange struct exchange *ex = client_send(c, req, err);

	if (!ex || exchange_head(ex, err) < 0)
		return NULL;
	return TAKE_PTR(ex);
}

int client_call(struct client *c, const char *method, const char *path, const struct json *body,
		struct json **ret, struct error *err)
{
	struct request req = { .method = method, .path = path, .body = body };
	autoexchange struct exchange *ex = client_open(c, &req, err);
	autojson struct json *j = NULL;
	autobuf struct buf rest = BUF_INIT(API_DOCUMENT_MAX);

	if (!ex)
		return -1;
	if (!ret)
		return read_all(ex, &rest, err);
	if (exchange_json(ex, &j, err) < 0)
		return -1;
	*ret = TAKE_PTR(j);
	return 0;
}

int client_get(struct client *c, const char *path, struct json **ret, struct error *err)
{
	return client_call(c, "GET", path, NULL, ret, err);
}

int client_post(struct client *c, const char *path, const struct json *body, struct error *err)
{
	return client_call(c, "POST", path, body, NULL, err);
}
