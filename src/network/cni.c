/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attaching and detaching. The record comes before the first plugin and goes after the last one, so
 * at any moment in between another process knows what there is to undo. An undo has a deadline of
 * its own: what made an attach late must not keep it from being cleared up.
 */
#include "network/cni.h"

#include "base/fs.h"
#include "base/mem.h"
#include "base/time.h"
#include "network/cni-internal.h"

#include <assert.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define CONF_DIR "/etc/cni/net.d"
#define ROOT "/var/lib/kistl"
#define IFNAME "eth0"
#define ATTACH_MS (5 * 60 * 1000)
#define DETACH_MS (60 * 1000)
#define CHECK_MS (60 * 1000)

/* Before the second and the third attempt to detach, in milliseconds. */
static const int pauses[] = { 250, 1000 };

struct cni *cni_ref(struct cni *c)
{
	atomic_fetch_add(&c->refs, 1);
	return c;
}

void cni_unref(struct cni *c)
{
	if (atomic_fetch_sub(&c->refs, 1) != 1)
		return;
	assert(!c->watch);
	cni_loaded_done(&c->loaded);
	map_done(&c->attached);
	pthread_rwlock_destroy(&c->activity);
	pthread_mutex_destroy(&c->reload);
	pthread_mutex_destroy(&c->lock);
	strv_done(&c->bin_dirs);
	free(c->status_error);
	free(c->conf_dir);
	free(c->cache_dir);
	free(c->network);
	free(c);
}

int cni_new(const struct cni_config *config, struct cni **ret, struct error *err)
{
	struct cni *c = xnew(struct cni);
	const char *pref = config->ip_pref;

	atomic_init(&c->refs, 1);
	pthread_rwlock_init(&c->activity, NULL);
	pthread_mutex_init(&c->reload, NULL);
	pthread_mutex_init(&c->lock, NULL);
	c->conf_dir = xstrdup(config->conf_dir ? config->conf_dir : CONF_DIR);
	c->cache_dir = config->cache_dir
			       ? xstrdup(config->cache_dir)
			       : path_join(config->root ? config->root : ROOT, "cni", NULL);
	c->network = xstrdup(config->network);
	if (config->bin_dirs && config->bin_dirs->n) {
		strv_copy(&c->bin_dirs, config->bin_dirs);
	} else {
		strv_push(&c->bin_dirs, "/opt/cni/bin");
		strv_push(&c->bin_dirs, "/usr/lib/cni");
	}
	c->binaries_only = config->binaries_only;
	c->prefer_ipv6 = str_equal(pref, "ipv6");
	c->prefer_order = str_equal(pref, "cni");
	c->attach_ms = config->attach_timeout_ms > 0 ? config->attach_timeout_ms : ATTACH_MS;
	c->detach_ms = config->detach_timeout_ms > 0 ? config->detach_timeout_ms : DETACH_MS;
	/* The loop does not wait for plugins. */
	cni_reload_and_ask(c, /* ask= */ !config->loop);
	if (config->loop && cni_watch_start(c, config, err) < 0) {
		cni_free(c);
		return error_wrap(err, "watch '%s'", config->conf_dir);
	}
	*ret = c;
	return 0;
}

void cni_free(struct cni *c)
{
	if (!c)
		return;
	cni_watch_stop(c);
	cni_unref(c);
}

void cni_result_done(struct cni_result *r)
{
	free(r->network);
	free(r->ip);
	strv_done(&r->additional_ips);
	free(r->gateway);
	free(r->mac);
	strv_done(&r->dns_servers);
	strv_done(&r->dns_searches);
	strv_done(&r->dns_options);
	json_unref(r->json);
	*r = (struct cni_result){ 0 };
}

/* Addresses of the sandbox's interface; when the result does not say whose they are, all. */
static bool is_ours(const struct cni_info *i, const struct cni_ip *ip, const char *ifname)
{
	const struct cni_interface *f;

	if (ip->interface < 0)
		return true;
	f = &i->interfaces.v[ip->interface];
	return f->sandbox && str_equal(f->name, ifname);
}

static const struct cni_ip *primary(const struct cni *c, const struct cni_info *i,
				    const char *ifname)
{
	const struct cni_ip *first = NULL;

	for (size_t k = 0; k < i->ips.n; k++) {
		const struct cni_ip *ip = &i->ips.v[k];

		if (!is_ours(i, ip, ifname))
			continue;
		if (c->prefer_order ||
		    ip_family(&ip->address.addr) == (c->prefer_ipv6 ? AF_INET6 : AF_INET))
			return ip;
		if (!first)
			first = ip;
	}
	return first;
}

