/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pods against the real thing: store, kistl-shim, kistl-pause and crun, with Debian's busybox as
 * the image and a network that only takes notes. In phases, as test-run.c: between two the engine
 * is made anew while pods live on.
 *
 * Arguments: path of kistl-shim. Needs root; anything else is a skip (77).
 */

#include "engine/testing-pods.h"

static const char *shim_path;
static char survivor[65], survivor_container[65];
static char shared[65], shared_container[65];

/* --- phase one --- */

static void test_life(void **state UNUSED)
{
	struct sandbox_config c;
	struct sandbox_view *v = NULL, *again = NULL;
	char id[65];

	pod_configure(&c, "life");
	pod_run(&c, id);
	assert_true(net.had_netns);
	assert_ok(engine_sandbox_get(engine, NS, id, &v, ERR));
	assert_int_equal(v->state, SANDBOX_READY);
	assert_string_equal(v->config.name, "life");
	assert_int_equal(v->ips.n, 2);
	assert_string_equal(v->ips.v[0], "10.99.0.7");
	assert_int_equal(v->pid, 0);
	assert_int_equal(access(v->netns_path, F_OK), 0);
	assert_ok(engine_sandbox_get(engine, NS, "", &again, ERR) < 0 ? 0 : -1);
	char prefix[9] = "";
	memcpy(prefix, id, 8);
	assert_ok(engine_sandbox_get(engine, NS, prefix, &again, ERR));
	assert_ptr_equal(v, again);
	sandbox_view_unref(again);

	autofree char *out =
		run_script(id, "hostname; cat /etc/resolv.conf /etc/hostname; echo $$; "
			       "stat -c %a /dev/shm; cat "
			       "/proc/sys/net/ipv4/ip_unprivileged_port_start");
	assert_string_equal(out, "podhost\nsearch a.example b.example\nnameserver 10.10.10.10\n"
				 "podhost\n1\n1777\n0\n");
	int fd = engine_sandbox_open_netns(engine, NS, id, ERR);
	assert_true(fd >= 0);
	close(fd);

	int detached = net.detached;
	assert_ok(engine_sandbox_stop(engine, NS, id, ERR));
	assert_ok(engine_sandbox_stop(engine, NS, id, ERR));
	assert_int_equal(net.detached, detached + 1);
	assert_int_equal(state_of(id), SANDBOX_NOTREADY);
	assert_int_not_equal(access(v->netns_path, F_OK), 0);
	assert_int_equal(v->state, SANDBOX_READY); /* as it was */
	assert_int_equal(engine_sandbox_open_netns(engine, NS, id, ERR), -1);
	struct container_config k;
	configure(&k, id, "true");
	char cid[65];
	assert_fails(engine_create(engine, NS, NULL, &k, NULL, cid, NULL, ERR),
		     ERROR_FAILED_PRECONDITION, "not ready");
	container_config_done(&k);
	assert_ok(engine_sandbox_remove(engine, NS, id, ERR));
	assert_fails(engine_sandbox_stop(engine, NS, id, ERR), ERROR_NOT_FOUND, id);
	sandbox_view_unref(v);
}

static void test_sharing(void **state UNUSED)
{
	struct sandbox_config c;
	struct container_config k;
	char id[65], writer[65];

	pod_configure(&c, "sharing");
	pod_run(&c, id);
	configure(&k, id, "echo hi > /dev/shm/x; sleep 1000");
	create(&k, writer);
	assert_ok(engine_start(engine, NS, writer, NULL, ERR));
	autofree char *out =
		run_script(id, "while ! test -s /dev/shm/x; do :; done; cat /dev/shm/x");
	assert_string_equal(out, "hi\n");
	assert_int_equal(count_entries("state/s"), 1); /* one shim */

	struct container_briefs b;
	engine_briefs(engine, NS, id, &b);
	assert_int_equal(b.n, 1);
	assert_int_equal(b.v[0].status, CONTAINER_RUNNING);
	assert_string_equal(b.v[0].shared->id, writer);
	container_briefs_done(&b);
	/* A pod that goes takes its running containers along. */
	assert_ok(engine_sandbox_remove(engine, NS, id, ERR));
	struct container_view *v;
	assert_fails(engine_inspect(engine, NS, writer, &v, ERR), ERROR_NOT_FOUND, "");
	assert_int_equal(count_entries("state/s"), 0);
	assert_int_equal(count_entries("state/pods"), 0);
}

