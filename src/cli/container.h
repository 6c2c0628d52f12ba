#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/* Requests about one container that several commands make. */

#include "cli/cli.h"

/* GET /containers/{id}/json */
struct json *container_inspect(struct cli *cli, const char *name, struct error *err);
int container_start(struct cli *cli, const char *name, const char *detach_keys, struct error *err);
/* POST /containers/{id}/attach, hijacked; the reply's head is read. */
struct exchange *container_attach(struct cli *cli, const char *name, bool in, bool out, bool err_,
				  const char *detach_keys, struct error *err);
/* POST /containers/{id}/wait, registered when this returns. condition: "next-exit", "removed". */
struct exchange *container_wait(struct cli *cli, const char *name, const char *condition,
				struct error *err);
/* Reads the reply: the exit code. */
int container_wait_result(struct exchange *wait, int *ret_code, struct error *err);
/* The exit code that says why a container did not start: 125, 126, 127. */
int container_start_exit_code(const struct error *err);
