/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/logremote.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/parse.h"
#include "base/time.h"

#include <arpa/inet.h>
#include <endian.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#define JOURNAL_SOCKET "/run/systemd/journal/socket"
#define AGAIN_AFTER (5 * NSEC_PER_SEC)
#define MESSAGE_MAX ((size_t)64 << 10)

struct logremote {
	bool journal;
	struct kvs fields; /* of the journal */
	char *address, *tag;
	char host[256];
	unsigned facility;
	enum syslog_format format;
	int fd;
	bool stream, failing;
	int64_t again_at; /* monotonic */
};

/* --- what is sent --- */

static void journal_field(struct buf *out, const char *key, const char *value, size_t n)
{
	uint64_t size = htole64(n);

	buf_puts(out, key);
	if (!memchr(value, '\n', n)) {
		buf_putc(out, '=');
	} else {
		buf_putc(out, '\n');
		buf_append(out, &size, sizeof(size));
	}
	buf_append(out, value, n);
	buf_putc(out, '\n');
}

void journal_format(struct buf *out, const struct kvs *fields, const struct log_line *line,
		    bool is_stderr)
{
	char when[TIME_RFC3339_MAX];

	time_format_rfc3339(line->time, when);
	journal_field(out, "MESSAGE", line->data, line->len);
	journal_field(out, "PRIORITY", is_stderr ? "3" : "6", 1);
	journal_field(out, "SYSLOG_TIMESTAMP", when, strlen(when));
	for (size_t i = 0; i < fields->n; i++)
		journal_field(out, fields->v[i].key, fields->v[i].value,
			      strlen(fields->v[i].value));
	if (!line->complete)
		journal_field(out, "CONTAINER_PARTIAL_MESSAGE", "true", 4);
}

void syslog_format(struct buf *out, enum syslog_format format, unsigned facility, const char *host,
		   const char *tag, const struct log_line *line, bool is_stderr)
{
	unsigned priority = facility * 8 + (is_stderr ? 3 : 6);
	time_t seconds = (time_t)(line->time / NSEC_PER_SEC);
	char when[64];
	struct tm tm;

	localtime_r(&seconds, &tm);
	if (format == SYSLOG_UNIX || format == SYSLOG_RFC3164) {
		strftime(when, sizeof(when), "%b %e %H:%M:%S", &tm);
		buf_printf(out, "<%u>%s ", priority, when);
		if (format == SYSLOG_RFC3164)
			buf_printf(out, "%s ", host);
		buf_printf(out, "%s[%d]: ", tag, (int)getpid());
	} else {
		char zone[8], fraction[16] = "";

		strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S", &tm);
		strftime(zone, sizeof(zone), "%z", &tm);
		if (format == SYSLOG_RFC5424_MICRO)
			snprintf(fraction, sizeof(fraction), ".%06u",
				 (unsigned)(line->time % NSEC_PER_SEC / 1000));
		buf_printf(out, "<%u>1 %s%s%.3s:%s %s %s %d %s - ", priority, when, fraction, zone,
			   zone + 3, host, tag, (int)getpid(), tag);
	}
	buf_append(out, line->data, line->len);
}

/* --- where to --- */

static int connect_unix(struct logremote *r, const char *path, bool either, struct error *err)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	const int types[] = { SOCK_DGRAM, SOCK_STREAM };

	if (strlen(path) >= sizeof(to.sun_path))
		return error_set(err, ERROR_INVALID_ARGUMENT, "socket path '%s' is too long", path);
	memcpy(to.sun_path, path, strlen(path) + 1);
	for (size_t i = 0; i < (either ? 2 : 1); i++) {
		int fd = socket(AF_UNIX, types[i] | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

		if (fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0) {
			r->fd = fd;
			r->stream = types[i] == SOCK_STREAM;
			return 0;
		}
		error_errno(err, errno, "dial unix %s", path);
		if (fd >= 0)
			close(fd);
	}
	return -1;
}

/* "host[:port]", "[v6]:port" */
static void split_address(const char *address, char **ret_host, char **ret_port)
{
	const char *colon = strrchr(address, ':');
	const char *bracket = strrchr(address, ']');

	if (colon && bracket && colon < bracket)
		colon = NULL;
	*ret_host = colon ? xstrndup(address, (size_t)(colon - address)) : xstrdup(address);
	*ret_port = xstrdup(colon ? colon + 1 : "514");
	size_t n = strlen(*ret_host);
	if (n >= 2 && (*ret_host)[0] == '[' && (*ret_host)[n - 1] == ']') {
		memmove(*ret_host, *ret_host + 1, n - 2);
		(*ret_host)[n - 2] = '\0';
	}
}

/* The daemon has resolved the name: a statically linked program cannot. */
static int socket_address(const char *host, const char *port, struct sockaddr_storage *ret,
			  socklen_t *ret_len)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)(void *)ret;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)(void *)ret;
	int64_t number;

	*ret = (struct sockaddr_storage){ 0 };
	if (parse_int64(port, &number) < 0 || number < 1 || number > 65535)
		return -1;
	if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons((uint16_t)number);
		*ret_len = sizeof(*v4);
		return 0;
	}
	if (inet_pton(AF_INET6, host, &v6->sin6_addr) != 1)
		return -1;
	v6->sin6_family = AF_INET6;
	v6->sin6_port = htons((uint16_t)number);
	*ret_len = sizeof(*v6);
	return 0;
}

