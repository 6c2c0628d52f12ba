#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests to the engine's configurations. What is wrong with a request is said here or by the
 * engine, with the name of its field: INVALID_ARGUMENT. Any thread.
 */

#include "api/cri/internal.h"
#include "engine/sandbox.h"

/* All texts of a message, at any depth, are UTF-8: what is stored must be readable again. Names the
 * field. */
int cri_check_texts(const ProtobufCMessage *m, struct error *err);

int cri_decode_sandbox(const struct cri_api *api, const Runtime__V1__PodSandboxConfig *m,
		       const char *handler, struct sandbox_config *ret, struct error *err);

/* Without its image, see cri_decode_image(). `extension` gets what the engine has no place for. */
int cri_decode_container(const struct cri_api *api, const Runtime__V1__ContainerConfig *m,
			 const struct sandbox_view *pod, struct container_config *ret,
			 struct json *extension, struct error *err);
/* The image's part of it; unpacks the image where that has not been done. */
int cri_decode_image(const struct cri_api *api, const Runtime__V1__ContainerConfig *m,
		     struct container_config *ret, struct json *extension, struct error *err);
/* Only what is not zero changes anything. */
int cri_decode_resources(const Runtime__V1__LinuxContainerResources *m, struct resources *ret,
			 struct error *err);

/* "seccomp=..." and "apparmor=..." on security_opt; profiles may be NULL, legacy texts "". */
struct cri_profiles {
	const Runtime__V1__SecurityProfile *seccomp, *apparmor;
	const char *legacy_seccomp, *legacy_apparmor;
	bool privileged;
};
int cri_decode_profiles(const struct cri_api *api, const struct cri_profiles *p, struct strv *ret,
			struct error *err);
void cri_decode_selinux(const Runtime__V1__SELinuxOption *m, struct selinux_label *ret);
int cri_decode_mappings(Runtime__V1__IDMapping *const *m, size_t n, struct id_mappings *ret,
			const char *field, struct error *err);
/* Whether any of the patterns ("name", "prefix.*") takes it. */
bool cri_annotation_allowed(const struct strv *patterns, const char *name);

/* "SIGNAL_SIGRTMINPLUS3" -> "SIGRTMIN+3"; malloc'ed. */
char *cri_signal_name(const char *protocol_name);

/* Members of a container's extension. */
#define CRI_EXT_NAME "name"
#define CRI_EXT_ATTEMPT "attempt"
#define CRI_EXT_ANNOTATIONS "annotations"
#define CRI_EXT_DIGEST "request"
#define CRI_EXT_IMAGE "image"	       /* as asked for */
#define CRI_EXT_USER_IMAGE "userImage" /* as the user wrote it */
#define CRI_EXT_HANDLER "imageHandler"
#define CRI_EXT_IMAGE_NAME "imageName" /* a name that people know */
#define CRI_EXT_IMAGE_REF "imageRef"
#define CRI_EXT_MOUNTED "mounted" /* by target: the image mounted there, as asked for */
