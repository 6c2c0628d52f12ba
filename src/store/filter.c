/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Regular expressions are PCRE2's, which has what users of Go's RE2 write ((?i), \d, classes); its
 * match and heap limits bound what a hostile one costs. One that runs into them does not match.
 */

#define PCRE2_CODE_UNIT_WIDTH 8
#include "store/filter.h"

#include "base/buf.h"
#include "base/mem.h"

#include <ctype.h>
#include <pcre2.h>
#include <string.h>

#define MATCH_LIMIT 100000
#define HEAP_LIMIT 1024 /* KiB */

enum operator{ OP_PRESENT, OP_EQUAL, OP_NOT_EQUAL, OP_MATCHES };

struct selector {
	struct strv path;
	enum operator op;
	char *value;
	pcre2_code *code;
};

struct alternative {
	struct selector *v;
	size_t n;
};

struct filter {
	struct alternative *v;
	size_t n;
	pcre2_match_context *limits; /* with the first expression */
};

struct scanner {
	const char *text, *at;
	struct error *err;
};

void filter_free(struct filter *f)
{
	if (!f)
		return;
	for (size_t i = 0; i < f->n; i++) {
		for (size_t k = 0; k < f->v[i].n; k++) {
			struct selector *s = &f->v[i].v[k];

			strv_done(&s->path);
			free(s->value);
			pcre2_code_free(s->code);
		}
		free(f->v[i].v);
	}
	free(f->v);
	pcre2_match_context_free(f->limits);
	free(f);
}

static int refuse(const struct scanner *s, const char *what)
{
	return error_set(s->err, ERROR_INVALID_ARGUMENT, "filter '%.256s': %s at byte %zu", s->text,
			 what, (size_t)(s->at - s->text));
}

static void skip_blanks(struct scanner *s)
{
	while (isspace((unsigned char)*s->at))
		s->at++;
}

static int hex_value(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c - 'A' + 10;
}

static void put_utf8(struct buf *out, uint32_t c)
{
	char bytes[4];
	size_t n = 0;

	if (c < 0x80) {
		bytes[n++] = (char)c;
	} else if (c < 0x800) {
		bytes[n++] = (char)(0xc0 | c >> 6);
		bytes[n++] = (char)(0x80 | (c & 0x3f));
	} else if (c < 0x10000) {
		bytes[n++] = (char)(0xe0 | c >> 12);
		bytes[n++] = (char)(0x80 | (c >> 6 & 0x3f));
		bytes[n++] = (char)(0x80 | (c & 0x3f));
	} else {
		bytes[n++] = (char)(0xf0 | c >> 18);
		bytes[n++] = (char)(0x80 | (c >> 12 & 0x3f));
		bytes[n++] = (char)(0x80 | (c >> 6 & 0x3f));
		bytes[n++] = (char)(0x80 | (c & 0x3f));
	}
	buf_append(out, bytes, n);
}

/* \xHH, \uHHHH, \UHHHHHHHH: exactly that many digits. */
static int scan_code(struct scanner *s, char kind, struct buf *out)
{
	size_t digits = kind == 'x' ? 2 : kind == 'u' ? 4 : 8;
	uint32_t c = 0;

	for (size_t i = 0; i < digits; i++, s->at++) {
		if (!isxdigit((unsigned char)*s->at))
			return refuse(s, "bad escape");
		c = c << 4 | (uint32_t)hex_value(*s->at);
	}
	if (c == 0 || c > 0x10ffff || (kind != 'x' && c >= 0xd800 && c < 0xe000))
		return refuse(s, "bad character in an escape");
	if (kind == 'x')
		buf_putc(out, (char)c);
	else
		put_utf8(out, c);
	return 0;
}

static int scan_octal(struct scanner *s, struct buf *out)
{
	unsigned c = 0;

	for (int i = 0; i < 3; i++, s->at++) {
		if (*s->at < '0' || *s->at > '7')
			return refuse(s, "bad escape");
		c = c << 3 | (unsigned)(*s->at - '0');
	}
	if (c == 0 || c > 0xff)
		return refuse(s, "bad character in an escape");
	buf_putc(out, (char)c);
	return 0;
}

/* After the backslash: those of Go's strings. */
static int scan_escape(struct scanner *s, struct buf *out)
{
	static const char from[] = "abfnrtv\\'\"", to[] = "\a\b\f\n\r\t\v\\'\"";
	char c = *s->at;
	const char *found = c ? strchr(from, c) : NULL;

	if (found) {
		s->at++;
		buf_putc(out, to[found - from]);
		return 0;
	}
	if (c == 'x' || c == 'u' || c == 'U') {
		s->at++;
		return scan_code(s, c, out);
	}
	return scan_octal(s, out);
}

/* At the opening quote. Only between double quotes does a backslash mean something. */
static char *scan_quoted(struct scanner *s)
{
	char quote = *s->at++;
	autobuf struct buf out = BUF_INIT(FILTER_TEXT_MAX);

	while (*s->at != quote) {
		if (*s->at == '\0') {
			refuse(s, "quote that does not end");
			return NULL;
		}
		char c = *s->at++;
		if (c != '\\' || quote != '"')
			buf_putc(&out, c);
		else if (scan_escape(s, &out) < 0)
			return NULL;
	}
	s->at++;
	return buf_steal(&out, NULL);
}

static bool is_word(char c)
{
	return isalnum((unsigned char)c) || c == '_' || (unsigned char)c >= 0x80;
}

static int scan_path(struct scanner *s, struct strv *ret)
{
	for (;;) {
		autofree char *word = NULL;

		if (*s->at == '"') {
			word = scan_quoted(s);
			if (!word)
				return -1;
		} else {
			const char *start = s->at;

			while (is_word(*s->at))
				s->at++;
			if (s->at == start)
				return refuse(s, "expected a field");
			word = xstrndup(start, (size_t)(s->at - start));
		}
		strv_push(ret, word);
		if (*s->at != '.')
			return 0;
		s->at++;
	}
}

