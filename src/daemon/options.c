/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/options.h"

#include "base/buf.h"
#include "base/mem.h"
#include "base/parse.h"

#include <string.h>

enum option_type { OPTION_STRING, OPTION_SECONDS, OPTION_FLAG };

struct option_def {
	const char *name, *arg, *help;
	enum option_type type;
	size_t offset;
};

#define AT(member) offsetof(struct options, member)

static const struct option_def defs[] = {
	{ "config", "FILE", "configuration (default /etc/kistl/config.toml)", OPTION_STRING,
	  AT(config_path) },
	{ "root", "DIR", "what lasts: images, containers, volumes (/var/lib/kistl)", OPTION_STRING,
	  AT(config.root) },
	{ "state", "DIR", "what runs (/run/kistl)", OPTION_STRING, AT(config.state) },
	{ "socket", "PATH", "where to listen (STATE/kistl.sock)", OPTION_STRING,
	  AT(config.socket) },
	{ "snapshotter", "NAME", "overlayfs or native (what the file system can)", OPTION_STRING,
	  AT(config.snapshotter) },
	{ "runtime", "NAME", "default OCI runtime (crun)", OPTION_STRING,
	  AT(config.default_runtime) },
	{ "idle-exit", "SECONDS", "leave when nothing has needed the daemon for so long",
	  OPTION_SECONDS, AT(config.idle_exit) },
	{ "log-level", "LEVEL", "error, warn, info or debug (info)", OPTION_STRING,
	  AT(config.log_level) },
	{ "log-format", "FORMAT", "text or json (text)", OPTION_STRING, AT(config.log_format) },
	{ "version", NULL, "print the version", OPTION_FLAG, AT(version) },
	{ "help", NULL, "print this", OPTION_FLAG, AT(help) },
};

void options_done(struct options *o)
{
	config_done(&o->config);
	free(TAKE_PTR(o->config_path));
}

static const struct option_def *find(const char *name, size_t len)
{
	for (size_t i = 0; i < ARRAY_SIZE(defs); i++) {
		if (strlen(defs[i].name) == len && memcmp(defs[i].name, name, len) == 0)
			return &defs[i];
	}
	return NULL;
}

static int set(struct options *o, const struct option_def *d, const char *value, struct error *err)
{
	void *member = (char *)o + d->offset;

	switch (d->type) {
	case OPTION_STRING:
		if (!*value)
			return error_set(err, ERROR_INVALID_ARGUMENT, "empty value for '--%s'",
					 d->name);
		str_replace(member, value);
		return 0;
	case OPTION_SECONDS:
		if (parse_int64(value, member) < 0 || *(int64_t *)member < 0)
			return error_set(err, ERROR_INVALID_ARGUMENT, "bad value '%s' for '--%s'",
					 value, d->name);
		return 0;
	case OPTION_FLAG:
		*(bool *)member = true;
		return 0;
	}
	return -1;
}

int options_parse(int argc, const char *const *argv, struct options *ret, struct error *err)
{
	for (int i = 1; i < argc; i++) {
		const char *arg = argv[i];
		const struct option_def *d = NULL;
		size_t len = 0;

		if (str_has_prefix(arg, "--")) {
			arg += 2;
			len = strcspn(arg, "=");
			d = find(arg, len);
		} else if (strcmp(arg, "-h") == 0 || strcmp(arg, "-v") == 0) {
			d = arg[1] == 'h' ? find("help", 4) : find("version", 7);
			len = 2;
		} else if (arg[0] != '-') {
			return error_set(err, ERROR_INVALID_ARGUMENT, "unexpected argument '%s'",
					 arg);
		}
		if (!d)
			return error_set(err, ERROR_INVALID_ARGUMENT, "unknown option '%s'",
					 argv[i]);
		const char *value = arg[len] == '=' ? arg + len + 1 : NULL;
		if (d->type == OPTION_FLAG && value)
			return error_set(err, ERROR_INVALID_ARGUMENT, "'--%s' takes no value",
					 d->name);
		if (d->type != OPTION_FLAG && !value && !(value = argv[++i]))
			return error_set(err, ERROR_INVALID_ARGUMENT, "'--%s' needs a value",
					 d->name);
		if (set(ret, d, value, err) < 0)
			return -1;
	}
	return 0;
}

void options_apply(const struct options *o, struct config *c)
{
	for (size_t i = 0; i < ARRAY_SIZE(defs); i++) {
		/* Only members of o->config, which have the same place in both. */
		if (defs[i].offset >= AT(config) + sizeof(struct config))
			continue;
		const void *from = (const char *)o + defs[i].offset;
		void *to = (char *)c + (defs[i].offset - AT(config));

		if (defs[i].type == OPTION_STRING && *(char *const *)from)
			str_replace(to, *(char *const *)from);
		else if (defs[i].type == OPTION_SECONDS && *(const int64_t *)from >= 0)
			*(int64_t *)to = *(const int64_t *)from;
	}
}

char *options_help(void)
{
	struct buf b = BUF_INIT(8192);

	buf_puts(&b, "Usage: kistld [OPTION...]\n\nThe daemon of Kistl.\n\n");
	for (size_t i = 0; i < ARRAY_SIZE(defs); i++) {
		autofree char *name =
			xasprintf("--%s %s", defs[i].name, defs[i].arg ? defs[i].arg : "");

		buf_printf(&b, "  %-22s %s\n", name, defs[i].help);
	}
	return buf_steal(&b, NULL);
}
