#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CNI's documents: lists of plugins, results of all versions, errors. Sans-IO.
 */

#include "base/error.h"
#include "base/json.h"
#include "base/strv.h"
#include "network/cni-net.h"

#define CNI_DOCUMENT_MAX (1 << 20)
#define CNI_PLUGINS_MAX 64
#define CNI_ADDRESSES_MAX 256

/* In order of age; compare numbers. */
enum cni_version {
	CNI_0_1_0,
	CNI_0_2_0,
	CNI_0_3_0,
	CNI_0_3_1,
	CNI_0_4_0,
	CNI_1_0_0,
	CNI_1_1_0,
	CNI_VERSION_MAX
};

const char *cni_version_name(enum cni_version v);
/* NULL and "" are 0.1.0; -1: not known here. */
int cni_version_parse(const char *s);

/* Names of networks and ids of containers. */
bool cni_name_valid(const char *s);
bool cni_ifname_valid(const char *s);

struct cni_plugin {
	const char *type;    /* within config */
	struct json *config; /* owned */
};

struct cni_list {
	char *name;
	enum cni_version version;
	bool disable_check, disable_gc, inlined_only;
	struct cni_plugin *v;
	size_t n;
};

#define CNI_LIST_INIT ((struct cni_list){ 0 })

void cni_list_done(struct cni_list *l);
/* A *.conflist, or with `single` a *.conf of one plugin. INVALID_ARGUMENT. A list may be empty:
 * its plugins may lie in files of their own. */
int cni_list_parse(const char *text, size_t len, bool single, struct cni_list *ret,
		   struct error *err);
/* One more plugin, from a file's text. */
int cni_list_add(struct cni_list *l, const char *text, size_t len, struct error *err);
/* Text that gives the same list; malloc'ed. */
char *cni_list_format(const struct cni_list *l);

struct cni_interface {
	char *name, *mac, *sandbox; /* sandbox NULL: the host's */
};

struct cni_ip {
	struct cni_net address;
	struct ip gateway; /* len 0: none */
	int interface;	   /* index, -1: not said */
};

struct cni_route {
	struct cni_net dst;
	struct ip gateway;
};

/* A result of any version. */
struct cni_info {
	enum cni_version version;
	struct {
		struct cni_interface *v;
		size_t n;
	} interfaces;
	struct {
		struct cni_ip *v;
		size_t n;
	} ips;
	struct {
		struct cni_route *v;
		size_t n;
	} routes;
	struct json *dns; /* or NULL; owned */
};

#define CNI_INFO_INIT ((struct cni_info){ 0 })
#define autocniinfo CLEANUP(cni_info_done)

void cni_info_done(struct cni_info *i);
/* INVALID_ARGUMENT names the member. */
int cni_info_parse(const struct json *result, struct cni_info *ret, struct error *err);
/* From 0.3.0 on. */
struct json *cni_info_encode(const struct cni_info *i);
void cni_info_add_interface(struct cni_info *i, const char *name, const char *mac,
			    const char *sandbox);
void cni_info_add_ip(struct cni_info *i, const struct cni_ip *ip);
void cni_info_add_route(struct cni_info *i, const struct cni_net *dst, const struct ip *gateway);
/* [{"dst": ..., "gw": ...}]; known members only where `strict`: UNIMPLEMENTED for others. */
int cni_routes_parse(const struct json *routes, struct cni_info *ret, bool strict,
		     struct error *err);

/* What a plugin says that failed, from its output or else its standard error. Sets err, -1.
 * UNAVAILABLE: code 11 (try again later), 50 and 51 (from STATUS). */
int cni_failure(const char *out, size_t out_len, const char *errout, const char *status,
		struct error *err);

/* "10M", "1Gi", "500k", "1e6", "100m": Kubernetes' quantities, rounded up. -EINVAL, -ERANGE. */
int cni_quantity_parse(const char *s, uint64_t *ret);
