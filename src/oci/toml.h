#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TOML 1.0 to a JSON tree (tables keep file order; dates become strings). Sans-IO, bounded depth
 * and size. Errors name line and column.
 */

#include "base/json.h"

struct json *toml_parse(const char *text, size_t len, size_t max, struct error *err);
