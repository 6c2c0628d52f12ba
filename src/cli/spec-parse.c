/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/spec-parse.h"

#include "base/buf.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/parse.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define FILE_MAX (4 * 1024 * 1024)
#define LINE_MAX_BYTES (64 * 1024)

static int invalid(struct error *err, const char *fmt, const char *s)
{
	autofree char *msg = NULL;
	const char *at = strstr(fmt, "{}");

	msg = xasprintf("%.*s%s%s", (int)(at - fmt), fmt, s, at + 2);
	return error_set(err, ERROR_INVALID_ARGUMENT, "%s", msg);
}

/* "./x" and "../x" as an absolute path. */
static char *absolute(const char *path)
{
	autofree char *cwd = NULL;

	if (strcmp(path, ".") != 0 && strcmp(path, "..") != 0 && !str_has_prefix(path, "./") &&
	    !str_has_prefix(path, "../"))
		return xstrdup(path);
	cwd = getcwd(NULL, 0);
	return path_join(cwd ? cwd : "/", strcmp(path, ".") == 0 ? NULL : path, NULL);
}

int spec_volume(const char *s, struct json *binds, struct json *volumes, struct error *err)
{
	autostrv struct strv parts = STRV_INIT;
	autofree char *source = NULL;
	autofree char *joined = NULL;

	if (!*s)
		return error_set(err, ERROR_INVALID_ARGUMENT, "invalid empty volume spec");
	strv_split(&parts, s, ":");
	if (parts.n > 3)
		return invalid(err, "invalid spec: {}: too many colons", s);
	for (size_t i = 0; i < parts.n; i++)
		if (!*parts.v[i])
			return invalid(err, "invalid spec: {}: empty section between colons", s);
	if (parts.n == 1) {
		json_set(volumes, s, json_new_object());
		return 0;
	}
	source = absolute(parts.v[0]);
	joined = xasprintf("%s:%s%s%s", source, parts.v[1], parts.n > 2 ? ":" : "",
			   parts.n > 2 ? parts.v[2] : "");
	json_add(binds, json_new_string(joined));
	return 0;
}

struct json *spec_ulimit(const char *s, struct error *err)
{
	static const char *const names[] = {
		"core",	  "cpu",   "data", "fsize",  "locks",  "memlock",    "msgqueue", "nice",
		"nofile", "nproc", "rss",  "rtprio", "rttime", "sigpending", "stack"
	};
	const char *eq = strchr(s, '=');
	autofree char *name = eq ? xstrndup(s, (size_t)(eq - s)) : NULL;
	autostrv struct strv values = STRV_INIT;
	int64_t limit[2];
	bool known = false;
	struct json *j;

	if (!eq || !eq[1]) {
		invalid(err, "invalid ulimit argument: {}", s);
		return NULL;
	}
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		known |= strcmp(names[i], name) == 0;
	if (!known) {
		invalid(err, "invalid ulimit type: {}", name);
		return NULL;
	}
	strv_split(&values, eq + 1, ":");
	if (values.n > 2) {
		invalid(err,
			"too many limit value arguments - {}, can only have up to two, "
			"`soft[:hard]`",
			eq + 1);
		return NULL;
	}
	for (size_t i = 0; i < values.n; i++) {
		if (parse_int64(values.v[i], &limit[i]) < 0) {
			invalid(err, "strconv.ParseInt: parsing \"{}\": invalid syntax",
				values.v[i]);
			return NULL;
		}
	}
	if (values.n == 1)
		limit[1] = limit[0];
	if (limit[1] != -1 && (limit[0] > limit[1] || limit[0] == -1)) {
		error_set(err, ERROR_INVALID_ARGUMENT,
			  "ulimit soft limit must be less than or equal to hard limit: %lld > %lld",
			  (long long)limit[0], (long long)limit[1]);
		return NULL;
	}
	j = json_new_object();
	json_set_string(j, "Name", name);
	json_set_int(j, "Hard", limit[1]);
	json_set_int(j, "Soft", limit[0]);
	return j;
}

static bool device_mode_valid(const char *s)
{
	return *s && strspn(s, "rwm") == strlen(s) && strlen(s) <= 3;
}

bool spec_is_cdi_device(const char *s)
{
	const char *slash = strchr(s, '/');
	const char *eq = strchr(s, '=');

	return *s != '/' && slash && eq && slash < eq && eq[1];
}

struct json *spec_device(const char *s, struct error *err)
{
	autostrv struct strv parts = STRV_INIT;
	const char *target, *mode = "rwm";
	struct json *j;