static void test_pid_namespace(void **state UNUSED)
{
	struct sandbox_config c;
	struct container_config k;
	struct sandbox_view *v = NULL;
	char id[65], first[65];
	int code;

	pod_configure(&c, "pids");
	c.pid = POD_NS_POD;
	pod_run(&c, id);
	assert_ok(engine_sandbox_get(engine, NS, id, &v, ERR));
	int reaper = v->pid;
	assert_true(reaper > 0);
	sandbox_view_unref(v);

	configure(&k, id, "sleep 1000");
	str_replace(&k.pid_mode, "pod");
	create(&k, first);
	assert_ok(engine_start(engine, NS, first, NULL, ERR));
	configure(&k, id, "ps");
	str_replace(&k.pid_mode, "pod");
	autofree char *out = run(&k, &code);
	assert_has(out, "/pause");
	assert_has(out, "sleep");

	/* A container of its own, then one that joins it. */
	char target[65];
	configure(&k, id, "sleep 2000");
	create(&k, target);
	assert_ok(engine_start(engine, NS, target, NULL, ERR));
	configure(&k, id, "ps");
	k.pid_mode = xasprintf("container:%s", target);
	autofree char *joined = run(&k, &code);
	assert_has(joined, "2000");
	assert_null(strstr(joined, "/pause"));

	/* Whoever kills the reaper ends the pod. */
	kill(reaper, SIGKILL);
	for (int i = 0; i < 1000 && state_of(id) == SANDBOX_READY; i++)
		usleep(10000);
	assert_int_equal(state_of(id), SANDBOX_NOTREADY);
	assert_ok(engine_sandbox_remove(engine, NS, id, ERR));
}

static void test_user_namespace(void **state UNUSED)
{
	struct engine_features f;
	struct sandbox_config c;
	struct container_config k;
	char id[65];
	int code;

	engine_features(engine, &f);
	if (!f.user_namespaces)
		skip();
	autofree char *volume = path_join(base_dir, "mapped", NULL);
	autofree char *made = path_join(volume, "made", NULL);
	mkdir(volume, 0755);
	pod_configure(&c, "userns");
	userns(&c);
	kvs_set(&c.sysctls, "net.ipv4.ip_forward", "1");
	pod_run(&c, id);
	configure(&k, id,
		  "cat /proc/self/uid_map; stat -c '%u %g' /bin/busybox; touch /root/x && stat -c "
		  "%u /root/x; touch /vol/made; stat -c %u /vol/made; cat "
		  "/proc/sys/net/ipv4/ip_forward; echo s > /dev/shm/s; cat /etc/hostname");
	struct mount_spec m = {
		.type = xstrdup("bind"),
		.source = xstrdup(volume),
		.target = xstrdup("/vol"),
	};
	const struct id_mapping map = { 0, 300000, 65536 };
	m.uid_mappings.v = xmemdup(&map, sizeof(map));
	m.gid_mappings.v = xmemdup(&map, sizeof(map));
	m.uid_mappings.n = m.gid_mappings.n = 1;
	k.mounts.v = xmemdup(&m, sizeof(m));
	k.mounts.n = 1;
	autofree char *out = run(&k, &code);
	assert_int_equal(code, 0);
	assert_has(out, "300000");
	assert_has(out, "0 0\n0\n0\n1\npodhost\n");
	struct stat st;
	assert_int_equal(stat(made, &st), 0);
	assert_int_equal(st.st_uid, 0);
	assert_ok(engine_sandbox_remove(engine, NS, id, ERR));
}

