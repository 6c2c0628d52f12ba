#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starts kistld when nothing listens on its socket, and waits until it does. The daemon is looked
 * for beside this executable, in ../libexec, ../sbin, ../bin of it and in $PATH.
 */

#include "base/error.h"

/* Returns a connection to the socket at path. */
int autostart_daemon(const char *path, struct error *err);
