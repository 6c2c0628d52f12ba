/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/volume-mount.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/mount.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#ifndef STATX_ATTR_MOUNT_ROOT
#define STATX_ATTR_MOUNT_ROOT 0x00002000
#endif

bool volume_needs_mount(const struct kvs *options)
{
	return !str_empty(kvs_get(options, "type")) || !str_empty(kvs_get(options, "device"));
}

int volume_options_check(const struct kvs *options, struct error *err)
{
	static const char *const known[] = { "type", "o", "device", "size" };
	static const struct {
		const char *option, *needs;
	} pairs[] = {
		{ "device", "type" }, { "type", "device" }, { "o", "device" }, { "o", "type" }
	};

	for (size_t i = 0; i < options->n; i++) {
		bool found = false;

		for (size_t k = 0; k < ARRAY_SIZE(known); k++)
			found |= str_equal(options->v[i].key, known[k]);
		if (!found)
			return error_set(err, ERROR_INVALID_ARGUMENT, "invalid option: \"%s\"",
					 options->v[i].key);
	}
	if (kvs_get(options, "size"))
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "quota size requested but no quota support");
	for (size_t i = 0; i < ARRAY_SIZE(pairs); i++)
		if (kvs_get(options, pairs[i].option) && !kvs_get(options, pairs[i].needs))
			return error_set(err, ERROR_INVALID_ARGUMENT,
					 "missing required option: \"%s\"", pairs[i].needs);
	return 0;
}

/* The kernel's NFS takes numbers only. */
static int resolve_address(const char *option, struct strv *ret, struct error *err)
{
	const char *host = option + strlen("addr=");
	char text[INET6_ADDRSTRLEN];
	struct addrinfo *list = NULL;
	int r = getaddrinfo(host, NULL, NULL, &list);

	if (r != 0)
		return error_set(err, ERROR_UNAVAILABLE,
				 "error resolving passed in network volume address: %s: %s", host,
				 gai_strerror(r));
	const void *address =
		list->ai_family == AF_INET6
			? (const void *)&((struct sockaddr_in6 *)(void *)list->ai_addr)->sin6_addr
			: (const void *)&((struct sockaddr_in *)(void *)list->ai_addr)->sin_addr;
	inet_ntop(list->ai_family, address, text, sizeof(text));
	freeaddrinfo(list);
	strv_push_printf(ret, "addr=%s", text);
	return 0;
}

static int mount_options(const char *type, const char *o, struct strv *ret, struct error *err)
{
	autostrv struct strv words = STRV_INIT;

	if (!str_empty(o))
		strv_split(&words, o, ",");
	for (size_t i = 0; i < words.n; i++) {
		bool remote = str_has_prefix(type, "nfs") || str_equal(type, "cifs");

		if (remote && str_has_prefix(words.v[i], "addr=")) {
			if (resolve_address(words.v[i], ret, err) < 0)
				return -1;
		} else if (*words.v[i]) {
			strv_push(ret, words.v[i]);
		}
	}
	return 0;
}

static bool is_mounted(const char *path)
{
	struct statx st;

	return statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, STATX_TYPE, &st) == 0 &&
	       st.stx_attributes & STATX_ATTR_MOUNT_ROOT;
}

int volume_mount(const char *name, const char *path, const struct kvs *options, struct error *err)
{
	automounts struct mounts list = MOUNTS_INIT;
	const char *type = kvs_get(options, "type"), *device = kvs_get(options, "device");
	const char *o = kvs_get(options, "o");

	if (is_mounted(path))
		return 0;
	type = type ? type : "";
	struct mount *m = mounts_add(&list, str_equal(type, "none") ? "" : type, device, NULL);
	if (mount_options(type, o, &m->options, err) < 0 || mounts_attach(&list, path, err) < 0)
		return error_wrap(err,
				  "error while mounting volume '%s': failed to mount local volume: "
				  "mount %s:%s%s%s",
				  name, device ? device : "", path, o ? ", data: " : "",
				  o ? o : "");
	return 0;
}

void volume_unmount(const char *path)
{
	autoerror struct error err = ERROR_INIT;

	if (is_mounted(path) && mount_detach_all(path, MNT_DETACH, &err) < 0)
		log_warn("%s, ignoring", error_msg(&err));
}
