/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/yaml.h"

#include "base/mem.h"
#include "base/parse.h"

#include <ctype.h>
#include <string.h>

#define DEPTH_MAX 32
#define LINES_MAX 200000

struct line {
	size_t indent;
	char *text; /* in the parser's copy; changed where "- " has been taken off */
	size_t number;
};

struct yaml {
	struct line *lines;
	size_t n, at;
	unsigned depth;
	struct error *err;
};

static struct json *fail(struct yaml *y, const char *what)
{
	size_t number = y->at < y->n ? y->lines[y->at].number : 0;

	error_set(y->err, ERROR_INVALID_ARGUMENT, "line %zu: %s", number, what);
	return NULL;
}

/* Where a plain scalar or a comment ends: " #" outside of quotes. */
static void strip_comment(char *s)
{
	char quote = '\0';

	for (char *p = s; *p; p++) {
		if (quote) {
			if (*p == '\\' && quote == '"' && p[1])
				p++;
			else if (*p == quote)
				quote = '\0';
		} else if ((*p == '"' || *p == '\'') && (p == s || strchr(" \t[{,:", p[-1]))) {
			quote = *p;
		} else if (*p == '#' && (p == s || p[-1] == ' ' || p[-1] == '\t')) {
			*p = '\0';
			break;
		}
	}
	size_t n = strlen(s);
	while (n > 0 && strchr(" \t\r", s[n - 1]))
		s[--n] = '\0';
}

static struct json *plain(const char *s)
{
	int64_t number;

	if (!*s || strcmp(s, "~") == 0 || strcmp(s, "null") == 0)
		return json_new_string(NULL);
	if (strcmp(s, "true") == 0 || strcmp(s, "false") == 0)
		return json_new_bool(*s == 't');
	/* 0644 is octal in the YAML that Go writes and reads. */
	if (s[0] == '0' && isdigit((unsigned char)s[1]) && strspn(s, "01234567") == strlen(s) &&
	    strlen(s) < 20) {
		number = 0;
		for (const char *p = s; *p; p++)
			number = number * 8 + (*p - '0');
		return json_new_int(number);
	}
	return parse_int64(s, &number) == 0 ? json_new_int(number) : json_new_string(s);
}

/* '...' with '' for a quote. */
static struct json *single_quoted(struct yaml *y, const char *s)
{
	autobuf struct buf b = BUF_INIT(YAML_MAX);
	const char *p = s + 1;

	for (; *p && !(*p == '\'' && p[1] != '\''); p++) {
		p += *p == '\'';
		buf_putc(&b, *p);
	}
	return *p && !p[1] ? json_new_string(b.data) : fail(y, "unterminated quote");
}

static struct json *double_quoted(struct yaml *y, const char *s)
{
	struct json *j = json_parse(s, strlen(s), YAML_MAX, NULL);

	if (json_type(j) == JSON_STRING)
		return j;
	json_unref(j);
	return fail(y, "a string that JSON does not have");
}

static struct json *scalar(struct yaml *y, char *s);

/* [a, "b"]: no collections within. */
static struct json *flow_list(struct yaml *y, char *s)
{
	autojson struct json *list = json_parse(s, strlen(s), YAML_MAX, NULL);
	size_t n = strlen(s);

	if (json_type(list) == JSON_ARRAY)
		return TAKE_PTR(list);
	if (s[n - 1] != ']' || strpbrk(s + 1, "[{"))
		return fail(y, "a flow collection that is not supported");
	s[n - 1] = '\0';
	json_unref(list);
	list = json_new_array();
	for (char *p = s + 1; *p;) {
		char *end = p + strcspn(p, ",");
		bool more = *end == ',';

		*end = '\0';
		p += strspn(p, " \t");
		strip_comment(p);
		struct json *one = strpbrk(p, "'\"") ? scalar(y, p) : plain(p);
		if (!one && strpbrk(p, "'\""))
			return NULL;
		json_add(list, one);
		p = end + more;
	}
	return TAKE_PTR(list);
}

static struct json *scalar(struct yaml *y, char *s)
{
	if (*s == '\'')
		return single_quoted(y, s);
	if (*s == '"')
		return double_quoted(y, s);
	if (*s == '[')
		return flow_list(y, s);
	if (strcmp(s, "{}") == 0)
		return json_new_object();
	if (strchr("&*!|>%@`{", *s) && *s)
		return fail(y, "what begins so is not supported");
	struct json *j = plain(s);
	/* JSON null is the NULL pointer of some constructors. */
	return j ? j : json_new_string("");
}

/* The ": " that ends a key, outside of quotes; NULL: none. */
static char *key_end(char *s)
{
	if (*s == '"' || *s == '\'') {
		char quote = *s;
		char *p = s + 1;

		while (*p && *p != quote)
			p += *p == '\\' && quote == '"' && p[1] ? 2 : 1;
		return *p && p[1] == ':' && (!p[2] || p[2] == ' ') ? p + 1 : NULL;
	}
	for (char *p = s; *p; p++)
		if (*p == ':' && (!p[1] || p[1] == ' ' || p[1] == '\t'))
			return p;
	return NULL;
}

