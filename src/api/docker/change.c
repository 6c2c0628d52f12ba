/* SPDX-License-Identifier: Apache-2.0 */
#include "api/docker/change.h"

#include "base/mem.h"
#include "base/parse.h"
#include "base/strv.h"
#include "base/time.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

#define WORDS_MAX 1024
#define EXPANDED_MAX (256 << 10)

struct change {
	struct json *config;
	struct json
		*env; /* as it was before the instruction: its own pairs do not see each other */
	const char *name; /* of the instruction, upper case */
	struct error *err;
};

static int bad(struct change *c, const char *what)
{
	return error_set(c->err, ERROR_INVALID_ARGUMENT, "%s %s", c->name, what);
}

static struct json *member(struct json *config, const char *key, enum json_type type)
{
	struct json *j = json_get(config, key);

	if (json_type(j) == type)
		return j;
	j = type == JSON_ARRAY ? json_new_array() : json_new_object();
	json_set(config, key, j);
	return j;
}

/* --- variables of the image's environment --- */

static char *variable(const struct json *env, const char *name, size_t len)
{
	for (size_t i = 0; i < json_array_len(env); i++) {
		const char *s = json_string(json_array_get(env, i));

		if (s && strncmp(s, name, len) == 0 && s[len] == '=')
			return xstrdup(s + len + 1);
	}
	return NULL;
}

static size_t name_length(const char *p)
{
	size_t n = 0;

	while (isalnum((unsigned char)p[n]) || p[n] == '_')
		n++;
	return n;
}

static int expand(struct change *c, const char *s, struct buf *out, unsigned depth);

/* "${NAME}", "${NAME:-word}", "${NAME:+word}"; *p is behind the "{". */
static int expand_braces(struct change *c, const char **p, struct buf *out, unsigned depth)
{
	size_t n = name_length(*p);
	const char *after = *p + n, *end;
	autofree char *value = variable(c->env, *p, n);
	bool set = !str_empty(value);
	int level = 1;

	for (end = after; *end && level > 0; end++)
		level += *end == '{' ? 1 : *end == '}' ? -1 : 0;
	if (n == 0 || level > 0)
		return bad(c, "has an unterminated substitution");
	autofree char *rest = xstrndup(after, (size_t)(end - 1 - after));
	*p = end;
	if (!*rest) {
		buf_puts(out, value ? value : "");
		return 0;
	}
	if (rest[0] != ':' || (rest[1] != '-' && rest[1] != '+'))
		return bad(c, "has an unsupported modifier in a substitution");
	if ((rest[1] == '+') == set)
		return expand(c, rest + 2, out, depth + 1);
	buf_puts(out, rest[1] == '-' ? value : "");
	return 0;
}

/* Variables only: quotes have been taken away by split(), which marked what is literal. */
static int expand(struct change *c, const char *s, struct buf *out, unsigned depth)
{
	if (depth > 8)
		return bad(c, "has substitutions that are nested too deeply");
	while (*s) {
		if (*s == '\001') { /* a literal "$" */
			buf_putc(out, '$');
			s++;
		} else if (*s == '$' && s[1] == '{') {
			s += 2;
			if (expand_braces(c, &s, out, depth) < 0)
				return -1;
		} else if (*s == '$' && name_length(s + 1) > 0) {
			size_t n = name_length(s + 1);
			autofree char *value = variable(c->env, s + 1, n);

			buf_puts(out, value ? value : "");
			s += 1 + n;
		} else {
			buf_putc(out, *s++);
		}
	}
	return out->overflow ? bad(c, "is too long") : 0;
}

static char *expanded(struct change *c, const char *s)
{
	autobuf struct buf b = BUF_INIT(EXPANDED_MAX);

	return expand(c, s, &b, 0) < 0 ? NULL : buf_steal(&b, NULL);
}

/* Words as a shell would split them: quotes, backslashes. A literal "$" becomes \001. */
static int split(struct change *c, const char *s, struct strv *ret)
{
	while (*(s += strspn(s, " \t"))) {
		autobuf struct buf b = BUF_INIT(BUF_NO_LIMIT);
		char quote = '\0';

		for (; *s && (quote || !strchr(" \t", *s)); s++) {
			if (*s == '\001')
				continue;
			if (*s == quote || (!quote && (*s == '"' || *s == '\''))) {
				quote = quote ? '\0' : *s;
			} else if (*s == '\\' && s[1] && quote != '\'') {
				bool drops = !quote || s[1] == '"' || s[1] == '\\' || s[1] == '$';

				if (!drops)
					buf_putc(&b, '\\');
				s++;
				buf_putc(&b, *s == '$' ? '\001' : *s);
			} else {
				buf_putc(&b, *s == '$' && quote == '\'' ? '\001' : *s);
			}
		}
		if (quote)
			return bad(c, "has an unterminated quote");
		if (ret->n >= WORDS_MAX)
			return bad(c, "has too many words");
		strv_push(ret, b.data);
	}
	return 0;
}

