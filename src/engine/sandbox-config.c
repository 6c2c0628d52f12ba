/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/sandbox.h"

#include "base/jsontab.h"
#include "base/mem.h"
#include "engine/config-tables.h"

#include <string.h>

#define SC struct sandbox_config

#define HOSTNAME_MAX 64
#define ID_LAST 4294967295LL

static const struct json_field fields[] = {
	JSON_FIELD("name", FIELD_STRING, SC, name, 0),
	JSON_FIELD("namespace", FIELD_STRING, SC, namespace_, 0),
	JSON_FIELD("uid", FIELD_STRING, SC, uid, 0),
	JSON_FIELD("attempt", FIELD_INT, SC, attempt, 0),
	JSON_FIELD("hostname", FIELD_STRING, SC, hostname, 0),
	JSON_FIELD("logDirectory", FIELD_STRING, SC, log_directory, 0),
	JSON_FIELD("dnsGiven", FIELD_BOOL, SC, dns_given, 0),
	JSON_FIELD("dnsServers", FIELD_STRV, SC, dns_servers, 0),
	JSON_FIELD("dnsSearches", FIELD_STRV, SC, dns_searches, 0),
	JSON_FIELD("dnsOptions", FIELD_STRV, SC, dns_options, 0),
	JSON_SUB("ports", FIELD_ARRAY, SC, ports, config_port_fields, struct port_spec, 0),
	JSON_FIELD("labels", FIELD_KVS, SC, labels, 0),
	JSON_FIELD("annotations", FIELD_KVS, SC, annotations, 0),
	JSON_FIELD("sysctls", FIELD_KVS, SC, sysctls, 0),
	JSON_FIELD("cgroupParent", FIELD_STRING, SC, cgroup_parent, 0),
	JSON_FIELD("runtime", FIELD_STRING, SC, runtime, 0),
	JSON_FIELD("network", FIELD_INT32, SC, network, 0),
	JSON_FIELD("ipc", FIELD_INT32, SC, ipc, 0),
	JSON_FIELD("pid", FIELD_INT32, SC, pid, 0),
	JSON_FIELD("userns", FIELD_BOOL, SC, userns, 0),
	JSON_SUB("uidMappings", FIELD_ARRAY, SC, uid_mappings, config_id_mapping_fields,
		 struct id_mapping, 0),
	JSON_SUB("gidMappings", FIELD_ARRAY, SC, gid_mappings, config_id_mapping_fields,
		 struct id_mapping, 0),
	JSON_FIELD("privileged", FIELD_BOOL, SC, privileged, 0),
	JSON_SUB("selinux", FIELD_OBJECT, SC, selinux, config_selinux_fields, struct selinux_label,
		 0),
	JSON_FIELD("securityOpt", FIELD_STRV, SC, security_opt, 0),
	JSON_END,
};

void sandbox_config_done(struct sandbox_config *c)
{
	jsontab_done(fields, c);
	*c = (struct sandbox_config){ 0 };
}

struct json *sandbox_config_to_json(const struct sandbox_config *c)
{
	return jsontab_encode(fields, c);
}

int sandbox_config_from_json(const struct json *j, struct sandbox_config *ret, struct error *err)
{
	struct sandbox_config c = { 0 };

	if (jsontab_decode(fields, j, &c, err) < 0) {
		sandbox_config_done(&c);
		return error_wrap(err, "sandbox configuration");
	}
	*ret = c;
	return 0;
}

void sandbox_config_copy(struct sandbox_config *dst, const struct sandbox_config *src)
{
	autojson struct json *j = sandbox_config_to_json(src);

	*dst = (struct sandbox_config){ 0 };
	if (jsontab_decode(fields, j, dst, NULL) < 0)
		abort(); /* what we encode, we decode */
}

bool sandbox_config_equal(const struct sandbox_config *a, const struct sandbox_config *b)
{
	autojson struct json *x = sandbox_config_to_json(a);
	autojson struct json *y = sandbox_config_to_json(b);
	autofree char *x_text = json_format(x, /* pretty */ false);
	autofree char *y_text = json_format(y, /* pretty */ false);

	return str_equal(x_text, y_text);
}

#define NS_OPTIONS "linux.security_context.namespace_options."

static int check_mode(int mode, const char *field, bool container_allowed, struct error *err)
{
	static const char *const names[] = { "POD", "CONTAINER", "NODE", "TARGET" };

	if (mode == POD_NS_POD || mode == POD_NS_NODE ||
	    (container_allowed && mode == POD_NS_CONTAINER))
		return 0;
	if (mode < 0 || mode >= (int)ARRAY_SIZE(names))
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 NS_OPTIONS "%s: unknown namespace mode %d", field, mode);
	return error_set(err, ERROR_INVALID_ARGUMENT,
			 NS_OPTIONS "%s: namespace mode %s is not possible for a sandbox", field,
			 names[mode]);
}

