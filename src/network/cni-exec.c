/* SPDX-License-Identifier: Apache-2.0 */
/* One call of a plugin: built in, or its binary with the configuration on its standard input. */
#include "base/fs.h"
#include "base/mem.h"
#include "base/process.h"
#include "base/time.h"
#include "loop/job.h"
#include "network/cni-internal.h"

#include <limits.h>
#include <string.h>
#include <sys/wait.h>

#define STDERR_MAX (64 << 10)

int cni_call_left(const struct cni_call *call)
{
	int64_t left = (call->deadline - time_monotonic()) / NSEC_PER_MSEC;

	return left < 0 ? 0 : (int)MIN(left, INT_MAX);
}

char *cni_plugin_find(const struct cni *c, const char *type)
{
	autofree char *path = strv_join(&c->bin_dirs, ":");

	return process_find(type, path);
}

static void environment(const struct cni_call *call, struct strv *env)
{
	autofree char *dirs = strv_join(&call->cni->bin_dirs, ":");
	const char *const vars[][2] = {
		{ "CNI_COMMAND", call->command }, { "CNI_CONTAINERID", call->id },
		{ "CNI_NETNS", call->netns },	  { "CNI_IFNAME", call->ifname },
		{ "CNI_ARGS", call->args },	  { "CNI_PATH", dirs },
	};

	for (char **e = environ; e && *e; e++) {
		if (!str_has_prefix(*e, "CNI_"))
			strv_push(env, *e);
	}
	for (size_t i = 0; i < ARRAY_SIZE(vars); i++)
		strv_push_printf(env, "%s=%s", vars[i][0], vars[i][1] ? vars[i][1] : "");
}

static int parse_result(const struct buf *out, struct json **ret, struct error *err)
{
	autojson struct json *j = NULL;
	autoerror struct error e = ERROR_INIT;

	if (out->len >= out->max)
		return error_set(err, ERROR_RESOURCE_EXHAUSTED, "its result exceeds %d bytes",
				 CNI_DOCUMENT_MAX);
	j = json_parse(out->data, out->len, CNI_DOCUMENT_MAX, &e);
	if (!j || json_type(j) != JSON_OBJECT)
		return error_set(err, ERROR_UNKNOWN, "its result is not JSON: %s",
				 j ? "expected an object" : e.msg);
	*ret = TAKE_PTR(j);
	return 0;
}

static int run_binary(const struct cni_call *call, const char *type, const struct json *config,
		      struct json **ret_result, struct error *err)
{
	autofree char *path = cni_plugin_find(call->cni, type);
	autofree char *input = json_format(config, false);
	autofree char *dirs = strv_join(&call->cni->bin_dirs, ", ");
	autobuf struct buf out = BUF_INIT(CNI_DOCUMENT_MAX + 1), errout = BUF_INIT(STDERR_MAX);
	autostrv struct strv env = STRV_INIT;
	char *const argv[] = { path, NULL };
	autoerror struct error e = ERROR_INIT;
	int status, r;

	if (!path)
		return error_set(err, ERROR_NOT_FOUND, "not found in %s", dirs);
	environment(call, &env);
	struct process_spec spec = {
		.path = path,
		.argv = argv,
		.envp = env.v,
		.cwd = "/",
		.flags = PROCESS_NEW_PGRP,
	};
	/* It may take minutes, and other operations' threads must not run out. */
	job_wait_begin();
	r = process_run(&spec, input, strlen(input), &out, &errout, cni_call_left(call), &status,
			&e);
	job_wait_end();
	if (r < 0) {
		if (error_is(&e, ERROR_DEADLINE_EXCEEDED))
			return error_set(err, ERROR_DEADLINE_EXCEEDED,
					 "did not end in time and was killed");
		return error_move(err, &e);
	}
	if (status != 0) {
		autofree char *text = process_status_string(status);

		return cni_failure(out.data, out.len, errout.data, text, err);
	}
	return ret_result ? parse_result(&out, ret_result, err) : 0;
}

static int run_builtin(const struct cni_builtin *b, const struct cni_call *call,
		       const struct json *config, struct json **ret_result, struct error *err)
{
	if (str_equal(call->command, "ADD"))
		return b->add(call, config, ret_result, err);
	if (str_equal(call->command, "DEL"))
		return b->del(call, config, err);
	if (str_equal(call->command, "CHECK"))
		return b->check(call, config, err);
	if (str_equal(call->command, "GC") && b->gc)
		return b->gc(call, config, err);
	return 0; /* STATUS: always */
}

int cni_plugin_run(const struct cni_call *call, const char *type, const struct json *config,
		   struct json **ret_result, struct error *err)
{
	const struct cni_builtin *b = cni_builtin_find(type);

	if (b && call->builtin && strv_contains(call->builtin, type))
		return run_builtin(b, call, config, ret_result, err);
	return run_binary(call, type, config, ret_result, err);
}

struct capabilities {
	const struct json *given;
	struct json *passed;
};

static int on_capability(const char *key, struct json *enabled, void *arg)
{
	struct capabilities *c = arg;
	const struct json *value = json_get(c->given, key);

	if (json_bool(enabled, false) && value)
		json_set(c->passed, key, json_copy(value));
	return 0;
}

struct json *cni_plugin_config(const struct cni_list *l, size_t index, const struct json *prev,
			       const struct json *capabilities)
{
	struct json *config = json_copy(l->v[index].config);
	autojson struct json *passed = json_new_object();
	struct capabilities c = { .given = capabilities, .passed = passed };

	json_set_string(config, "name", l->name);
	json_set_string(config, "cniVersion", cni_version_name(l->version));
	if (prev)
		json_set(config, "prevResult", json_copy(prev));
	if (capabilities && json_get(config, "capabilities"))
		json_object_each(json_get(config, "capabilities"), on_capability, &c);
	if (json_object_len(passed))
		json_set(config, "runtimeConfig", TAKE_PTR(passed));
	return config;
}
