/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether there is a network. The configuration counts at once; what plugins say to STATUS counts
 * when they have said it several times, since a node whose network flaps loses its pods.
 */
#include "base/log.h"
#include "base/mem.h"
#include "base/time.h"
#include "network/cni-internal.h"

#include <string.h>

#define STATUS_MS (10 * 1000)
#define FAILURES_MAX 3

void cni_status(struct cni *c, struct cni_status *ret)
{
	pthread_mutex_lock(&c->lock);
	const char *reason = c->loaded.reason ? c->loaded.reason : c->status_error;

	*ret = (struct cni_status){
		.ready = !reason,
		.reason = xstrdup(reason),
		.network = xstrdup(c->loaded.network),
		.file = xstrdup(c->loaded.file),
		.load_error = xstrdup(c->loaded.load_error),
	};
	pthread_mutex_unlock(&c->lock);
}

void cni_status_done(struct cni_status *s)
{
	free(s->reason);
	free(s->network);
	free(s->file);
	free(s->load_error);
	*s = (struct cni_status){ 0 };
}

static struct cni_call call_without(const struct cni *c, const char *command)
{
	return (struct cni_call){
		.cni = c,
		.command = command,
		.deadline = time_monotonic() + STATUS_MS * NSEC_PER_MSEC,
	};
}

/* 0, or -1 with what the first plugin says that cannot serve. */
static int ask_status(const struct cni *c, const struct cni_list *l, const struct strv *builtin,
		      struct error *err)
{
	struct cni_call call = call_without(c, "STATUS");

	call.builtin = builtin;
	for (size_t i = 0; i < l->n; i++) {
		autojson struct json *config = cni_plugin_config(l, i, NULL, NULL);

		if (cni_plugin_run(&call, l->v[i].type, config, NULL, err) < 0)
			return error_wrap(err, "network '%s': plugin '%s'", l->name, l->v[i].type);
	}
	return 0;
}

/* Does the plugin say that it speaks the list's version? One that cannot tell may be older than
 * the question. */
static int ask_version(const struct cni *c, const struct cni_list *l, size_t index,
		       struct error *err)
{
	const struct cni_call call = call_without(c, "VERSION");
	autojson struct json *question = json_new_object();
	autojson struct json *answer = NULL;
	autostrv struct strv versions = STRV_INIT;

	json_set_string(question, "cniVersion", cni_version_name(l->version));
	if (cni_plugin_run(&call, l->v[index].type, question, &answer, NULL) < 0 ||
	    json_get_strv(answer, "supportedVersions", &versions, NULL) < 0 || versions.n == 0)
		return 0;
	if (strv_contains(&versions, cni_version_name(l->version)))
		return 0;
	autofree char *known = strv_join(&versions, ", ");
	return error_set(err, ERROR_FAILED_PRECONDITION,
			 "network '%s': plugin '%s' does not support version %s, only %s", l->name,
			 l->v[index].type, cni_version_name(l->version), known);
}

static void check_versions(const struct cni *c, struct cni_loaded *l, const struct cni_list *list,
			   const struct strv *builtin)
{
	for (size_t i = 0; i < list->n && !l->reason; i++) {
		autoerror struct error err = ERROR_INIT;

		if (!strv_contains(builtin, list->v[i].type) && ask_version(c, list, i, &err) < 0)
			l->reason = xstrdup(err.msg);
	}
}

static void say(bool was_known, bool was_ready, const struct cni *c)
{
	const char *reason = c->loaded.reason ? c->loaded.reason : c->status_error;

	if (was_known && was_ready == !reason)
		return;
	if (reason)
		log_warn("pods have no network: %s", reason);
	else
		log_info("pods' network is '%s' from '%s'", c->loaded.network, c->loaded.file);
}

/* One failure among successes is not told; the first answer of all is. */
static void count_status(struct cni *c, struct error *e)
{
	bool first = !c->status_known;

	c->status_known = true;
	c->failures = error_is(e, ERROR_OK) ? 0 : c->failures + 1;
	if (c->failures > 0 && c->failures < FAILURES_MAX && !first && !c->status_error)
		return;
	free(c->status_error);
	c->status_error = c->failures > 0 ? xstrdup(e->msg) : NULL;
}

