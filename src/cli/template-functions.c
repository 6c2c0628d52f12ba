/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/template-ast.h"

#include "base/mem.h"
#include "base/strv.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#define WIDTH_MAX 4096

bool template_truth(const struct json *j)
{
	switch (json_type(j)) {
	case JSON_NULL:
		return false;
	case JSON_BOOL:
		return json_bool(j, false);
	case JSON_INT:
		return json_int(j, 1) != 0;
	case JSON_DOUBLE:
		return json_double(j, 0) != 0;
	case JSON_STRING:
		return *json_string(j);
	case JSON_ARRAY:
		return json_array_len(j) > 0;
	default:
		return json_object_len(j) > 0;
	}
}

static void print_value(const struct json *j, bool nested, struct buf *out);

static int collect_key(const char *key, struct json *value, void *arg)
{
	strv_push(arg, key);
	return 0;
}

static void print_object(const struct json *j, struct buf *out)
{
	autostrv struct strv keys = STRV_INIT;

	json_object_each(j, collect_key, &keys);
	strv_sort(&keys);
	buf_puts(out, "map[");
	for (size_t i = 0; i < keys.n; i++) {
		buf_printf(out, "%s%s:", i ? " " : "", keys.v[i]);
		print_value(json_get(j, keys.v[i]), /* nested= */ true, out);
	}
	buf_putc(out, ']');
}

static void print_int(const struct json *j, struct buf *out)
{
	int64_t v = json_int(j, -1);

	if (v != -1 || !json_uint(j, 0))
		buf_printf(out, "%lld", (long long)v);
	else
		buf_printf(out, "%llu", (unsigned long long)json_uint(j, 0));
}

static void print_value(const struct json *j, bool nested, struct buf *out)
{
	switch (json_type(j)) {
	case JSON_NULL:
		buf_puts(out, nested ? "<nil>" : "<no value>");
		return;
	case JSON_BOOL:
		buf_puts(out, json_bool(j, false) ? "true" : "false");
		return;
	case JSON_INT:
		print_int(j, out);
		return;
	case JSON_DOUBLE:
		buf_printf(out, "%.15g", json_double(j, 0));
		return;
	case JSON_STRING:
		buf_puts(out, json_string(j));
		return;
	case JSON_ARRAY:
		buf_putc(out, '[');
		for (size_t i = 0; i < json_array_len(j); i++) {
			if (i)
				buf_putc(out, ' ');
			print_value(json_array_get(j, i), /* nested= */ true, out);
		}
		buf_putc(out, ']');
		return;
	default:
		print_object(j, out);
	}
}

void template_print(const struct json *j, struct buf *out)
{
	print_value(j, /* nested= */ false, out);
}

static char *text_of(const struct json *j)
{
	struct buf b = BUF_INIT(TEMPLATE_OUTPUT_MAX);

	template_print(j, &b);
	return buf_steal(&b, NULL);
}

static int return_text(struct json **ret, const char *s)
{
	*ret = json_new_string(s);
	return 0;
}

static int want_string(const struct value *v, const char **ret, struct error *err)
{
	*ret = json_string(v->json);
	if (*ret)
		return 0;
	return error_set(err, ERROR_INVALID_ARGUMENT, "wrong type for value; expected string");
}

static int fn_json(const struct value *args, size_t n, struct json **ret, struct error *err)
{
	autofree char *text =
		args[0].json ? json_format(args[0].json, /* pretty= */ false) : xstrdup("null");

	return return_text(ret, text);
}

static int fn_split(const struct value *args, size_t n, struct json **ret, struct error *err)
{
	const char *s, *sep;
	size_t len;

	if (want_string(&args[0], &s, err) < 0 || want_string(&args[1], &sep, err) < 0)
		return -1;
	*ret = json_new_array();
	len = strlen(sep);
	for (const char *at; len && (at = strstr(s, sep)); s = at + len) {
		autofree char *part = xstrndup(s, (size_t)(at - s));

		json_add(*ret, json_new_string(part));
	}
	json_add(*ret, json_new_string(s));
	return 0;
}

static int fn_join(const struct value *args, size_t n, struct json **ret, struct error *err)
{
	autobuf struct buf b = BUF_INIT(TEMPLATE_OUTPUT_MAX);
	const char *sep;

	if (want_string(&args[1], &sep, err) < 0)
		return -1;
	for (size_t i = 0; i < json_array_len(args[0].json); i++) {
		if (i)
			buf_puts(&b, sep);
		template_print(json_array_get(args[0].json, i), &b);
	}
	return return_text(ret, b.data);
}

