/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/commands.h"
#include "cli/format.h"
#include "cli/inspect.h"

#include "base/mem.h"

#include <string.h>

static struct {
	const char *format;
} opts;

enum kind { TEXT, NUMBER, BYTES, FLAG, KEYS, LIST };

/* The lines of `info`, in order; a member that is absent has no line. */
static const struct line {
	const char *label;
	const char *member;
	enum kind kind;
} lines[] = {
	{ "Containers", "Containers", NUMBER },
	{ " Running", "ContainersRunning", NUMBER },
	{ " Paused", "ContainersPaused", NUMBER },
	{ " Stopped", "ContainersStopped", NUMBER },
	{ "Images", "Images", NUMBER },
	{ "Server Version", "ServerVersion", TEXT },
	{ "Storage Driver", "Driver", TEXT },
	{ "Logging Driver", "LoggingDriver", TEXT },
	{ "Cgroup Driver", "CgroupDriver", TEXT },
	{ "Cgroup Version", "CgroupVersion", TEXT },
	{ "Runtimes", "Runtimes", KEYS },
	{ "Default Runtime", "DefaultRuntime", TEXT },
	{ "Init Binary", "InitBinary", TEXT },
	{ "Security Options", "SecurityOptions", LIST },
	{ "Kernel Version", "KernelVersion", TEXT },
	{ "Operating System", "OperatingSystem", TEXT },
	{ "OSType", "OSType", TEXT },
	{ "Architecture", "Architecture", TEXT },
	{ "CPUs", "NCPU", NUMBER },
	{ "Total Memory", "MemTotal", BYTES },
	{ "Name", "Name", TEXT },
	{ "ID", "ID", TEXT },
	{ "Kistl Root Dir", "DockerRootDir", TEXT },
	{ "Debug Mode", "Debug", FLAG },
	{ "Live Restore Enabled", "LiveRestoreEnabled", FLAG },
};

static int join_key(const char *key, struct json *value, void *arg)
{
	struct buf *b = arg;

	buf_printf(b, " %s", key);
	return 0;
}

static void print_list(const struct json *list, struct buf *out)
{
	for (size_t i = 0; i < json_array_len(list); i++) {
		const char *s = json_string(json_array_get(list, i));

		buf_printf(out, "\n  %s", s ? s + (str_has_prefix(s, "name=") ? 5 : 0) : "");
	}
}

static void print_line(const struct json *info, const struct line *l, struct buf *out)
{
	const struct json *v = json_get(info, l->member);
	autofree char *bytes = NULL;

	if (!v || (l->kind == TEXT && str_empty(json_string(v))))
		return;
	buf_printf(out, " %s:", l->label);
	switch (l->kind) {
	case TEXT:
		buf_printf(out, " %s", json_string(v));
		break;
	case NUMBER:
		buf_printf(out, " %lld", (long long)json_int(v, 0));
		break;
	case BYTES:
		bytes = human_bytes((double)json_int(v, 0));
		buf_printf(out, " %s", bytes);
		break;
	case FLAG:
		buf_puts(out, json_bool(v, false) ? " true" : " false");
		break;
	case KEYS:
		json_object_each(v, join_key, out);
		break;
	case LIST:
		print_list(v, out);
		break;
	}
	buf_putc(out, '\n');
}

static int run_info(struct cli *cli, int argc, char **argv, struct error *err)
{
	autojson struct json *info = NULL;
	autobuf struct buf out = BUF_INIT(BUF_NO_LIMIT);
	const struct json *warnings;

	if (client_get(&cli->client, "/info", &info, err) < 0)
		return -1;
	if (!str_empty(opts.format))
		return inspect_print(info, opts.format, err);
	buf_printf(&out, "Client:\n Version:    %s\n Debug Mode: %s\n\nServer:\n", KISTL_VERSION,
		   cli->debug ? "true" : "false");
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++)
		print_line(info, &lines[i], &out);
	warnings = json_get(info, "Warnings");
	for (size_t i = 0; i < json_array_len(warnings); i++)
		buf_printf(&out, "%s\n", json_string(json_array_get(warnings, i)));
	cli_write(out.data, out.len);
	return 0;
}

static const struct option options[] = {
	{ OPTION_STRING, 'f', "format", &opts.format, OPTION_HELP_FORMAT_ONE },
	{ OPTION_END },
};

const struct command command_info = {
	.paths = "system info|info",
	.args = "[OPTIONS]",
	.summary = "Display system-wide information",
	.flags = COMMAND_COMMON,
	.options = options,
	.run = run_info,
};