/* Until a first answer it is no. */
static void not_asked(struct cni *c)
{
	c->asked = false;
	if (!c->status_error && c->loaded.asks && !c->loaded.reason)
		c->status_error = xasprintf("network '%s': its plugins have not been asked yet",
					    c->loaded.network);
}

void cni_reload(struct cni *c)
{
	cni_reload_and_ask(c, /* ask= */ true);
}

void cni_reload_and_ask(struct cni *c, bool ask)
{
	CLEANUP(cni_list_done) struct cni_list list = CNI_LIST_INIT;
	autostrv struct strv builtin = STRV_INIT;
	autoerror struct error e = ERROR_INIT;
	struct cni_loaded loaded;
	bool changed, was_ready, was_known;

	pthread_mutex_lock(&c->reload);
	cni_load(c, &loaded);
	/* Only this function writes, under `reload`. */
	changed = !str_equal(loaded.text, c->loaded.text) || c->loaded.reason || !c->asked;
	if (ask && loaded.text && !loaded.reason && loaded.external &&
	    cni_list_parse(loaded.text, strlen(loaded.text), /* single= */ false, &list, &e) == 0) {
		cni_builtin_types(c, &list, &builtin);
		if (changed)
			check_versions(c, &loaded, &list, &builtin);
		if (!loaded.reason && loaded.asks)
			ask_status(c, &list, &builtin, &e);
	}
	pthread_mutex_lock(&c->lock);
	was_known = c->loaded.reason || c->loaded.text;
	was_ready = !c->loaded.reason && !c->status_error;
	if (!str_equal(loaded.text, c->loaded.text)) {
		c->status_known = false;
		free(c->status_error);
		c->status_error = NULL;
	}
	cni_loaded_done(&c->loaded);
	c->loaded = loaded;
	c->asked = true;
	if (ask)
		count_status(c, &e);
	else
		not_asked(c);
	say(was_known, was_ready, c);
	pthread_mutex_unlock(&c->lock);
	pthread_mutex_unlock(&c->reload);
}

static struct json *describe_network(const struct cni *c, const struct cni_list *l)
{
	autostrv struct strv builtin = STRV_INIT;
	struct json *j = json_new_object(), *config = json_new_object();
	struct json *plugins = json_new_array();

	cni_builtin_types(c, l, &builtin);
	for (size_t i = 0; i < l->n; i++) {
		struct json *p = json_new_object(), *network = json_new_object();
		autofree char *source = json_format(l->v[i].config, false);

		json_set_string(network, "type", l->v[i].type);
		json_set_bool(network, "builtin", strv_contains(&builtin, l->v[i].type));
		json_set(p, "Network", network);
		json_set_string(p, "Source", source);
		json_add(plugins, p);
	}
	json_set_string(config, "Name", l->name);
	json_set_string(config, "CNIVersion", cni_version_name(l->version));
	json_set(config, "Plugins", plugins);
	json_set(j, "Config", config);
	json_set_string(j, "IFName", "eth0");
	return j;
}

struct json *cni_describe(struct cni *c)
{
	struct json *j = json_new_object(), *dirs = json_new_strv(&c->bin_dirs);
	struct json *networks = json_new_array();

	json_set(j, "PluginDirs", dirs);
	json_set_string(j, "PluginConfDir", c->conf_dir);
	json_set_int(j, "PluginMaxConfNum", 1);
	json_set_string(j, "Prefix", "eth");
	pthread_mutex_lock(&c->lock);
	if (c->loaded.text) {
		CLEANUP(cni_list_done) struct cni_list l = CNI_LIST_INIT;

		if (cni_list_parse(c->loaded.text, strlen(c->loaded.text), /* single= */ false, &l,
				   NULL) == 0)
			json_add(networks, describe_network(c, &l));
	}
	pthread_mutex_unlock(&c->lock);
	json_set(j, "Networks", networks);
	return j;
}
