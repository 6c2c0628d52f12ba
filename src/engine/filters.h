#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/* Compiled seccomp filters, kept from one start to the next. Any thread. */

#include "base/json.h"

struct filters;

struct filters *filters_new(void);
void filters_free(struct filters *f); /* NULL is fine */
/* Gives the spec the filter that its profile was compiled to. When there is none yet, returns the
 * key by which filters_learn() keeps it (malloc'ed), else NULL. runtime: path of the binary. */
char *filters_apply(struct filters *f, const char *runtime, struct json *spec);
/* After the runtime's create and before its start: nothing of the container has run. key NULL is
 * fine; a filter that cannot be had is compiled again next time. */
void filters_learn(struct filters *f, const char *key, const char *bundle, const char *id);
