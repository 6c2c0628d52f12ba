/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Packets are JSON, and JSON is UTF-8; file names and messages of foreign programs need not be.
 * Text of an error is therefore cleaned on both sides: on sending so that it can be parsed at all,
 * on receiving because the daemon prints it to terminals.
 */

#include "oci/worker-proto.h"

#include "base/fs.h"
#include "base/mem.h"

#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define MESSAGE_TEXT_MAX 8192

void worker_message_done(struct worker_message *m)
{
	assert(m->n_fds <= WORKER_FDS_MAX);
	json_unref(m->json);
	for (size_t i = 0; i < m->n_fds; i++)
		closep(&m->fds[i]);
	*m = WORKER_MESSAGE_INIT;
}

int worker_send(int sock, struct json *json, const int *fds, size_t n_fds, struct error *err)
{
	assert(n_fds <= WORKER_FDS_MAX);

	autojson struct json *owned = json;
	autofree char *text = json_format(owned, /* pretty= */ false);
	size_t len = strlen(text);
	if (len > WORKER_MESSAGE_MAX)
		return error_set(err, ERROR_RESOURCE_EXHAUSTED,
				 "message of %zu bytes is longer than a packet", len);
	ssize_t n;
	do {
		n = fs_send_fds(sock, text, len, fds, n_fds);
	} while (n == -EINTR);
	if (n == -EPIPE || n == -ECONNRESET || n == -ENOTCONN)
		return error_set(err, ERROR_UNAVAILABLE, "peer of the worker socket is gone");
	if (n < 0)
		return error_errno(err, (int)-n, "send on the worker socket");
	assert((size_t)n == len); /* packets are all or nothing */
	return 0;
}

/* A closed standard descriptor in the receiver would turn a received one into 0, 1 or 2; harmless.
 */
int worker_recv(int sock, struct worker_message *ret, struct error *err)
{
	CLEANUP(worker_message_done) struct worker_message m = WORKER_MESSAGE_INIT;
	autofree char *text = xmalloc(WORKER_MESSAGE_MAX + 1);
	ssize_t n;
	/* A peer that ended with messages unread is told once, ahead of its own last words. */
	bool reset = false;
	do {
		m.n_fds = WORKER_FDS_MAX;
		n = fs_recv_fds(sock, text, WORKER_MESSAGE_MAX + 1, m.fds, &m.n_fds);
		reset = n == -ECONNRESET && !reset;
	} while (n == -EINTR || reset);
	if (n <= 0)
		m.n_fds = 0;
	if (n == 0 || n == -ECONNRESET)
		return error_set(err, ERROR_UNAVAILABLE, "peer of the worker socket is gone");
	if (n < 0)
		return error_errno(err, (int)-n, "receive on the worker socket");
	if (n > WORKER_MESSAGE_MAX)
		return error_set(err, ERROR_RESOURCE_EXHAUSTED,
				 "message on the worker socket is longer than a packet");
	m.json = json_parse(text, (size_t)n, WORKER_MESSAGE_MAX, err);
	if (!m.json)
		return error_wrap(err, "message on the worker socket");
	if (json_type(m.json) != JSON_OBJECT)
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "message on the worker socket is no object");
	*ret = m;
	m = WORKER_MESSAGE_INIT;
	return 0;
}

/* Bytes of the UTF-8 sequence at s, 0 when it is none (overlong forms and surrogates included). */
static size_t utf8_length(const unsigned char *s)
{
	uint32_t c = s[0];
	size_t n = c < 0x80 ? 1 : (c & 0xe0) == 0xc0 ? 2 : (c & 0xf0) == 0xe0 ? 3 : 4;
	static const uint32_t lowest[] = { 0, 0, 0x80, 0x800, 0x10000 };

	if (n == 1)
		return 1;
	if (n == 4 && (c & 0xf8) != 0xf0)
		return 0;
	c &= 0x7fU >> n;
	for (size_t i = 1; i < n; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (s[i] & 0x3f);
	}
	return c < lowest[n] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff) ? 0 : n;
}

bool worker_text_valid(const char *s)
{
	while (*s) {
		size_t n = utf8_length((const unsigned char *)s);
		if (n == 0)
			return false;
		s += n;
	}
	return true;
}

/* Valid UTF-8 without control characters (newline stays), at most MESSAGE_TEXT_MAX bytes. */
static char *text_clean(const char *s)
{
	autobuf struct buf b = BUF_INIT(BUF_NO_LIMIT);

	while (*s && b.len < MESSAGE_TEXT_MAX - 4) {
		size_t n = utf8_length((const unsigned char *)s);
		bool bad = n == 0 || ((unsigned char)*s < 0x20 && *s != '\n') || *s == 0x7f;
		if (bad)
			buf_putc(&b, '?');
		else
			buf_append(&b, s, n);
		s += n ? n : 1;
	}
	return buf_steal(&b, NULL);
}

int worker_error_decode(const struct json *j, struct error *err)
{
	int64_t code = json_get_int(j, "code", ERROR_UNKNOWN);
	int64_t sys = json_get_int(j, "sys", 0);
	const char *message = json_get_string(j, "message");

	if (code <= ERROR_OK || code >= ERROR_CODE_MAX)
		code = ERROR_UNKNOWN;
	autofree char *text = text_clean(message ? message : "worker failed without a message");
	error_set(err, (enum error_code)code, "%s", text);
	if (err && sys > 0 && sys < 4096)
		err->sys = (int)sys;
	return -1;
}

struct json *worker_error_encode(const struct error *err)
{
	struct json *j = json_new_object();
	autofree char *text = text_clean(error_msg(err));

	json_set_string(j, "event", "error");
	json_set_int(j, "code", err->code == ERROR_OK ? ERROR_INTERNAL : err->code);
	json_set_int(j, "sys", err->sys);
	json_set_string(j, "message", text);
	return j;
}

int worker_memfd(const void *p, size_t n, struct error *err)
{
	autoclose int fd = memfd_create("kistl-document", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return error_errno(err, errno, "create a memory file");
	int r = fs_write_all(fd, p, n);
	if (r < 0)
		return error_errno(err, -r, "write a memory file");
	if (lseek(fd, 0, SEEK_SET) < 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0)
		return error_errno(err, errno, "seal a memory file");
	return TAKE_FD(fd);
}
