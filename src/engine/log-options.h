#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Log drivers and their options, in Docker's words. The shim writes every log: json-file and local
 * as files, journald and syslog to their sockets and to a file beside, which `logs` reads. Any
 * thread.
 */

#include "engine/config.h"

/* Driver ("" is the default one) and options, by name and value. */
int log_options_check(const char *driver, const struct kvs *options, struct error *err);
bool log_driver_known(const char *driver);

struct log_subject {
	const char *id, *name, *dir, *default_driver;
	const struct container_config *config;
};

/* The shim's URI for a container's output. UNAVAILABLE: a syslog server whose name is not known. */
int log_uri(const struct log_subject *s, char **ret, struct error *err);
