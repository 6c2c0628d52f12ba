/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"
#include "cli/format.h"
#include "cli/template.h"

#include "base/mem.h"

#include <string.h>

#define LISTING_MAX (256 * 1024 * 1024)

/* "\t" and "\n" as people write them in a shell. */
static char *unescape(const char *s)
{
	struct buf b = BUF_INIT(TEMPLATE_TEXT_MAX + 1);

	for (; *s; s++) {
		if (s[0] == '\\' && (s[1] == 't' || s[1] == 'n')) {
			buf_putc(&b, s[1] == 't' ? '\t' : '\n');
			s++;
		} else {
			buf_putc(&b, *s);
		}
	}
	return buf_steal(&b, NULL);
}

static int add_headers(struct listing *l, struct error *err)
{
	autojson struct json *headers = json_new_object();

	for (const struct column *c = l->columns; c->key; c++)
		json_set_string(headers, c->key, c->header);
	if (template_execute_header(l->template, headers, &l->lines, err) < 0)
		return -1;
	buf_putc(&l->lines, '\n');
	return 0;
}

int listing_init(struct listing *l, const char *format, const char *default_format,
		 const struct column *columns, struct error *err)
{
	autofree char *text = NULL;

	*l = (struct listing){ .columns = columns, .lines = BUF_INIT(LISTING_MAX) };
	l->is_default = str_empty(format) || strcmp(format, "table") == 0;
	if (l->is_default)
		format = default_format;
	if (str_has_prefix(format, "table ")) {
		l->table = true;
		format += strlen("table ");
		format += strspn(format, " ");
	}
	text = strcmp(format, "json") == 0 ? xstrdup("{{json .}}") : unescape(format);
	l->template = template_parse(text, err);
	if (!l->template)
		return -1;
	return l->table ? add_headers(l, err) : 0;
}

void listing_done(struct listing *l)
{
	if (l->template)
		template_free(TAKE_PTR(l->template));
	buf_done(&l->lines);
}

static int collect_key(const char *key, struct json *value, void *arg)
{
	strv_push(arg, key);
	return 0;
}

/* Go marshals a map: keys in order. */
static struct json *sort_keys(const struct json *row)
{
	autostrv struct strv keys = STRV_INIT;
	struct json *sorted = json_new_object();

	json_object_each(row, collect_key, &keys);
	strv_sort(&keys);
	for (size_t i = 0; i < keys.n; i++) {
		struct json *v = json_get(row, keys.v[i]);

		json_set(sorted, keys.v[i], v ? json_ref(v) : NULL);
	}
	return sorted;
}

int listing_add(struct listing *l, struct json *row, const struct json *extra, struct error *err)
{
	/* What names its fields does not see their order. */
	autojson struct json *shown = l->is_default ? json_ref(row) : sort_keys(row);

	json_unref(row);
	if (template_execute(l->template, shown, extra, &l->lines, err) < 0)
		return -1;
	buf_putc(&l->lines, '\n');
	return 0;
}

int listing_flush(struct listing *l, struct buf *out, struct error *err)
{
	if (l->lines.overflow)
		return error_set(err, ERROR_RESOURCE_EXHAUSTED, "list too long");
	if (l->table)
		format_table(l->lines.data, out);
	else
		buf_append(out, l->lines.data, l->lines.len);
	buf_clear(&l->lines);
	return l->table ? add_headers(l, err) : 0;
}

int listing_print(struct listing *l, struct error *err)
{
	autobuf struct buf out = BUF_INIT(BUF_NO_LIMIT);

	if (listing_flush(l, &out, err) < 0)
		return -1;
	cli_write(out.data, out.len);
	return 0;
}
