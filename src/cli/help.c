/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/help.h"

#include "base/mem.h"
#include "cli/terminal.h"

#include <stdio.h>
#include <string.h>

#define HELP_MAX (256 * 1024)

static const struct {
	const char *name;
	const char *summary;
} groups[] = {
	{ "builder", "Manage builds" }, { "container", "Manage containers" },
	{ "image", "Manage images" },	{ "network", "Manage networks" },
	{ "system", "Manage Kistl" },	{ "volume", "Manage volumes" },
};

bool command_each_path(const struct command *c, bool (*fn)(const char *path, size_t len, void *arg),
		       void *arg)
{
	for (const char *p = c->paths; *p;) {
		size_t n = strcspn(p, "|");

		if (fn(p, n, arg))
			return true;
		p += n + (p[n] == '|');
	}
	return false;
}

static bool path_is(const char *path, size_t len, void *arg)
{
	const char *want = arg;

	return strlen(want) == len && memcmp(path, want, len) == 0;
}

const struct command *help_find_command(const char *path)
{
	for (const struct command *const *c = cli_commands; *c; c++)
		if (command_each_path(*c, path_is, (void *)path))
			return *c;
	return NULL;
}

bool help_is_group(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(groups); i++)
		if (strcmp(groups[i].name, name) == 0)
			return true;
	return false;
}

static bool print_alias(const char *path, size_t len, void *arg)
{
	struct buf *b = arg;

	buf_printf(b, "%skistl %.*s", b->data[b->len - 1] == '\n' ? "  " : ", ", (int)len, path);
	return false;
}

void help_command(const struct command *c, const char *path)
{
	static const struct option none[] = { { OPTION_END } };
	const struct option *tables[] = { c->options ? c->options : none, c->more_options, NULL };
	autobuf struct buf b = BUF_INIT(HELP_MAX);
	autobuf struct buf options = BUF_INIT(HELP_MAX);

	buf_printf(&b, "Usage:  kistl %s%s%s\n\n%s\n", path, *c->args ? " " : "", c->args,
		   c->summary);
	if (strchr(c->paths, '|')) {
		buf_puts(&b, "\nAliases:\n");
		command_each_path(c, print_alias, &b);
		buf_putc(&b, '\n');
	}
	option_help(tables, terminal_width(80), &options);
	if (options.len)
		buf_printf(&b, "\nOptions:\n%s", options.data);
	cli_write(b.data, b.len);
}

struct member {
	const char *group;
	size_t len;
	char *name;
};

/* The first path in the group ("" is the top level). */
static bool first_member(const char *path, size_t len, void *arg)
{
	struct member *m = arg;
	const char *space = memchr(path, ' ', len);

	if (!m->len && space)
		return false;
	if (m->len &&
	    (!space || (size_t)(space - path) != m->len || memcmp(path, m->group, m->len) != 0))
		return false;
	m->name = m->len ? xstrndup(space + 1, len - m->len - 1) : xstrndup(path, len);
	return true;
}

/* The lines of a group's commands, in the order of their names. */
static void print_commands(struct buf *b, const char *group, unsigned mask, unsigned flags)
{
	autostrv struct strv lines = STRV_INIT;

	for (const struct command *const *c = cli_commands; *c; c++) {
		struct member m = { .group = group, .len = strlen(group) };

		if (((*c)->flags & (mask | COMMAND_HIDDEN)) != flags ||
		    !command_each_path(*c, first_member, &m))
			continue;
		strv_push_printf(&lines, "  %-11s %s\n", m.name, (*c)->summary);
		free(m.name);
	}
	strv_sort(&lines);
	for (size_t i = 0; i < lines.n; i++)
		buf_puts(b, lines.v[i]);
}

void help_group(const char *group)
{
	autobuf struct buf b = BUF_INIT(HELP_MAX);

	buf_printf(&b, "Usage:  kistl %s COMMAND\n\n", group);
	for (size_t i = 0; i < ARRAY_SIZE(groups); i++)
		if (strcmp(groups[i].name, group) == 0)
			buf_printf(&b, "%s\n\nCommands:\n", groups[i].summary);
	print_commands(&b, group, 0, 0);
	buf_printf(&b, "\nRun 'kistl %s COMMAND --help' for more information on a command.\n",
		   group);
	cli_write(b.data, b.len);
}

void help_main(void)
{
	const struct option *tables[] = { cli_global_options, NULL };
	autobuf struct buf b = BUF_INIT(HELP_MAX);

	buf_puts(&b, "Usage:  kistl [OPTIONS] COMMAND\n\nA small container runtime\n\n"
		     "Common Commands:\n");
	print_commands(&b, "", COMMAND_COMMON, COMMAND_COMMON);
	buf_puts(&b, "\nManagement Commands:\n");
	for (size_t i = 0; i < ARRAY_SIZE(groups); i++)
		buf_printf(&b, "  %-11s %s\n", groups[i].name, groups[i].summary);
	buf_puts(&b, "\nCommands:\n");
	print_commands(&b, "", COMMAND_COMMON, 0);
	buf_puts(&b, "\nGlobal Options:\n");
	option_help(tables, terminal_width(80), &b);
	buf_puts(&b, "\nRun 'kistl COMMAND --help' for more information on a command.\n");
	cli_write(b.data, b.len);
}
