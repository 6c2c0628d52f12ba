/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "engine/spec-internal.h"

#include <ctype.h>
#include <string.h>
#include <sys/prctl.h>

/* By number (linux/capability.h). */
static const char *const cap_names[] = {
	"CAP_CHOWN",
	"CAP_DAC_OVERRIDE",
	"CAP_DAC_READ_SEARCH",
	"CAP_FOWNER",
	"CAP_FSETID",
	"CAP_KILL",
	"CAP_SETGID",
	"CAP_SETUID",
	"CAP_SETPCAP",
	"CAP_LINUX_IMMUTABLE",
	"CAP_NET_BIND_SERVICE",
	"CAP_NET_BROADCAST",
	"CAP_NET_ADMIN",
	"CAP_NET_RAW",
	"CAP_IPC_LOCK",
	"CAP_IPC_OWNER",
	"CAP_SYS_MODULE",
	"CAP_SYS_RAWIO",
	"CAP_SYS_CHROOT",
	"CAP_SYS_PTRACE",
	"CAP_SYS_PACCT",
	"CAP_SYS_ADMIN",
	"CAP_SYS_BOOT",
	"CAP_SYS_NICE",
	"CAP_SYS_RESOURCE",
	"CAP_SYS_TIME",
	"CAP_SYS_TTY_CONFIG",
	"CAP_MKNOD",
	"CAP_LEASE",
	"CAP_AUDIT_WRITE",
	"CAP_AUDIT_CONTROL",
	"CAP_SETFCAP",
	"CAP_MAC_OVERRIDE",
	"CAP_MAC_ADMIN",
	"CAP_SYSLOG",
	"CAP_WAKE_ALARM",
	"CAP_BLOCK_SUSPEND",
	"CAP_AUDIT_READ",
	"CAP_PERFMON",
	"CAP_BPF",
	"CAP_CHECKPOINT_RESTORE",
};

/* Docker's default set. */
static const char *const cap_defaults[] = {
	"CAP_CHOWN",   "CAP_DAC_OVERRIDE", "CAP_FSETID",	   "CAP_FOWNER",
	"CAP_MKNOD",   "CAP_NET_RAW",	   "CAP_SETGID",	   "CAP_SETUID",
	"CAP_SETFCAP", "CAP_SETPCAP",	   "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT",
	"CAP_KILL",    "CAP_AUDIT_WRITE",
};

/* -1 when unknown. name: "chown", "CAP_CHOWN". */
static int cap_number(const char *name)
{
	char full[64] = "CAP_";
	size_t at = strncasecmp(name, "CAP_", 4) == 0 ? 0 : 4;

	for (; *name && at < sizeof(full) - 1; name++)
		full[at++] = (char)toupper((unsigned char)*name);
	full[at] = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(cap_names); i++) {
		if (strcmp(full, cap_names[i]) == 0)
			return (int)i;
	}
	return -1;
}

/* The bounding set limits what a child can have, so asking for more would fail in the runtime. */
static bool cap_available(int number)
{
	return prctl(PR_CAPBSET_READ, number, 0, 0, 0) == 1;
}

void caps_available(struct strv *ret)
{
	for (int i = 0; i < (int)ARRAY_SIZE(cap_names); i++) {
		if (cap_available(i))
			strv_push(ret, cap_names[i]);
	}
}

static int list_to_mask(const struct strv *list, const char *field, bool must_exist, uint64_t *ret,
			bool *ret_all, struct error *err)
{
	*ret = 0;
	*ret_all = false;
	for (size_t i = 0; i < list->n; i++) {
		int n;

		if (strcasecmp(list->v[i], "all") == 0 || strcasecmp(list->v[i], "cap_all") == 0) {
			*ret_all = true;
			continue;
		}
		n = cap_number(list->v[i]);
		if (n < 0)
			return error_set(err, ERROR_INVALID_ARGUMENT,
					 "invalid %s: unknown capability: \"%s\"", field,
					 list->v[i]);
		if (must_exist && !cap_available(n))
			return error_set(
				err, ERROR_INVALID_ARGUMENT,
				"invalid %s: capability not supported by your kernel or not "
				"available in the current environment: \"%s\"",
				field, cap_names[n]);
		*ret |= 1ULL << n;
	}
	return 0;
}

int caps_resolve(const struct container_config *c, struct strv *ret, struct error *err)
{
	const uint64_t every = (1ULL << ARRAY_SIZE(cap_names)) - 1;
	uint64_t add, drop, set = 0;
	bool add_all, drop_all;

	if (list_to_mask(&c->cap_add, "CapAdd", !c->privileged, &add, &add_all, err) < 0 ||
	    list_to_mask(&c->cap_drop, "CapDrop", false, &drop, &drop_all, err) < 0)
		return -1;
	for (size_t i = 0; i < ARRAY_SIZE(cap_defaults); i++)
		set |= 1ULL << cap_number(cap_defaults[i]);
	if (c->privileged || add_all)
		set = every & ~drop;
	else if (drop_all)
		set = add;
	else if (spec_in_pod(c))
		set = (set | add) & ~drop;
	else
		set = (set & ~drop) | add;
	for (int i = 0; i < (int)ARRAY_SIZE(cap_names); i++) {
		if ((set & 1ULL << i) && cap_available(i))
			strv_push(ret, cap_names[i]);
	}
	return 0;
}

/* Without root the effective and permitted sets stay empty, as execve(2) would leave them. */
struct json *caps_document(const struct strv *caps, bool root_user)
{
	struct json *j = json_new_object();

	json_set(j, "bounding", json_new_strv(caps));
	if (root_user) {
		json_set(j, "effective", json_new_strv(caps));
		json_set(j, "permitted", json_new_strv(caps));
	}
	return j;
}

static void add_to_set(struct json *document, const char *name, const struct strv *caps)
{
	autostrv struct strv all = STRV_INIT;

	json_get_strv(document, name, &all, NULL);
	for (size_t i = 0; i < caps->n; i++)
		if (!strv_contains(&all, caps->v[i]))
			strv_push(&all, caps->v[i]);
	json_set(document, name, json_new_strv(&all));
}

int caps_add_ambient(const struct container_config *c, struct json *document, struct error *err)
{
	static const char *const sets[] = { "bounding", "permitted", "effective", "inheritable",
					    "ambient" };
	autostrv struct strv caps = STRV_INIT;
	uint64_t mask;
	bool all;

	if (c->cap_ambient.n == 0)
		return 0;
	if (list_to_mask(&c->cap_ambient, "add_ambient_capabilities", true, &mask, &all, err) < 0)
		return -1;
	for (int i = 0; i < (int)ARRAY_SIZE(cap_names); i++)
		if ((all || mask & 1ULL << i) && cap_available(i))
			strv_push(&caps, cap_names[i]);
	for (size_t i = 0; i < ARRAY_SIZE(sets); i++)
		add_to_set(document, sets[i], &caps);
	return 0;
}
