#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon's configuration: containerd's config.toml (versions 2 and 3, the keys that apply) and
 * a table [kistl] of our own, then the command line, then defaults. kistld.conf(5) lists the keys.
 */

#include "base/error.h"
#include "base/map.h"
#include "base/strv.h"

struct config_runtime {
	char *name;
	char *path;
};

struct config {
	char *root, *state, *socket;
	char *log_level, *log_format;
	char *group; /* of the socket */
	char *snapshotter;
	char *default_runtime;
	struct {
		struct config_runtime *v;
		size_t n;
	} runtimes;
	struct strv hosts_dirs;
	struct strv insecure_registries;
	char *log_driver;
	struct kvs log_options;
	struct strv dns;
	char *shim, *worker, *init; /* paths of our other programs */
	char *bridge, *subnet;
	int64_t max_downloads;
	int64_t stall_timeout; /* ns without a byte until a download is retried; 0: 60 s */
	int64_t idle_exit;     /* seconds; 0: stays */
	struct strv unknown;   /* keys of the file that mean nothing here */
};

#define CONFIG_MAX (1 << 20) /* bytes of the file */

void config_done(struct config *c);
/* What the text says goes over what *c has. Errors name the key. */
int config_parse(struct config *c, const char *text, size_t len, struct error *err);
/* path NULL: the default one, which may be absent. */
int config_load(struct config *c, const char *path, struct error *err);
/* Fills what nobody has set. Rootless when euid is not 0. */
int config_defaults(struct config *c, struct error *err);
/* The path that a runtime's name stands for; NULL: unknown. */
const char *config_runtime_path(const struct config *c, const char *name);

#define autoconfig CLEANUP(config_done)
