#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The Dockerfile instructions that `docker commit --change` and `docker import --change` take,
 * applied to an image's configuration (Docker's "Config" object). Sans-IO. Any thread.
 */

#include "base/error.h"
#include "base/json.h"

#define CHANGE_MAX (64 << 10) /* bytes of one text */

/* One text of one or more instructions. INVALID_ARGUMENT in Docker's words. */
int change_apply(struct json *config, const char *text, struct error *err);
