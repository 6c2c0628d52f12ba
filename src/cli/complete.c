/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kistl __complete WORD...: candidates for the last word, one a line. The shell scripts are stubs
 * around this, so that commands and options come from the table and names from the daemon. Never
 * starts a daemon, never fails loudly.
 */
#include "cli/commands.h"
#include "cli/help.h"

#include "base/mem.h"

#include <string.h>

struct candidates {
	const char *prefix;
	const char *suffix; /* of what the daemon names */
	struct buf out;
};

static void offer(struct candidates *c, const char *word, size_t len)
{
	size_t n = strlen(c->prefix);

	if (len < n || strncmp(word, c->prefix, n) != 0)
		return;
	buf_append(&c->out, word, len);
	buf_putc(&c->out, '\n');
}

/* Names of containers come with a slash. */
static void offer_json(struct candidates *c, const char *s)
{
	autofree char *word = s ? xasprintf("%s%s", s + (*s == '/'), c->suffix) : NULL;

	if (word)
		offer(c, word, strlen(word));
}

struct path_search {
	struct candidates *c;
	const char *group; /* NULL: top level */
};

static bool offer_path(const char *path, size_t len, void *arg)
{
	struct path_search *s = arg;
	const char *space = memchr(path, ' ', len);

	if (!s->group && !space)
		offer(s->c, path, len);
	if (s->group && space && (size_t)(space - path) == strlen(s->group) &&
	    strncmp(path, s->group, (size_t)(space - path)) == 0)
		offer(s->c, space + 1, len - (size_t)(space + 1 - path));
	return false;
}

static void offer_commands(struct candidates *c, const char *group)
{
	static const char *const groups[] = { "builder", "container", "image",
					      "network", "system",    "volume" };
	struct path_search s = { .c = c, .group = group };

	for (const struct command *const *cmd = cli_commands; *cmd; cmd++)
		if (!((*cmd)->flags & COMMAND_HIDDEN))
			command_each_path(*cmd, offer_path, &s);
	for (size_t i = 0; i < ARRAY_SIZE(groups) && !group; i++)
		offer(c, groups[i], strlen(groups[i]));
}

static void offer_options(struct candidates *c, const struct option *table)
{
	for (const struct option *o = table; o && o->kind != OPTION_END; o++) {
		autofree char *s = xasprintf("--%s", o->name);

		if (!o->hidden)
			offer(c, s, strlen(s));
	}
}

static void offer_containers(struct cli *cli, struct candidates *c, const char *path)
{
	autojson struct json *list = NULL;

	if (client_get(&cli->client, path, &list, NULL) < 0)
		return;
	for (size_t i = 0; i < json_array_len(list); i++)
		offer_json(c, json_string(json_array_get(json_get(json_array_get(list, i), "Names"),
							 0)));
}

static void offer_images(struct cli *cli, struct candidates *c)
{
	autojson struct json *list = NULL;

	if (client_get(&cli->client, "/images/json", &list, NULL) < 0)
		return;
	for (size_t i = 0; i < json_array_len(list); i++) {
		const struct json *tags = json_get(json_array_get(list, i), "RepoTags");

		for (size_t k = 0; k < json_array_len(tags); k++)
			offer_json(c, json_string(json_array_get(tags, k)));
	}
}

static void offer_named(struct cli *cli, struct candidates *c, const char *path, const char *member)
{
	autojson struct json *reply = NULL;
	const struct json *list;

	if (client_get(&cli->client, path, &reply, NULL) < 0)
		return;
	list = member ? json_get(reply, member) : reply;
	for (size_t i = 0; i < json_array_len(list); i++)
		offer_json(c, json_get_string(json_array_get(list, i), "Name"));
}

#define STOPPED \
	"/containers/json?all=1&filters=%7B%22status%22%3A%5B%22created%22%2C%22exited%22%5D%7D"

