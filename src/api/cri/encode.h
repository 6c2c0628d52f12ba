#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/* The engine's views to messages, in an arena. Any thread, nothing blocks. */

#include "api/cri/internal.h"
#include "engine/sandbox.h"

Runtime__V1__PodSandbox *cri_encode_sandbox(struct arena *a, const struct sandbox_view *v);
Runtime__V1__PodSandboxStatus *cri_encode_sandbox_status(struct arena *a,
							 const struct sandbox_view *v);
Runtime__V1__PodSandboxMetadata *cri_encode_pod_metadata(struct arena *a,
							 const struct sandbox_view *v);
Runtime__V1__Container *cri_encode_container(struct arena *a, const struct container_brief *b);
Runtime__V1__ContainerStatus *cri_encode_container_status(struct arena *a,
							  const struct container_view *v);
Runtime__V1__ContainerMetadata *cri_encode_container_metadata(struct arena *a,
							      const struct json *extension);
Runtime__V1__LinuxContainerResources *cri_encode_resources(struct arena *a,
							   const struct container_config *c);

Runtime__V1__ContainerState cri_container_state(enum container_status s);
/* The annotations that a container was created with. */
void cri_annotations(const struct json *extension, struct kvs *ret);
/* The same as a map's entries. */
void *cri_annotation_map(struct arena *a, const ProtobufCMessageDescriptor *entry,
			 const struct json *extension, size_t *ret_n);
