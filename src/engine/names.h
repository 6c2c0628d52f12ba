#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/* Names of containers and volumes: what is allowed, and random ones. Any thread. */

#include "base/macros.h"

#define NAME_MAX_LEN 255

/* [a-zA-Z0-9][a-zA-Z0-9_.-]+ */
bool name_valid(const char *s);
/* "brave_lamarr"; from the second attempt on with a digit at the end. malloc'ed. */
char *name_random(unsigned attempt);