/* --- instructions --- */

/* ["a","b"], or NULL: not the JSON form. */
static struct json *json_words(const char *s)
{
	autojson struct json *j = s[0] == '[' ? json_parse(s, strlen(s), CHANGE_MAX, NULL) : NULL;

	if (json_type(j) != JSON_ARRAY)
		return NULL;
	for (size_t i = 0; i < json_array_len(j); i++)
		if (!json_string(json_array_get(j, i)))
			return NULL;
	return TAKE_PTR(j);
}

static struct json *shell_form(const struct json *config, const char *s)
{
	const struct json *shell = json_get(config, "Shell");
	struct json *j = json_array_len(shell) > 0 ? json_copy(shell) : NULL;

	if (!j) {
		j = json_new_array();
		json_add(j, json_new_string("/bin/sh"));
		json_add(j, json_new_string("-c"));
	}
	json_add(j, json_new_string(s));
	return j;
}

static struct json *command(const struct json *config, const char *s)
{
	struct json *j = json_words(s);

	return j ? j : shell_form(config, s);
}

static int do_cmd(struct change *c, const char *rest)
{
	json_set(c->config, "Cmd", command(c->config, rest));
	return 0;
}

static int do_entrypoint(struct change *c, const char *rest)
{
	json_set(c->config, "Entrypoint", command(c->config, rest));
	/* The image's old arguments meant the old program. */
	return 0;
}

static int do_shell(struct change *c, const char *rest)
{
	struct json *j = json_words(rest);

	if (!j)
		return bad(c, "requires the arguments to be in JSON form");
	json_set(c->config, "Shell", j);
	return 0;
}

static void env_set(struct json *config, const char *key, const char *value)
{
	autofree char *text = xasprintf("%s=%s", key, value);
	const struct json *old = json_get(config, "Env");
	struct json *env = json_new_array();
	size_t n = strlen(key);
	bool done = false;

	for (size_t i = 0; i < json_array_len(old); i++) {
		const char *s = json_string(json_array_get(old, i));
		bool same = s && strncmp(s, key, n) == 0 && s[n] == '=';

		json_add(env, json_new_string(same ? text : s));
		done |= same;
	}
	if (!done)
		json_add(env, json_new_string(text));
	json_set(config, "Env", env);
}

static int set_pair(struct change *c, const char *key, const char *value)
{
	autofree char *k = expanded(c, key), *v = k ? expanded(c, value) : NULL;

	if (!v)
		return -1;
	if (!*k)
		return bad(c, "names can not be blank");
	if (str_equal(c->name, "ENV"))
		env_set(c->config, k, v);
	else
		json_set_string(member(c->config, "Labels", JSON_OBJECT), k, v);
	return 0;
}

/* "KEY=value KEY2=value2", or the old "KEY the rest". */
static int do_pairs(struct change *c, const char *rest)
{
	autostrv struct strv words = STRV_INIT;
	const char *space = strpbrk(rest, " \t"), *eq = strchr(rest, '=');

	if (!eq || (space && space < eq)) {
		if (!space)
			return bad(c, "must have two arguments");
		autofree char *key = xstrndup(rest, (size_t)(space - rest));
		autostrv struct strv value = STRV_INIT;
		space += strspn(space, " \t");
		if (split(c, space, &value) < 0)
			return -1;
		autofree char *text = value.n == 1 ? xstrdup(value.v[0]) : xstrdup(space);
		return set_pair(c, key, text);
	}
	if (split(c, rest, &words) < 0)
		return -1;
	for (size_t i = 0; i < words.n; i++) {
		char *at = strchr(words.v[i], '=');

		if (!at)
			return error_set(c->err, ERROR_INVALID_ARGUMENT,
					 "Syntax error - can't find = in \"%s\". Must be of the "
					 "form: name=value",
					 words.v[i]);
		*at = '\0';
		if (set_pair(c, words.v[i], at + 1) < 0)
			return -1;
	}
	return 0;
}

