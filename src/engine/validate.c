/* SPDX-License-Identifier: Apache-2.0 */
/* What can be said wrong without looking at the host, in Docker's words where clients show them. */

#include "base/mem.h"
#include "base/parse.h"
#include "base/strv.h"
#include "engine/config.h"
#include "engine/spec-internal.h"
#include "engine/spec.h"

#include <string.h>
#include <sys/sysinfo.h>

#define MEMORY_MIN (6LL << 20)
#define NANO 1000000000LL  /* of a CPU */
#define HEALTH_MIN 1000000 /* ns */
#define INVALID(err, ...) error_set(err, ERROR_INVALID_ARGUMENT, __VA_ARGS__)

static int validate_process(const struct container_config *c, struct error *err)
{
	if (!str_empty(c->cwd) && c->cwd[0] != '/')
		return INVALID(
			err,
			"the working directory '%s' is invalid, it needs to be an absolute path",
			c->cwd);
	for (size_t i = 0; i < c->env.n; i++) {
		if (c->env.v[i][0] == '=' || c->env.v[i][0] == '\0')
			return INVALID(err, "invalid environment variable: %s", c->env.v[i]);
	}
	if (!str_empty(c->stop_signal) && signal_parse(c->stop_signal) < 0)
		return INVALID(err, "invalid signal: %s", c->stop_signal);
	if (c->oom_score_adj < -1000 || c->oom_score_adj > 1000)
		return INVALID(err, "Invalid value %lld, range for oom score adj is [-1000, 1000]",
			       (long long)c->oom_score_adj);
	return 0;
}

static int validate_mounts(const struct container_config *c, struct error *err)
{
	for (size_t i = 0; i < c->mounts.n; i++) {
		const struct mount_spec *m = &c->mounts.v[i];
		const char *type = m->type ? m->type : "";

		if (str_empty(m->target))
			return INVALID(err,
				       "invalid mount config for type \"%s\": field Target must "
				       "not be empty",
				       type);
		if (m->target[0] != '/')
			return INVALID(
				err,
				"invalid mount config for type \"%s\": invalid mount path: '%s' "
				"mount path must be absolute",
				type, m->target);
		if (strspn(m->target, "/") == strlen(m->target))
			return INVALID(
				err,
				"invalid mount config for type \"%s\": invalid specification: "
				"destination can't be '/'",
				type);
		if (str_equal(type, "bind") && (str_empty(m->source) || m->source[0] != '/'))
			return INVALID(
				err,
				"invalid mount config for type \"bind\": invalid mount path: "
				"'%s' mount path must be absolute",
				m->source ? m->source : "");
		if (!str_equal(type, "bind") && !str_equal(type, "volume") &&
		    !str_equal(type, "tmpfs"))
			return INVALID(err, "mount type unknown: '%s'", type);
		for (size_t k = 0; k < i; k++) {
			if (str_equal(c->mounts.v[k].target, m->target))
				return INVALID(err, "Duplicate mount point: %s", m->target);
		}
	}
	return 0;
}

static int validate_memory(const struct resources *r, struct error *err)
{
	if (r->memory < 0 || r->memory_reservation < 0)
		return INVALID(err, "invalid memory limit: must not be negative");
	if (r->memory > 0 && r->memory < MEMORY_MIN)
		return INVALID(err, "Minimum memory limit allowed is 6MB");
	if (r->memory > 0 && r->memory_swap > 0 && r->memory_swap < r->memory)
		return INVALID(err,
			       "Minimum memoryswap limit should be larger than memory limit, see "
			       "usage");
	if (r->memory == 0 && r->memory_swap > 0)
		return INVALID(err, "You should always set the Memory limit when using Memoryswap "
				    "limit, see usage");
	if (r->memory_reservation > 0 && r->memory_reservation < MEMORY_MIN)
		return INVALID(err, "Minimum memory reservation allowed is 6MB");
	if (r->memory > 0 && r->memory_reservation > r->memory)
		return INVALID(err, "Minimum memory limit can not be less than memory reservation "
				    "limit, see usage");
	if (r->memory_swappiness < -1 || r->memory_swappiness > 100)
		return INVALID(err, "Invalid value: %lld, valid memory swappiness range is 0-100",
			       (long long)r->memory_swappiness);
	return 0;
}

/* "0-3,7": numbers below n. */
static int validate_set(const char *set, unsigned n, const char *what, const char *name,
			struct error *err)
{
	autostrv struct strv ranges = STRV_INIT;