static void test_failures(void **state UNUSED)
{
	struct sandbox_config c;
	char id[65];

	pod_configure(&c, "bad");
	c.network = POD_NS_CONTAINER;
	assert_fails(engine_sandbox_run(engine, NS, &c, NULL, id, ERR), ERROR_INVALID_ARGUMENT,
		     "network: namespace mode CONTAINER");
	c.network = POD_NS_POD;
	kvs_set(&c.sysctls, "kernel.panic", "1");
	assert_fails(engine_sandbox_run(engine, NS, &c, NULL, id, ERR), ERROR_INVALID_ARGUMENT,
		     "kernel.panic");
	kvs_unset(&c.sysctls, "kernel.panic");
	kvs_set(&c.sysctls, "net.no.such.thing", "1");
	assert_fails(engine_sandbox_run(engine, NS, &c, NULL, id, ERR), ERROR_INVALID_ARGUMENT,
		     "net.no.such.thing");
	kvs_done(&c.sysctls);
	str_replace(&c.runtime, "nowhere");
	assert_fails(engine_sandbox_run(engine, NS, &c, NULL, id, ERR), ERROR_INVALID_ARGUMENT,
		     "nowhere");
	str_replace(&c.runtime, NULL);
	net.refuse_attach = true;
	assert_fails(engine_sandbox_run(engine, NS, &c, NULL, id, ERR), ERROR_UNAVAILABLE,
		     "no network today");

	struct sandbox_views views;
	engine_sandbox_list(engine, NS, &views);
	assert_int_equal(views.n, 0);
	assert_int_equal(count_entries("state/pods"), 0);
	assert_int_equal(count_entries("state/s"), 0);

	/* What cannot be released is left to be stopped. */
	net.refuse_detach = true;
	assert_fails(engine_sandbox_run(engine, NS, &c, NULL, id, ERR), ERROR_UNAVAILABLE,
		     "not ready");
	net.refuse_attach = false;
	engine_sandbox_list(engine, NS, &views);
	assert_int_equal(views.n, 1);
	assert_int_equal(views.v[0]->state, SANDBOX_NOTREADY);
	assert_fails(engine_sandbox_stop(engine, NS, views.v[0]->id, ERR), ERROR_UNAVAILABLE,
		     "the plugin is away");
	net.refuse_detach = false;
	assert_ok(engine_sandbox_stop(engine, NS, views.v[0]->id, ERR));
	assert_ok(engine_sandbox_remove(engine, NS, views.v[0]->id, ERR));
	sandbox_views_done(&views);
	sandbox_config_done(&c);
}

static void test_create_checks(void **state UNUSED)
{
	struct sandbox_config c;
	struct container_config k;
	char id[65], cid[65];

	pod_configure(&c, "checks");
	pod_run(&c, id);
	configure(&k, id, "true");
	str_replace(&k.user, "nobody-here");
	assert_fails(engine_create(engine, NS, "named", &k, NULL, cid, NULL, ERR),
		     ERROR_INVALID_ARGUMENT, "unable to find user nobody-here");
	str_replace(&k.user, "");
	strv_push(&k.security_opt, "seccomp-file=/no/such/profile");
	assert_fails(engine_create(engine, NS, "named", &k, NULL, cid, NULL, ERR), ERROR_NOT_FOUND,
		     "/no/such/profile");
	strv_done(&k.security_opt);
	k.privileged = true;
	assert_fails(engine_create(engine, NS, "named", &k, NULL, cid, NULL, ERR),
		     ERROR_INVALID_ARGUMENT, "not privileged");
	k.privileged = false;
	/* The name is free, and one that runs. */
	assert_ok(engine_create(engine, NS, "named", &k, NULL, cid, NULL, ERR));
	struct container_view *v = look("named");
	assert_int_equal(v->uid, 0);
	assert_int_equal(v->status, CONTAINER_CREATED);
	container_view_free(v);
	assert_ok(engine_stop(engine, NS, cid, 5, NULL, NULL, ERR));
	assert_ok(engine_sandbox_remove(engine, NS, id, ERR));
	assert_int_equal(count_entries("root/containers"), 0);
	assert_int_equal(count_entries("state/containers/" NS), 0);
}

