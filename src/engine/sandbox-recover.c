/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sandboxes after a restart. One that was READY is so if its pins are there and, when it has one,
 * its reaper runs; a run that was cut short is undone. A shim that has gone needs nothing.
 */

#include "base/log.h"
#include "base/mem.h"
#include "engine/sandbox-internal.h"

#include <string.h>

static int load_one(struct engine *e, const char *ns, const struct kv *record, struct error *err)
{
	autojson struct json *doc = json_parse(record->value, strlen(record->value), SIZE_MAX, err);
	CLEANUP(sandbox_unrefp) struct sandbox *s = NULL;

	if (!doc || strlen(record->key) > 64)
		return -1;
	s = sandbox_new(e, ns, record->key);
	if (sandbox_config_from_json(json_get(doc, "config"), &s->config, err) < 0 ||
	    json_get_strv(doc, "ips", &s->ips, err) < 0)
		return -1;
	s->created_at = json_get_int(doc, "createdAt", 0);
	s->state = json_get_bool(doc, "ready", false) ? SANDBOX_READY : SANDBOX_NOTREADY;
	s->making = json_get_bool(doc, "making", false);
	s->attached = json_get_bool(doc, "attached", false);
	s->let_go = json_get_bool(doc, "letGo", false);
	s->boot_id = xstrdup(json_get_string(doc, "bootID"));
	s->cni_result = xstrdup(json_get_string(doc, "cniResult"));
	s->extension = xstrdup(json_get_string(doc, "extension"));
	s->busy = true;
	sandbox_publish(s);
	return 0;
}

int sandboxes_load(struct engine *e, struct error *err)
{
	autostrv struct strv namespaces = STRV_INIT;

	if (namespace_list(e->config.store, &namespaces, err) < 0)
		return -1;
	for (size_t i = 0; i < namespaces.n; i++) {
		const struct store_ctx ctx = { .store = e->config.store, .ns = namespaces.v[i] };
		autokvs struct kvs records = KVS_INIT;

		if (record_list(&ctx, SANDBOX_KIND, &records, err) < 0)
			return -1;
		for (size_t k = 0; k < records.n; k++) {
			autoerror struct error why = ERROR_INIT;

			if (load_one(e, namespaces.v[i], &records.v[k], &why) < 0)
				log_err("record of sandbox '%s': %s, ignoring it", records.v[k].key,
					error_msg(&why));
		}
	}
	return 0;
}

static bool pins_are_there(const struct sandbox *s)
{
	const bool wanted[SANDBOX_NS_MAX] = {
		[SANDBOX_NET] = s->config.network == POD_NS_POD,
		[SANDBOX_UTS] = s->config.network == POD_NS_POD,
		[SANDBOX_IPC] = s->config.ipc == POD_NS_POD,
		[SANDBOX_USER] = s->config.userns,
	};

	for (int i = 0; i < SANDBOX_NS_MAX; i++) {
		autofree char *path = sandbox_ns_path(s, (enum sandbox_ns)i);

		if (wanted[i] && !path)
			return false;
	}
	return true;
}

/* False: the sandbox cannot go on. */
static bool connect_shim(struct sandbox *s)
{
	bool reaper = s->config.pid == POD_NS_POD;
	struct task_state state = { 0 };
	autoerror struct error err = ERROR_INIT;
	struct task *t = NULL;

	if (task_load_pod(s->e->tasks, s->ns, s->id, &t, &state, &err) < 0) {
		log_warn("shim of sandbox '%s': %s", s->id, error_msg(&err));
		return !reaper;
	}
	s->task = t;
	bool runs = state.status == TASK_RUNNING;
	if (runs) {
		pthread_mutex_lock(&s->e->lock);
		s->pid = state.pid;
		pthread_mutex_unlock(&s->e->lock);
		task_watch(t, "");
	}
	return !reaper || runs;
}

void sandbox_recover(struct sandbox *s, bool has_bundle)
{
	autoerror struct error err = ERROR_INIT;
	bool reaper = s->config.pid == POD_NS_POD;
	bool good = str_equal(s->boot_id, s->e->boot_id) && pins_are_there(s);

	if (has_bundle)
		good = connect_shim(s) && good;
	else if (reaper)
		good = false;
	if (s->making) {
		if (sandbox_stop(s, &err) == 0 && sandbox_remove(s, &err) == 0)
			return;
		log_warn("undo sandbox '%s': %s", s->id, error_msg(&err));
		pthread_mutex_lock(&s->e->lock);
		s->making = false;
		pthread_mutex_unlock(&s->e->lock);
		sandbox_save(s, NULL);
		return;
	}
	if (!good)
		sandbox_note_lost(s);
}
