/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/inspect.h"
#include "cli/commands.h"
#include "cli/format.h"
#include "cli/template.h"

#include "base/mem.h"

#include <string.h>

static struct {
	const char *format, *type;
	bool size, verbose;
} opts;

static void print_indented(const struct json *j)
{
	autofree char *text = json_format(j, /* pretty= */ false);
	autobuf struct buf b = BUF_INIT(BUF_NO_LIMIT);

	format_indent(text, &b);
	cli_write(b.data, b.len);
}

int inspect_print(const struct json *j, const char *format, struct error *err)
{
	autotemplate struct template *t = NULL;
	autobuf struct buf out = BUF_INIT(TEMPLATE_OUTPUT_MAX);

	t = template_parse(strcmp(format, "json") == 0 ? "{{json .}}" : format, err);
	if (!t || template_execute(t, j, NULL, &out, err) < 0)
		return -1;
	buf_putc(&out, '\n');
	cli_write(out.data, out.len);
	return 0;
}

int inspect_all(struct cli *cli, int argc, char **argv, const char *format, inspect_fetch_fn *fetch,
		struct error *err)
{
	autojson struct json *all = json_new_array();
	int code = 0;

	for (int i = 0; i < argc; i++) {
		autoerror struct error why = ERROR_INIT;
		struct json *j = fetch(cli, argv[i], &why);

		if (!j) {
			cli_report(&why);
			code = 1;
			continue;
		}
		json_add(all, j);
		if (!str_empty(format) && inspect_print(j, format, err) < 0)
			return -1;
	}
	if (str_empty(format))
		print_indented(all);
	return code;
}

static struct json *fetch_path(struct cli *cli, const char *fmt, const char *name,
			       struct error *err)
{
	autofree char *path = url_format(fmt, name);
	autobuf struct buf url = BUF_INIT(BUF_NO_LIMIT);
	struct json *j = NULL;

	buf_puts(&url, path);
	if (opts.size && str_has_prefix(fmt, "/containers"))
		url_query(&url, "size", "1");
	if (opts.verbose && str_has_prefix(fmt, "/networks"))
		url_query(&url, "verbose", "true");
	if (client_get(&cli->client, url.data, &j, err) < 0)
		return NULL;
	if (!j)
		error_set(err, ERROR_INTERNAL, "empty reply from daemon");
	return j;
}

static const struct {
	const char *type;
	const char *path;
} kinds[] = {
	{ "container", "/containers/{}/json" },
	{ "image", "/images/{}/json" },
	{ "network", "/networks/{}" },
	{ "volume", "/volumes/{}" },
};

static struct json *fetch_of_type(struct cli *cli, const char *type, const char *name,
				  struct error *err)
{
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (strcmp(kinds[i].type, type) == 0)
			return fetch_path(cli, kinds[i].path, name, err);
	error_set(err, ERROR_INVALID_ARGUMENT, "unknown type: \"%s\"", type);
	return NULL;
}

static struct json *fetch_container(struct cli *cli, const char *name, struct error *err)
{
	return fetch_of_type(cli, "container", name, err);
}

static struct json *fetch_image(struct cli *cli, const char *name, struct error *err)
{
	return fetch_of_type(cli, "image", name, err);
}

static struct json *fetch_network(struct cli *cli, const char *name, struct error *err)
{
	return fetch_of_type(cli, "network", name, err);
}

static struct json *fetch_volume(struct cli *cli, const char *name, struct error *err)
{
	return fetch_of_type(cli, "volume", name, err);
}

/* Whatever has that name, in Docker's order. */
static struct json *fetch_any(struct cli *cli, const char *name, struct error *err)
{
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		autoerror struct error why = ERROR_INIT;
		struct json *j;