static void test_users(void **state UNUSED)
{
	static const struct {
		const char *user, *policy, *want;
	} cases[] = {
		{ "bob", "merge", "1000 10 4242 50000" },
		{ "1000:55", "merge", "55 10 4242 50000" },
		{ "bob", "strict", "1000 4242" },
	};
	struct sandbox_config c;
	char id[65];
	int code;

	pod_configure(&c, "users");
	pod_run(&c, id);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct container_config k;

		configure(&k, id, "for g in $(id -G); do echo $g; done");
		str_replace(&k.user, cases[i].user);
		str_replace(&k.groups_policy, cases[i].policy);
		strv_push(&k.group_add, "4242");
		autofree char *out = run(&k, &code);
		autostrv struct strv wanted = STRV_INIT, got = STRV_INIT;

		strv_split(&wanted, cases[i].want, " ");
		for (size_t g = 0; g < wanted.n; g++)
			assert_has(out, wanted.v[g]);
		strv_split(&got, out, "\n");
		assert_int_equal(got.n, wanted.n + 1);
	}
	assert_ok(engine_sandbox_remove(engine, NS, id, ERR));
}

static void test_start_error(void **state UNUSED)
{
	struct sandbox_config c;
	struct container_config k;
	char id[65], cid[65];

	pod_configure(&c, "starterror");
	pod_run(&c, id);
	configure(&k, id, "true");
	str_replace(&k.args.v[0], "/no/such/program");
	create(&k, cid);
	assert_int_equal(engine_start(engine, NS, cid, NULL, ERR), -1);
	struct container_view *v = look(cid);
	assert_int_equal(v->status, CONTAINER_EXITED);
	assert_int_equal(v->exit_code, 128);
	assert_true(v->start_failed);
	assert_true(v->finished_at > 0);
	container_view_free(v);
	assert_fails(engine_start(engine, NS, cid, NULL, ERR), ERROR_FAILED_PRECONDITION,
		     "not in created state");
	/* The pod is none the worse for it. */
	autofree char *out = run_script(id, "echo fine");
	assert_string_equal(out, "fine\n");
	assert_ok(engine_sandbox_remove(engine, NS, id, ERR));
}

struct stopping {
	const char *id;
	int timeout;
	int64_t took;
};

static void *stop_thread(void *arg)
{
	struct stopping *s = arg;
	autoerror struct error err = ERROR_INIT;
	int64_t begin = time_monotonic();

	assert(engine_stop(engine, NS, s->id, s->timeout, NULL, NULL, &err) == 0);
	s->took = time_monotonic() - begin;
	return NULL;
}

static void test_shrinking_stop(void **state UNUSED)
{
	struct sandbox_config c;
	struct container_config k;
	char id[65], cid[65];

	pod_configure(&c, "stop");
	pod_run(&c, id);
	configure(&k, id, "trap 'echo term' TERM; echo up; while true; do sleep 0.1; done");
	autofree char *log = xstrdup(k.log_path);
	create(&k, cid);
	assert_ok(engine_start(engine, NS, cid, NULL, ERR));
	for (int i = 0; i < 1000; i++) {
		autofree char *text = read_text(log);

		if (strstr(text, "up"))
			break;
		usleep(10000);
	}
	struct stopping slow = { cid, 100, 0 }, quick = { cid, 1, 0 };
	pthread_t a, b;
	pthread_create(&a, NULL, stop_thread, &slow);
	usleep(300000);
	pthread_create(&b, NULL, stop_thread, &quick);
	pthread_join(a, NULL);
	pthread_join(b, NULL);
	assert_true(slow.took < 50 * NSEC_PER_SEC);
	assert_int_equal(await_exit(cid), 137);
	autofree char *text = log_text(log);
	assert_string_equal(text, "up\nterm\n"); /* once */
	assert_ok(engine_sandbox_remove(engine, NS, id, ERR));
}