static int fill_result(const struct cni *c, const struct cni_record *r, struct cni_result *ret,
		       struct error *err)
{
	autocniinfo struct cni_info i = CNI_INFO_INIT;
	const struct cni_ip *first;
	char text[CNI_NET_STRING_MAX];

	*ret = (struct cni_result){ 0 };
	if (cni_info_parse(r->result, &i, err) < 0)
		return error_wrap(err, "result of network '%s'", r->network);
	first = primary(c, &i, r->ifname);
	ret->network = xstrdup(r->network);
	ret->json = json_copy(r->result);
	if (first) {
		ip_format(&first->address.addr, text);
		ret->ip = xstrdup(text);
		ret->prefix = first->address.prefix;
		ip_format(&first->gateway, text);
		ret->gateway = *text ? xstrdup(text) : NULL;
	}
	for (size_t k = 0; k < i.ips.n; k++) {
		if (&i.ips.v[k] == first || !is_ours(&i, &i.ips.v[k], r->ifname))
			continue;
		ip_format(&i.ips.v[k].address.addr, text);
		strv_push(&ret->additional_ips, text);
	}
	for (size_t k = 0; k < i.interfaces.n && !ret->mac; k++) {
		if (i.interfaces.v[k].sandbox && str_equal(i.interfaces.v[k].name, r->ifname))
			ret->mac = xstrdup(i.interfaces.v[k].mac);
	}
	if (json_get_strv(i.dns, "nameservers", &ret->dns_servers, err) < 0 ||
	    json_get_strv(i.dns, "search", &ret->dns_searches, err) < 0 ||
	    json_get_strv(i.dns, "options", &ret->dns_options, err) < 0) {
		cni_result_done(ret);
		return error_wrap(err, "dns of network '%s'", r->network);
	}
	return 0;
}

static struct cni_call call_of(const struct cni *c, const char *command, const struct cni_record *r,
			       const char *args, int ms)
{
	return (struct cni_call){
		.cni = c,
		.command = command,
		.id = r->id,
		.netns = r->netns,
		.ifname = r->ifname,
		.args = args,
		.builtin = r->foreign ? NULL : &r->builtin,
		.deadline = time_monotonic() + ms * NSEC_PER_MSEC,
	};
}

static int plugin_failed(const struct cni_list *l, size_t i, const char *verb, struct error *err)
{
	return error_wrap(err, "plugin type=\"%s\" name=\"%s\" failed (%s)", l->v[i].type, l->name,
			  verb);
}

/* One pass through the plugins, the last one first. */
static int delete_once(const struct cni *c, const struct cni_record *r, const struct cni_list *l,
		       int ms, struct error *err)
{
	autofree char *args = strv_join(&r->args, ";");
	const struct cni_call call = call_of(c, "DEL", r, args, ms);
	/* Before 0.4.0 there was no such thing. */
	const struct json *prev = l->version >= CNI_0_4_0 ? r->result : NULL;

	for (size_t i = l->n; i-- > 0;) {
		autojson struct json *config = cni_plugin_config(l, i, prev, r->capabilities);

		if (cni_plugin_run(&call, l->v[i].type, config, NULL, err) < 0)
			return plugin_failed(l, i, "delete", err);
	}
	return 0;
}

static void pause_ms(int ms)
{
	const struct timespec t = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * NSEC_PER_MSEC };

	nanosleep(&t, NULL);
}

static int detach_record(const struct cni *c, const struct cni_record *r, struct error *err)
{
	CLEANUP(cni_list_done) struct cni_list l = CNI_LIST_INIT;
	int64_t end = time_monotonic() + c->detach_ms * NSEC_PER_MSEC;

	if (cni_list_parse(r->config, strlen(r->config), /* single= */ false, &l, err) < 0)
		return error_wrap(err, "configuration of network '%s'", r->network);
	for (size_t attempt = 0;; attempt++) {
		int64_t left = (end - time_monotonic()) / NSEC_PER_MSEC;
		autoerror struct error e = ERROR_INIT;

		if (delete_once(c, r, &l, (int)MAX(left, INT64_C(0)), &e) == 0)
			break;
		left = (end - time_monotonic()) / NSEC_PER_MSEC;
		if (attempt >= ARRAY_SIZE(pauses) || left <= pauses[attempt])
			return error_move(err, &e);
		pause_ms(pauses[attempt]);
	}
	cni_record_delete(c, r);
	return 0;
}

/* The configuration in use; UNAVAILABLE. One look at the directory is worth it: the client knows
 * that the network has come before the next rescan does. */