static bool is_quote(char c, enum operator op)
{
	return c == '"' || (op == OP_MATCHES && (c == '/' || c == '|'));
}

static char *scan_value(struct scanner *s, enum operator op)
{
	const char *start = s->at;

	if (is_quote(*s->at, op))
		return scan_quoted(s);
	while (*s->at && *s->at != ',' && !isspace((unsigned char)*s->at))
		s->at++;
	if (s->at == start || strchr(".=!~", *start)) {
		s->at = start;
		refuse(s, "expected a value");
		return NULL;
	}
	return xstrndup(start, (size_t)(s->at - start));
}

static enum operator scan_operator(struct scanner *s)
{
	static const char *const words[] = {
		[OP_EQUAL] = "==",
		[OP_NOT_EQUAL] = "!=",
		[OP_MATCHES] = "~=",
	};

	for (enum operator op = OP_EQUAL; op <= OP_MATCHES; op++) {
		if (strncmp(s->at, words[op], 2) == 0) {
			s->at += 2;
			return op;
		}
	}
	return OP_PRESENT;
}

static int compile(struct filter *f, struct selector *sel, const struct scanner *s)
{
	int code = 0;
	PCRE2_SIZE offset = 0;

	sel->code = pcre2_compile((PCRE2_SPTR)sel->value, PCRE2_ZERO_TERMINATED,
				  PCRE2_NEVER_BACKSLASH_C, &code, &offset, NULL);
	if (!sel->code) {
		char why[128] = "";

		pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof(why));
		return error_set(s->err, ERROR_INVALID_ARGUMENT,
				 "filter '%.256s': expression '%.256s': %s", s->text, sel->value,
				 why);
	}
	if (!f->limits) {
		f->limits = pcre2_match_context_create(NULL);
		pcre2_set_match_limit(f->limits, MATCH_LIMIT);
		pcre2_set_heap_limit(f->limits, HEAP_LIMIT);
	}
	return 0;
}

static int scan_selector(struct filter *f, struct scanner *s, struct selector *ret)
{
	skip_blanks(s);
	if (scan_path(s, &ret->path) < 0)
		return -1;
	skip_blanks(s);
	ret->op = scan_operator(s);
	if (ret->op == OP_PRESENT)
		return 0;
	skip_blanks(s);
	ret->value = scan_value(s, ret->op);
	if (!ret->value || (ret->op == OP_MATCHES && compile(f, ret, s) < 0))
		return -1;
	skip_blanks(s);
	return 0;
}

static int parse_text(struct filter *f, struct alternative *a, const char *text, struct error *err)
{
	struct scanner s = { .text = text, .at = text, .err = err };

	if (strlen(text) > FILTER_TEXT_MAX)
		return error_set(err, ERROR_INVALID_ARGUMENT, "filter is longer than %d bytes",
				 FILTER_TEXT_MAX);
	skip_blanks(&s);
	while (*s.at) {
		GROW_ARRAY(a->v, a->n);
		a->v[a->n] = (struct selector){ 0 };
		if (scan_selector(f, &s, &a->v[a->n++]) < 0)
			return -1;
		if (*s.at == '\0')
			break;
		if (*s.at != ',')
			return refuse(&s, "expected a comma");
		s.at++;
		if (*s.at == '\0')
			return refuse(&s, "expected a field");
	}
	return 0;
}

int filter_parse(char *const *texts, size_t n, struct filter **ret, struct error *err)
{
	if (n > FILTERS_MAX)
		return error_set(err, ERROR_INVALID_ARGUMENT, "more than %d filters", FILTERS_MAX);
	autofilter struct filter *f = xnew(struct filter);

	f->v = xnew_array(struct alternative, n ? n : 1);
	f->n = n;
	for (size_t i = 0; i < n; i++) {
		if (parse_text(f, &f->v[i], texts[i], err) < 0)
			return -1;
	}
	*ret = TAKE_PTR(f);
	return 0;
}

static bool matches(const struct filter *f, const struct selector *s, const char *value)
{
	pcre2_match_data *data = pcre2_match_data_create(1, NULL);
	int r = pcre2_match(s->code, (PCRE2_SPTR)value, PCRE2_ZERO_TERMINATED, 0, 0, data,
			    f->limits);

	pcre2_match_data_free(data);
	return r >= 0;
}

static bool holds(const struct filter *f, const struct selector *s, const char *value)
{
	switch (s->op) {
	case OP_PRESENT:
		return value != NULL;
	case OP_EQUAL:
		return value && strcmp(value, s->value) == 0;
	case OP_NOT_EQUAL:
		return !value || strcmp(value, s->value) != 0;
	case OP_MATCHES:
		return value && matches(f, s, value);
	}
	return false;
}

bool filter_match(const struct filter *f, filter_field field, const void *object)
{
	for (size_t i = 0; i < f->n; i++) {
		const struct alternative *a = &f->v[i];
		bool all = true;

		for (size_t k = 0; all && k < a->n; k++)
			all = holds(f, &a->v[k], field(object, &a->v[k].path));
		if (all)
			return true;
	}
	return f->n == 0;
}

const char *filter_label(const struct kvs *labels, const struct strv *path)
{
	autobuf struct buf key = BUF_INIT(FILTER_TEXT_MAX);

	for (size_t i = 1; i < path->n; i++) {
		if (i > 1)
			buf_putc(&key, '.');
		buf_puts(&key, path->v[i]);
	}
	return key.len > 0 ? kvs_get(labels, key.data) : NULL;
}
