/* SPDX-License-Identifier: Apache-2.0 */
/* What pods and containers both have, and pods. */
#include "api/cri/decode.h"

#include "base/mem.h"

#include <string.h>

/* Old clients still fill in what was replaced. */
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

#define INVALID(err, ...) error_set(err, ERROR_INVALID_ARGUMENT, __VA_ARGS__)
#define DEPTH_MAX 16

/* --- texts --- */

static int check_message(const ProtobufCMessage *m, unsigned depth, struct error *err);

static int check_text(const ProtobufCFieldDescriptor *f, const char *text, struct error *err)
{
	return message_text_valid(text) ? 0 : INVALID(err, "%s: is not valid UTF-8", f->name);
}

static int check_one(const ProtobufCFieldDescriptor *f, void *const *value, unsigned depth,
		     struct error *err)
{
	if (!*value)
		return 0;
	if (f->type == PROTOBUF_C_TYPE_STRING)
		return check_text(f, *value, err);
	if (check_message(*value, depth + 1, err) < 0)
		return error_wrap(err, "%s", f->name);
	return 0;
}

static int check_message(const ProtobufCMessage *m, unsigned depth, struct error *err)
{
	const ProtobufCMessageDescriptor *d = m->descriptor;

	if (depth > DEPTH_MAX)
		return INVALID(err, "messages are nested too deeply");
	for (unsigned i = 0; i < d->n_fields; i++) {
		const ProtobufCFieldDescriptor *f = &d->fields[i];
		const char *member = (const char *)m + f->offset;

		if (f->type != PROTOBUF_C_TYPE_STRING && f->type != PROTOBUF_C_TYPE_MESSAGE)
			continue;
		if (f->label != PROTOBUF_C_LABEL_REPEATED) {
			if (check_one(f, (void *const *)member, depth, err) < 0)
				return -1;
			continue;
		}
		size_t n = *(const size_t *)((const char *)m + f->quantifier_offset);
		void *const *items = *(void *const *const *)member;
		for (size_t k = 0; k < n; k++)
			if (check_one(f, &items[k], depth, err) < 0)
				return -1;
	}
	return 0;
}

int cri_check_texts(const ProtobufCMessage *m, struct error *err)
{
	return check_message(m, 0, err);
}

/* --- profiles --- */

static int seccomp_file(const char *path, struct strv *ret, struct error *err)
{
	if (path[0] != '/')
		return INVALID(err, "seccomp.localhost_ref: '%s' is not an absolute path", path);
	if (access(path, R_OK) < 0)
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "seccomp.localhost_ref: profile '%s' cannot be read: %s", path,
				 strerror(errno));
	strv_push_printf(ret, "seccomp-file=%s", path);
	return 0;
}

/* The deprecated form; "" is nothing said. */
static int legacy_seccomp(const struct cri_api *api, const char *text, struct strv *ret,
			  struct error *err)
{
	if (str_empty(text))
		text = api->config.unset_seccomp;
	if (str_empty(text) || str_equal(text, "unconfined"))
		strv_push(ret, "seccomp=unconfined");
	else if (str_equal(text, "runtime/default") || str_equal(text, "docker/default"))
		strv_push(ret, "seccomp=builtin");
	else if (str_has_prefix(text, "localhost/"))
		return seccomp_file(text + strlen("localhost/"), ret, err);
	else
		return INVALID(err, "seccomp_profile_path: unknown profile '%s'", text);
	return 0;
}

static int decode_seccomp(const struct cri_api *api, const struct cri_profiles *p, struct strv *ret,
			  struct error *err)
{
	if (p->privileged) {
		strv_push(ret, "seccomp=unconfined");
		return 0;
	}
	if (!p->seccomp)
		return legacy_seccomp(api, p->legacy_seccomp, ret, err);
	switch (p->seccomp->profile_type) {
	case RUNTIME__V1__SECURITY_PROFILE__PROFILE_TYPE__RuntimeDefault:
		strv_push(ret, "seccomp=builtin");
		return 0;
	case RUNTIME__V1__SECURITY_PROFILE__PROFILE_TYPE__Unconfined:
		strv_push(ret, "seccomp=unconfined");
		return 0;
	case RUNTIME__V1__SECURITY_PROFILE__PROFILE_TYPE__Localhost:
		return seccomp_file(p->seccomp->localhost_ref, ret, err);
	default:
		return INVALID(err, "seccomp.profile_type: unknown type %d",
			       p->seccomp->profile_type);
	}
}

