/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fs.h"
#include "base/mem.h"
#include "base/parse.h"
#include "engine/spec-internal.h"

#include <ctype.h>
#include <fcntl.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include <linux/capability.h>

#define DEFAULT_PATH "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define INIT_TARGET "/sbin/docker-init"

static const struct {
	const char *name;
	const char *type;
	int resource;
} rlimits[] = {
	{ "core", "RLIMIT_CORE", RLIMIT_CORE },
	{ "cpu", "RLIMIT_CPU", RLIMIT_CPU },
	{ "data", "RLIMIT_DATA", RLIMIT_DATA },
	{ "fsize", "RLIMIT_FSIZE", RLIMIT_FSIZE },
	{ "locks", "RLIMIT_LOCKS", RLIMIT_LOCKS },
	{ "memlock", "RLIMIT_MEMLOCK", RLIMIT_MEMLOCK },
	{ "msgqueue", "RLIMIT_MSGQUEUE", RLIMIT_MSGQUEUE },
	{ "nice", "RLIMIT_NICE", RLIMIT_NICE },
	{ "nofile", "RLIMIT_NOFILE", RLIMIT_NOFILE },
	{ "nproc", "RLIMIT_NPROC", RLIMIT_NPROC },
	{ "rss", "RLIMIT_RSS", RLIMIT_RSS },
	{ "rtprio", "RLIMIT_RTPRIO", RLIMIT_RTPRIO },
	{ "rttime", "RLIMIT_RTTIME", RLIMIT_RTTIME },
	{ "sigpending", "RLIMIT_SIGPENDING", RLIMIT_SIGPENDING },
	{ "stack", "RLIMIT_STACK", RLIMIT_STACK },
};

/* Without CAP_SYS_RESOURCE a hard limit can only go down: the host's is the most there is. */
static uint64_t limit_allowed(int resource, uint64_t wanted)
{
	struct rlimit own;

	if (prctl(PR_CAPBSET_READ, CAP_SYS_RESOURCE, 0, 0, 0) == 1 || getrlimit(resource, &own) < 0)
		return wanted;
	return own.rlim_max == RLIM_INFINITY ? wanted : MIN(wanted, (uint64_t)own.rlim_max);
}

int64_t spec_oom_score(int64_t wanted)
{
	autobuf struct buf text = BUF_INIT(64);
	int64_t own = 0;

	if (prctl(PR_CAPBSET_READ, CAP_SYS_RESOURCE, 0, 0, 0) == 1 ||
	    fs_read(AT_FDCWD, "/proc/self/oom_score_adj", &text) < 0)
		return wanted;
	text.data[strcspn(text.data, "\n")] = '\0';
	/* Shims have one more than the daemon. */
	return parse_int64(text.data, &own) < 0 ? wanted : MAX(wanted, MIN(own + 1, (int64_t)1000));
}

static int process_rlimits(const struct container_config *c, struct json *process,
			   struct error *err)
{
	struct json *list;

	if (c->ulimits.n == 0)
		return 0;
	list = json_new_array();
	json_set(process, "rlimits", list);
	for (size_t i = 0; i < c->ulimits.n; i++) {
		const struct ulimit_spec *u = &c->ulimits.v[i];
		struct json *j;
		size_t k = 0;

		while (k < ARRAY_SIZE(rlimits) && strcmp(rlimits[k].name, u->name) != 0)
			k++;
		if (k == ARRAY_SIZE(rlimits))
			return error_set(err, ERROR_INVALID_ARGUMENT, "invalid ulimit type: %s",
					 u->name);
		uint64_t hard = limit_allowed(rlimits[k].resource, (uint64_t)u->hard);
		uint64_t soft = MIN((uint64_t)u->soft, hard);
		j = json_new_object();
		json_set_string(j, "type", rlimits[k].type);
		json_set_uint(j, "hard", hard);
		json_set_uint(j, "soft", soft);
		json_add(list, j);
	}
	return 0;
}

static struct json *user_document(const struct user_ids *u)
{
	struct json *j = json_new_object();
	struct json *groups = json_new_array();

	json_set_int(j, "uid", u->uid);
	json_set_int(j, "gid", u->gid);
	for (size_t i = 0; i < u->n_groups; i++)
		json_add(groups, json_new_int(u->groups[i]));
	json_set(j, "additionalGids", groups);
	return j;
}

/* A name without a value takes the variable away, as Docker has it. */
static void apply_env(struct strv *env, const struct strv *over)
{
	for (size_t i = 0; i < over->n; i++) {
		if (strchr(over->v[i], '='))
			strv_env_set(env, over->v[i]);
		else
			strv_env_unset(env, over->v[i]);
	}
}

