#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What pods need besides the engine: their networks by CNI, the streaming server, and the CRI in
 * front of all. Some of these belong to the loop, while services are started on a pool thread; so
 * calls are carried over.
 */

#include "api/cri/cri.h"
#include "daemon/config.h"
#include "engine/engine.h"

struct pod_services;

/* Before the engine: networks. */
struct pod_services *pod_services_new(const struct config *config, struct loop *loop,
				      struct jobs *jobs, struct error *err);
/* Fills pod_network of the engine's configuration and of its runtimes, which are in the order of
 * the daemon's. */
void pod_services_networks(struct pod_services *s, struct engine_config *engine,
			   struct runtime_entry *runtimes);
/* After the engine. */
int pod_services_start(struct pod_services *s, struct engine *engine, struct error *err);
struct cri_api *pod_services_cri(struct pod_services *s);
/* Whether somebody is streaming. Loop thread. */
bool pod_services_idle(struct pod_services *s);
/* With no call running any more: first what uses the engine, then, after the engine's end, the
 * networks. NULL is fine. */
void pod_services_stop(struct pod_services *s);
void pod_services_free(struct pod_services *s);