static int expose(struct change *c, const char *word)
{
	const char *slash = strchr(word, '/'), *protocol = slash ? slash + 1 : "tcp";
	autofree char *range = slash ? xstrndup(word, (size_t)(slash - word)) : xstrdup(word);
	char *dash = strchr(range, '-');
	int64_t first, last;

	if (dash)
		*dash++ = '\0';
	if (parse_int64(range, &first) < 0 || parse_int64(dash ? dash : range, &last) < 0 ||
	    first < 1 || last > 65535 || first > last)
		return error_set(c->err, ERROR_INVALID_ARGUMENT, "Invalid containerPort: %s", word);
	if (strcasecmp(protocol, "tcp") != 0 && strcasecmp(protocol, "udp") != 0 &&
	    strcasecmp(protocol, "sctp") != 0)
		return error_set(c->err, ERROR_INVALID_ARGUMENT, "Invalid proto: %s", protocol);
	for (int64_t port = first; port <= last; port++) {
		autofree char *key = xasprintf("%lld/%s", (long long)port, protocol);

		for (char *p = key; *p; p++)
			*p = (char)tolower((unsigned char)*p);
		json_set(member(c->config, "ExposedPorts", JSON_OBJECT), key, json_new_object());
	}
	return 0;
}

static int do_expose(struct change *c, const char *rest)
{
	autostrv struct strv words = STRV_INIT;

	if (split(c, rest, &words) < 0)
		return -1;
	for (size_t i = 0; i < words.n; i++) {
		autofree char *word = expanded(c, words.v[i]);

		if (!word || expose(c, word) < 0)
			return -1;
	}
	return 0;
}

static int do_volume(struct change *c, const char *rest)
{
	autojson struct json *list = json_words(rest);
	autostrv struct strv words = STRV_INIT;

	for (size_t i = 0; i < json_array_len(list); i++)
		strv_push(&words, json_string(json_array_get(list, i)));
	if (!list && split(c, rest, &words) < 0)
		return -1;
	for (size_t i = 0; i < words.n; i++) {
		autofree char *path = expanded(c, words.v[i]);

		if (!path)
			return -1;
		if (!*path)
			return bad(c, "specified can not be an empty string");
		json_set(member(c->config, "Volumes", JSON_OBJECT), path, json_new_object());
	}
	return 0;
}

/* One word, expanded. malloc'ed; NULL with the error. */
static char *one_word(struct change *c, const char *rest)
{
	autostrv struct strv words = STRV_INIT;

	if (split(c, rest, &words) < 0)
		return NULL;
	if (words.n != 1) {
		bad(c, "requires exactly one argument");
		return NULL;
	}
	return expanded(c, words.v[0]);
}

static int do_user(struct change *c, const char *rest)
{
	autofree char *user = one_word(c, rest);

	if (user)
		json_set_string(c->config, "User", user);
	return user ? 0 : -1;
}

static int do_stopsignal(struct change *c, const char *rest)
{
	autofree char *signal = one_word(c, rest);

	if (signal)
		json_set_string(c->config, "StopSignal", signal);
	return signal ? 0 : -1;
}

/* Go's filepath.Clean of an absolute path. */
static char *clean(const char *path)
{
	autostrv struct strv parts = STRV_INIT, kept = STRV_INIT;

	strv_split(&parts, path, "/");
	for (size_t i = 0; i < parts.n; i++) {
		if (str_equal(parts.v[i], "..")) {
			if (kept.n > 0)
				strv_remove(&kept, kept.n - 1);
		} else if (*parts.v[i] && !str_equal(parts.v[i], ".")) {
			strv_push(&kept, parts.v[i]);
		}
	}
	autofree char *joined = strv_join(&kept, "/");
	return xasprintf("/%s", joined);
}

static int do_workdir(struct change *c, const char *rest)
{
	autofree char *dir = one_word(c, rest);
	const char *old = json_get_string(c->config, "WorkingDir");

	if (!dir)
		return -1;
	autofree char *joined =
		dir[0] == '/' ? xstrdup(dir) : xasprintf("%s/%s", old ? old : "", dir);
	autofree char *path = clean(joined);
	json_set_string(c->config, "WorkingDir", path);
	return 0;
}

static int do_onbuild(struct change *c, const char *rest)
{
	if (strncasecmp(rest, "ONBUILD", 7) == 0)
		return error_set(c->err, ERROR_INVALID_ARGUMENT,
				 "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed");
	if (strncasecmp(rest, "FROM", 4) == 0 || strncasecmp(rest, "MAINTAINER", 10) == 0)
		return error_set(c->err, ERROR_INVALID_ARGUMENT,
				 "%.*s isn't allowed as an ONBUILD trigger",
				 (int)strcspn(rest, " \t"), rest);
	json_add(member(c->config, "OnBuild", JSON_ARRAY), json_new_string(rest));
	return 0;
}

