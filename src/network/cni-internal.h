#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of CNI share: the loaded network, one call of a plugin, the cache, the built-in
 * plugins. Internal to src/network. */

#include "network/cni-document.h"
#include "network/cni.h"

#include <pthread.h>
#include <stdatomic.h>

/* What is known of the configuration; a copy of it is good outside the lock. */
struct cni_loaded {
	char *network, *file;
	char *text;   /* the list as cni_list_format() has it; NULL: none */
	char *reason; /* why there is none, or why its plugins cannot be used */
	char *load_error;
	bool external; /* has plugins that are not built in, */
	bool asks;     /* which can be asked for their status */
};

struct cni_watch;

struct cni {
	atomic_uint refs; /* the owner, and a reload that is on its way */
	char *conf_dir, *cache_dir, *network;
	struct strv bin_dirs;
	bool binaries_only, prefer_ipv6, prefer_order;
	int attach_ms, detach_ms;
	/* Attaching and detaching (readers), collecting (writer): plugins that are told what is
	 * valid must not be attaching something else meanwhile. Before the others. */
	pthread_rwlock_t activity;
	pthread_mutex_t reload; /* one reload at a time; before lock */
	pthread_mutex_t lock;	/* the fields below */
	struct map attached;	/* ids that this process has attached; values mean nothing */
	struct cni_loaded loaded;
	unsigned failures;  /* of STATUS, in a row */
	char *status_error; /* what STATUS said, once it counts */
	bool status_known;
	bool asked; /* the plugins, about their versions */
	struct cni_watch *watch;
};

struct cni *cni_ref(struct cni *c);
void cni_unref(struct cni *c);

/* cni-load.c */
void cni_loaded_done(struct cni_loaded *l);
void cni_load(const struct cni *c, struct cni_loaded *ret);

/* cni-status.c: cni_reload(), but with !ask without asking plugins anything. */
void cni_reload_and_ask(struct cni *c, bool ask);

/* cni-watch.c: loop thread. */
int cni_watch_start(struct cni *c, const struct cni_config *config, struct error *err);
void cni_watch_stop(struct cni *c);

/* One command of one attachment, for each of its plugins. */
struct cni_call {
	const struct cni *cni;
	const char *command; /* "ADD" ... */
	const char *id, *netns, *ifname;
	const char *args;	    /* CNI_ARGS */
	const struct strv *builtin; /* types that are done in this process */
	int64_t deadline;	    /* monotonic */
};

/* Milliseconds until the deadline, at least 0. */
int cni_call_left(const struct cni_call *call);
/* The plugin of this type with its whole configuration (name, cniVersion, prevResult,
 * runtimeConfig); ret_result (may be NULL) only for ADD. Messages have no word about which. */
int cni_plugin_run(const struct cni_call *call, const char *type, const struct json *config,
		   struct json **ret_result, struct error *err);
/* The binary; absolute path or NULL. */
char *cni_plugin_find(const struct cni *c, const char *type);
/* Takes what the plugin gets on its standard input. capabilities, prev may be NULL. */
struct json *cni_plugin_config(const struct cni_list *l, size_t index, const struct json *prev,
			       const struct json *capabilities);

/* cni-request.c: malloc'ed; INVALID_ARGUMENT. */
int cni_request_check(const struct cni_request *r, struct error *err);
int cni_request_args(const struct cni_request *r, struct strv *ret, struct error *err);
int cni_request_capabilities(const struct cni_request *r, struct json **ret, struct error *err);

/* An attachment as libcni's cache has it, and which plugins were built in. */
struct cni_record {
	char *id, *ifname, *network, *netns;
	char *config;	  /* the list's text */
	struct strv args; /* "K=V" */
	struct json *capabilities;
	struct json *result; /* NULL: ADD has not ended */
	struct strv builtin;
	bool foreign; /* another program's: nothing was built in */
};

#define CNI_RECORD_INIT ((struct cni_record){ 0 })
#define autocnirecord CLEANUP(cni_record_done)

void cni_record_done(struct cni_record *r);
int cni_record_save(const struct cni *c, const struct cni_record *r, struct error *err);
/* NOT_FOUND; a file that cannot be understood is DATA_LOSS. */
int cni_record_load(const struct cni *c, const char *network, const char *id, const char *ifname,
		    struct cni_record *ret, struct error *err);
/* Any network's, by the sandbox's id. */
int cni_record_find(const struct cni *c, const char *id, const char *ifname, struct cni_record *ret,
		    struct error *err);
void cni_record_delete(const struct cni *c, const struct cni_record *r);
/* Calls fn for each record; ends when it returns non-zero. */
int cni_records_each(const struct cni *c, int (*fn)(const struct cni_record *r, void *arg),
		     void *arg, struct error *err);
/* Sans-IO. */
int cni_record_parse(const char *text, size_t len, struct cni_record *ret, struct error *err);
char *cni_record_format(const struct cni_record *r);

/*
 * A plugin in this process. The functions get what the binary would: the configuration whole. They
 * report like it and leave nothing behind when they fail, but what DEL removes.
 */
struct cni_builtin {
	const char *type;
	/* Every key of the configuration is one that it honours. */
	bool (*supports)(const struct json *config);
	int (*add)(const struct cni_call *call, const struct json *config, struct json **ret_result,
		   struct error *err);
	int (*del)(const struct cni_call *call, const struct json *config, struct error *err);
	int (*check)(const struct cni_call *call, const struct json *config, struct error *err);
	int (*gc)(const struct cni_call *call, const struct json *config, struct error *err);
};

extern const struct cni_builtin cni_loopback, cni_bridge, cni_host_local, cni_portmap, cni_firewall;

const struct cni_builtin *cni_builtin_find(const char *type);
/* Types of the list (address management too) that are built in and support their configuration. */
void cni_builtin_types(const struct cni *c, const struct cni_list *l, struct strv *ret);
/* All members of obj are named in keys (end with NULL); false for another type than an object. */
bool cni_keys_known(const struct json *obj, const char *const *keys);
/* prevResult; err when there is none and it is needed. */
int cni_prev_result(const struct json *config, struct cni_info *ret, struct error *err);

/* The sandbox's namespace: a descriptor; NOT_FOUND when there is none at that path (any more). */
int cni_netns_open(const char *path, struct error *err);
/* Runs fn in it on this thread, which is back in its own when this returns. */
int cni_netns_do(int netns_fd, int (*fn)(void *arg, struct error *err), void *arg,
		 struct error *err);
int cni_loopback_up(int netns_fd, struct error *err);
/* "net/ipv4/conf/eth0/arp_notify", of the calling thread's namespace. 0 or -errno. */
int cni_sysctl(const char *value, const char *fmt, ...) PRINTF_LIKE(2, 3);
