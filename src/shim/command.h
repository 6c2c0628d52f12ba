#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kistl-shim's command line and subcommands, as the runtime-v2 shim protocol has them:
 *
 *	kistl-shim -namespace NS -id ID -address ADDR [-publish-binary B] [-bundle PATH] [-debug]
 *start kistl-shim ... -bundle PATH delete kistl-shim -info | -v
 *
 * and one of Kistl's own, so that the daemon needs a single exec: `serve`, with the listening
 *socket as descriptor 3, makes the process itself the shim.
 */

#include "base/error.h"

struct command {
	const char *ns, *id, *address, *bundle, *publish_binary;
	const char *sealed; /* serve: the OCI runtime whose sealed copy is descriptor 4 */
	const char *pods; /* serve: where pods' namespaces are pinned, which is not our business */
	bool debug, info, version;
	const char *action;
};

/* Flags take one dash or two, values in the next word or after '='. INVALID_ARGUMENT. */
int command_parse(struct command *c, int argc, char **argv, struct error *err);

/* Each returns the exit status of the program. */
int command_start(const struct command *c);
int command_delete(const struct command *c);
int command_info(void);
int command_serve(const struct command *c);

/* <directory of the address>/s/<sha256 of "address/ns/id">; malloc'ed. */
char *shim_socket_path(const char *address, const char *ns, const char *id);
/* The container's group, by the annotations in the bundle's config.json, or its id; malloc'ed. */
char *shim_group(const char *bundle, const char *id);