static int change_case(const struct value *arg, int (*fn)(int), bool words, struct json **ret)
{
	autofree char *s = text_of(arg->json);
	bool start = true;

	for (char *c = s; *c; c++) {
		if (start && !(*c & 0x80))
			*c = (char)fn((unsigned char)*c);
		start = !words || isspace((unsigned char)*c);
	}
	return return_text(ret, s);
}

static int fn_title(const struct value *args, size_t n, struct json **ret, struct error *err)
{
	return change_case(args, toupper, /* words= */ true, ret);
}

static int fn_lower(const struct value *args, size_t n, struct json **ret, struct error *err)
{
	return change_case(args, tolower, /* words= */ false, ret);
}

static int fn_upper(const struct value *args, size_t n, struct json **ret, struct error *err)
{
	return change_case(args, toupper, /* words= */ false, ret);
}

static int64_t clamp(int64_t width)
{
	return width < 0 ? 0 : MIN(width, WIDTH_MAX);
}

static int fn_pad(const struct value *args, size_t n, struct json **ret, struct error *err)
{
	autobuf struct buf b = BUF_INIT(TEMPLATE_OUTPUT_MAX);
	int64_t before = json_int(args[1].json, 0), after = json_int(args[2].json, 0);
	const char *s;

	if (want_string(&args[0], &s, err) < 0)
		return -1;
	before = *s ? clamp(before) : 0;
	after = *s ? clamp(after) : 0;
	buf_printf(&b, "%*s%s%*s", (int)before, "", s, (int)after, "");
	return return_text(ret, b.data);
}

/* Bytes of the first n characters. */
static size_t utf8_prefix(const char *s, int64_t n)
{
	const char *p = s;

	while (*p && n > 0) {
		p++;
		while ((*p & 0xc0) == 0x80)
			p++;
		n--;
	}
	return (size_t)(p - s);
}

static int fn_truncate(const struct value *args, size_t n, struct json **ret, struct error *err)
{
	autofree char *s = text_of(args[0].json);
	autofree char *cut = xstrndup(s, utf8_prefix(s, json_int(args[1].json, 0)));

	return return_text(ret, cut);
}

static int print_all(const struct value *args, size_t n, bool line, struct json **ret)
{
	autobuf struct buf b = BUF_INIT(TEMPLATE_OUTPUT_MAX);

	for (size_t i = 0; i < n; i++) {
		bool both_text = i && (json_string(args[i].json) || json_string(args[i - 1].json));

		if (i && (line || !both_text))
			buf_putc(&b, ' ');
		template_print(args[i].json, &b);
	}
	if (line)
		buf_putc(&b, '\n');
	return return_text(ret, b.data);
}

static int fn_print(const struct value *args, size_t n, struct json **ret, struct error *err)
{
	return print_all(args, n, /* line= */ false, ret);
}

static int fn_println(const struct value *args, size_t n, struct json **ret, struct error *err)
{
	return print_all(args, n, /* line= */ true, ret);
}

struct verb {
	bool left;
	bool zero;
	int width;
	int precision;
};

static void pad_text(struct buf *b, const struct verb *v, const char *s)
{
	size_t length = utf8_prefix(s, INT64_MAX);
	int n = length < WIDTH_MAX ? (int)length : WIDTH_MAX;
	int gap = v->width > n ? v->width - n : 0;

	if (!v->left)
		buf_printf(b, "%*s", gap, "");
	buf_puts(b, s);
	if (v->left)
		buf_printf(b, "%*s", gap, "");
}

