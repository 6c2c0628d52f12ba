/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/attach-proto.h"

#include "base/fs.h"
#include "base/hex.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/parse.h"

#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#define ANSWER_TIMEOUT_MS 10000

void attach_request_done(struct attach_request *r)
{
	free(r->id);
	free(r->exec_id);
	*r = (struct attach_request){ 0 };
}

static int put_line(struct buf *out, const char *verb, const struct json *j, struct error *err)
{
	autofree char *text = json_format(j, /* pretty= */ false);

	if (strlen(verb) + strlen(text) + 1 > CONTROL_MAX)
		return error_set(err, ERROR_INVALID_ARGUMENT, "attach request is too long");
	buf_puts(out, verb);
	buf_puts(out, text);
	buf_putc(out, '\n');
	return 0;
}

int attach_request_format(const struct attach_request *r, struct buf *out, struct error *err)
{
	autojson struct json *j = json_new_object();
	char keys[2 * DETACH_KEYS_MAX + 1];

	hex_encode(r->detach_keys, r->n_detach_keys, keys);
	json_set_string(j, "id", r->id);
	json_set_string(j, "exec_id", r->exec_id ? r->exec_id : "");
	json_set_bool(j, "stdin", r->want_in);
	json_set_bool(j, "stdout", r->want_out);
	json_set_bool(j, "stderr", r->want_err);
	json_set_bool(j, "mux", r->mux);
	json_set_bool(j, "hangup", r->hangup);
	json_set_string(j, "detach_keys", keys);
	return put_line(out, ATTACH_VERB, j, err);
}

int attach_request_parse(const char *text, size_t len, struct attach_request *ret,
			 struct error *err)
{
	while (len > 0 && text[len - 1] == '\n')
		len--;
	autojson struct json *j = json_parse(text, len, CONTROL_MAX, err);
	if (!j)
		return error_wrap(err, "attach request");

	const char *id = json_get_string(j, "id");
	const char *keys = json_get_string(j, "detach_keys");
	struct attach_request r = {
		.want_in = json_get_bool(j, "stdin", false),
		.want_out = json_get_bool(j, "stdout", false),
		.want_err = json_get_bool(j, "stderr", false),
		.mux = json_get_bool(j, "mux", false),
		.hangup = json_get_bool(j, "hangup", false),
	};
	if (str_empty(id))
		return error_set(err, ERROR_INVALID_ARGUMENT, "attach request without an id");
	if (!str_empty(keys)) {
		r.n_detach_keys = strlen(keys) / 2;
		if (r.n_detach_keys > DETACH_KEYS_MAX ||
		    hex_decode(keys, r.detach_keys, r.n_detach_keys) < 0)
			return error_set(err, ERROR_INVALID_ARGUMENT, "bad detach keys '%s'", keys);
	}
	r.id = xstrdup(id);
	r.exec_id = xstrdup(json_get_string(j, "exec_id"));
	*ret = r;
	return 0;
}

void attach_header_write(uint8_t out[ATTACH_HEADER_SIZE], uint8_t type, uint32_t len)
{
	memset(out, 0, ATTACH_HEADER_SIZE);
	out[0] = type;
	out[4] = (uint8_t)(len >> 24);
	out[5] = (uint8_t)(len >> 16);
	out[6] = (uint8_t)(len >> 8);
	out[7] = (uint8_t)len;
}

/* "ERR 5 no container 'x'" */
static int parse_refusal(const char *line, struct error *err)
{
	uint64_t code = 0;

	if (str_has_prefix(line, "ERR ")) {
		const char *number = line + 4;
		const char *space = strchr(number, ' ');
		autofree char *digits = space ? xstrndup(number, (size_t)(space - number)) : NULL;

		if (digits && parse_uint64(digits, &code) == 0 && code > 0 && code < ERROR_CODE_MAX)
			return error_set(err, (enum error_code)code, "%s", space + 1);
	}
	return error_set(err, ERROR_UNAVAILABLE, "shim gave no answer");
}

static int ask(const char *socket, const struct buf *line, const int *fds, size_t n_fds,
	       struct error *err)
{
	char answer[512];
	size_t len = 0;
	autoclose int fd = fs_unix_connect(socket);

	if (fd < 0)
		return error_errno(err, -fd, "connect to shim '%s'", socket);
	ssize_t sent = fs_send_fds(fd, line->data, line->len, fds, n_fds);
	if (sent < 0)
		return error_errno(err, (int)-sent, "send to shim '%s'", socket);
	while (len < sizeof(answer) - 1) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		int r = poll(&p, 1, ANSWER_TIMEOUT_MS);

		if (r < 0 && errno == EINTR)
			continue;
		if (r == 0)
			return error_set(err, ERROR_DEADLINE_EXCEEDED, "shim '%s' does not answer",
					 socket);
		ssize_t n = recv(fd, answer + len, sizeof(answer) - 1 - len, 0);
		if (n <= 0)
			break;
		len += (size_t)n;
	}
	answer[len] = '\0';
	while (len > 0 && answer[len - 1] == '\n')
		answer[--len] = '\0';
	return strcmp(answer, "OK") == 0 ? 0 : parse_refusal(answer, err);
}

int attach_client(const char *socket, const struct attach_request *r, int client_fd,
		  struct error *err)
{
	autobuf struct buf line = BUF_INIT(CONTROL_MAX);

	if (attach_request_format(r, &line, err) < 0)
		return -1;
	return ask(socket, &line, &client_fd, 1, err);
}

int attach_reopen_log(const char *socket, const char *id, struct error *err)
{
	autobuf struct buf line = BUF_INIT(CONTROL_MAX);
	autojson struct json *j = json_new_object();

	json_set_string(j, "id", id);
	if (put_line(&line, REOPEN_VERB, j, err) < 0)
		return -1;
	return ask(socket, &line, NULL, 0, err);
}
