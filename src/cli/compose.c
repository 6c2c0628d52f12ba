/* SPDX-License-Identifier: Apache-2.0 */
/*
 * compose: the docker-compose that is installed, plug-in or program, takes this process over. It
 * finds the daemon by DOCKER_HOST; it is a client like any other.
 */
#include "cli/commands.h"

#include "base/fs.h"
#include "base/mem.h"
#include "base/process.h"

#include <stdlib.h>
#include <string.h>

static char *find_compose(void)
{
	static const char *const directories[] = { "/usr/local/lib/docker/cli-plugins",
						   "/usr/local/libexec/docker/cli-plugins",
						   "/usr/lib/docker/cli-plugins",
						   "/usr/libexec/docker/cli-plugins" };
	const char *config = getenv("DOCKER_CONFIG"), *home = getenv("HOME");
	autofree char *own = NULL;

	if (!str_empty(config))
		own = path_join(config, "cli-plugins/docker-compose", NULL);
	else if (!str_empty(home))
		own = path_join(home, ".docker/cli-plugins/docker-compose", NULL);
	if (own && access(own, X_OK) == 0)
		return TAKE_PTR(own);
	for (size_t i = 0; i < ARRAY_SIZE(directories); i++) {
		autofree char *path = path_join(directories[i], "docker-compose", NULL);

		if (access(path, X_OK) == 0)
			return TAKE_PTR(path);
	}
	return process_find("docker-compose", NULL);
}

static int run_compose(struct cli *cli, int argc, char **argv, struct error *err)
{
	autofree char *program = find_compose();
	autofree char *host = client_host(&cli->client);
	autofree char **args = xcalloc((size_t)argc + 2, sizeof(*args));

	if (!program)
		return error_set(err, ERROR_NOT_FOUND,
				 "docker-compose is not installed: its package, or a plug-in in "
				 "~/.docker/cli-plugins, has it");
	if (client_connect(&cli->client, err) < 0)
		return -1;
	args[0] = (char[]){ "docker-compose" };
	memcpy(args + 1, argv, (size_t)argc * sizeof(*args));
	setenv("DOCKER_HOST", host, 1);
	unsetenv("DOCKER_CONTEXT");
	unsetenv("DOCKER_TLS_VERIFY");
	execv(program, args);
	return error_errno(err, errno, "execute '%s'", program);
}

const struct command command_compose = {
	.paths = "compose",
	.args = "[ARG...]",
	.summary = "Define and run multi-container applications by the installed docker-compose",
	.max_args = -1,
	.flags = COMMAND_RAW_ARGS,
	.run = run_compose,
};
