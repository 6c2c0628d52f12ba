#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kubernetes' Container Runtime Interface, version 1: RuntimeService and ImageService over the
 * engine, in the namespace "k8s.io". Decodes, calls engine/ and image/, encodes; one file a group
 * of calls, runtime.c and images.c have the tables of methods.
 */

#include "base/strv.h"
#include "engine/engine.h"
#include "rpc/grpc.h"

#define CRI_NAMESPACE "k8s.io"

struct cni;
struct cri_api;
struct streaming;

/* What the configuration says of a runtime handler. */
struct cri_handler {
	const char *name;
	bool no_host_devices;					    /* for privileged containers */
	const struct strv *pod_annotations, *container_annotations; /* patterns */
};

struct cri_config {
	struct engine *engine;
	struct loop *loop;
	struct jobs *jobs;
	struct cni *cni;	     /* of pods; borrowed */
	struct streaming *streaming; /* borrowed */
	const struct strv *pinned; /* names of images that the kubelet must not collect; borrowed */
	int64_t pull_timeout;	   /* ns without progress until a pull is given up */
	const struct cri_handler *handlers;
	size_t n_handlers;
	const char *unset_seccomp; /* profile where none is named; NULL: none */
	bool restrict_oom_score_adj;
	bool ignore_image_volumes;
	bool privileged_ports, unprivileged_ping; /* in pods */
	bool cdi;
	struct json *shown; /* configuration for Status with verbose; taken, may be NULL */
};

/* What config points to is borrowed for the life of the API. */
struct cri_api *cri_api_new(const struct cri_config *config);
/* Loop thread. */
void cri_api_add(struct cri_api *a, struct grpc_server *server);
/* Containers.Get and Tasks.Get of containerd's API, for pods and their containers: the cAdvisor in
 * the kubelet asks for them. arg: the API. Never block. NOT_FOUND. */
int cri_containerd_container(void *arg, struct grpc_call *c, const ProtobufCMessage *request,
			     ProtobufCMessage *reply, struct error *err);
int cri_containerd_task(void *arg, struct grpc_call *c, const ProtobufCMessage *request,
			ProtobufCMessage *reply, struct error *err);
/* Loop thread, after the server's end. NULL is fine. */
void cri_api_free(struct cri_api *a);