static void test_shim_killed(void **state UNUSED)
{
	struct sandbox_config c;
	struct container_config k;
	char id[65], cid[65];

	pod_configure(&c, "shimless");
	pod_run(&c, id);
	configure(&k, id, "sleep 1000");
	create(&k, cid);
	assert_ok(engine_start(engine, NS, cid, NULL, ERR));
	autofree char *file = xasprintf("%s/state/io.containerd.runtime.v2.task/" NS "/%s/shim.pid",
					base_dir, id);
	autofree char *text = read_text(file);
	int pid = 0;
	assert_int_equal(sscanf(text, "%d", &pid), 1);
	struct container_view *v = look(cid);
	int init = v->pid;
	container_view_free(v);
	kill(pid, SIGKILL);
	assert_int_equal(await_exit(cid), 137);
	assert_int_equal(state_of(id), SANDBOX_READY);
	for (int i = 0; i < 1000 && kill(init, 0) == 0; i++)
		usleep(10000);
	assert_int_not_equal(kill(init, 0), 0);
	/* A new shim for the next one. */
	autofree char *out = run_script(id, "hostname; stat -c %a /dev/shm");
	assert_string_equal(out, "podhost\n1777\n");
	assert_ok(engine_sandbox_remove(engine, NS, id, ERR));
	assert_int_equal(count_entries("state/s"), 0);
}

static void test_reopen(void **state UNUSED)
{
	struct sandbox_config c;
	struct container_config k;
	char id[65], cid[65];

	pod_configure(&c, "reopen");
	pod_run(&c, id);
	configure(&k, id, "seq 1 20000; sleep 0.2; seq 20001 40000; sleep 1000");
	autofree char *log = xstrdup(k.log_path);
	autofree char *moved = xasprintf("%s.1", log);
	create(&k, cid);
	assert_fails(engine_reopen_log(engine, NS, cid, ERR), ERROR_FAILED_PRECONDITION, "");
	assert_ok(engine_start(engine, NS, cid, NULL, ERR));
	struct stat st;
	for (int i = 0; i < 1000 && (stat(log, &st) < 0 || st.st_size == 0); i++)
		usleep(1000);
	assert_int_equal(st.st_mode & 0777, 0640);
	assert_int_equal(rename(log, moved), 0);
	assert_ok(engine_reopen_log(engine, NS, cid, ERR));
	assert_int_equal(access(log, F_OK), 0);
	for (int i = 0; i < 1000; i++) {
		autofree char *text = read_text(log);

		if (strstr(text, " 40000\n"))
			break;
		usleep(10000);
	}
	autofree char *one = log_text(moved), *two = log_text(log);
	autofree char *all = xasprintf("%s%s", one, two);
	autostrv struct strv lines = STRV_INIT;
	strv_split(&lines, all, "\n");
	assert_int_equal(lines.n, 40000 + 1); /* and what follows the last newline */
	for (size_t i = 0; i < 40000; i++) {
		char want[32];

		snprintf(want, sizeof(want), "%zu", i + 1);
		assert_string_equal(lines.v[i], want);
	}
	assert_ok(engine_sandbox_remove(engine, NS, id, ERR));
}

static void test_update(void **state UNUSED)
{
	struct sandbox_config c;
	struct container_config k;
	char id[65], cid[65];

	pod_configure(&c, "update");
	pod_run(&c, id);
	configure(&k, id, "sleep 1000");
	k.resources.memory = 64 << 20;
	k.resources.cpu_shares = 512;
	create(&k, cid);
	assert_ok(engine_start(engine, NS, cid, NULL, ERR));
	struct resources r = { .cpu_shares = 256, .memory_swappiness = -1 };
	assert_ok(engine_update(engine, NS, cid, &r, NULL, 0, ERR));
	struct container_briefs b;
	assert_ok(engine_brief(engine, NS, cid, &b, ERR));
	assert_int_equal(b.v[0].shared->config.resources.cpu_shares, 256);
	assert_int_equal(b.v[0].shared->config.resources.memory, 64 << 20);
	container_briefs_done(&b);
	r = (struct resources){ .memory = 4096, .memory_swappiness = -1 };
	assert_int_equal(engine_update(engine, NS, cid, &r, NULL, 0, ERR), -1);
	struct container_view *v = look(cid);
	assert_int_equal(v->config.resources.memory, 64 << 20);
	container_view_free(v);
	assert_ok(engine_sandbox_remove(engine, NS, id, ERR));
}