static int current_config(struct cni *c, char **ret_network, char **ret_text, struct error *err)
{
	for (int attempt = 0;; attempt++) {
		autofree char *reason = NULL;

		pthread_mutex_lock(&c->lock);
		if (c->loaded.text && !c->loaded.reason) {
			*ret_network = xstrdup(c->loaded.network);
			*ret_text = xstrdup(c->loaded.text);
		} else {
			reason = xstrdup(c->loaded.reason);
		}
		pthread_mutex_unlock(&c->lock);
		if (!reason)
			return 0;
		if (attempt)
			return error_set(err, ERROR_UNAVAILABLE, "network is not ready: %s",
					 reason);
		cni_reload(c);
	}
}

static void record_names(struct cni_record *r, const struct cni_request *q)
{
	r->id = xstrdup(q->id);
	r->ifname = xstrdup(q->ifname ? q->ifname : IFNAME);
	r->netns = xstrdup(q->netns);
}

/* Everything that a detach needs, from the request and the configuration in use. */
static int record_new(struct cni *c, const struct cni_request *q, struct cni_record *ret,
		      struct error *err)
{
	autocnirecord struct cni_record r = CNI_RECORD_INIT;
	CLEANUP(cni_list_done) struct cni_list l = CNI_LIST_INIT;

	record_names(&r, q);
	if (current_config(c, &r.network, &r.config, err) < 0 ||
	    cni_request_args(q, &r.args, err) < 0 ||
	    cni_request_capabilities(q, &r.capabilities, err) < 0 ||
	    cni_list_parse(r.config, strlen(r.config), /* single= */ false, &l, err) < 0)
		return -1;
	cni_builtin_types(c, &l, &r.builtin);
	*ret = r;
	r = CNI_RECORD_INIT;
	return 0;
}

/* The record has the result of the last plugin that succeeded. */
static int add_all(const struct cni *c, struct cni_record *r, struct error *err)
{
	CLEANUP(cni_list_done) struct cni_list l = CNI_LIST_INIT;
	autofree char *args = strv_join(&r->args, ";");
	const struct cni_call call = call_of(c, "ADD", r, args, c->attach_ms);

	if (cni_list_parse(r->config, strlen(r->config), /* single= */ false, &l, err) < 0)
		return -1;
	for (size_t i = 0; i < l.n; i++) {
		autojson struct json *config = cni_plugin_config(&l, i, r->result, r->capabilities);
		autojson struct json *result = NULL;
		autocniinfo struct cni_info checked = CNI_INFO_INIT;

		if (cni_plugin_run(&call, l.v[i].type, config, &result, err) < 0)
			return plugin_failed(&l, i, "add", err);
		if (!json_get_string(result, "cniVersion"))
			json_set_string(result, "cniVersion", cni_version_name(l.version));
		if (cni_info_parse(result, &checked, err) < 0) {
			error_wrap(err, "its result");
			return plugin_failed(&l, i, "add", err);
		}
		json_unref(r->result);
		r->result = TAKE_PTR(result);
	}
	return 0;
}

/* For a failed attach: err keeps the first reason. */
static int undo(const struct cni *c, const struct cni_record *r, struct error *err)
{
	autoerror struct error e = ERROR_INIT, first = ERROR_INIT;

	if (detach_record(c, r, &e) == 0 || !err)
		return -1;
	error_move(&first, err);
	return error_set(err, first.code, "%s (and it could not be undone: %s)", error_msg(&first),
			 e.msg);
}

/* The namespace that still exists, or none. */
static void use_netns(struct cni_record *r, const char *asked)
{
	const char *const candidates[] = { asked, r->netns };
	char *found = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(candidates) && !found; i++) {
		autoclose int fd =
			str_empty(candidates[i]) ? -1 : cni_netns_open(candidates[i], NULL);

		if (fd >= 0)
			found = xstrdup(candidates[i]);
	}
	free(r->netns);
	r->netns = found;
}

/* What an attach of this name that nobody detached has left, maybe another process's. */
static int clear_earlier(const struct cni *c, const struct cni_record *r, struct error *err)
{
	autocnirecord struct cni_record old = CNI_RECORD_INIT;

	if (cni_record_load(c, r->network, r->id, r->ifname, &old, NULL) < 0)
		return 0;
	use_netns(&old, r->netns);
	if (detach_record(c, &old, err) < 0)
		return error_wrap(err, "undo an earlier attach of '%s'", r->id);
	return 0;
}

static void note_attached(struct cni *c, const char *id, bool attached)
{
	pthread_mutex_lock(&c->lock);
	if (attached)
		map_set(&c->attached, id, c);
	else
		map_remove(&c->attached, id);
	pthread_mutex_unlock(&c->lock);
}

