/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/commands.h"
#include "cli/inspect.h"

#include "base/mem.h"

static struct {
	bool client;
	const char *format;
} opts;

static const struct option options[] = {
	{ OPTION_BOOL, 0, "client", &opts.client, "Show only the client's version" },
	{ OPTION_STRING, 'f', "format", &opts.format, OPTION_HELP_FORMAT_ONE },
	{ OPTION_END },
};

static const char *architecture(void)
{
#if defined(__x86_64__)
	return "amd64";
#elif defined(__aarch64__)
	return "arm64";
#elif defined(__riscv)
	return "riscv64";
#elif defined(__s390x__)
	return "s390x";
#elif defined(__powerpc64__)
	return "ppc64le";
#elif defined(__arm__)
	return "arm";
#else
	return "386";
#endif
}

static struct json *client_part(const struct cli *cli)
{
	struct json *j = json_new_object();

	json_set_string(j, "Version", KISTL_VERSION);
	json_set_string(j, "ApiVersion",
			cli->client.version ? cli->client.version : API_VERSION_MAX);
	json_set_string(j, "DefaultAPIVersion", API_VERSION_MAX);
	json_set_string(j, "Os", "linux");
	json_set_string(j, "Arch", architecture());
	return j;
}

static const char *text(const struct json *j, const char *key)
{
	const char *s = json_get_string(j, key);

	return s ? s : "";
}

static int print_detail(const char *key, struct json *value, void *arg)
{
	const char *s = json_string(value);

	cli_print("  %-17s %s\n", key, s ? s : "");
	return 0;
}

static void print_server(const struct json *server)
{
	const struct json *components = json_get(server, "Components");
	const char *platform = text(json_get(server, "Platform"), "Name");

	cli_print("\nServer: %s\n", *platform ? platform : "Kistl");
	cli_print(" Version:           %s\n API version:       %s (minimum version %s)\n"
		  " Git commit:        %s\n OS/Arch:           %s/%s\n Kernel version:    %s\n",
		  text(server, "Version"), text(server, "ApiVersion"),
		  text(server, "MinAPIVersion"), text(server, "GitCommit"), text(server, "Os"),
		  text(server, "Arch"), text(server, "KernelVersion"));
	for (size_t i = 0; i < json_array_len(components); i++) {
		const struct json *c = json_array_get(components, i);

		cli_print(" %s:\n  %-17s %s\n", text(c, "Name"), "Version", text(c, "Version"));
		json_object_each(json_get(c, "Details"), print_detail, NULL);
	}
}

static int run_version(struct cli *cli, int argc, char **argv, struct error *err)
{
	autojson struct json *all = json_new_object();
	autoerror struct error why = ERROR_INIT;
	struct json *client, *server = NULL;

	if (!opts.client && client_get(&cli->client, "/version", &server, &why) < 0)
		server = NULL;
	client = client_part(cli);
	json_set(all, "Client", client);
	if (server)
		json_set(all, "Server", server);
	if (!str_empty(opts.format)) {
		if (why.code)
			return error_move(err, &why);
		return inspect_print(all, opts.format, err);
	}
	cli_print("Client:\n Version:           %s\n API version:       %s\n"
		  " OS/Arch:           %s/%s\n",
		  text(client, "Version"), text(client, "ApiVersion"), text(client, "Os"),
		  text(client, "Arch"));
	if (why.code)
		return error_move(err, &why);
	if (server)
		print_server(server);
	return 0;
}

const struct command command_version = {
	.paths = "version",
	.args = "[OPTIONS]",
	.summary = "Show the Kistl version information",
	.flags = COMMAND_COMMON,
	.options = options,
	.run = run_version,
};