/* A volume that is mounted when the pod's shim has been there for long. */
static void test_late_mount(void **state UNUSED)
{
	autofree char *dir = path_join(base_dir, "late", NULL);
	autofree char *file = path_join(dir, "seen", NULL);
	struct sandbox_config c;
	struct container_config k;
	char id[65];
	int code;

	pod_configure(&c, "late");
	pod_run(&c, id);
	free(run_script(id, "echo kept > /dev/shm/x"));
	mkdir(dir, 0755);
	assert_int_equal(mount("tmpfs", dir, "tmpfs", 0, NULL), 0);
	close(open(file, O_CREAT | O_WRONLY, 0644));
	configure(&k, id, "ls /vol; cat /dev/shm/x");
	struct mount_spec m = {
		.type = xstrdup("bind"),
		.source = xstrdup(dir),
		.target = xstrdup("/vol"),
	};
	k.mounts.v = xmemdup(&m, sizeof(m));
	k.mounts.n = 1;
	autofree char *out = run(&k, &code);
	umount2(dir, MNT_DETACH);
	assert_string_equal(out, "seen\nkept\n");
	assert_ok(engine_sandbox_remove(engine, NS, id, ERR));
}

static void test_host_namespaces(void **state UNUSED)
{
	struct sandbox_config c;
	struct sandbox_view *v = NULL;
	char id[65], own[256] = "";
	int before = net.attached;

	pod_configure(&c, "host");
	c.network = c.ipc = POD_NS_NODE;
	pod_run(&c, id);
	assert_int_equal(net.attached, before);
	assert_ok(engine_sandbox_get(engine, NS, id, &v, ERR));
	assert_int_equal(v->ips.n, 0);
	assert_string_equal(v->netns_path, "");
	sandbox_view_unref(v);
	gethostname(own, sizeof(own) - 1);
	autofree char *want = xasprintf("%s\n%s\n", own, own);
	autofree char *out = run_script(id, "hostname; cat /etc/hostname");
	assert_string_equal(out, want);
	assert_ok(engine_sandbox_remove(engine, NS, id, ERR));
}

struct race {
	const char *pod;
	unsigned made;
};

static void *create_thread(void *arg)
{
	struct race *r = arg;

	for (int i = 0; i < 200; i++) {
		struct container_config k;
		char id[65];

		configure(&k, r->pod, "true");
		bool ok = engine_create(engine, NS, NULL, &k, NULL, id, NULL, NULL) == 0;
		container_config_done(&k);
		if (!ok)
			break;
		r->made++;
	}
	return NULL;
}

/* Whatever is made while its sandbox goes, goes with it. */
static void test_create_and_remove(void **state UNUSED)
{
	struct sandbox_config c;
	char id[65];
	pthread_t threads[3];

	pod_configure(&c, "race");
	pod_run(&c, id);
	struct race races[3] = { { id, 0 }, { id, 0 }, { id, 0 } };
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		pthread_create(&threads[i], NULL, create_thread, &races[i]);
	usleep(20000);
	assert_ok(engine_sandbox_remove(engine, NS, id, ERR));
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		pthread_join(threads[i], NULL);
	struct container_briefs b;
	engine_briefs(engine, NS, NULL, &b);
	assert_int_equal(b.n, 0);
	container_briefs_done(&b);
	assert_int_equal(count_entries("root/containers"), 0);
}

static void *many_thread(void *arg)
{
	const char *name = arg;
	autoerror struct error err = ERROR_INIT;
	struct sandbox_config c;
	struct container_config k;
	char id[65], cid[65];

	pod_configure(&c, name);
	if (engine_sandbox_run(engine, NS, &c, NULL, id, &err) < 0)
		return xstrdup(error_msg(&err));
	configure(&k, id, "sleep 1000");
	if (engine_create(engine, NS, NULL, &k, NULL, cid, NULL, &err) < 0 ||
	    engine_start(engine, NS, cid, NULL, &err) < 0 ||
	    engine_sandbox_stop(engine, NS, id, &err) < 0 ||
	    engine_sandbox_remove(engine, NS, id, &err) < 0)
		return xstrdup(error_msg(&err));
	return NULL;
}