	strv_split(&parts, s, ":");
	target = parts.v[0];
	if (parts.n > 3 || !*parts.v[0]) {
		invalid(err, "invalid device specification: {}", s);
		return NULL;
	}
	if (parts.n == 3) {
		target = parts.v[1];
		mode = parts.v[2];
		if (!device_mode_valid(mode)) {
			invalid(err, "bad mode specified: {}", mode);
			return NULL;
		}
	} else if (parts.n == 2 && device_mode_valid(parts.v[1])) {
		mode = parts.v[1];
	} else if (parts.n == 2) {
		target = parts.v[1];
	}
	if (*target != '/') {
		invalid(err, "{} is not an absolute path", target);
		return NULL;
	}
	j = json_new_object();
	json_set_string(j, "PathOnHost", parts.v[0]);
	json_set_string(j, "PathInContainer", target);
	json_set_string(j, "CgroupPermissions", mode);
	return j;
}

struct json *spec_restart(const char *s, struct error *err)
{
	const char *colon = strchr(s, ':');
	autofree char *name = colon ? xstrndup(s, (size_t)(colon - s)) : xstrdup(s);
	int64_t count = 0;
	struct json *j;

	if (colon && !*name) {
		error_set(err, ERROR_INVALID_ARGUMENT,
			  "invalid restart policy format: no policy provided before colon");
		return NULL;
	}
	if (colon && (strchr(colon + 1, ':') || parse_int64(colon + 1, &count) < 0)) {
		error_set(err, ERROR_INVALID_ARGUMENT,
			  "invalid restart policy format: maximum retry count must be an integer");
		return NULL;
	}
	j = json_new_object();
	json_set_string(j, "Name", name);
	json_set_int(j, "MaximumRetryCount", count);
	return j;
}

static int env_line(const char *line, bool environment, struct strv *ret, struct error *err)
{
	const char *eq = strchr(line, '=');
	autofree char *name = xstrndup(line, eq ? (size_t)(eq - line) : strlen(line));

	if (!*name)
		return invalid(err, "no variable name on line '{}'", line);
	for (const char *c = name; *c; c++)
		if (isspace((unsigned char)*c))
			return invalid(err, "variable '{}' contains whitespaces", name);
	if (eq)
		strv_push(ret, line);
	else if (environment && getenv(name))
		strv_push_printf(ret, "%s=%s", name, getenv(name));
	else if (!environment)
		strv_push(ret, name);
	return 0;
}

int spec_env_lines(const char *text, size_t len, bool environment, struct strv *ret,
		   struct error *err)
{
	const char *end = text + len;