/* Docker's order: the daemon's own variables, then the configuration's over them. */
static void process_env(const struct container_config *c, const struct user_ids *user,
			struct strv *ret)
{
	strv_push(ret, DEFAULT_PATH);
	if (!str_empty(c->hostname))
		strv_push_printf(ret, "HOSTNAME=%s", c->hostname);
	if (c->tty)
		strv_push(ret, "TERM=xterm");
	apply_env(ret, &c->env);
	if (!strv_env_get(ret, "HOME")) {
		const char *home = user->home ? user->home : "/";

		strv_push_printf(ret, "HOME=%s", home);
	}
}

static bool no_new_privileges(const struct container_config *c)
{
	const char *value = security_option(c, "no-new-privileges");
	bool on;

	return value && (value[0] == '\0' || (parse_bool(value, &on) == 0 && on));
}

static enum groups_policy groups_policy(const struct container_config *c)
{
	return str_equal(c->groups_policy, "merge")    ? GROUPS_MERGE
	       : str_equal(c->groups_policy, "strict") ? GROUPS_STRICT
						       : GROUPS_DOCKER;
}

int spec_process(const struct spec_inputs *in, const struct strv *caps, struct json *spec,
		 struct error *err)
{
	const struct container_config *c = in->config;
	CLEANUP(user_ids_done) struct user_ids found = { 0 };
	const struct user_ids *user = in->user ? in->user : &found;
	autostrv struct strv env = STRV_INIT;
	autostrv struct strv args = STRV_INIT;
	struct json *process = json_new_object();

	json_set(spec, "process", process);
	if (!in->user &&
	    user_resolve_by(in->rootfs_fd, c->user, (const char *const *)c->group_add.v,
			    c->group_add.n, groups_policy(c), &found, err) < 0)
		return -1;
	process_env(c, user, &env);
	if (c->init) {
		strv_push(&args, INIT_TARGET);
		strv_push(&args, "--");
	}
	strv_extend(&args, &c->args);
	if (c->tty)
		json_set_bool(process, "terminal", true);
	json_set(process, "user", user_document(user));
	json_set(process, "args", json_new_strv(&args));
	json_set(process, "env", json_new_strv(&env));
	json_set_string(process, "cwd", str_empty(c->cwd) ? "/" : c->cwd);
	struct json *sets = caps_document(caps, user->uid == 0);
	json_set(process, "capabilities", sets);
	if (caps_add_ambient(c, sets, err) < 0)
		return -1;
	json_set_int(process, "oomScoreAdj",
		     spec_in_pod(c) ? spec_oom_score(c->oom_score_adj) : c->oom_score_adj);
	if (no_new_privileges(c))
		json_set_bool(process, "noNewPrivileges", true);
	return process_rlimits(c, process, err);
}

void exec_config_done(struct exec_config *c)
{
	strv_done(&c->args);
	strv_done(&c->env);
	free(c->cwd);
	free(c->user);
	free(c->detach_keys);
	*c = (struct exec_config){ 0 };
}

int spec_build_exec(const struct spec_inputs *in, const struct json *spec,
		    const struct exec_config *exec, struct json **ret, struct error *err)
{
	struct json *base = json_get(spec, "process");
	CLEANUP(user_ids_done) struct user_ids user = { 0 };
	autostrv struct strv env = STRV_INIT;
	autostrv struct strv caps = STRV_INIT;

	if (exec->args.n == 0)
		return error_set(err, ERROR_INVALID_ARGUMENT, "no exec command specified");
	if (json_get_strv(base, "env", &env, err) < 0)
		return -1;
	if (!str_empty(exec->cwd) && exec->cwd[0] != '/')
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "working directory '%s' of the exec is not an absolute path",
				 exec->cwd);
	autojson struct json *process = json_copy(base);
	if (!str_empty(exec->user)) {
		if (user_resolve(in->rootfs_fd, exec->user,
				 (const char *const *)in->config->group_add.v,
				 in->config->group_add.n, &user, err) < 0)
			return -1;
		json_set(process, "user", user_document(&user));
		autofree char *home = xasprintf("HOME=%s", user.home ? user.home : "/");
		strv_env_set(&env, home);
	}
	if (exec->privileged)
		caps_available(&caps);
	else if (caps_resolve(in->config, &caps, err) < 0)
		return -1;
	int64_t uid = json_get_int(json_get(process, "user"), "uid", 0);
	struct json *sets = caps_document(&caps, uid == 0);
	json_set(process, "capabilities", sets);
	if (caps_add_ambient(in->config, sets, err) < 0)
		return -1;
	if (exec->tty && !strv_env_get(&env, "TERM"))
		strv_push(&env, "TERM=xterm");
	apply_env(&env, &exec->env);
	json_set(process, "args", json_new_strv(&exec->args));
	json_set(process, "env", json_new_strv(&env));
	json_set_bool(process, "terminal", exec->tty);
	if (!str_empty(exec->cwd))
		json_set_string(process, "cwd", exec->cwd);
	*ret = TAKE_PTR(process);
	return 0;
}