static void test_many(void **state UNUSED)
{
	pthread_t threads[20];

	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		pthread_create(&threads[i], NULL, many_thread, (void *)(uintptr_t) "many");
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
		void *failure;

		pthread_join(threads[i], &failure);
		if (failure)
			fail_msg("%s", (char *)failure);
	}
	assert_int_equal(count_entries("state/pods"), 0);
	assert_int_equal(count_entries("state/s"), 0);
}

static void leave_running(void **state UNUSED)
{
	struct sandbox_config c;
	struct container_config k;

	pod_configure(&c, "survivor");
	pod_run(&c, survivor);
	configure(&k, survivor, "echo hi > /dev/shm/x; sleep 1000");
	create(&k, survivor_container);
	assert_ok(engine_start(engine, NS, survivor_container, NULL, ERR));
	pod_configure(&c, "shared");
	c.pid = POD_NS_POD;
	pod_run(&c, shared);
	configure(&k, shared, "sleep 1000");
	str_replace(&k.pid_mode, "pod");
	create(&k, shared_container);
	assert_ok(engine_start(engine, NS, shared_container, NULL, ERR));
	/* One without a container, and one whose shim dies meanwhile. */
	char id[65];
	pod_configure(&c, "empty");
	pod_run(&c, id);
}

/* --- phase two --- */

static void test_survivors(void **state UNUSED)
{
	struct sandbox_views views;
	struct sandbox_view *v = NULL;

	engine_sandbox_list(engine, NS, &views);
	assert_int_equal(views.n, 3);
	for (size_t i = 0; i < views.n; i++)
		assert_int_equal(views.v[i]->state, SANDBOX_READY);
	sandbox_views_done(&views);
	assert_ok(engine_sandbox_get(engine, NS, shared, &v, ERR));
	assert_true(v->pid > 0);
	assert_int_equal(v->ips.n, 2);
	sandbox_view_unref(v);
	const char *const ids[] = { survivor_container, shared_container };
	for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
		struct container_view *c = look(ids[i]);

		assert_int_equal(c->status, CONTAINER_RUNNING);
		assert_int_equal(c->uid, 0);
		container_view_free(c);
	}
	autofree char *out = run_script(survivor, "cat /dev/shm/x; hostname");
	assert_string_equal(out, "hi\npodhost\n");
	int detached = net.detached;
	assert_ok(engine_sandbox_stop(engine, NS, survivor, ERR));
	assert_int_equal(net.detached, detached + 1);
	assert_int_equal(await_exit(survivor_container), 137);
	assert_ok(engine_sandbox_remove(engine, NS, survivor, ERR));
}

/* Whatever failed: nothing stays on the machine. */
static int remove_all(void **state UNUSED)
{
	struct sandbox_views views;

	net.refuse_attach = net.refuse_detach = false;
	engine_sandbox_list(engine, NS, &views);
	for (size_t i = 0; i < views.n; i++)
		engine_sandbox_remove(engine, NS, views.v[i]->id, NULL);
	sandbox_views_done(&views);
	return 0;
}

static void test_nothing_left(void **state UNUSED)
{
	remove_all(NULL);
	assert_int_equal(count_entries("root/containers"), 0);
	assert_int_equal(count_entries("state/containers/" NS), 0);
	assert_int_equal(count_entries("state/io.containerd.runtime.v2.task/" NS), 0);
	assert_int_equal(count_entries("root/io.containerd.runtime.v2.task/" NS), 0);
	assert_int_equal(count_entries("state/s"), 0);
	assert_int_equal(count_entries("state/pods"), 0);
	autofree char *mounts = read_text("/proc/self/mountinfo");
	autofree char *pods = xasprintf("%s/state/pods/", base_dir);
	assert_null(strstr(mounts, pods));
}