/* A name of a profile in the kernel; "" and "runtime/default" are the default one. */
static int apparmor_name(const char *name, struct strv *ret, struct error *err)
{
	if (str_empty(name) || str_equal(name, "runtime/default"))
		return 0;
	if (str_has_prefix(name, "localhost/"))
		name += strlen("localhost/");
	if (str_empty(name))
		return INVALID(err, "apparmor.localhost_ref: is empty");
	strv_push_printf(ret, "apparmor=%s", name);
	return 0;
}

static int decode_apparmor(const struct cri_profiles *p, struct strv *ret, struct error *err)
{
	const Runtime__V1__SecurityProfile *m = p->apparmor;

	if (p->privileged)
		return 0;
	if (!m)
		return apparmor_name(p->legacy_apparmor, ret, err);
	switch (m->profile_type) {
	case RUNTIME__V1__SECURITY_PROFILE__PROFILE_TYPE__RuntimeDefault:
		return 0;
	case RUNTIME__V1__SECURITY_PROFILE__PROFILE_TYPE__Unconfined:
		strv_push(ret, "apparmor=unconfined");
		return 0;
	case RUNTIME__V1__SECURITY_PROFILE__PROFILE_TYPE__Localhost:
		if (str_empty(m->localhost_ref))
			return INVALID(err, "apparmor.localhost_ref: is empty");
		return apparmor_name(m->localhost_ref, ret, err);
	default:
		return INVALID(err, "apparmor.profile_type: unknown type %d", m->profile_type);
	}
}

int cri_decode_profiles(const struct cri_api *api, const struct cri_profiles *p, struct strv *ret,
			struct error *err)
{
	if (decode_seccomp(api, p, ret, err) < 0 || decode_apparmor(p, ret, err) < 0)
		return error_wrap(err, "linux.security_context");
	return 0;
}

void cri_decode_selinux(const Runtime__V1__SELinuxOption *m, struct selinux_label *ret)
{
	if (!m)
		return;
	ret->user = xstrdup(m->user);
	ret->role = xstrdup(m->role);
	ret->type = xstrdup(m->type);
	ret->level = xstrdup(m->level);
}

int cri_decode_mappings(Runtime__V1__IDMapping *const *m, size_t n, struct id_mappings *ret,
			const char *field, struct error *err)
{
	if (n > 340) /* the kernel's limit */
		return INVALID(err, "%s: has %zu entries", field, n);
	ret->v = xnew_array(struct id_mapping, n + 1);
	for (size_t i = 0; i < n; i++)
		ret->v[ret->n++] = (struct id_mapping){ .container_id = m[i]->container_id,
							.host_id = m[i]->host_id,
							.length = m[i]->length };
	return 0;
}

bool cri_annotation_allowed(const struct strv *patterns, const char *name)
{
	for (size_t i = 0; i < patterns->n; i++) {
		const char *p = patterns->v[i];
		size_t n = strlen(p);

		if (str_equal(p, name) ||
		    (n > 0 && p[n - 1] == '*' && strncmp(p, name, n - 1) == 0))
			return true;
	}
	return false;
}

/* --- pods --- */

static int decode_userns(const Runtime__V1__UserNamespace *m, struct sandbox_config *ret,
			 struct error *err)
{
	static const char field[] = "linux.security_context.namespace_options.userns_options";

	if (!m)
		return 0;
	if (m->mode != RUNTIME__V1__NAMESPACE_MODE__POD &&
	    m->mode != RUNTIME__V1__NAMESPACE_MODE__NODE)
		return INVALID(err, "%s.mode: must be POD or NODE", field);
	ret->userns = m->mode == RUNTIME__V1__NAMESPACE_MODE__POD;
	if (cri_decode_mappings(m->uids, m->n_uids, &ret->uid_mappings, "uids", err) < 0 ||
	    cri_decode_mappings(m->gids, m->n_gids, &ret->gid_mappings, "gids", err) < 0)
		return error_wrap(err, "%s", field);
	return 0;
}

static int decode_pod_security(const struct cri_api *api,
			       const Runtime__V1__LinuxSandboxSecurityContext *m,
			       struct sandbox_config *ret, struct error *err)
{
	ret->pid = POD_NS_CONTAINER;
	if (!m)
		return 0;
	const struct cri_profiles profiles = {
		.seccomp = m->seccomp,
		.apparmor = m->apparmor,
		.legacy_seccomp = m->seccomp_profile_path,
		.privileged = m->privileged,
	};

