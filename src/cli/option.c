/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/option.h"

#include "base/mem.h"
#include "base/parse.h"
#include "base/time.h"

#include <stdio.h>
#include <string.h>

static bool is_flag(const struct option *o)
{
	return o->kind == OPTION_BOOL || o->kind == OPTION_TRISTATE;
}

static const struct option *find_long(const struct option_parse *p, const char *name, size_t len)
{
	for (const struct option *const *t = p->tables; *t; t++)
		for (const struct option *o = *t; o->kind != OPTION_END; o++)
			if (strlen(o->name) == len && memcmp(o->name, name, len) == 0)
				return o;
	return NULL;
}

static const struct option *find_short(const struct option_parse *p, char c)
{
	for (const struct option *const *t = p->tables; *t; t++)
		for (const struct option *o = *t; o->kind != OPTION_END; o++)
			if (o->short_name == c)
				return o;
	return NULL;
}

/* strconv's wording, which Docker shows. */
static int bad_number(struct error *err, const char *fn, const char *value, int r)
{
	return error_set(err, ERROR_INVALID_ARGUMENT, "strconv.%s: parsing \"%s\": %s", fn, value,
			 r == -ERANGE ? "value out of range" : "invalid syntax");
}

static int set_flag(const struct option *o, const char *value, struct error *err)
{
	bool b = true;

	if (value && parse_bool(value, &b) < 0)
		return bad_number(err, "ParseBool", value, -EINVAL);
	if (o->kind == OPTION_BOOL)
		*(bool *)o->target = b;
	else
		*(int *)o->target = b;
	return 0;
}

/* Billionths from a decimal or a fraction of at most nine digits. */
static int parse_cpus(const char *value, int64_t *ret, struct error *err)
{
	double d;

	if (parse_double(value, &d) < 0 || !(d >= -1e6 && d <= 1e6))
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "failed to parse %s as a rational number", value);
	*ret = (int64_t)(d * 1e9 + (d < 0 ? -0.5 : 0.5));
	return 0;
}

static int parse_bytes(const char *value, int64_t *ret, struct error *err)
{
	size_t digits = strspn(value, "0123456789.");

	if (parse_size(value, ret) == 0 && *ret >= 0)
		return 0;
	if (!digits)
		return error_set(err, ERROR_INVALID_ARGUMENT, "invalid size: '%s'", value);
	return error_set(err, ERROR_INVALID_ARGUMENT, "invalid suffix: '%s'", value + digits);
}

static int set_int(const struct option *o, const char *value, struct error *err)
{
	int64_t v;
	int r = parse_int64(value, &v);

	if (r == 0 && o->kind == OPTION_UINT16 && (v < 0 || v > UINT16_MAX))
		r = v < 0 ? -EINVAL : -ERANGE;
	if (r < 0)
		return bad_number(err, o->kind == OPTION_UINT16 ? "ParseUint" : "ParseInt", value,
				  r);
	*(int64_t *)o->target = v;
	return 0;
}

static int set_value(const struct option *o, const char *value, struct error *err)
{
	if (o->check && o->check(value, err) < 0)
		return -1;
	switch (o->kind) {
	case OPTION_STRING:
		*(const char **)o->target = value;
		return 0;
	case OPTION_LIST:
		strv_push(o->target, value);
		return 0;
	case OPTION_CSV:
		strv_split(o->target, value, ",");
		return 0;
	case OPTION_INT:
	case OPTION_UINT16:
		return set_int(o, value, err);
	case OPTION_SWAP:
		if (strcmp(value, "-1") == 0) {
			*(int64_t *)o->target = -1;
			return 0;
		}
		return parse_bytes(value, o->target, err);
	case OPTION_SIZE:
		return parse_bytes(value, o->target, err);
	case OPTION_DURATION:
		if (time_parse_duration(value, o->target) < 0)
			return error_set(err, ERROR_INVALID_ARGUMENT,
					 "time: invalid duration \"%s\"", value);
		return 0;
	case OPTION_CPUS:
		return parse_cpus(value, o->target, err);
	default:
		return set_flag(o, value, err);
	}
}

static int set_option(const struct option *o, const char *value, struct error *err)
{
	autoerror struct error why = ERROR_INIT;

	if (set_value(o, value, &why) == 0)
		return 0;
	if (o->short_name)
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "invalid argument \"%s\" for \"-%c, --%s\" flag: %s", value,
				 o->short_name, o->name, error_msg(&why));
	return error_set(err, ERROR_INVALID_ARGUMENT,
			 "invalid argument \"%s\" for \"--%s\" flag: %s", value, o->name,
			 error_msg(&why));
}

/* "--name[=value]"; *i may advance to the value. */
static int parse_long(struct option_parse *p, int argc, char **argv, int *i, struct error *err)
{
	const char *arg = argv[*i] + 2;
	const char *eq = strchr(arg, '=');
	size_t len = eq ? (size_t)(eq - arg) : strlen(arg);
	const struct option *o = find_long(p, arg, len);

	if (!o) {
		if (len == 4 && memcmp(arg, "help", 4) == 0) {
			p->help = true;
			return 0;
		}
		return error_set(err, ERROR_INVALID_ARGUMENT, "unknown flag: --%.*s", (int)len,
				 arg);
	}
	if (is_flag(o))
		return set_option(o, eq ? eq + 1 : "true", err);
	if (eq)
		return set_option(o, eq + 1, err);
	if (*i + 1 >= argc)
		return error_set(err, ERROR_INVALID_ARGUMENT, "flag needs an argument: --%s",
				 o->name);
	return set_option(o, argv[++*i], err);
}

