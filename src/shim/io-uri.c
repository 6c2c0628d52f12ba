/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/io-uri.h"

#include "base/hex.h"
#include "base/mem.h"
#include "base/parse.h"

#include <string.h>

#define VALUE_MAX ((size_t)48 << 10)

void io_uri_done(struct io_uri *u)
{
	free(u->path);
	kvs_done(&u->query);
	*u = (struct io_uri){ 0 };
}

/* %XX decoded; NULL when that is malformed or hides a NUL. */
static char *decode(const char *p, size_t n, bool plus_is_space)
{
	autobuf struct buf out = BUF_INIT(VALUE_MAX);

	for (size_t i = 0; i < n; i++) {
		char c = p[i];

		if (c == '%') {
			char digits[3] = { 0 };

			if (i + 2 >= n)
				return NULL;
			memcpy(digits, p + i + 1, 2);
			if (hex_decode(digits, &c, 1) < 0 || c == '\0')
				return NULL;
			i += 2;
		} else if (c == '+' && plus_is_space) {
			c = ' ';
		}
		if (buf_putc(&out, c) < 0)
			return NULL;
	}
	return buf_steal(&out, NULL);
}

static int parse_query(const char *query, struct kvs *ret)
{
	while (*query) {
		size_t len = strcspn(query, "&");
		const char *eq = memchr(query, '=', len);
		size_t key_len = eq ? (size_t)(eq - query) : len;
		autofree char *key = decode(query, key_len, true);
		autofree char *value = eq ? decode(eq + 1, len - key_len - 1, true) : xstrdup("");

		if (!key || !value)
			return -EINVAL;
		if (len > 0)
			kvs_set(ret, key, value);
		query += len;
		query += *query == '&';
	}
	return 0;
}

static int parse_option(struct io_uri *u, const char *key, const char *value)
{
	static const struct {
		const char *key, *value;
		int setting;
	} words[] = {
		{ "driver", "none", LOG_DRIVER_NONE },
		{ "driver", "json-file", LOG_DRIVER_JSON_FILE },
		{ "driver", "local", LOG_DRIVER_JSON_FILE },
		{ "driver", "cri", LOG_DRIVER_CRI },
		{ "stdin", "none", IO_STDIN_NONE },
		{ "stdin", "open", IO_STDIN_OPEN },
		{ "stdin", "once", IO_STDIN_ONCE },
	};

	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		if (!str_equal(key, words[i].key) || !str_equal(value, words[i].value))
			continue;
		if (*key == 'd')
			u->log.driver = (enum log_driver)words[i].setting;
		else
			u->in = (enum io_stdin)words[i].setting;
		return 0;
	}
	if (str_equal(key, "attrs")) {
		u->log.attrs = value;
		return *value == '{' && strlen(value) <= VALUE_MAX ? 0 : -EINVAL;
	}
	if (str_equal(key, "remote")) {
		u->log.remote = &u->query;
		return str_equal(value, "journald") || str_equal(value, "syslog") ? 0 : -EINVAL;
	}
	/* Those are logremote's. */
	if (str_equal(key, "address") || str_equal(key, "facility") || str_equal(key, "format") ||
	    str_equal(key, "tag") || str_has_prefix(key, "field."))
		return 0;
	if (str_equal(key, "max-size"))
		return parse_size(value, &u->log.max_size);
	if (str_equal(key, "max-line"))
		return parse_int64(value, &u->log.max_line) < 0 || u->log.max_line < -1 ? -EINVAL
											: 0;
	if (str_equal(key, "max-file"))
		return parse_int64(value, &u->log.max_files);
	return -EINVAL;
}

static int parse_kistl(struct io_uri *u, const char *text, struct error *err)
{
	u->log.max_files = 1;
	for (size_t i = 0; i < u->query.n; i++)
		if (parse_option(u, u->query.v[i].key, u->query.v[i].value) < 0)
			return error_set(err, ERROR_INVALID_ARGUMENT, "'%s': bad option '%s'", text,
					 u->query.v[i].key);
	if (u->log.max_size < 0)
		u->log.max_size = 0;
	if (u->log.max_files < 1 || u->log.max_files > 1000)
		return error_set(err, ERROR_INVALID_ARGUMENT, "'%s': max-file must be 1 to 1000",
				 text);
	if (u->log.driver != LOG_DRIVER_NONE && (u->path[0] != '/' || u->path[1] == '\0'))
		return error_set(err, ERROR_INVALID_ARGUMENT, "'%s': no path for the log", text);
	u->log.path = u->path;
	return 0;
}

int io_uri_parse(const char *text, struct io_uri *ret, struct error *err)
{
	static const struct {
		const char *scheme;
		enum io_kind kind;
	} schemes[] = {
		{ "fifo://", IO_FIFO },
		{ "file://", IO_FILE },
		{ "binary://", IO_BINARY },
		{ "kistl-log://", IO_KISTL },
	};
	__attribute__((cleanup(io_uri_done))) struct io_uri u = { 0 };
	const char *rest = NULL;

	if (str_empty(text)) {
		*ret = u;
		return 0;
	}
	if (!strstr(text, "://")) {
		u.kind = IO_FIFO;
		u.path = xstrdup(text);
	}
	for (size_t i = 0; i < ARRAY_SIZE(schemes) && !u.path && !rest; i++) {
		if (!str_has_prefix(text, schemes[i].scheme))
			continue;
		u.kind = schemes[i].kind;
		rest = text + strlen(schemes[i].scheme);
	}
	if (rest) {
		size_t len = strcspn(rest, "?");

		u.path = decode(rest, len, false);
		if (!u.path || parse_query(rest + len + (rest[len] == '?'), &u.query) < 0)
			return error_set(err, ERROR_INVALID_ARGUMENT, "'%s' is not a proper URI",
					 text);
	}
	if (!u.path)
		return error_set(err, ERROR_UNIMPLEMENTED, "no such kind of stdio: '%s'", text);
	if (u.kind == IO_KISTL && parse_kistl(&u, text, err) < 0)
		return -1;
	if (u.kind != IO_KISTL && u.path[0] != '/')
		return error_set(err, ERROR_INVALID_ARGUMENT, "stdio path '%s' is not absolute",
				 text);
	*ret = u;
	/* It has moved. */
	if (u.log.remote)
		ret->log.remote = &ret->query;
	u = (struct io_uri){ 0 };
	return 0;
}
