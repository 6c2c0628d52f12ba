#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A sealed copy of a program in memory, to be executed by its descriptor.
 *
 * crun and runc must not run from a file that a container could write to (CVE-2019-5736): at each
 * start they make a protected copy of themselves and execute that. They accept a copy that is
 * sealed already. One copy, made once, saves the second exec of every call. Any thread.
 */

#include "base/error.h"

/* Whether this program is known to look for such a copy; by its name. */
bool program_wants_seal(const char *path);
/* A descriptor (close-on-exec) of a copy with all seals. FAILED_PRECONDITION: not a program that
 * can be executed so, a script for example. */
int program_seal(const char *path, struct error *err);
