/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "engine/lsm.h"
#include "engine/spec-internal.h"

#include <fcntl.h>
#include <string.h>

#define PROFILE_MAX (4 << 20)

static const char *const masked_paths[] = {
	"/proc/asound",	    "/proc/acpi",	 "/proc/interrupts",
	"/proc/kcore",	    "/proc/keys",	 "/proc/latency_stats",
	"/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug",
	"/proc/scsi",	    "/sys/firmware",	 "/sys/devices/virtual/powercap",
};

static const char *const readonly_paths[] = {
	"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
};

const char *security_option(const struct container_config *c, const char *key)
{
	size_t len = strlen(key);

	for (size_t i = 0; i < c->security_opt.n; i++) {
		const char *s = c->security_opt.v[i];

		if (strncmp(s, key, len) != 0)
			continue;
		if (s[len] == '=' || s[len] == ':')
			return s + len + 1;
		if (s[len] == '\0')
			return "";
	}
	return NULL;
}

static struct json *paths(const struct strv *own, const char *const *defaults, size_t n)
{
	struct json *list;

	if (own->n > 0)
		return json_new_strv(own);
	list = json_new_array();
	for (size_t i = 0; i < n; i++)
		json_add(list, json_new_string(defaults[i]));
	return list;
}

struct json *spec_masked_paths(void)
{
	return paths(&STRV_INIT, masked_paths, ARRAY_SIZE(masked_paths));
}

struct json *spec_readonly_paths(void)
{
	return paths(&STRV_INIT, readonly_paths, ARRAY_SIZE(readonly_paths));
}

static int seccomp_file(const char *path, const struct strv *caps, struct json *linux_,
			struct error *err)
{
	struct json *result = NULL;
	autojson struct json *profile = json_load_at(AT_FDCWD, path, PROFILE_MAX, err);

	if (!profile || seccomp_from_profile(profile, caps, &result, err) < 0)
		return error_wrap(err, "seccomp profile '%s'", path);
	json_set(linux_, "seccomp", result);
	return 0;
}

static int seccomp(const struct container_config *c, const struct strv *caps, struct json *linux_,
		   struct error *err)
{
	const char *option = security_option(c, "seccomp");
	const char *file = security_option(c, "seccomp-file");
	struct json *result = NULL;

	if (file && c->privileged)
		return 0;
	if (file)
		return seccomp_file(file, caps, linux_, err);
	if (option ? str_equal(option, "unconfined") : c->privileged)
		return 0;
	if (!option || option[0] == '\0' || str_equal(option, "builtin")) {
		json_set(linux_, "seccomp", seccomp_default(caps));
		return 0;
	}
	autojson struct json *profile = json_parse(option, strlen(option), PROFILE_MAX, err);
	if (!profile)
		return error_wrap(err, "decoding seccomp profile failed");
	if (seccomp_from_profile(profile, caps, &result, err) < 0)
		return error_wrap(err, "invalid seccomp profile");
	json_set(linux_, "seccomp", result);
	return 0;
}

static int apparmor_profile(const struct container_config *c, const char *wanted,
			    struct json *process, struct error *err)
{
	autoerror struct error why = ERROR_INIT;

	if (str_equal(wanted, "unconfined") || (spec_in_pod(c) && c->privileged))
		return 0;
	if (!wanted && !spec_in_pod(c))
		return 0;
	if (!wanted) {
		wanted = apparmor_default(&why);
		if (why.code != ERROR_OK)
			return error_move(err, &why);
	} else if (!apparmor_enabled()) {
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "apparmor profile '%s': AppArmor is not enabled on this host",
				 wanted);
	} else if (spec_in_pod(c) && !apparmor_is_loaded(wanted)) {
		return error_set(err, ERROR_INVALID_ARGUMENT, "apparmor profile '%s' is not loaded",
				 wanted);
	}
	if (wanted)
		json_set_string(process, "apparmorProfile", wanted);
	return 0;
}

/* Of pods: what shares the host's processes is not confined by labels. */
static int selinux(const struct spec_inputs *in, struct json *process, struct json *linux_,
		   struct error *err)
{
	const struct container_config *c = in->config;
	autofree char *process_label = NULL, *mount_label = NULL;
	struct selinux_label wanted = c->selinux;
	bool open_ =
		c->privileged || str_equal(c->pid_mode, "host") || str_equal(c->ipc_mode, "host");

	if (!spec_in_pod(c) || !selinux_enabled())
		return 0;
	if (open_ && str_empty(wanted.type))
		wanted.type = (char *)(uintptr_t) "spc_t";
	if (selinux_labels(&wanted, c->sandbox_id, &process_label, &mount_label, err) < 0)
		return -1;
	json_set_string(process, "selinuxLabel", process_label);
	json_set_string(linux_, "mountLabel", mount_label);
	/* Once, where it is tried whether the container would start: then sources are the host's.
	 */
	for (size_t i = 0; i < in->n_mounts && !in->user; i++)
		if (in->mounts[i].selinux_relabel && !open_ &&
		    selinux_relabel(in->mounts[i].source, mount_label, err) < 0)
			return error_wrap(err, "mounts[%zu].selinux_relabel", i);
	return 0;
}

int spec_security(const struct spec_inputs *in, const struct strv *caps, struct json *spec,
		  struct json *linux_, struct error *err)
{
	const struct container_config *c = in->config;
	const char *apparmor = security_option(c, "apparmor");
	const char *system_paths = security_option(c, "systempaths");
	bool open_paths = c->privileged || str_equal(system_paths, "unconfined");

	if (!open_paths && (c->default_paths || c->masked_paths.n > 0))
		json_set(linux_, "maskedPaths",
			 paths(&c->masked_paths, masked_paths, ARRAY_SIZE(masked_paths)));
	if (!open_paths && (c->default_paths || c->readonly_paths.n > 0))
		json_set(linux_, "readonlyPaths",
			 paths(&c->readonly_paths, readonly_paths, ARRAY_SIZE(readonly_paths)));
	if (apparmor_profile(c, apparmor, json_get(spec, "process"), err) < 0 ||
	    selinux(in, json_get(spec, "process"), linux_, err) < 0)
		return -1;
	return seccomp(c, caps, linux_, err);
}
