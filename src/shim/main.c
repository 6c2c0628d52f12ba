/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"
#include "base/mem.h"
#include "shim/command.h"

#include <stdio.h>

static const struct {
	const char *name;
	int (*run)(const struct command *c);
} actions[] = {
	{ "start", command_start },
	{ "delete", command_delete },
	{ "serve", command_serve },
};

int main(int argc, char **argv)
{
	autoerror struct error err = ERROR_INIT;
	struct command c;

	log_setup("kistl-shim", LOG_INFO, LOG_FORMAT_AUTO);
	/* Whose daemon has not taken its own away: `crun start` would wait for the container's
	 * word. */
	unsetenv("NOTIFY_SOCKET");
	if (command_parse(&c, argc, argv, &err) < 0) {
		fprintf(stderr, "kistl-shim: %s\n", error_msg(&err));
		return 1;
	}
	if (c.version) {
		printf("kistl-shim:\n  Version:  %s\n", KISTL_VERSION);
		return 0;
	}
	if (c.info)
		return command_info();
	for (size_t i = 0; i < ARRAY_SIZE(actions); i++)
		if (str_equal(actions[i].name, c.action))
			return actions[i].run(&c);
	fprintf(stderr, "kistl-shim: no such action '%s' (start, delete, serve)\n", c.action);
	return 1;
}