static void print_verb(struct buf *b, const struct verb *v, char c, const struct json *j)
{
	autobuf struct buf text = BUF_INIT(TEMPLATE_OUTPUT_MAX);
	const char *zero = v->zero && !v->left ? "0" : "";

	if (strchr("dxXoc", c) && json_type(j) == JSON_INT) {
		if (c == 'd' && *zero)
			buf_printf(&text, "%0*lld", v->width, (long long)json_int(j, 0));
		else if (c == 'd')
			print_int(j, &text);
		else
			buf_printf(&text,
				   c == 'o'   ? "%llo"
				   : c == 'X' ? "%llX"
					      : "%llx",
				   (unsigned long long)json_int(j, 0));
	} else if (strchr("feg", c) && (json_type(j) == JSON_DOUBLE || json_type(j) == JSON_INT)) {
		double d = json_type(j) == JSON_INT ? (double)json_int(j, 0) : json_double(j, 0);

		buf_printf(&text, "%.*f", v->precision < 0 ? 6 : v->precision, d);
	} else if (c == 'q') {
		autofree char *s = text_of(j);
		autojson struct json *quoted = json_new_string(s);
		autofree char *out = json_format(quoted, /* pretty= */ false);

		buf_puts(&text, out);
	} else {
		template_print(j, &text);
	}
	if (c == 's' && v->precision >= 0 && (size_t)v->precision < text.len) {
		text.len = utf8_prefix(text.data, v->precision);
		text.data[text.len] = '\0';
	}
	pad_text(b, v, text.data);
}

static const char *parse_verb(const char *p, struct verb *v)
{
	*v = (struct verb){ .precision = -1 };
	for (; *p && strchr("-+# 0", *p); p++) {
		v->left |= *p == '-';
		v->zero |= *p == '0';
	}
	for (; isdigit((unsigned char)*p); p++)
		v->width = MIN(v->width * 10 + (*p - '0'), WIDTH_MAX);
	if (*p == '.')
		for (v->precision = 0, p++; isdigit((unsigned char)*p); p++)
			v->precision = MIN(v->precision * 10 + (*p - '0'), 100);
	return p;
}

static int fn_printf(const struct value *args, size_t n, struct json **ret, struct error *err)
{
	autobuf struct buf b = BUF_INIT(TEMPLATE_OUTPUT_MAX);
	const char *fmt;
	size_t next = 1;

	if (want_string(&args[0], &fmt, err) < 0)
		return -1;
	for (const char *p = fmt; *p; p++) {
		struct verb v;

		if (*p != '%') {
			buf_putc(&b, *p);
			continue;
		}
		p = parse_verb(p + 1, &v);
		if (!*p) {
			buf_puts(&b, "%!(NOVERB)");
			break;
		}
		if (*p == '%')
			buf_putc(&b, '%');
		else if (next >= n)
			buf_printf(&b, "%%!%c(MISSING)", *p);
		else
			print_verb(&b, &v, *p, args[next++].json);
	}
	return return_text(ret, b.data);
}

static int fn_index(const struct value *args, size_t n, struct json **ret, struct error *err)
{
	struct json *j = args[0].json;

	for (size_t i = 1; i < n; i++) {
		const char *key = json_string(args[i].json);
		int64_t at = json_int(args[i].json, -1);

		if (json_type(j) == JSON_OBJECT && key) {
			j = json_get(j, key);
		} else if (json_type(j) == JSON_ARRAY && !key) {
			if (at < 0 || (uint64_t)at >= json_array_len(j))
				return error_set(err, ERROR_OUT_OF_RANGE,
						 "error calling index: index out of range: %lld",
						 (long long)at);
			j = json_array_get(j, (size_t)at);
		} else {
			return error_set(err, ERROR_INVALID_ARGUMENT,
					 "error calling index: can't index item of this type");
		}
	}
	/* Go gives the element type's zero value; for the maps of strings that people index it is
	 * the empty string. */
	*ret = j ? json_ref(j) : json_new_string("");
	return 0;
}

static int fn_len(const struct value *args, size_t n, struct json **ret, struct error *err)
{
	const struct json *j = args[0].json;
	size_t len;

	if (json_type(j) == JSON_STRING)
		len = strlen(json_string(j));
	else if (json_type(j) == JSON_ARRAY)
		len = json_array_len(j);
	else if (json_type(j) == JSON_OBJECT || json_type(j) == JSON_NULL)
		len = json_object_len(j);
	else
		return error_set(err, ERROR_INVALID_ARGUMENT, "error calling len: wrong type");
	*ret = json_new_int((int64_t)len);
	return 0;
}

static int fn_slice(const struct value *args, size_t n, struct json **ret, struct error *err)
{
	const char *s = json_string(args[0].json);
	int64_t len = s ? (int64_t)strlen(s) : (int64_t)json_array_len(args[0].json);
	int64_t from = n > 1 ? json_int(args[1].json, -1) : 0;
	int64_t to = n > 2 ? json_int(args[2].json, -1) : len;

	if (from < 0 || to > len || from > to)
		return error_set(err, ERROR_OUT_OF_RANGE,
				 "error calling slice: index out of range");
	if (s) {
		autofree char *cut = xstrndup(s + from, (size_t)(to - from));

		return return_text(ret, cut);
	}
	*ret = json_new_array();
	for (int64_t i = from; i < to; i++) {
		struct json *item = json_array_get(args[0].json, (size_t)i);

		json_add(*ret, item ? json_ref(item) : NULL);
	}
	return 0;
}

