/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/command.h"

#include "base/fs.h"
#include "base/json.h"
#include "base/mem.h"
#include "shim/sha256.h"

#include <fcntl.h>
#include <string.h>

#define CONFIG_MAX ((size_t)16 << 20)

static const struct {
	const char *name;
	bool is_bool;
	size_t offset;
} flags[] = {
	{ "namespace", false, offsetof(struct command, ns) },
	{ "id", false, offsetof(struct command, id) },
	{ "address", false, offsetof(struct command, address) },
	{ "bundle", false, offsetof(struct command, bundle) },
	{ "publish-binary", false, offsetof(struct command, publish_binary) },
	{ "sealed", false, offsetof(struct command, sealed) },
	{ "pods", false, offsetof(struct command, pods) },
	{ "debug", true, offsetof(struct command, debug) },
	{ "info", true, offsetof(struct command, info) },
	{ "v", true, offsetof(struct command, version) },
	{ "version", true, offsetof(struct command, version) },
};

/* Number of words used, -1 on error. */
static int parse_flag(struct command *c, const char *word, const char *next, struct error *err)
{
	const char *name = word + 1 + (word[1] == '-');
	size_t len = strcspn(name, "=");

	for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
		void *to = (char *)c + flags[i].offset;

		if (strlen(flags[i].name) != len || strncmp(flags[i].name, name, len) != 0)
			continue;
		if (flags[i].is_bool) {
			*(bool *)to = !str_equal(name + len, "=false");
			return 1;
		}
		if (name[len] == '=') {
			*(const char **)to = name + len + 1;
			return 1;
		}
		if (!next)
			return error_set(err, ERROR_INVALID_ARGUMENT, "flag '%s' needs a value",
					 word);
		*(const char **)to = next;
		return 2;
	}
	return error_set(err, ERROR_INVALID_ARGUMENT, "unknown flag '%s'", word);
}

int command_parse(struct command *c, int argc, char **argv, struct error *err)
{
	*c = (struct command){ .ns = "",
			       .id = "",
			       .address = "",
			       .bundle = "",
			       .sealed = "",
			       .pods = "",
			       .action = "" };
	for (int i = 1; i < argc;) {
		if (argv[i][0] == '-' && argv[i][1] != '\0') {
			int n = parse_flag(c, argv[i], i + 1 < argc ? argv[i + 1] : NULL, err);

			if (n < 0)
				return -1;
			i += n;
		} else if (*c->action) {
			return error_set(err, ERROR_INVALID_ARGUMENT, "unexpected word '%s'",
					 argv[i]);
		} else {
			c->action = argv[i++];
		}
	}
	if (c->info || c->version)
		return 0;
	if (!path_component_valid(c->ns))
		return error_set(err, ERROR_INVALID_ARGUMENT, "no valid -namespace: '%s'", c->ns);
	if (!path_component_valid(c->id))
		return error_set(err, ERROR_INVALID_ARGUMENT, "no valid -id: '%s'", c->id);
	return 0;
}

char *shim_socket_path(const char *address, const char *ns, const char *id)
{
	const char *path = address + (str_has_prefix(address, "unix://") ? strlen("unix://") : 0);
	autofree char *dir = xstrndup(path, (size_t)(path_base(path) - path));
	autofree char *text = xasprintf("%s/%s/%s", address, ns, id);
	char name[65];

	sha256_hex(text, strlen(text), name);
	return path_join(*dir ? dir : "/run/kistl", "s", name, NULL);
}

char *shim_group(const char *bundle, const char *id)
{
	static const char *const keys[] = { "io.containerd.runc.v2.group",
					    "io.kubernetes.cri.sandbox-id" };
	autofree char *path = path_join(str_empty(bundle) ? "." : bundle, "config.json", NULL);
	autojson struct json *j = json_load_at(AT_FDCWD, path, CONFIG_MAX, NULL);
	const struct json *annotations = json_get(j, "annotations");

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		const char *group = json_get_string(annotations, keys[i]);

		if (!str_empty(group))
			return xstrdup(group);
	}
	return xstrdup(id);
}