static void offer_objects(struct cli *cli, struct candidates *c, enum complete what, int position)
{
	switch (what) {
	case COMPLETE_CONTAINERS:
		offer_containers(cli, c, "/containers/json?all=1");
		break;
	case COMPLETE_RUNNING:
		offer_containers(cli, c, "/containers/json");
		break;
	case COMPLETE_STOPPED:
		offer_containers(cli, c, STOPPED);
		break;
	case COMPLETE_IMAGES:
		offer_images(cli, c);
		break;
	case COMPLETE_VOLUMES:
		offer_named(cli, c, "/volumes", "Volumes");
		break;
	case COMPLETE_NETWORK_CONTAINER:
		if (position) {
			offer_containers(cli, c, "/containers/json?all=1");
			break;
		}
		offer_named(cli, c, "/networks", NULL);
		break;
	case COMPLETE_NETWORKS:
		offer_named(cli, c, "/networks", NULL);
		break;
	case COMPLETE_CONTAINER_PATH:
		c->suffix = ":";
		offer_containers(cli, c, "/containers/json?all=1");
		break;
	default:
		break;
	}
}

/* How many positionals stand before the last word. */
static int positionals(int argc, char **argv)
{
	int n = 0;

	for (int i = 0; i + 1 < argc; i++)
		n += argv[i][0] != '-';
	return n;
}

/* The value of the option before the last word, when it names an object; false: it does not. */
static bool complete_value(struct cli *cli, struct candidates *c, const char *option)
{
	static const struct {
		const char *option;
		enum complete what;
	} values[] = {
		{ "--net", COMPLETE_NETWORKS },
		{ "--network", COMPLETE_NETWORKS },
		{ "--link", COMPLETE_CONTAINERS },
		{ "--volume", COMPLETE_VOLUMES },
		{ "--volumes-from", COMPLETE_CONTAINERS },
		{ "-v", COMPLETE_VOLUMES },
	};

	for (size_t i = 0; i < ARRAY_SIZE(values); i++)
		if (strcmp(option, values[i].option) == 0) {
			offer_objects(cli, c, values[i].what, 0);
			return true;
		}
	return false;
}

/* Global options before the command: those that say whom to ask count. Returns how many words. */
static int skip_global(struct cli *cli, int argc, char **argv)
{
	const char *host = NULL, *namespace = NULL;
	int n = 0;

	while (n + 1 < argc && argv[n][0] == '-') {
		bool is_host = strcmp(argv[n], "-H") == 0 || strcmp(argv[n], "--host") == 0;
		bool is_namespace = strcmp(argv[n], "--namespace") == 0;

		if (is_host || is_namespace) {
			if (n + 2 >= argc)
				break;
			*(is_host ? &host : &namespace) = argv[++n];
		}
		n++;
	}
	if (host || namespace) {
		client_done(&cli->client);
		client_init(&cli->client, host, namespace, NULL);
	}
	return n;
}

static void complete(struct cli *cli, struct candidates *c, int argc, char **argv)
{
	const struct command *cmd;
	int used = 1;
	int skipped = skip_global(cli, argc, argv);

	cli->client.autostart = false;
	argc -= skipped;
	argv += skipped;

	if (argc == 1) {
		offer_commands(c, NULL);
		if (*c->prefix == '-')
			offer_options(c, cli_global_options);
		return;
	}
	cmd = help_find_command(argv[0]);
	if (!cmd && help_is_group(argv[0])) {
		autofree char *path = xasprintf("%s %s", argv[0], argv[1]);

		if (argc == 2) {
			offer_commands(c, argv[0]);
			return;
		}
		cmd = help_find_command(path);
		used = 2;
	}
	if (!cmd)
		return;
	if (*c->prefix == '-') {
		offer_options(c, cmd->options);
		offer_options(c, cmd->more_options);
		return;
	}
	if (argc > used + 1 && complete_value(cli, c, argv[argc - 2]))
		return;
	if ((cmd->flags & COMMAND_STOP_AT_ARG) && positionals(argc - used, argv + used))
		return;
	offer_objects(cli, c, cmd->complete, positionals(argc - used, argv + used));
}

static int run_complete(struct cli *cli, int argc, char **argv, struct error *err)
{
	struct candidates c = { .prefix = argc ? argv[argc - 1] : "",
				.suffix = "",
				.out = BUF_INIT(API_DOCUMENT_MAX) };

	if (argc)
		complete(cli, &c, argc, argv);
	cli_write(c.out.data, c.out.len);
	buf_done(&c.out);
	return 0;
}

const struct command command_complete = {
	.paths = "__complete",
	.args = "[WORD...]",
	.summary = "Print candidates for the last word",
	.max_args = -1,
	.flags = COMMAND_HIDDEN | COMMAND_RAW_ARGS,
	.run = run_complete,
};