		if (!str_empty(opts.type) && strcmp(opts.type, kinds[i].type) != 0)
			continue;
		j = fetch_path(cli, kinds[i].path, name, &why);
		if (j)
			return j;
		/* A name that cannot be an image's is still no object of any other kind. */
		if (!str_empty(opts.type) ||
		    (why.code != ERROR_NOT_FOUND && why.code != ERROR_INVALID_ARGUMENT)) {
			error_move(err, &why);
			return NULL;
		}
	}
	error_set(err, ERROR_NOT_FOUND, "Error: No such object: %s", name);
	return NULL;
}

static int run_inspect(struct cli *cli, int argc, char **argv, struct error *err)
{
	bool known = str_empty(opts.type);

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		known |= str_equal(opts.type, kinds[i].type);
	if (!known)
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "unknown type: \"%s\": must be one of \"container\", \"image\", "
				 "\"network\", \"volume\"",
				 opts.type);
	return inspect_all(cli, argc, argv, opts.format, fetch_any, err);
}

#define DEFINE_INSPECT(kind)                                                             \
	static int run_##kind(struct cli *cli, int argc, char **argv, struct error *err) \
	{                                                                                \
		return inspect_all(cli, argc, argv, opts.format, fetch_##kind, err);     \
	}
DEFINE_INSPECT(container)
DEFINE_INSPECT(image)
DEFINE_INSPECT(network)
DEFINE_INSPECT(volume)

#define FORMAT_OPTION                                                              \
	{                                                                          \
		OPTION_STRING, 'f', "format", &opts.format, OPTION_HELP_FORMAT_ONE \
	}

static const struct option any_options[] = {
	FORMAT_OPTION,
	{ OPTION_BOOL, 's', "size", &opts.size,
	  "Display total file sizes if the type is container" },
	{ OPTION_STRING, 0, "type", &opts.type, "Only inspect objects of the given type" },
	{ OPTION_END },
};

static const struct option container_options[] = {
	FORMAT_OPTION,
	{ OPTION_BOOL, 's', "size", &opts.size, "Display total file sizes" },
	{ OPTION_END },
};

static const struct option network_options[] = {
	FORMAT_OPTION,
	{ OPTION_BOOL, 'v', "verbose", &opts.verbose, "Verbose output for diagnostics" },
	{ OPTION_END },
};

static const struct option plain_options[] = {
	FORMAT_OPTION,
	{ OPTION_END },
};

const struct command command_inspect = {
	.paths = "inspect",
	.args = "[OPTIONS] NAME|ID [NAME|ID...]",
	.summary = "Return low-level information on Kistl's objects",
	.min_args = 1,
	.max_args = -1,
	.complete = COMPLETE_CONTAINERS,
	.options = any_options,
	.run = run_inspect,
};

const struct command command_container_inspect = {
	.paths = "container inspect",
	.args = "[OPTIONS] CONTAINER [CONTAINER...]",
	.summary = "Display detailed information on one or more containers",
	.min_args = 1,
	.max_args = -1,
	.complete = COMPLETE_CONTAINERS,
	.options = container_options,
	.run = run_container,
};

const struct command command_image_inspect = {
	.paths = "image inspect",
	.args = "[OPTIONS] IMAGE [IMAGE...]",
	.summary = "Display detailed information on one or more images",
	.min_args = 1,
	.max_args = -1,
	.complete = COMPLETE_IMAGES,
	.options = plain_options,
	.run = run_image,
};

const struct command command_network_inspect = {
	.paths = "network inspect",
	.args = "[OPTIONS] NETWORK [NETWORK...]",
	.summary = "Display detailed information on one or more networks",
	.min_args = 1,
	.max_args = -1,
	.complete = COMPLETE_NETWORKS,
	.options = network_options,
	.run = run_network,
};

const struct command command_volume_inspect = {
	.paths = "volume inspect",
	.args = "[OPTIONS] VOLUME [VOLUME...]",
	.summary = "Display detailed information on one or more volumes",
	.min_args = 1,
	.max_args = -1,
	.complete = COMPLETE_VOLUMES,
	.options = plain_options,
	.run = run_volume,
};
