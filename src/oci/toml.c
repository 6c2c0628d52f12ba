/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tree is JSON from the beginning. What TOML has to know about a table beyond its content (who
 * defined it, and whether it may still grow) is kept beside the tree, by the table's address:
 *
 *  - closed: an inline table. Nothing is added to it any more.
 *  - defined: by a header of its own. No second header, and no dotted key reaches into it.
 *  - dotted: by dotted keys in one section. They may go on in that section, no header may.
 *  - nothing: it exists only because something below it was defined.
 */
#include "oci/toml.h"
#include "base/mem.h"
#include "oci/toml-lex.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define PARTS_MAX 32
#define DEPTH_MAX 96

enum table_state { TABLE_IMPLICIT, TABLE_DEFINED, TABLE_DOTTED, TABLE_CLOSED, TABLE_ARRAY };

struct toml {
	struct toml_lex lex;
	struct json *root;
	struct map states; /* address -> section << 3 | state */
	size_t section;	   /* of the dotted keys that are being read */
	size_t last_section;
};

struct key {
	struct strv parts;
};

static void toml_done(struct toml *t)
{
	json_unref(t->root);
	map_done(&t->states);
}

static void key_done(struct key *k)
{
	strv_done(&k->parts);
}

static void address_of(const struct json *j, char out[32])
{
	snprintf(out, 32, "%p", (const void *)j);
}

static void set_state(struct toml *t, const struct json *j, enum table_state state)
{
	char address[32];

	address_of(j, address);
	map_set(&t->states, address, (void *)(uintptr_t)(t->section << 3 | state));
}

static enum table_state get_state(const struct toml *t, const struct json *j, size_t *ret_section)
{
	char address[32];

	address_of(j, address);
	uintptr_t v = (uintptr_t)map_get(&t->states, address);

	if (ret_section)
		*ret_section = v >> 3;
	return (enum table_state)(v & 7);
}

static int parse_key(struct toml *t, struct key *k)
{
	for (;;) {
		char *part;

		if (k->parts.n == PARTS_MAX)
			return toml_fail(&t->lex, "key has too many parts");
		if (toml_key_part(&t->lex, &part) < 0)
			return -1;
		strv_take(&k->parts, part);
		toml_skip_blanks(&t->lex);
		if (toml_peek(&t->lex) != '.')
			return 0;
		t->lex.p++;
		toml_skip_blanks(&t->lex);
	}
}

static struct json *add_table(struct json *parent, const char *name)
{
	struct json *table = json_new_object();

	json_set(parent, name, table);
	return table;
}

/* One step of a header's path. NULL with the error set. */
static struct json *header_step(struct toml *t, struct json *at, const char *name)
{
	struct json *next = json_get(at, name);

	if (!next)
		return add_table(at, name);
	if (json_type(next) == JSON_ARRAY && get_state(t, next, NULL) == TABLE_ARRAY)
		return json_array_get(next, json_array_len(next) - 1);
	if (json_type(next) == JSON_OBJECT && get_state(t, next, NULL) != TABLE_CLOSED)
		return next;
	toml_fail(&t->lex, "'%s' is a value already", name);
	return NULL;
}

static struct json *define_table(struct toml *t, struct json *parent, const char *name)
{
	struct json *table = json_get(parent, name);

	if (table &&
	    (json_type(table) != JSON_OBJECT || get_state(t, table, NULL) != TABLE_IMPLICIT)) {
		toml_fail(&t->lex, "'%s' is defined already", name);
		return NULL;
	}
	if (!table)
		table = add_table(parent, name);
	set_state(t, table, TABLE_DEFINED);
	return table;
}

static struct json *append_table(struct toml *t, struct json *parent, const char *name)
{
	struct json *array = json_get(parent, name), *table;

	if (array && (json_type(array) != JSON_ARRAY || get_state(t, array, NULL) != TABLE_ARRAY)) {
		toml_fail(&t->lex, "'%s' is defined already", name);
		return NULL;
	}
	if (!array) {
		array = json_new_array();
		json_set(parent, name, array);
		set_state(t, array, TABLE_ARRAY);
	}
	table = json_new_object();
	json_add(array, table);
	set_state(t, table, TABLE_DEFINED);
	return table;
}

/* [a.b] or [[a.b]]. The table that it opens, or NULL. */
static struct json *parse_header(struct toml *t, size_t *ret_depth)
{
	CLEANUP(key_done) struct key k = { 0 };
	struct toml_lex *l = &t->lex;
	struct json *at = t->root;
	bool array = l->end - l->p > 1 && l->p[1] == '[';

	l->p += array ? 2 : 1;
	toml_skip_blanks(l);
	if (parse_key(t, &k) < 0)
		return NULL;
	for (size_t i = 0; i < (array ? 2 : 1); i++, l->p++) {
		if (toml_peek(l) != ']') {
			toml_fail(l, "expected '%s'", array ? "]]" : "]");
			return NULL;
		}
	}
	t->section = ++t->last_section;
	for (size_t i = 0; i + 1 < k.parts.n && at; i++)
		at = header_step(t, at, k.parts.v[i]);
	if (!at)
		return NULL;
	*ret_depth = 2 * k.parts.n;
	const char *name = k.parts.v[k.parts.n - 1];

