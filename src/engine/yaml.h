#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The part of YAML that programs write for CDI: one document of block mappings and sequences,
 * scalars (plain or quoted, on one line), flow collections of scalars. No anchors, tags, block
 * scalars. Sans-IO. Any thread.
 */

#include "base/json.h"

#define YAML_MAX (4 << 20)

/* INVALID_ARGUMENT with the line's number. */
struct json *yaml_parse(const char *text, size_t len, struct error *err);
