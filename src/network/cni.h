#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pods' networks by CNI (spec 0.1.0 to 1.1.0), with libcni's semantics, its cache of results and
 * its order of plugins. The types loopback, bridge, host-local, portmap and firewall are done in
 * this process where their configuration allows it; everything else, and a configuration with a key
 * that the built-in ones do not know, is done by the plugins' binaries.
 *
 * One `struct cni` is one directory of configurations: the default one, and one for each runtime
 * handler that has a directory of its own. They may share a cache (and do, by root).
 *
 * Calls that touch the network block, each under a deadline of its own that has nothing to do with
 * any client's, and run on pool threads; at most one at a time for one sandbox. cni_status() and
 * cni_describe() never block, any thread.
 *
 * Before anything else an attach leaves its configuration in <cache>/results, so that whatever it
 * has done is undone by a detach, even by another process and after the configuration has changed.
 */

#include "base/error.h"
#include "base/json.h"
#include "base/map.h"
#include "base/strv.h"
#include "network/network.h"

struct cni;
struct loop;
struct jobs;

struct cni_config {
	const char *conf_dir;	     /* NULL: /etc/cni/net.d */
	const struct strv *bin_dirs; /* NULL or empty: /opt/cni/bin, /usr/lib/cni; copied */
	const char *network;	     /* name of the configuration; NULL: the first file's */
	const char *root;	     /* the cache is <root>/cni; NULL: /var/lib/kistl */
	const char *cache_dir;	     /* not NULL: in place of <root>/cni */
	bool binaries_only;	     /* no built-in plugins */
	const char *ip_pref;	     /* primary address: "ipv4" (NULL), "ipv6", "cni": the first */
	int attach_timeout_ms;	     /* 0: 5 min */
	int detach_timeout_ms;	     /* 0: 1 min, for all attempts together */
	/* Both NULL: nothing is watched; the configuration is loaded by cni_new(), cni_reload() and
	 * by an attach that finds none. */
	struct loop *loop;
	struct jobs *jobs;
};

/* Loop thread when config has a loop. A missing or bad configuration is not an error but a
 * status. */
int cni_new(const struct cni_config *config, struct cni **ret, struct error *err);
/* Loop thread when there is a loop, before loop_free() and after the last call has returned. */
void cni_free(struct cni *c);

struct cni_status {
	bool ready;
	char *reason;  /* not ready: "no network configuration found in /etc/cni/net.d", ...; else
			  NULL */
	char *network; /* name of the network in use, or NULL */
	char *file;    /* its file, or NULL */
	char *load_error; /* files that were passed over, each with its reason; NULL: none */
};

void cni_status(struct cni *c, struct cni_status *ret);
void cni_status_done(struct cni_status *s);
/* For verbose status ("cniconfig", "lastCNILoadStatus"): directories, the network as loaded, which
 * plugins are built in. A new object. */
struct json *cni_describe(struct cni *c);
/* Reads the directory again and asks the plugins for their status. Blocks. */
void cni_reload(struct cni *c);

struct cni_request {
	const char *id;	    /* sandbox */
	const char *netns;  /* path; for a detach NULL or "" when it is gone */
	const char *ifname; /* NULL: "eth0" */
	const char *pod_name, *pod_namespace, *pod_uid;
	const struct kvs *args; /* more CNI_ARGS; NULL: none */
	/* Capabilities. Each reaches only plugins that enable it. */
	const struct port_mapping *ports; /* host_port 0: left out */
	size_t n_ports;
	/* As io.kubernetes.cri.pod-annotations, and kubernetes.io/{ingress,egress}-bandwidth as
	 * bandwidth. */
	const struct kvs *annotations;
	const struct strv *dns_servers, *dns_searches, *dns_options;
	const char *cgroup_path;
	const struct json
		*capabilities; /* further members of runtimeConfig by capability: ipRanges,
				  ips, aliases, mac, infinibandGUID ...; borrowed */
};

struct cni_result {
	char *network;
	char *ip;		    /* primary address, no prefix; NULL: the network gave none */
	struct strv additional_ips; /* all others, in order */
	unsigned prefix;	    /* of the primary one */
	char *gateway;		    /* of the primary one, or NULL */
	char *mac;		    /* of the interface in the sandbox, or NULL */
	struct strv dns_servers, dns_searches, dns_options;
	struct json *json; /* as the last plugin gave it */
};

void cni_result_done(struct cni_result *r);
#define autocniresult CLEANUP(cni_result_done)

/*
 * Loopback up, then ADD of each plugin. When one fails, everything is undone with a fresh deadline;
 * if even that fails the message says so and the caller must detach later. UNAVAILABLE: no network
 * configuration, or the plugin says "try again later"; INVALID_ARGUMENT: a name or a bandwidth
 * that CNI cannot carry; DEADLINE_EXCEEDED. A name is never taken: what an earlier attach of it has
 * left is detached first.
 */
int cni_attach(struct cni *c, const struct cni_request *r, struct cni_result *ret,
	       struct error *err);
/* DEL in reverse order with the cached configuration, arguments and result, or, when nothing is
 * cached, with the request's; tried again within the deadline. What is gone already is success, so
 * it may be called at any time, also after a failure and without a namespace. */
int cni_detach(struct cni *c, const struct cni_request *r, struct error *err);
/* CHECK against the cached result. FAILED_PRECONDITION: the configuration's version has none. */
int cni_check(struct cni *c, const struct cni_request *r, struct error *err);
/* Detaches every cached attachment (ifname any) of this network whose sandbox is neither in `valid`
 * nor was attached by this process, then GC where the version has it. Attaches and detaches wait
 * meanwhile. Goes on after a failure, returns the first. */
int cni_gc(struct cni *c, const struct strv *valid, struct error *err);
/* The cached result of an attachment, after a restart. NOT_FOUND. */
int cni_get(struct cni *c, const char *id, const char *ifname, struct cni_result *ret,
	    struct error *err);