	return array ? append_table(t, at, name) : define_table(t, at, name);
}

/* One step of a dotted key. */
static struct json *dotted_step(struct toml *t, struct json *at, const char *name)
{
	struct json *next = json_get(at, name);
	size_t section = 0;

	if (!next) {
		next = add_table(at, name);
	} else if (json_type(next) != JSON_OBJECT) {
		toml_fail(&t->lex, "'%s' is a value already", name);
		return NULL;
	}
	enum table_state state = get_state(t, next, &section);

	if (state == TABLE_IMPLICIT) {
		set_state(t, next, TABLE_DOTTED);
	} else if (state != TABLE_DOTTED || section != t->section) {
		toml_fail(&t->lex, "'%s' is defined already", name);
		return NULL;
	}
	return next;
}

static int parse_value(struct toml *t, size_t depth, struct json **ret);

/* key = value, into table. */
static int parse_pair(struct toml *t, struct json *table, size_t depth)
{
	CLEANUP(key_done) struct key k = { 0 };
	struct json *value;

	if (parse_key(t, &k) < 0)
		return -1;
	if (toml_peek(&t->lex) != '=')
		return toml_fail(&t->lex, "expected '='");
	for (size_t i = 0; i + 1 < k.parts.n && table; i++)
		table = dotted_step(t, table, k.parts.v[i]);
	if (!table)
		return -1;
	const char *name = k.parts.v[k.parts.n - 1];

	if (json_get(table, name))
		return toml_fail(&t->lex, "'%s' is defined already", name);
	t->lex.p++;
	toml_skip_blanks(&t->lex);
	if (parse_value(t, depth + k.parts.n, &value) < 0)
		return -1;
	json_set(table, name, value);
	return 0;
}

static int parse_array(struct toml *t, size_t depth, struct json **ret)
{
	autojson struct json *array = json_new_array();
	struct toml_lex *l = &t->lex;

	for (l->p++;;) {
		struct json *value;

		toml_skip_lines(l);
		if (toml_peek(l) == ']')
			break;
		if (parse_value(t, depth + 1, &value) < 0)
			return -1;
		json_add(array, value);
		toml_skip_lines(l);
		if (toml_peek(l) == ']')
			break;
		if (toml_peek(l) != ',')
			return toml_fail(l, "expected ',' or ']'");
		l->p++;
	}
	l->p++;
	*ret = TAKE_PTR(array);
	return 0;
}

static int parse_inline_pairs(struct toml *t, struct json *table, size_t depth)
{
	struct toml_lex *l = &t->lex;

	toml_skip_blanks(l);
	if (toml_peek(l) == '}')
		return 0;
	for (;;) {
		toml_skip_blanks(l);
		if (parse_pair(t, table, depth) < 0)
			return -1;
		toml_skip_blanks(l);
		if (toml_peek(l) == '}')
			return 0;
		if (toml_peek(l) != ',')
			return toml_fail(l, "expected ',' or '}'");
		l->p++;
	}
}

static int parse_inline_table(struct toml *t, size_t depth, struct json **ret)
{
	autojson struct json *table = json_new_object();
	size_t outer = t->section;

	t->lex.p++;
	t->section = ++t->last_section;
	if (parse_inline_pairs(t, table, depth) < 0)
		return -1;
	t->lex.p++;
	t->section = outer;
	set_state(t, table, TABLE_CLOSED);
	*ret = TAKE_PTR(table);
	return 0;
}

static int parse_value(struct toml *t, size_t depth, struct json **ret)
{
	char c = toml_peek(&t->lex), *s;

	if (depth > DEPTH_MAX)
		return toml_fail(&t->lex, "nested too deeply");
	*ret = NULL;
	if (c == '[')
		return parse_array(t, depth, ret);
	if (c == '{')
		return parse_inline_table(t, depth, ret);
	if (c != '"' && c != '\'')
		return toml_scalar(&t->lex, ret);
	if (toml_string(&t->lex, /* multi_line= */ true, &s) < 0)
		return -1;
	*ret = json_new_string(s);
	free(s);
	return 0;
}

static int parse_document(struct toml *t)
{
	struct json *table = t->root;
	size_t depth = 0;

	for (;;) {
		toml_skip_lines(&t->lex);
		if (t->lex.p == t->lex.end)
			return 0;
		if (toml_peek(&t->lex) == '[') {
			table = parse_header(t, &depth);
			if (!table)
				return -1;
		} else if (parse_pair(t, table, depth) < 0) {
			return -1;
		}
		if (toml_end_line(&t->lex) < 0)
			return -1;
	}
}

struct json *toml_parse(const char *text, size_t len, size_t max, struct error *err)
{
	CLEANUP(toml_done)
	struct toml t = {
		.lex = { .p = text, .end = text + len, .start = text, .err = err },
		.states = MAP_INIT,
	};

	if (len > max) {
		error_set(err, ERROR_RESOURCE_EXHAUSTED, "TOML document of %zu bytes is too large",
			  len);
		return NULL;
	}
	if (len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
		t.lex.p += 3;
	t.root = json_new_object();
	if (toml_check_text(&t.lex) < 0 || parse_document(&t) < 0)
		return NULL;
	return TAKE_PTR(t.root);
}