	if (len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
		text += 3;
	if (memchr(text, '\0', (size_t)(end - text)))
		return error_set(err, ERROR_INVALID_ARGUMENT, "NUL byte in file");
	while (text < end) {
		const char *nl = memchr(text, '\n', (size_t)(end - text));
		size_t n = nl ? (size_t)(nl - text) : (size_t)(end - text);
		autofree char *line = NULL;
		char *s;

		if (n > LINE_MAX_BYTES)
			return error_set(err, ERROR_INVALID_ARGUMENT, "line too long");
		line = xstrndup(text, n && text[n - 1] == '\r' ? n - 1 : n);
		s = line + strspn(line, " \t\v\f");
		if (*s && *s != '#' && env_line(s, environment, ret, err) < 0)
			return -1;
		text += n + (nl != NULL);
	}
	return 0;
}

int spec_env_file(const char *path, bool environment, struct strv *ret, struct error *err)
{
	autobuf struct buf b = BUF_INIT(FILE_MAX);
	int r = fs_read(AT_FDCWD, path, &b);

	if (r < 0)
		return error_errno(err, -r, "open %s", path);
	if (spec_env_lines(b.data, b.len, environment, ret, err) < 0)
		return error_wrap(err, "invalid env file (%s)", path);
	return 0;
}

static int read_seccomp(const char *path, struct json *opts, struct error *err)
{
	autojson struct json *profile = NULL;
	autobuf struct buf b = BUF_INIT(FILE_MAX);
	autofree char *text = NULL;
	autofree char *opt = NULL;
	int r = fs_read(AT_FDCWD, path, &b);

	if (r < 0) {
		error_errno(err, -r, "open %s", path);
		return error_wrap(err, "opening seccomp profile (%s) failed", path);
	}
	profile = json_parse(b.data, b.len, b.max, err);
	if (!profile)
		return error_wrap(err, "compacting json for seccomp profile (%s) failed", path);
	text = json_format(profile, /* pretty= */ false);
	opt = xasprintf("seccomp=%s", text);
	json_add(opts, json_new_string(opt));
	return 0;
}

int spec_security_opt(const char *s, struct json *opts, bool *ret_unmasked, struct error *err)
{
	size_t n = strcspn(s, "=");
	const char *value;

	if (!s[n])
		n = strcspn(s, ":");
	value = s[n] ? s + n + 1 : NULL;
	if (!value && strcmp(s, "no-new-privileges") != 0)
		return invalid(err, "invalid --security-opt: \"{}\"", s);
	if (strcmp(s, "systempaths=unconfined") == 0) {
		*ret_unmasked = true;
		return 0;
	}
	if (n == 7 && strncmp(s, "seccomp", 7) == 0 && strcmp(value, "unconfined") != 0 &&
	    strcmp(value, "builtin") != 0)
		return read_seccomp(value, opts, err);
	json_add(opts, json_new_string(s));
	return 0;
}

int spec_csv(const char *s, struct strv *ret, struct error *err)
{
	while (true) {
		autobuf struct buf field = BUF_INIT(BUF_NO_LIMIT);

		if (*s == '"') {
			for (s++; *s && (*s != '"' || s[1] == '"'); s++) {
				if (*s == '"')
					s++;
				buf_putc(&field, *s);
			}
			if (*s != '"' || (s[1] && s[1] != ','))
				return error_set(err, ERROR_INVALID_ARGUMENT,
						 "parse error: extraneous or missing \" in "
						 "quoted-field");
			s++;
		} else {
			size_t n = strcspn(s, ",");

			buf_append(&field, s, n);
			s += n;
		}
		strv_push(ret, field.data);
		if (!*s)
			return 0;
		s++;
	}
}

int spec_check_env(const char *s, struct error *err)
{
	return *s == '=' || !*s ? invalid(err, "invalid environment variable: {}", s) : 0;
}

int spec_check_label(const char *s, struct error *err)
{
	return *s == '=' || !*s ? invalid(err, "invalid label '{}': empty name", s) : 0;
}

int spec_check_ip(const char *s, struct error *err)
{
	unsigned char addr[sizeof(struct in6_addr)];

	if (inet_pton(AF_INET, s, addr) == 1 || inet_pton(AF_INET6, s, addr) == 1)
		return 0;
	return invalid(err, "IP address is not correctly formatted: {}", s);
}

int spec_check_extra_host(const char *s, struct error *err)
{
	const char *sep = strchr(s, '=') ? strchr(s, '=') : strchr(s, ':');
	autofree char *ip = NULL;
	size_t n;

	if (!sep || sep == s)
		return invalid(err, "bad format for add-host: \"{}\"", s);
	if (strcmp(sep + 1, "host-gateway") == 0)
		return 0;
	ip = xstrdup(sep + 1);
	n = strlen(ip);
	if (n > 2 && ip[0] == '[' && ip[n - 1] == ']') {
		memmove(ip, ip + 1, n - 2);
		ip[n - 2] = '\0';
	}
	if (spec_check_ip(ip, NULL) < 0)
		return invalid(err, "invalid IP address in add-host: \"{}\"", ip);
	return 0;
}

int spec_check_attach(const char *s, struct error *err)
{
	if (strcasecmp(s, "stdin") == 0 || strcasecmp(s, "stdout") == 0 ||
	    strcasecmp(s, "stderr") == 0)
		return 0;
	return error_set(err, ERROR_INVALID_ARGUMENT, "valid streams are STDIN, STDOUT and STDERR");
}

int spec_check_mount(const char *s, struct error *err)
{
	autojson struct json *j = spec_mount(s, err);

	return j ? 0 : -1;
}

int spec_check_ulimit(const char *s, struct error *err)
{
	autojson struct json *j = spec_ulimit(s, err);

	return j ? 0 : -1;
}

int spec_check_sysctl(const char *s, struct error *err)
{
	static const char *const names[] = { "kernel.msgmax", "kernel.msgmnb",
					     "kernel.msgmni", "kernel.sem",
					     "kernel.shmall", "kernel.shmmax",
					     "kernel.shmmni", "kernel.shm_rmid_forced" };
	size_t n = strcspn(s, "=");

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (s[n] && strlen(names[i]) == n && strncmp(s, names[i], n) == 0)
			return 0;
	if (s[n] && (str_has_prefix(s, "net.") || str_has_prefix(s, "fs.mqueue.")))
		return 0;
	return invalid(err, "sysctl '{}' is not allowed", s);
}

int spec_check_link(const char *s, struct error *err)
{
	if (!*s || strchr(s, ':') != strrchr(s, ':'))
		return invalid(err, "bad format for links: {}", s);
	return 0;
}