static bool is_item(const char *s)
{
	return s[0] == '-' && (!s[1] || s[1] == ' ');
}

static struct json *block(struct yaml *y, size_t indent);

/* What follows "key:" or "-" with nothing behind it. */
static struct json *nested(struct yaml *y, size_t above, bool item_may_align)
{
	if (y->at < y->n) {
		const struct line *l = &y->lines[y->at];

		if (l->indent > above || (item_may_align && l->indent == above && is_item(l->text)))
			return block(y, l->indent);
	}
	return json_new_string("");
}

static struct json *sequence(struct yaml *y, size_t indent)
{
	autojson struct json *list = json_new_array();

	while (y->at < y->n && y->lines[y->at].indent == indent && is_item(y->lines[y->at].text)) {
		struct line *l = &y->lines[y->at];
		size_t skip = 1 + strspn(l->text + 1, " ");
		struct json *one;

		if (!l->text[1]) {
			y->at++;
			one = nested(y, indent, false);
		} else if (key_end(l->text + skip) || is_item(l->text + skip)) {
			/* The item's own block begins behind the dash. */
			l->indent += skip;
			l->text += skip;
			one = block(y, l->indent);
		} else {
			one = scalar(y, l->text + skip);
			y->at++;
		}
		if (!one)
			return NULL;
		json_add(list, one);
	}
	return TAKE_PTR(list);
}

static char *key_of(struct yaml *y, char *text, const char *end)
{
	autofree char *raw = xstrndup(text, (size_t)(end - text));

	if (*raw != '"' && *raw != '\'')
		return TAKE_PTR(raw);
	autojson struct json *j = scalar(y, raw);
	return j ? xstrdup(json_string(j)) : NULL;
}

static struct json *mapping(struct yaml *y, size_t indent)
{
	autojson struct json *map = json_new_object();

	while (y->at < y->n && y->lines[y->at].indent == indent && !is_item(y->lines[y->at].text)) {
		struct line *l = &y->lines[y->at];
		char *end = key_end(l->text);

		if (!end)
			return fail(y, "expected a key");
		autofree char *key = key_of(y, l->text, end);
		if (!key)
			return NULL;
		if (json_get(map, key))
			return fail(y, "a key that is there twice");
		char *value = end + 1 + strspn(end + 1, " \t");
		struct json *one;
		if (*value) {
			one = scalar(y, value);
			y->at++;
		} else {
			y->at++;
			one = nested(y, indent, true);
		}
		if (!one)
			return NULL;
		json_set(map, key, one);
	}
	return TAKE_PTR(map);
}

static struct json *block(struct yaml *y, size_t indent)
{
	struct json *j;

	if (++y->depth > DEPTH_MAX)
		return fail(y, "nested too deeply");
	j = is_item(y->lines[y->at].text) ? sequence(y, indent) : mapping(y, indent);
	y->depth--;
	if (j && y->at < y->n && y->lines[y->at].indent > indent) {
		json_unref(j);
		return fail(y, "unexpected indentation");
	}
	return j;
}

static int split_lines(struct yaml *y, char *text)
{
	size_t number = 0;

	for (char *p = text, *next; p; p = next) {
		next = strchr(p, '\n');
		if (next)
			*next++ = '\0';
		number++;
		size_t indent = strspn(p, " ");
		if (strcmp(p, "---") == 0 && y->n == 0)
			continue;
		if (strcmp(p, "...") == 0)
			return 0;
		if (p[indent] == '\t')
			return error_set(y->err, ERROR_INVALID_ARGUMENT, "line %zu: a tab", number);
		strip_comment(p + indent);
		if (!p[indent])
			continue;
		if (y->n >= LINES_MAX)
			return error_set(y->err, ERROR_INVALID_ARGUMENT, "too many lines");
		GROW_ARRAY(y->lines, y->n);
		y->lines[y->n++] = (struct line){ indent, p + indent, number };
	}
	return 0;
}

struct json *yaml_parse(const char *text, size_t len, struct error *err)
{
	struct yaml y = { .err = err };
	autofree char *copy = NULL;
	struct json *j = NULL;

	if (len > YAML_MAX || memchr(text, '\0', len)) {
		error_set(err, ERROR_INVALID_ARGUMENT, "no text, or too much of it");
		return NULL;
	}
	copy = xstrndup(text, len);
	if (split_lines(&y, copy) == 0) {
		if (y.n == 0)
			fail(&y, "empty document");
		else
			j = block(&y, y.lines[0].indent);
		if (j && y.at < y.n) {
			json_unref(j);
			j = fail(&y, "unexpected indentation");
		}
	}
	free(y.lines);
	return j;
}
