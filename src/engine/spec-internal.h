#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of spec_build(): each adds its members to the document. Internal to spec*.c. */

#include "engine/spec.h"
#include "engine/user.h"

/* "" is private. */
enum ns_mode spec_ns_mode(const char *mode);

/* uidMappings and gidMappings of a document. */
struct json *spec_id_mappings(const struct id_mappings *m);
/* A container of a pod: CRI's rules where they differ from Docker's. */
static inline bool spec_in_pod(const struct container_config *c)
{
	return !str_empty(c->sandbox_id);
}

/* What this process may give to others: without the privilege to, not less than it has. */
int64_t spec_oom_score(int64_t wanted);

/* Capabilities of a container, full names ("CAP_CHOWN"): defaults, added, dropped; limited to what
 * this process may hand on. */
int caps_resolve(const struct container_config *c, struct strv *ret, struct error *err);
/* Those that this process may hand on. */
void caps_available(struct strv *ret);
struct json *caps_document(const struct strv *caps, bool root_user);
/* Adds those of cap_ambient to the document's sets. */
int caps_add_ambient(const struct container_config *c, struct json *document, struct error *err);

int spec_process(const struct spec_inputs *in, const struct strv *caps, struct json *spec,
		 struct error *err);
int spec_mounts(const struct spec_inputs *in, struct json *spec, struct error *err);
/* linux.devices and linux.resources.devices. */
int spec_devices(const struct spec_inputs *in, struct json *linux_, struct json *resources,
		 struct error *err);
/* Are the devices of the limits there? */
int spec_check_rates(const struct resources *r, struct error *err);
void spec_resources(const struct spec_inputs *in, struct json *resources);
/* seccomp, masked paths, AppArmor, no_new_privs ... */
int spec_security(const struct spec_inputs *in, const struct strv *caps, struct json *spec,
		  struct json *linux_, struct error *err);
/* Value of "KEY=value" or "KEY:value" among the security options, NULL when absent. */
const char *security_option(const struct container_config *c, const char *key);