	if (str_empty(set))
		return 0;
	strv_split(&ranges, set, ",");
	for (size_t i = 0; i < ranges.n; i++) {
		autofree char *first = xstrndup(ranges.v[i], strcspn(ranges.v[i], "-"));
		const char *dash = strchr(ranges.v[i], '-');
		uint64_t from, to;

		if (parse_uint64(first, &from) < 0 ||
		    parse_uint64(dash ? dash + 1 : first, &to) < 0 || from > to)
			return INVALID(err, "Invalid value %s for cpuset %s: invalid format: %s",
				       set, what, ranges.v[i]);
		if (n && to >= n)
			return INVALID(err,
				       "Requested %s are not available - requested %s, available: "
				       "0-%u",
				       name, set, n - 1);
	}
	return 0;
}

static int validate_cpu(const struct resources *r, struct error *err)
{
	if (r->nano_cpus < 0)
		return INVALID(err, "invalid NanoCPUs: must not be negative");
	if (r->nano_cpus > get_nprocs() * NANO)
		return INVALID(err,
			       "range of CPUs is from 0.01 to %d.00, as there are only %d CPUs "
			       "available",
			       get_nprocs(), get_nprocs());
	if (r->nano_cpus > 0 && (r->cpu_period > 0 || r->cpu_quota > 0))
		return INVALID(err,
			       "Conflicting options: Nano CPUs and CPU Period/Quota cannot both "
			       "be set");
	if (r->cpu_period != 0 && (r->cpu_period < 1000 || r->cpu_period > 1000000))
		return INVALID(err, "CPU cfs period can not be less than 1ms (i.e. 1000) or larger "
				    "than 1s (i.e. 1000000)");
	if (r->cpu_quota > 0 && r->cpu_quota < 1000)
		return INVALID(err, "CPU cfs quota can not be less than 1ms (i.e. 1000)");
	if (r->blkio_weight != 0 && (r->blkio_weight < 10 || r->blkio_weight > 1000))
		return INVALID(err, "Range of blkio weight is from 10 to 1000");
	for (size_t i = 0; i < r->blkio_weight_devices.n; i++) {
		const struct rate_device *d = &r->blkio_weight_devices.v[i];

		if (d->rate < 10 || d->rate > 1000)
			return INVALID(err,
				       "Range of blkio weight is from 10 to 1000, device '%s' has "
				       "%lld",
				       d->path, (long long)d->rate);
	}
	if (validate_set(r->cpuset_cpus, (unsigned)get_nprocs_conf(), "cpus", "CPUs", err) < 0 ||
	    validate_set(r->cpuset_mems, 0, "mems", "memory nodes", err) < 0)
		return -1;
	return 0;
}

static int validate_health(const struct health_spec *h, struct error *err)
{
	const struct {
		const char *name;
		int64_t value;
	} times[] = {
		{ "Interval", h->interval },
		{ "Timeout", h->timeout },
		{ "StartPeriod", h->start_period },
		{ "StartInterval", h->start_interval },
	};

	for (size_t i = 0; i < ARRAY_SIZE(times); i++) {
		if (times[i].value != 0 && times[i].value < HEALTH_MIN)
			return INVALID(err, "%s in Healthcheck cannot be less than 1ms",
				       times[i].name);
	}
	return h->retries < 0 ? INVALID(err, "Retries in Healthcheck cannot be negative") : 0;
}

static int validate_restart(const struct container_config *c, struct error *err)
{
	static const char *const known[] = { "no", "always", "on-failure", "unless-stopped" };
	const char *policy = c->restart_policy;
	bool found = str_empty(policy);

	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		found |= str_equal(policy, known[i]);
	if (!found)
		return INVALID(err,
			       "invalid restart policy: unknown policy '%s'; use one of 'no', "
			       "'always', 'on-failure', or 'unless-stopped'",
			       policy);
	if (c->restart_max_retries < 0)
		return INVALID(err,
			       "invalid restart policy: maximum retry count cannot be negative");
	if (c->restart_max_retries > 0 && !str_equal(policy, "on-failure"))
		return INVALID(err, "invalid restart policy: maximum retry count can only be used "
				    "with 'on-failure'");
	if (c->auto_remove && !str_empty(policy) && !str_equal(policy, "no"))
		return INVALID(err, "can't create 'AutoRemove' container with restart policy");
	return 0;
}