	ret->privileged = m->privileged;
	cri_decode_selinux(m->selinux_options, &ret->selinux);
	if (m->run_as_group && !m->run_as_user)
		return INVALID(err, "linux.security_context.run_as_group: needs run_as_user");
	if (m->namespace_options) {
		ret->network = (int)m->namespace_options->network;
		ret->ipc = (int)m->namespace_options->ipc;
		ret->pid = (int)m->namespace_options->pid;
		if (decode_userns(m->namespace_options->userns_options, ret, err) < 0)
			return -1;
	} else {
		ret->pid = POD_NS_POD;
	}
	return cri_decode_profiles(api, &profiles, &ret->security_opt, err);
}

static void push_all(struct strv *ret, char *const *v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		strv_push(ret, v[i]);
}

static const char *protocol_name(Runtime__V1__Protocol p)
{
	static const char *const names[] = { "tcp", "udp", "sctp" };

	return (unsigned)p < ARRAY_SIZE(names) ? names[p] : "unknown";
}

static void decode_ports(const Runtime__V1__PodSandboxConfig *m, struct sandbox_config *ret)
{
	ret->ports.v = xnew_array(struct port_spec, m->n_port_mappings + 1);
	for (size_t i = 0; i < m->n_port_mappings; i++) {
		const Runtime__V1__PortMapping *p = m->port_mappings[i];

		ret->ports.v[ret->ports.n++] = (struct port_spec){
			.protocol = xstrdup(protocol_name(p->protocol)),
			.host_ip = xstrdup(p->host_ip),
			.host_port = p->host_port,
			.container_port = p->container_port,
		};
	}
}

/* Everybody in the engine's pods may bind all ports and nobody without a capability may ping,
 * unless the administrator or the pod says otherwise. */
static void default_sysctls(const struct cri_api *api, struct sandbox_config *ret)
{
	const struct {
		bool on;
		const char *key, *value;
	} kernels[] = {
		{ api->config.privileged_ports, "net.ipv4.ip_unprivileged_port_start", "1024" },
		{ api->config.unprivileged_ping, "net.ipv4.ping_group_range", "0 2147483647" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(kernels); i++)
		if (kernels[i].on && ret->network == POD_NS_POD &&
		    !kvs_get(&ret->sysctls, kernels[i].key))
			kvs_set(&ret->sysctls, kernels[i].key, kernels[i].value);
}

int cri_decode_sandbox(const struct cri_api *api, const Runtime__V1__PodSandboxConfig *m,
		       const char *handler, struct sandbox_config *ret, struct error *err)
{
	if (!m || !m->metadata)
		return INVALID(err, m ? "config.metadata: is missing" : "config: is missing");
	if (str_empty(m->metadata->name) || str_empty(m->metadata->namespace_) ||
	    str_empty(m->metadata->uid))
		return INVALID(err, "config.metadata: name, namespace and uid must not be empty");
	ret->name = xstrdup(m->metadata->name);
	ret->namespace_ = xstrdup(m->metadata->namespace_);
	ret->uid = xstrdup(m->metadata->uid);
	ret->attempt = m->metadata->attempt;
	ret->hostname = xstrdup(m->hostname);
	ret->log_directory = xstrdup(m->log_directory);
	ret->runtime = xstrdup(handler);
	if (m->dns_config) {
		ret->dns_given = true;
		push_all(&ret->dns_servers, m->dns_config->servers, m->dns_config->n_servers);
		push_all(&ret->dns_searches, m->dns_config->searches, m->dns_config->n_searches);
		push_all(&ret->dns_options, m->dns_config->options, m->dns_config->n_options);
	}
	decode_ports(m, ret);
	message_kvs(&ret->labels, m->labels, m->n_labels);
	message_kvs(&ret->annotations, m->annotations, m->n_annotations);
	if (m->linux) {
		message_kvs(&ret->sysctls, m->linux->sysctls, m->linux->n_sysctls);
		ret->cgroup_parent = xstrdup(m->linux->cgroup_parent);
	}
	if (decode_pod_security(api, m->linux ? m->linux->security_context : NULL, ret, err) < 0)
		return error_wrap(err, "config");
	default_sysctls(api, ret);
	if (sandbox_config_validate(ret, err) < 0)
		return error_wrap(err, "config");
	return 0;
}