/* "-abc", "-n5", "-n=5", "-n 5". */
static int parse_shorts(struct option_parse *p, int argc, char **argv, int *i, struct error *err)
{
	const char *all = argv[*i] + 1;

	for (const char *s = all; *s; s++) {
		const struct option *o = find_short(p, *s);
		const char *value = NULL;

		if (!o && *s == 'h' && p->short_help) {
			p->help = true;
			return 0;
		}
		if (!o)
			return error_set(err, ERROR_INVALID_ARGUMENT,
					 "unknown shorthand flag: '%c' in -%s", *s, s);
		if (s[1] == '=')
			value = s + 2;
		else if (!is_flag(o) && s[1])
			value = s + 1;
		else if (!is_flag(o) && *i + 1 < argc)
			value = argv[++*i];
		else if (!is_flag(o))
			return error_set(err, ERROR_INVALID_ARGUMENT,
					 "flag needs an argument: '%c' in -%s", *s, s);
		if (set_option(o, value ? value : "true", err) < 0)
			return -1;
		if (value)
			return 0;
	}
	return 0;
}

int option_parse(struct option_parse *p, int argc, char **argv, struct error *err)
{
	int n = 0;

	for (int i = 0; i < argc; i++) {
		const char *arg = argv[i];
		int r;

		if (arg[0] != '-' || !arg[1]) {
			argv[n++] = argv[i];
			if (p->interspersed)
				continue;
			while (++i < argc)
				argv[n++] = argv[i];
			break;
		}
		if (strcmp(arg, "--") == 0) {
			while (++i < argc)
				argv[n++] = argv[i];
			break;
		}
		r = arg[1] == '-' ? parse_long(p, argc, argv, &i, err)
				  : parse_shorts(p, argc, argv, &i, err);
		if (r < 0)
			return -1;
		if (p->help)
			return 0;
	}
	return n;
}

static const char *type_name(const struct option *o)
{
	static const char *const names[] = {
		[OPTION_BOOL] = "",	    [OPTION_TRISTATE] = "",
		[OPTION_STRING] = "string", [OPTION_LIST] = "list",
		[OPTION_CSV] = "strings",   [OPTION_INT] = "int",
		[OPTION_UINT16] = "uint16", [OPTION_SIZE] = "bytes",
		[OPTION_SWAP] = "bytes",    [OPTION_DURATION] = "duration",
		[OPTION_CPUS] = "decimal",
	};

	return o->type ? o->type : names[o->kind];
}

static size_t left_side(const struct option *o, char *out, size_t size)
{
	const char *type = type_name(o);
	char s[8] = "    ";
	int n;

	if (o->short_name)
		snprintf(s, sizeof(s), "-%c, ", o->short_name);
	n = snprintf(out, size, "  %s--%s%s%s", s, o->name, *type ? " " : "", type);
	return n > 0 ? MIN((size_t)n, size - 1) : 0;
}

/* Greedy word wrap; the text's own line breaks stay. */
static void wrap(struct buf *out, const char *text, size_t indent, size_t width)
{
	size_t room = width > indent + 24 ? width - indent : 24;
	size_t col = 0;

	while (*text) {
		size_t word = strcspn(text, " \n");

		if (col && col + 1 + word > room) {
			buf_printf(out, "\n%*s", (int)indent, "");
			col = 0;
		} else if (col) {
			buf_putc(out, ' ');
			col++;
		}
		buf_append(out, text, word);
		col += word;
		text += word;
		if (*text == '\n') {
			buf_printf(out, "\n%*s", (int)indent, "");
			col = 0;
			text++;
		} else if (*text == ' ') {
			text++;
		}
	}
}

/* The tables' options in the order of their names. Returns their number. */
static size_t sorted(const struct option *const *tables, const struct option **ret, size_t max)
{
	size_t n = 0;

	for (const struct option *const *t = tables; *t; t++) {
		for (const struct option *o = *t; o->kind != OPTION_END; o++) {
			size_t at = n;

			if (o->hidden || n == max)
				continue;
			while (at && strcmp(ret[at - 1]->name, o->name) > 0) {
				ret[at] = ret[at - 1];
				at--;
			}
			ret[at] = o;
			n++;
		}
	}
	return n;
}

void option_help(const struct option *const *tables, unsigned width, struct buf *out)
{
	const struct option *all[160];
	size_t n = sorted(tables, all, ARRAY_SIZE(all));
	size_t longest = 0;
	char left[160];

	for (size_t i = 0; i < n; i++)
		longest = MAX(longest, left_side(all[i], left, sizeof(left)));
	for (size_t i = 0; i < n; i++) {
		autobuf struct buf text = BUF_INIT(BUF_NO_LIMIT);

		buf_puts(&text, all[i]->help);
		if (all[i]->fallback)
			buf_printf(&text, " (default %s)", all[i]->fallback);
		left_side(all[i], left, sizeof(left));
		buf_printf(out, "%-*s", (int)longest + 3, left);
		wrap(out, text.data, longest + 3, width);
		buf_putc(out, '\n');
	}
}