/* <0, 0, >0; numbers by value, everything else as text. */
static int compare(const struct json *a, const struct json *b)
{
	bool numbers = (json_type(a) == JSON_INT || json_type(a) == JSON_DOUBLE) &&
		       (json_type(b) == JSON_INT || json_type(b) == JSON_DOUBLE);
	autofree char *x = NULL;
	autofree char *y = NULL;

	if (numbers && json_type(a) == JSON_INT && json_type(b) == JSON_INT) {
		int64_t i = json_int(a, 0), k = json_int(b, 0);

		return i < k ? -1 : i > k;
	}
	if (numbers) {
		double d = json_type(a) == JSON_INT ? (double)json_int(a, 0) : json_double(a, 0);
		double e = json_type(b) == JSON_INT ? (double)json_int(b, 0) : json_double(b, 0);

		return d < e ? -1 : d > e;
	}
	x = text_of(a);
	y = text_of(b);
	return strcmp(x, y);
}

static int fn_eq(const struct value *args, size_t n, struct json **ret, struct error *err)
{
	bool equal = false;

	for (size_t i = 1; i < n && !equal; i++)
		equal = compare(args[0].json, args[i].json) == 0;
	*ret = json_new_bool(equal);
	return 0;
}

#define DEFINE_COMPARISON(name, op)                                                               \
	static int name(const struct value *args, size_t n, struct json **ret, struct error *err) \
	{                                                                                         \
		*ret = json_new_bool(compare(args[0].json, args[1].json) op 0);                   \
		return 0;                                                                         \
	}
DEFINE_COMPARISON(fn_ne, !=)
DEFINE_COMPARISON(fn_lt, <)
DEFINE_COMPARISON(fn_le, <=)
DEFINE_COMPARISON(fn_gt, >)
DEFINE_COMPARISON(fn_ge, >=)

/* The first argument whose truth is `stop`, else the last. */
static int pick(const struct value *args, size_t n, bool stop, struct json **ret)
{
	size_t i = 0;

	while (i + 1 < n && template_truth(args[i].json) != stop)
		i++;
	*ret = args[i].json ? json_ref(args[i].json) : NULL;
	return 0;
}

static int fn_and(const struct value *args, size_t n, struct json **ret, struct error *err)
{
	return pick(args, n, /* stop= */ false, ret);
}

static int fn_or(const struct value *args, size_t n, struct json **ret, struct error *err)
{
	return pick(args, n, /* stop= */ true, ret);
}

static int fn_not(const struct value *args, size_t n, struct json **ret, struct error *err)
{
	*ret = json_new_bool(!template_truth(args[0].json));
	return 0;
}

static const struct template_function functions[] = {
	{ "json", 1, 1, fn_json },	{ "split", 2, 2, fn_split },
	{ "join", 2, 2, fn_join },	{ "title", 1, 1, fn_title },
	{ "lower", 1, 1, fn_lower },	{ "upper", 1, 1, fn_upper },
	{ "pad", 3, 3, fn_pad },	{ "truncate", 2, 2, fn_truncate },
	{ "print", 0, 30, fn_print },	{ "println", 0, 30, fn_println },
	{ "printf", 1, 30, fn_printf }, { "index", 1, 30, fn_index },
	{ "len", 1, 1, fn_len },	{ "slice", 1, 3, fn_slice },
	{ "eq", 2, 30, fn_eq },		{ "ne", 2, 2, fn_ne },
	{ "lt", 2, 2, fn_lt },		{ "le", 2, 2, fn_le },
	{ "gt", 2, 2, fn_gt },		{ "ge", 2, 2, fn_ge },
	{ "and", 1, 30, fn_and },	{ "or", 1, 30, fn_or },
	{ "not", 1, 1, fn_not },
};

const struct template_function *template_function_find(const char *name, size_t len)
{
	for (size_t i = 0; i < ARRAY_SIZE(functions); i++)
		if (strlen(functions[i].name) == len && memcmp(functions[i].name, name, len) == 0)
			return &functions[i];
	return NULL;
}
