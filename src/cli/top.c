/* SPDX-License-Identifier: Apache-2.0 */
/* top and port. */
#include "cli/commands.h"
#include "cli/container.h"
#include "cli/format.h"

#include "base/mem.h"

#include <string.h>

static void add_line(struct buf *b, const struct json *cells)
{
	for (size_t i = 0; i < json_array_len(cells); i++) {
		const char *s = json_string(json_array_get(cells, i));

		buf_printf(b, "%s%s", i ? "\t" : "", s ? s : "");
	}
	buf_putc(b, '\n');
}

static int run_top(struct cli *cli, int argc, char **argv, struct error *err)
{
	autofree char *path = url_format("/containers/{}/top", argv[0]);
	autobuf struct buf url = BUF_INIT(BUF_NO_LIMIT);
	autobuf struct buf args = BUF_INIT(BUF_NO_LIMIT);
	autobuf struct buf lines = BUF_INIT(API_DOCUMENT_MAX);
	autobuf struct buf out = BUF_INIT(BUF_NO_LIMIT);
	autojson struct json *reply = NULL;
	const struct json *processes;

	for (int i = 1; i < argc; i++)
		buf_printf(&args, "%s%s", i > 1 ? " " : "", argv[i]);
	buf_puts(&url, path);
	url_query(&url, "ps_args", args.len ? args.data : NULL);
	if (client_get(&cli->client, url.data, &reply, err) < 0)
		return -1;
	add_line(&lines, json_get(reply, "Titles"));
	processes = json_get(reply, "Processes");
	for (size_t i = 0; i < json_array_len(processes); i++)
		add_line(&lines, json_array_get(processes, i));
	format_table_min(lines.data, 20, &out);
	cli_write(out.data, out.len);
	return 0;
}

static void print_binding(const char *prefix, const struct json *binding)
{
	const char *ip = json_get_string(binding, "HostIp");
	const char *port = json_get_string(binding, "HostPort");
	bool v6 = ip && strchr(ip, ':');

	cli_print("%s%s%s%s:%s\n", prefix, v6 ? "[" : "", ip ? ip : "", v6 ? "]" : "",
		  port ? port : "");
}

static void print_bindings(const struct json *bindings, const char *prefix)
{
	for (size_t i = 0; i < json_array_len(bindings); i++)
		print_binding(prefix, json_array_get(bindings, i));
}

static int print_port(const char *key, struct json *bindings, void *arg)
{
	autofree char *prefix = xasprintf("%s -> ", key);

	print_bindings(bindings, prefix);
	return 0;
}

static int run_port(struct cli *cli, int argc, char **argv, struct error *err)
{
	autojson struct json *info = container_inspect(cli, argv[0], err);
	const struct json *ports = json_get(json_get(info, "NetworkSettings"), "Ports");
	autofree char *key = NULL;

	if (!info)
		return -1;
	if (argc == 1) {
		json_object_each(ports, print_port, NULL);
		return 0;
	}
	key = strchr(argv[1], '/') ? xstrdup(argv[1]) : xasprintf("%s/tcp", argv[1]);
	if (!json_array_len(json_get(ports, key)))
		return error_set(err, ERROR_NOT_FOUND,
				 "Error: No public port '%s' published for %s", key, argv[0]);
	print_bindings(json_get(ports, key), "");
	return 0;
}

const struct command command_top = {
	.paths = "container top|top",
	.args = "CONTAINER [ps OPTIONS]",
	.summary = "Display the running processes of a container",
	.min_args = 1,
	.max_args = -1,
	.flags = COMMAND_STOP_AT_ARG,
	.complete = COMPLETE_RUNNING,
	.run = run_top,
};

const struct command command_port = {
	.paths = "container port|port",
	.args = "CONTAINER [PRIVATE_PORT[/PROTO]]",
	.summary = "List port mappings or a specific mapping for the container",
	.min_args = 1,
	.max_args = 2,
	.complete = COMPLETE_RUNNING,
	.run = run_port,
};