static int attach(struct cni *c, const struct cni_request *q, struct cni_result *ret,
		  struct error *err)
{
	autocnirecord struct cni_record r = CNI_RECORD_INIT;
	autoclose int ns = -EBADF;

	if (cni_request_check(q, err) < 0 || record_new(c, q, &r, err) < 0 ||
	    clear_earlier(c, &r, err) < 0)
		return -1;
	ns = cni_netns_open(q->netns, err);
	if (ns < 0 || cni_loopback_up(ns, err) < 0)
		return -1;
	note_attached(c, q->id, true);
	if (cni_record_save(c, &r, err) < 0)
		return -1;
	if (add_all(c, &r, err) < 0 || cni_record_save(c, &r, err) < 0 ||
	    fill_result(c, &r, ret, err) < 0)
		return undo(c, &r, err);
	return 0;
}

int cni_attach(struct cni *c, const struct cni_request *q, struct cni_result *ret,
	       struct error *err)
{
	int r;

	pthread_rwlock_rdlock(&c->activity);
	r = attach(c, q, ret, err);
	pthread_rwlock_unlock(&c->activity);
	return r;
}

/* The record, by the network in use or by any other one that the sandbox may have been attached
 * to before the configuration changed. */
static int find_record(struct cni *c, const char *id, const char *ifname, struct cni_record *ret,
		       struct error *err)
{
	autofree char *network = NULL;

	pthread_mutex_lock(&c->lock);
	network = xstrdup(c->loaded.network);
	pthread_mutex_unlock(&c->lock);
	if (network && cni_record_load(c, network, id, ifname, ret, NULL) == 0)
		return 0;
	return cni_record_find(c, id, ifname, ret, err);
}

/* What to detach with; 1: nothing is known of an attachment, and there is nothing to do it with. */
static int detach_plan(struct cni *c, const struct cni_request *q, struct cni_record *ret,
		       struct error *err)
{
	autoerror struct error e = ERROR_INIT;
	const char *ifname = q->ifname ? q->ifname : IFNAME;

	if (find_record(c, q->id, ifname, ret, &e) == 0)
		return 0;
	if (!error_is(&e, ERROR_NOT_FOUND) && !error_is(&e, ERROR_DATA_LOSS))
		return error_move(err, &e);
	error_done(&e);
	if (record_new(c, q, ret, &e) == 0)
		return 0;
	/* Whoever attached would have left a record, and had a configuration. */
	return error_is(&e, ERROR_UNAVAILABLE) ? 1 : error_move(err, &e);
}

static int detach(struct cni *c, const struct cni_request *q, struct error *err)
{
	autocnirecord struct cni_record r = CNI_RECORD_INIT;
	int n;

	if (cni_request_check(q, err) < 0)
		return -1;
	n = detach_plan(c, q, &r, err);
	if (n != 0)
		return n < 0 ? -1 : 0;
	use_netns(&r, q->netns);
	if (detach_record(c, &r, err) < 0)
		return -1;
	note_attached(c, q->id, false);
	return 0;
}

int cni_detach(struct cni *c, const struct cni_request *q, struct error *err)
{
	int r;

	pthread_rwlock_rdlock(&c->activity);
	r = detach(c, q, err);
	pthread_rwlock_unlock(&c->activity);
	return r;
}

int cni_get(struct cni *c, const char *id, const char *ifname, struct cni_result *ret,
	    struct error *err)
{
	const struct cni_request q = { .id = id, .ifname = ifname };
	autocnirecord struct cni_record r = CNI_RECORD_INIT;

	if (cni_request_check(&q, err) < 0 ||
	    find_record(c, id, ifname ? ifname : IFNAME, &r, err) < 0)
		return -1;
	if (!r.result)
		return error_set(err, ERROR_NOT_FOUND, "'%s' was never attached completely", id);
	return fill_result(c, &r, ret, err);
}