static int connect_network(struct logremote *r, const char *address, int type, struct error *err)
{
	autofree char *host = NULL, *port = NULL;
	struct timeval timeout = { .tv_sec = 5 };
	struct sockaddr_storage to;
	socklen_t len;

	split_address(address, &host, &port);
	if (socket_address(host, port, &to, &len) < 0)
		return error_set(err, ERROR_INVALID_ARGUMENT, "invalid address '%s'", address);
	autoclose int fd = socket(to.ss_family, type | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return error_errno(err, errno, "make a socket");
	/* The shim serves others too: a server that does not answer is given up on. */
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
	if (connect(fd, (struct sockaddr *)&to, len) < 0)
		return error_errno(err, errno, "dial %s", address);
	r->fd = TAKE_FD(fd);
	r->stream = type == SOCK_STREAM;
	return 0;
}

static int dial(struct logremote *r, struct error *err)
{
	const char *a = r->address;

	if (r->journal)
		return connect_unix(r, str_empty(a) ? JOURNAL_SOCKET : a, false, err);
	if (str_empty(a))
		return connect_unix(r, "/dev/log", true, err);
	if (str_has_prefix(a, "unix://"))
		return connect_unix(r, a + strlen("unix://"), true, err);
	if (str_has_prefix(a, "unixgram://"))
		return connect_unix(r, a + strlen("unixgram://"), false, err);
	if (str_has_prefix(a, "udp://"))
		return connect_network(r, a + strlen("udp://"), SOCK_DGRAM, err);
	if (str_has_prefix(a, "tcp://"))
		return connect_network(r, a + strlen("tcp://"), SOCK_STREAM, err);
	return error_set(err, ERROR_INVALID_ARGUMENT, "unsupported syslog-address '%s'", a);
}

static enum syslog_format format_of(const char *name, const char *address)
{
	if (str_equal(name, "rfc3164"))
		return SYSLOG_RFC3164;
	if (str_equal(name, "rfc5424"))
		return SYSLOG_RFC5424;
	if (str_equal(name, "rfc5424micro"))
		return SYSLOG_RFC5424_MICRO;
	return str_empty(address) || str_has_prefix(address, "unix") ? SYSLOG_UNIX : SYSLOG_RFC3164;
}

int logremote_open(const struct kvs *options, struct logremote **ret, struct error *err)
{
	struct logremote *r = xnew(struct logremote);
	int64_t facility = 3; /* daemon */

	r->fd = -1;
	r->journal = str_equal(kvs_get(options, "remote"), "journald");
	r->address = xstrdup(kvs_get(options, "address"));
	r->tag = xstrdup(kvs_get(options, "tag") ? kvs_get(options, "tag") : "");
	r->format = format_of(kvs_get(options, "format"), r->address);
	if (kvs_get(options, "facility"))
		(void)parse_int64(kvs_get(options, "facility"), &facility);
	r->facility = (unsigned)facility & 31;
	gethostname(r->host, sizeof(r->host) - 1);
	for (size_t i = 0; i < options->n; i++)
		if (str_has_prefix(options->v[i].key, "field."))
			kvs_set(&r->fields, options->v[i].key + strlen("field."),
				options->v[i].value);
	if (dial(r, err) < 0) {
		logremote_free(r);
		return error_wrap(err, "failed to initialize logging driver");
	}
	*ret = r;
	return 0;
}

static bool put(struct logremote *r, const struct buf *b)
{
	ssize_t n = r->fd < 0 ? -1 : send(r->fd, b->data, b->len, MSG_DONTWAIT | MSG_NOSIGNAL);

	/* Half a message of a stream would be read as one with the next. */
	if (r->stream && n >= 0 && (size_t)n < b->len)
		return false;
	/* A full socket loses this one. */
	return n >= 0 || (r->fd >= 0 && (errno == EAGAIN || errno == ENOBUFS));
}

static void reconnect(struct logremote *r, const struct buf *b)
{
	autoerror struct error err = ERROR_INIT;
	int64_t now = time_monotonic();

	if (r->fd >= 0)
		close(r->fd);
	r->fd = -1;
	if (now < r->again_at)
		return;
	r->again_at = now + AGAIN_AFTER;
	if (dial(r, &err) == 0 && put(r, b)) {
		r->failing = false;
	} else if (!r->failing) {
		log_err("log: %s, losing lines", error_msg(&err));
		r->failing = true;
	}
}

void logremote_line(struct logremote *r, const struct log_line *line, bool is_stderr)
{
	autobuf struct buf b = BUF_INIT(MESSAGE_MAX);

	if (r->journal)
		journal_format(&b, &r->fields, line, is_stderr);
	else
		syslog_format(&b, r->format, r->facility, r->host, r->tag, line, is_stderr);
	if (r->stream)
		buf_putc(&b, '\n');
	if (!b.overflow && !put(r, &b))
		reconnect(r, &b);
}

void logremote_free(struct logremote *r)
{
	if (!r)
		return;
	if (r->fd >= 0)
		close(r->fd);
	kvs_done(&r->fields);
	free(r->address);
	free(r->tag);
	free(r);
}