/* "--interval=5s"; *rest moves on. 0: no more flags. */
static int health_flag(struct change *c, const char **rest, struct json *health)
{
	static const struct {
		const char *flag, *key;
	} durations[] = { { "--interval=", "Interval" },
			  { "--timeout=", "Timeout" },
			  { "--start-period=", "StartPeriod" },
			  { "--start-interval=", "StartInterval" } };
	size_t n = strcspn(*rest, " \t");
	autofree char *word = xstrndup(*rest, n);
	int64_t value;

	if (!str_has_prefix(word, "--"))
		return 0;
	*rest += n + strspn(*rest + n, " \t");
	if (str_has_prefix(word, "--retries=")) {
		if (parse_int64(word + strlen("--retries="), &value) < 0 || value < 0)
			return bad(c, "--retries must be a number that is not negative");
		json_set_int(health, "Retries", value);
		return 1;
	}
	for (size_t i = 0; i < ARRAY_SIZE(durations); i++) {
		if (!str_has_prefix(word, durations[i].flag))
			continue;
		if (time_parse_duration(word + strlen(durations[i].flag), &value) < 0 || value < 0)
			return bad(c, "has an invalid duration");
		json_set_int(health, durations[i].key, value);
		return 1;
	}
	return error_set(c->err, ERROR_INVALID_ARGUMENT, "unknown flag: %.64s", word);
}

static int do_healthcheck(struct change *c, const char *rest)
{
	autojson struct json *health = json_new_object();
	struct json *test = json_new_array();
	int r;

	json_set(health, "Test", test);
	while ((r = health_flag(c, &rest, health)) > 0)
		continue;
	if (r < 0)
		return -1;
	if (strcasecmp(rest, "NONE") == 0) {
		json_add(test, json_new_string("NONE"));
	} else if (strncasecmp(rest, "CMD", 3) == 0 && strchr(" \t", rest[3]) && rest[3]) {
		rest += 3 + strspn(rest + 3, " \t");
		autojson struct json *words = json_words(rest);

		json_add(test, json_new_string(words ? "CMD" : "CMD-SHELL"));
		for (size_t i = 0; i < json_array_len(words); i++)
			json_add(test, json_ref(json_array_get(words, i)));
		if (!words)
			json_add(test, json_new_string(rest));
	} else {
		return error_set(c->err, ERROR_INVALID_ARGUMENT,
				 "Unknown type \"%.*s\" in HEALTHCHECK (try CMD)",
				 (int)strcspn(rest, " \t"), rest);
	}
	json_set(c->config, "Healthcheck", TAKE_PTR(health));
	return 0;
}

static const struct instruction {
	const char *name;
	int (*run)(struct change *c, const char *rest);
} instructions[] = {
	{ "CMD", do_cmd },
	{ "ENTRYPOINT", do_entrypoint },
	{ "ENV", do_pairs },
	{ "EXPOSE", do_expose },
	{ "HEALTHCHECK", do_healthcheck },
	{ "LABEL", do_pairs },
	{ "ONBUILD", do_onbuild },
	{ "SHELL", do_shell },
	{ "STOPSIGNAL", do_stopsignal },
	{ "USER", do_user },
	{ "VOLUME", do_volume },
	{ "WORKDIR", do_workdir },
};

static int apply_line(struct json *config, const char *line, struct error *err)
{
	size_t n = strcspn(line, " \t");
	autofree char *name = xstrndup(line, n);
	const char *rest = line + n + strspn(line + n, " \t");

	for (size_t i = 0; i < ARRAY_SIZE(instructions); i++) {
		if (strcasecmp(name, instructions[i].name) != 0)
			continue;
		autojson struct json *env = json_ref(json_get(config, "Env"));
		struct change c = { config, env, instructions[i].name, err };
		return *rest ? instructions[i].run(&c, rest)
			     : bad(&c, "requires at least one argument");
	}
	for (char *p = name; *p; p++)
		*p = (char)tolower((unsigned char)*p);
	return error_set(err, ERROR_INVALID_ARGUMENT, "%.64s is not a valid change command", name);
}

int change_apply(struct json *config, const char *text, struct error *err)
{
	autostrv struct strv lines = STRV_INIT;

	if (strlen(text) > CHANGE_MAX)
		return error_set(err, ERROR_INVALID_ARGUMENT, "the change is too long");
	strv_split(&lines, text, "\r\n");
	for (size_t i = 0; i < lines.n; i++) {
		char *line = lines.v[i] + strspn(lines.v[i], " \t");
		size_t n = strlen(line);

		while (n > 0 && strchr(" \t", line[n - 1]))
			line[--n] = '\0';
		if (*line && *line != '#' && apply_line(config, line, err) < 0)
			return -1;
	}
	return 0;
}