int cni_check(struct cni *c, const struct cni_request *q, struct error *err)
{
	autocnirecord struct cni_record r = CNI_RECORD_INIT;
	CLEANUP(cni_list_done) struct cni_list l = CNI_LIST_INIT;
	autofree char *args = NULL;

	if (cni_request_check(q, err) < 0 ||
	    find_record(c, q->id, q->ifname ? q->ifname : IFNAME, &r, err) < 0 ||
	    cni_list_parse(r.config, strlen(r.config), /* single= */ false, &l, err) < 0)
		return -1;
	if (l.version < CNI_0_4_0)
		return error_set(err, ERROR_FAILED_PRECONDITION,
				 "network '%s': version %s has no CHECK", l.name,
				 cni_version_name(l.version));
	if (l.disable_check)
		return 0;
	if (!r.result)
		return error_set(err, ERROR_NOT_FOUND, "'%s' was never attached completely", q->id);
	use_netns(&r, q->netns);
	args = strv_join(&r.args, ";");
	const struct cni_call call = call_of(c, "CHECK", &r, args, CHECK_MS);

	for (size_t i = 0; i < l.n; i++) {
		autojson struct json *config = cni_plugin_config(&l, i, r.result, r.capabilities);

		if (cni_plugin_run(&call, l.v[i].type, config, NULL, err) < 0)
			return plugin_failed(&l, i, "check", err);
	}
	return 0;
}

struct collection {
	struct cni *cni;
	const char *network;
	const struct strv *valid;
	struct json *attachments; /* of those that stay */
	struct strv known;	  /* their ids */
	struct error first;
};

static void add_attachment(struct collection *k, const char *id, const char *ifname)
{
	struct json *j = json_new_object();

	json_set_string(j, "containerID", id);
	json_set_string(j, "ifname", ifname);
	json_add(k->attachments, j);
	strv_push(&k->known, id);
}

static int collect_record(const struct cni_record *r, void *arg)
{
	struct collection *k = arg;
	const struct cni_request q = { .id = r->id, .ifname = r->ifname };
	autoerror struct error e = ERROR_INIT;

	if (!str_equal(r->network, k->network))
		return 0;
	/* What another program attached is not known to our callers. */
	if (r->foreign || strv_contains(k->valid, r->id))
		add_attachment(k, r->id, r->ifname);
	else if (detach(k->cni, &q, &e) < 0 && k->first.code == ERROR_OK)
		error_move(&k->first, &e);
	return 0;
}

static void collect_plugins(struct collection *k, const struct cni_list *l)
{
	static const char *const keys[] = { "cni.dev/valid-attachments", "cni.dev/attachments" };
	autostrv struct strv builtin = STRV_INIT;
	struct cni_record none = { .netns = NULL };

	cni_builtin_types(k->cni, l, &builtin);
	none.builtin = builtin;
	const struct cni_call call = call_of(k->cni, "GC", &none, "", k->cni->detach_ms);

	for (size_t i = 0; i < l->n; i++) {
		autojson struct json *config = cni_plugin_config(l, i, NULL, NULL);
		autoerror struct error e = ERROR_INIT;

		for (size_t n = 0; n < ARRAY_SIZE(keys); n++)
			json_set(config, keys[n], json_ref(k->attachments));
		if (cni_plugin_run(&call, l->v[i].type, config, NULL, &e) < 0 &&
		    k->first.code == ERROR_OK) {
			plugin_failed(l, i, "gc", &e);
			error_move(&k->first, &e);
		}
	}
}

static int collect(struct cni *c, const struct strv *valid, struct error *err)
{
	CLEANUP(cni_list_done) struct cni_list l = CNI_LIST_INIT;
	autofree char *network = NULL, *text = NULL;
	autojson struct json *attachments = json_new_array();
	struct collection k = { .cni = c, .valid = valid, .attachments = attachments };
	int r;

	if (current_config(c, &network, &text, err) < 0 ||
	    cni_list_parse(text, strlen(text), /* single= */ false, &l, err) < 0)
		return -1;
	if (l.disable_gc)
		return 0;
	k.network = network;
	r = cni_records_each(c, collect_record, &k, err);
	for (size_t i = 0; i < valid->n; i++) {
		if (!strv_contains(&k.known, valid->v[i]))
			add_attachment(&k, valid->v[i], IFNAME);
	}
	if (r == 0 && l.version >= CNI_1_1_0)
		collect_plugins(&k, &l);
	strv_done(&k.known);
	if (r < 0 || k.first.code == ERROR_OK) {
		error_done(&k.first);
		return r;
	}
	return error_move(err, &k.first);
}

int cni_gc(struct cni *c, const struct strv *valid, struct error *err)
{
	autostrv struct strv all = STRV_INIT;
	int r;

	strv_copy(&all, valid);
	pthread_rwlock_wrlock(&c->activity);
	pthread_mutex_lock(&c->lock);
	MAP_FOREACH (e, &c->attached) {
		if (!strv_contains(&all, map_key(e)))
			strv_push(&all, map_key(e));
	}
	pthread_mutex_unlock(&c->lock);
	r = collect(c, &all, err);
	pthread_rwlock_unlock(&c->activity);
	return r;
}