static const struct CMUnitTest phase_one[] = {
	cmocka_unit_test_teardown(test_life, remove_all),
	cmocka_unit_test_teardown(test_sharing, remove_all),
	cmocka_unit_test_teardown(test_pid_namespace, remove_all),
	cmocka_unit_test_teardown(test_user_namespace, remove_all),
	cmocka_unit_test_teardown(test_failures, remove_all),
	cmocka_unit_test_teardown(test_create_checks, remove_all),
	cmocka_unit_test_teardown(test_users, remove_all),
	cmocka_unit_test_teardown(test_start_error, remove_all),
	cmocka_unit_test_teardown(test_shrinking_stop, remove_all),
	cmocka_unit_test_teardown(test_shim_killed, remove_all),
	cmocka_unit_test_teardown(test_reopen, remove_all),
	cmocka_unit_test_teardown(test_update, remove_all),
	cmocka_unit_test_teardown(test_late_mount, remove_all),
	cmocka_unit_test_teardown(test_host_namespaces, remove_all),
	cmocka_unit_test_teardown(test_create_and_remove, remove_all),
	cmocka_unit_test_teardown(test_many, remove_all),
	cmocka_unit_test(leave_running),
};

static const struct CMUnitTest phase_two[] = {
	cmocka_unit_test(test_survivors),
	cmocka_unit_test(test_nothing_left),
};

/* --- the daemon's part --- */

struct phase {
	struct loop *loop;
	int number;
	int failures;
};

static void *phase_thread(void *arg)
{
	struct phase *p = arg;

	p->failures = p->number == 1 ? cmocka_run_group_tests_name("pods", phase_one, NULL, NULL)
				     : cmocka_run_group_tests_name("after restart", phase_two, NULL,
								   remove_all);
	loop_stop(p->loop);
	return NULL;
}

static int run_phase(int number)
{
	static const struct runtime_entry runtimes[] = {
		{ .name = (char *)"crun", .path = (char *)"/usr/bin/crun" },
	};
	autofree char *root = path_join(base_dir, "root", NULL);
	autofree char *state = path_join(base_dir, "state", NULL);
	autofree char *address = path_join(state, "kistl.sock", NULL);
	const struct store_config store_config = { .root = root };
	struct error *err = ERR;
	struct engine_config config = {
		.root = root,
		.state = state,
		.shim = shim_path,
		.address = address,
		.runtimes = runtimes,
		.n_runtimes = 1,
		.default_runtime = "crun",
		.pod_network = &network,
		.pod_log_line = -1,
	};
	struct phase phase = { .number = number };

	fs_mkdir_p(root, 0700);
	fs_mkdir_p(state, 0711);
	config.loop = phase.loop = loop_new(err);
	config.jobs = jobs_new(config.loop);
	if (store_open(&store_config, &config.store, err) < 0) {
		fprintf(stderr, "%s\n", error_msg(err));
		return 1;
	}
	make_image(config.store);
	const struct network_service_config docker = { .store = config.store,
						       .state = state,
						       .bridge = "ktest1" };
	if (network_service_new(&docker, &config.network, err) < 0 ||
	    engine_new(&config, &engine, err) < 0) {
		fprintf(stderr, "%s\n", error_msg(err));
		return 1;
	}
	pthread_t thread;
	pthread_create(&thread, NULL, phase_thread, &phase);
	loop_run(config.loop);
	pthread_join(thread, NULL);
	jobs_free(config.jobs);
	engine_free(engine);
	network_service_free(config.network);
	store_close(config.store);
	loop_free(config.loop);
	error_done(&error_last);
	return phase.failures;
}

int main(int argc, char **argv)
{
	char template[] = "/tmp/test-pods-XXXXXX";

	if (argc < 2 || geteuid() != 0)
		return 77;
	log_setup("test-pods", LOG_INFO, LOG_FORMAT_TEXT);
	signal(SIGPIPE, SIG_IGN);
	shim_path = argv[1];
	base_dir = mkdtemp(template);
	assert(base_dir);
	chmod(base_dir, 0711);
	int failures = run_phase(1);
	failures += run_phase(2);
	autofree char *pods = path_join(base_dir, "state/pods", NULL);
	umount2(pods, MNT_DETACH);
	fs_remove_tree(AT_FDCWD, base_dir);
	return failures > 0;
}