static int validate_network(const struct container_config *c, struct error *err)
{
	const char *mode = c->network_mode ? c->network_mode : "";
	bool host = str_equal(mode, "host"), joined = str_has_prefix(mode, "container:");

	if (joined && mode[strlen("container:")] == '\0')
		return INVALID(err, "invalid network mode: container name or id is missing in '%s'",
			       mode);
	if (joined && !str_empty(c->hostname))
		return INVALID(err, "conflicting options: hostname and the network mode");
	if (joined && (c->dns.n > 0 || c->extra_hosts.n > 0))
		return INVALID(err, "conflicting options: %s and the network mode",
			       c->dns.n > 0 ? "dns" : "custom host-to-IP mapping");
	if (joined && c->ports.n > 0)
		return INVALID(err, "conflicting options: port publishing and the container type "
				    "network mode");
	if ((host || joined) && !str_empty(c->mac_address))
		return INVALID(err, "conflicting options: mac-address and the network mode");
	if (strlen(c->hostname ? c->hostname : "") > 64)
		return INVALID(err, "invalid hostname '%s': more than 64 characters", c->hostname);
	for (size_t i = 0; i < c->extra_hosts.n; i++) {
		const char *colon = strpbrk(c->extra_hosts.v[i], ":=");

		if (!colon || colon == c->extra_hosts.v[i] || colon[1] == '\0')
			return INVALID(err, "bad format for add-host: \"%s\"", c->extra_hosts.v[i]);
	}
	return 0;
}

static int validate_modes(const struct container_config *c, struct error *err)
{
	const struct {
		const char *what, *value, *allowed[5];
	} modes[] = {
		{ "PID", c->pid_mode, { "", "host", "private", NULL } },
		{ "IPC", c->ipc_mode, { "", "host", "private", "shareable", "none" } },
		{ "UTS", c->uts_mode, { "", "host", "private", NULL } },
		{ "cgroup namespace", c->cgroupns_mode, { "", "host", "private", NULL } },
		{ "user namespace", c->userns_mode, { "", "host", NULL } },
	};

	for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
		const char *value = modes[i].value ? modes[i].value : "";
		bool ok = i < 2 && str_has_prefix(value, "container:");

		for (size_t k = 0; k < ARRAY_SIZE(modes[i].allowed) && modes[i].allowed[k]; k++)
			ok |= str_equal(value, modes[i].allowed[k]);
		if (!ok)
			return INVALID(err, "invalid %s mode: %s", modes[i].what, value);
	}
	return 0;
}

/* Names only; what the kernel knows is the runtime's matter. */
static int validate_security(const struct container_config *c, struct error *err)
{
	autostrv struct strv caps = STRV_INIT;

	if (!c->privileged && caps_resolve(c, &caps, err) < 0)
		return -1;
	static const char *const known[] = {
		"apparmor",	     "seccomp",	    "label",
		"no-new-privileges", "systempaths", "writable-cgroups"
	};

	for (size_t i = 0; i < c->security_opt.n; i++) {
		const char *s = c->security_opt.v[i];
		size_t len = strcspn(s, "=:");
		bool found = false;

		for (size_t k = 0; k < ARRAY_SIZE(known); k++)
			found |= strlen(known[k]) == len && strncmp(known[k], s, len) == 0;
		if (!found)
			return INVALID(err, "invalid --security-opt: \"%s\"", s);
	}
	for (size_t i = 0; i < c->sysctls.n; i++) {
		const char *key = c->sysctls.v[i].key;

		if (strstr(key, "..") || strchr(key, '/'))
			return INVALID(err, "invalid sysctl '%s'", key);
		if (str_equal(c->network_mode, "host") && str_has_prefix(key, "net."))
			return INVALID(err, "sysctl '%s' not allowed in host network namespace",
				       key);
	}
	return 0;
}

int container_config_validate(const struct container_config *c, struct error *err)
{
	if (validate_process(c, err) < 0 || validate_mounts(c, err) < 0 ||
	    validate_memory(&c->resources, err) < 0 || validate_cpu(&c->resources, err) < 0 ||
	    validate_health(&c->health, err) < 0 || validate_restart(c, err) < 0 ||
	    validate_network(c, err) < 0 || validate_modes(c, err) < 0 ||
	    validate_security(c, err) < 0)
		return -1;
	return 0;
}
