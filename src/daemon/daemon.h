#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/* The running daemon. */

#include "daemon/options.h"

/* Serves until a signal, or until it has been idle for long enough. */
int daemon_run(const struct options *options, const struct config *config, struct error *err);
/* Sets the log's level from the configuration. INVALID_ARGUMENT for unknown words. */
int daemon_log_level(const struct config *config, int *ret, struct error *err);