static int check_mapping(const struct id_mappings *m, const char *field, struct error *err)
{
	if (m->n != 1)
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 NS_OPTIONS
				 "userns_options.%s: exactly one mapping is wanted, got %zu",
				 field, m->n);
	const struct id_mapping *one = &m->v[0];
	if (one->container_id != 0)
		return error_set(
			err, ERROR_INVALID_ARGUMENT,
			NS_OPTIONS "userns_options.%s: id 0 of the container is not mapped", field);
	if (one->length <= 0 || one->host_id < 0 || one->length > ID_LAST ||
	    one->host_id > ID_LAST - one->length)
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 NS_OPTIONS "userns_options.%s: invalid mapping %lld:%lld:%lld",
				 field, (long long)one->container_id, (long long)one->host_id,
				 (long long)one->length);
	return 0;
}

static int check_userns(const struct sandbox_config *c, struct error *err)
{
	if (!c->userns) {
		if (c->uid_mappings.n > 0 || c->gid_mappings.n > 0)
			return error_set(err, ERROR_INVALID_ARGUMENT,
					 NS_OPTIONS "userns_options: mappings without a user "
						    "namespace of the pod's own");
		return 0;
	}
	if (check_mapping(&c->uid_mappings, "uids", err) < 0 ||
	    check_mapping(&c->gid_mappings, "gids", err) < 0)
		return -1;
	if (c->uid_mappings.v[0].host_id != c->gid_mappings.v[0].host_id ||
	    c->uid_mappings.v[0].length != c->gid_mappings.v[0].length)
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 NS_OPTIONS "userns_options: uids and gids are mapped differently");
	return 0;
}

/* Whose namespace does it change? */
static bool is_ipc_sysctl(const char *name)
{
	static const char *const prefixes[] = { "kernel.shm", "kernel.msg", "fs.mqueue." };

	for (size_t i = 0; i < ARRAY_SIZE(prefixes); i++)
		if (str_has_prefix(name, prefixes[i]))
			return true;
	return str_equal(name, "kernel.sem");
}

static int check_sysctl(const struct sandbox_config *c, const char *name, struct error *err)
{
	bool net = str_has_prefix(name, "net.") || str_has_prefix(name, "net/");

	if (name[0] == '\0' || strstr(name, "..") || name[0] == '/' || name[0] == '.' ||
	    strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/") !=
		    strlen(name))
		return error_set(err, ERROR_INVALID_ARGUMENT, "linux.sysctls: invalid name '%s'",
				 name);
	if (!net && !is_ipc_sysctl(name))
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "linux.sysctls: '%s' is not a namespaced sysctl", name);
	if ((net && c->network == POD_NS_NODE) || (!net && c->ipc == POD_NS_NODE))
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "linux.sysctls: '%s' would change the host's %s namespace", name,
				 net ? "network" : "IPC");
	return 0;
}

static int check_ports(const struct sandbox_config *c, struct error *err)
{
	for (size_t i = 0; i < c->ports.n; i++) {
		const struct port_spec *p = &c->ports.v[i];

		if (!str_equal(p->protocol, "tcp") && !str_equal(p->protocol, "udp") &&
		    !str_equal(p->protocol, "sctp"))
			return error_set(err, ERROR_INVALID_ARGUMENT,
					 "port_mappings[%zu].protocol: '%s' is not known", i,
					 p->protocol ? p->protocol : "");
		if (p->host_port < 0 || p->host_port > 65535 || p->container_port < 0 ||
		    p->container_port > 65535)
			return error_set(err, ERROR_INVALID_ARGUMENT,
					 "port_mappings[%zu]: ports must be 0 to 65535", i);
	}
	return 0;
}

int sandbox_config_validate(const struct sandbox_config *c, struct error *err)
{
	if (str_empty(c->name))
		return error_set(err, ERROR_INVALID_ARGUMENT, "metadata.name: is empty");
	if (check_mode(c->network, "network", false, err) < 0 ||
	    check_mode(c->ipc, "ipc", false, err) < 0 || check_mode(c->pid, "pid", true, err) < 0 ||
	    check_userns(c, err) < 0 || check_ports(c, err) < 0)
		return -1;
	if (c->hostname && (strlen(c->hostname) > HOSTNAME_MAX || strpbrk(c->hostname, "/ \n")))
		return error_set(err, ERROR_INVALID_ARGUMENT, "hostname: '%s' is not valid",
				 c->hostname);
	if (!str_empty(c->log_directory) && c->log_directory[0] != '/')
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "log_directory: '%s' is not an absolute path", c->log_directory);
	if (c->cgroup_parent && strstr(c->cgroup_parent, ".."))
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "linux.cgroup_parent: '%s' is not valid", c->cgroup_parent);
	for (size_t i = 0; i < c->sysctls.n; i++)
		if (check_sysctl(c, c->sysctls.v[i].key, err) < 0)
			return -1;
	return 0;
}
