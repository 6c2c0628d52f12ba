#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/* Service managers: sd_notify(3) and sd_listen_fds(3) without libsystemd. Main thread. */

#include "base/error.h"

/* "READY=1"; without a $NOTIFY_SOCKET (seen by notify_listen_fds()) nothing happens. */
void notify_send(const char *state);
/* Takes the listening sockets out of $LISTEN_FDS; returns how many, ret_fds has room for max. The
 * variables, $NOTIFY_SOCKET too, are gone afterwards, whatever they said. INVALID_ARGUMENT: not
 * listening stream sockets. */
int notify_listen_fds(int *ret_fds, int max, struct error *err);
