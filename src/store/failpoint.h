#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fault injection for tests. KISTL_FAILPOINT="NAME=ACTION[,NAME=ACTION...]" in the environment when
 * the store is opened makes the named points act: "exit" ends the process at once (as a crash
 * would), "enospc" and "eio" fail there. Without the variable a point costs one load.
 */

#include "base/error.h"

/* Reads the environment again. Not thread-safe against failpoint(). */
void failpoint_setup(void);
/* 0, or -1 with err set. */
int failpoint(const char *name, struct error *err);
