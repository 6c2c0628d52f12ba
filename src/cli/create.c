/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/create.h"
#include "cli/commands.h"
#include "cli/pull.h"

#include "base/fs.h"
#include "base/mem.h"
#include "oci/reference.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

static int check_pull_option(const struct create_options *o, struct error *err)
{
	if (strcmp(o->pull, "always") == 0 || strcmp(o->pull, "missing") == 0 ||
	    strcmp(o->pull, "never") == 0 || !*o->pull)
		return 0;
	return error_set(err, ERROR_INVALID_ARGUMENT,
			 "invalid pull option: '%s': must be one of \"always\", \"missing\" or "
			 "\"never\"",
			 o->pull);
}

/* The reference with its default tag; an ID stays what it is. */
static char *normalise_image(const char *image, struct error *err)
{
	autoreference struct reference ref = REFERENCE_INIT;

	if (strlen(image) == 64 && strspn(image, "0123456789abcdef") == 64)
		return xstrdup(image);
	if (str_has_prefix(image, "sha256:"))
		return xstrdup(image);
	if (reference_parse(image, &ref, err) < 0)
		return NULL;
	reference_default_tag(&ref);
	return reference_familiar(&ref);
}

/* Made before the container, so that a bad path leaves nothing behind. Returns a descriptor. */
static int open_cidfile(const char *path, struct error *err)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

	if (fd >= 0)
		return fd;
	if (errno == EEXIST)
		return error_set(err, ERROR_ALREADY_EXISTS,
				 "container ID file found, make sure the other container isn't "
				 "running or delete %s",
				 path);
	return error_errno(err, errno, "failed to create the container ID file '%s'", path);
}

static void print_warnings(const struct json *reply)
{
	const struct json *warnings = json_get(reply, "Warnings");

	for (size_t i = 0; i < json_array_len(warnings); i++)
		fprintf(stderr, "WARNING: %s\n", json_string(json_array_get(warnings, i)));
}

static int post_create(struct cli *cli, const struct create_options *o, const struct json *body,
		       char **ret_id, struct error *err)
{
	autobuf struct buf url = BUF_INIT(BUF_NO_LIMIT);
	autojson struct json *reply = NULL;
	const char *id;

	buf_puts(&url, "/containers/create");
	url_query(&url, "name", str_empty(o->name) ? NULL : o->name);
	url_query(&url, "platform", str_empty(o->platform) ? NULL : o->platform);
	if (client_call(&cli->client, "POST", url.data, body, &reply, err) < 0)
		return -1;
	print_warnings(reply);
	id = json_get_string(reply, "Id");
	if (str_empty(id))
		return error_set(err, ERROR_INTERNAL, "the daemon gave no container ID");
	*ret_id = xstrdup(id);
	return 0;
}

static int create_or_pull(struct cli *cli, const struct create_options *o, const char *image,
			  const struct json *body, char **ret_id, struct error *err)
{
	autoerror struct error why = ERROR_INIT;

	if (strcmp(o->pull, "always") == 0 &&
	    pull_image(cli, image, o->platform, /* all= */ false, o->quiet, STDERR_FILENO, err) < 0)
		return -1;
	if (post_create(cli, o, body, ret_id, &why) == 0)
		return 0;
	/* Other things may be missing, too: a network, a container to join. */
	if (why.code != ERROR_NOT_FOUND || !strstr(error_msg(&why), "No such image") ||
	    strcmp(o->pull, "missing") != 0)
		return error_move(err, &why);
	if (!o->quiet)
		fprintf(stderr, "Unable to find image '%s' locally\n", image);
	if (pull_image(cli, image, o->platform, /* all= */ false, o->quiet, STDERR_FILENO, err) < 0)
		return -1;
	return post_create(cli, o, body, ret_id, err);
}

int create_container(struct cli *cli, const struct create_options *o, int argc, char **argv,
		     char **ret_id, struct error *err)
{
	autojson struct json *body = NULL;
	autofree char *image = NULL;
	autofree char *id = NULL;
	autoclose int cidfile = -EBADF;

	cli->exit_code = 125;
	body = check_pull_option(o, err) < 0 ? NULL : create_config(o, argc, argv, err);
	if (!body)
		return -1;
	image = normalise_image(argv[0], err);
	if (!image)
		return -1;
	if (!str_empty(o->cidfile)) {
		cidfile = open_cidfile(o->cidfile, err);
		if (cidfile < 0)
			return -1;
	}
	cli->exit_code = cli->command->flags & COMMAND_PREFIX ? 125 : 1;
	if (create_or_pull(cli, o, image, body, &id, err) < 0) {
		if (cidfile >= 0)
			unlink(o->cidfile);
		return -1;
	}
	if (cidfile >= 0)
		fs_write_all(cidfile, id, strlen(id));
	*ret_id = TAKE_PTR(id);
	return 0;
}

static int run_create(struct cli *cli, int argc, char **argv, struct error *err)
{
	autofree char *id = NULL;

	if (create_container(cli, &create_options, argc, argv, &id, err) < 0)
		return -1;
	cli_print("%s\n", id);
	return 0;
}

const struct command command_create = {
	.paths = "container create|create",
	.args = "[OPTIONS] IMAGE [COMMAND] [ARG...]",
	.summary = "Create a new container",
	.min_args = 1,
	.max_args = -1,
	.flags = COMMAND_STOP_AT_ARG,
	.complete = COMPLETE_IMAGES,
	.more_options = create_option_table,
	.run = run_create,
};
