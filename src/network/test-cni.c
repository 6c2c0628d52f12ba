/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The order of calls, what plugins are told, and everything that they can do wrong. The plugins are
 * a shell script under two names, which logs each call and then does what a file <name>.<command>
 * says.
 */
#include "base/fs.h"
#include "base/hex.h"
#include "base/mem.h"
#include "base/parse.h"
#include "base/time.h"
#include "loop/job.h"
#include "network/cni-internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#define LIST(version)                                                                      \
	"{\"cniVersion\":\"" version "\",\"name\":\"net\",\"plugins\":[{\"type\":\"one\"," \
	"\"capabilities\":{\"portMappings\":true,\"bandwidth\":true,\"dns\":false}},"      \
	"{\"type\":\"two\"}]}"

struct fixture {
	char dir[64];
	char *conf, *bin, *path;
	int netns;
	struct cni *cni;
};

static void write_file(struct fixture *f, const char *name, const char *text, mode_t mode)
{
	autofree char *path = path_join(f->dir, name, NULL);

	assert_int_equal(
		fs_write_atomic(AT_FDCWD, path, text, strlen(text), mode, /* sync= */ false), 0);
}

static char *read_text(struct fixture *f, const char *name)
{
	autofree char *path = path_join(f->dir, name, NULL);
	autobuf struct buf b = BUF_INIT(1 << 20);

	return fs_read(AT_FDCWD, path, &b) < 0 ? xstrdup("") : buf_steal(&b, NULL);
}

static struct json *read_json(struct fixture *f, const char *name)
{
	autofree char *text = read_text(f, name);
	struct json *j = json_parse(text, strlen(text), 1 << 20, NULL);

	assert_non_null(j);
	return j;
}

static void remove_file(struct fixture *f, const char *name)
{
	autofree char *path = path_join(f->dir, name, NULL);

	unlink(path);
}

static void assert_log(struct fixture *f, const char *expected)
{
	autofree char *log = read_text(f, "log");

	assert_string_equal(log, expected);
	remove_file(f, "log");
}

static void write_plugins(struct fixture *f)
{
	autofree char *script = xasprintf(
		"#!/bin/sh\n"
		"d=%s n=${0##*/}\n"
		"cat > $d/$n.$CNI_COMMAND.stdin\n"
		"[ $CNI_COMMAND = VERSION ] || echo \"$n $CNI_COMMAND $CNI_CONTAINERID\" >> "
		"$d/log\n"
		"env | grep ^CNI_ > $d/$n.$CNI_COMMAND.env\n"
		"[ ! -e $d/$n.$CNI_COMMAND ] || . $d/$n.$CNI_COMMAND\n"
		"[ $CNI_COMMAND != ADD ] || echo '{\"cniVersion\":\"1.0.0\",\"interfaces\":["
		"{\"name\":\"br0\"},{\"name\":\"eth0\",\"mac\":\"02:00:00:00:00:01\","
		"\"sandbox\":\"/x\"}],\"ips\":[{\"address\":\"fd00::2/64\",\"interface\":1},"
		"{\"address\":\"10.9.0.2/24\",\"gateway\":\"10.9.0.1\",\"interface\":1},"
		"{\"address\":\"10.9.0.1/24\",\"interface\":0}],"
		"\"dns\":{\"nameservers\":[\"10.9.0.1\"]}}'\n",
		f->dir);

	write_file(f, "bin/one", script, 0755);
	write_file(f, "bin/two", script, 0755);
}

static struct cni_config config(struct fixture *f, struct strv *bin)
{
	strv_push(bin, f->bin);
	return (struct cni_config){
		.conf_dir = f->conf,
		.bin_dirs = bin,
		.root = f->dir,
		.attach_timeout_ms = 20000,
		.detach_timeout_ms = 20000,
	};
}

static void start(struct fixture *f)
{
	autostrv struct strv bin = STRV_INIT;
	const struct cni_config c = config(f, &bin);

	cni_free(f->cni);
	assert_int_equal(cni_new(&c, &f->cni, NULL), 0);
}

static void start_list(struct fixture *f, const char *list)
{
	write_file(f, "net.d/10-net.conflist", list, 0644);
	start(f);
}

static int setup(void **state)
{
	struct fixture *f = xnew(struct fixture);

	memcpy(f->dir, "/tmp/kistl-cni-XXXXXX", sizeof("/tmp/kistl-cni-XXXXXX"));
	assert_int_equal(unshare(CLONE_NEWNET | CLONE_NEWNS), 0);
	assert_int_equal(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
	assert_non_null(mkdtemp(f->dir));
	f->conf = path_join(f->dir, "net.d", NULL);
	f->bin = path_join(f->dir, "bin", NULL);
	assert_int_equal(fs_mkdir_p(f->conf, 0755), 0);
	assert_int_equal(fs_mkdir_p(f->bin, 0755), 0);
	f->netns = netns_create(NULL);
	assert_true(f->netns >= 0);
	f->path = xasprintf("/proc/%d/fd/%d", getpid(), f->netns);
	write_plugins(f);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	cni_free(f->cni);
	fs_remove_tree(AT_FDCWD, f->dir);
	closep(&f->netns);
	free(f->conf);
	free(f->bin);
	free(f->path);
	free(f);
	return 0;
}

static int attach_as(struct fixture *f, const char *id, struct error *err)
{
	CLEANUP(cni_result_done) struct cni_result result = { 0 };
	const struct cni_request r = { .id = id, .netns = f->path };

	return cni_attach(f->cni, &r, &result, err);
}

static int detach_as(struct fixture *f, const char *id, const char *netns, struct error *err)
{
	const struct cni_request r = { .id = id, .netns = netns };

	return cni_detach(f->cni, &r, err);
}

static void assert_contains(const char *text, const char *part)
{
	if (!strstr(text, part))
		fail_msg("'%s' is not in '%s'", part, text);
}

static void test_requests(void **state)
{
	struct fixture *f = *state;
	CLEANUP(cni_result_done) struct cni_result result = { 0 }, again = { 0 };
	autoerror struct error err = ERROR_INIT;
	autokvs struct kvs annotations = KVS_INIT, args = KVS_INIT;
	autostrv struct strv dns = STRV_INIT;
	char tcp[] = "TCP";
	const struct port_mapping ports[] = {
		{ .protocol = tcp, .host_port = 8080, .container_port = 80 },
		{ .protocol = tcp, .container_port = 81 },
	};

	kvs_set(&annotations, "kubernetes.io/ingress-bandwidth", "10M");
	kvs_set(&args, "MORE", "x=y");
	strv_push(&dns, "10.0.0.10");
	const struct cni_request r = {
		.id = "a1",
		.netns = f->path,
		.pod_name = "web-0",
		.pod_namespace = "prod",
		.pod_uid = "u-1",
		.args = &args,
		.ports = ports,
		.n_ports = 2,
		.annotations = &annotations,
		.dns_servers = &dns,
	};

	start_list(f, LIST("1.0.0"));
	assert_int_equal(cni_attach(f->cni, &r, &result, &err), 0);
	assert_log(f, "one ADD a1\ntwo ADD a1\n");
	assert_string_equal(result.network, "net");
	assert_string_equal(result.ip, "10.9.0.2");
	assert_int_equal(result.prefix, 24);
	assert_string_equal(result.gateway, "10.9.0.1");
	assert_string_equal(result.mac, "02:00:00:00:00:01");
	assert_int_equal(result.additional_ips.n, 1);
	assert_string_equal(result.additional_ips.v[0], "fd00::2");
	assert_string_equal(result.dns_servers.v[0], "10.9.0.1");

	autojson struct json *one = read_json(f, "one.ADD.stdin");
	autojson struct json *two = read_json(f, "two.ADD.stdin");
	autofree char *runtime = json_format(json_get(one, "runtimeConfig"), false);
	autofree char *env = read_text(f, "one.ADD.env");

	assert_string_equal(json_get_string(one, "name"), "net");
	assert_string_equal(json_get_string(one, "cniVersion"), "1.0.0");
	assert_null(json_get(one, "prevResult"));
	assert_string_equal(runtime, "{\"portMappings\":[{\"hostPort\":8080,\"containerPort\":80,"
				     "\"protocol\":\"tcp\",\"hostIP\":\"\"}],\"bandwidth\":{"
				     "\"ingressRate\":10000000,\"ingressBurst\":4294967295}}");
	assert_null(json_get(two, "runtimeConfig"));
	assert_non_null(json_get(two, "prevResult"));
	assert_contains(env, "CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=prod;K8S_POD_NAME=web-0;"
			     "K8S_POD_INFRA_CONTAINER_ID=a1;K8S_POD_UID=u-1;MORE=x=y\n");
	assert_contains(env, "CNI_IFNAME=eth0\n");
	assert_contains(env, f->path);

	/* Another process, another configuration: the cached ones count. */
	start_list(f, "{\"cniVersion\":\"1.0.0\",\"name\":\"other\",\"plugins\":["
		      "{\"type\":\"two\"}]}");
	assert_int_equal(cni_get(f->cni, "a1", NULL, &again, &err), 0);
	assert_string_equal(again.ip, "10.9.0.2");
	assert_int_equal(detach_as(f, "a1", "", &err), 0);
	assert_log(f, "two DEL a1\none DEL a1\n");
	autojson struct json *del = read_json(f, "one.DEL.stdin");
	autofree char *del_env = read_text(f, "one.DEL.env");

	assert_non_null(json_get(del, "prevResult"));
	assert_non_null(json_get(json_get(del, "runtimeConfig"), "portMappings"));
	assert_contains(del_env, "K8S_POD_NAME=web-0");
	cni_result_done(&again);
	assert_int_equal(cni_get(f->cni, "a1", NULL, &again, &err), -1);
	assert_int_equal(err.code, ERROR_NOT_FOUND);
}

/* The file is one that libcni can read. */
static void test_record(void **state)
{
	struct fixture *f = *state;

	start_list(f, LIST("1.0.0"));
	assert_int_equal(attach_as(f, "a1", NULL), 0);
	autojson struct json *j = read_json(f, "cni/results/net-a1-eth0");
	autobuf struct buf list = BUF_INIT(1 << 16);
	const char *encoded = json_get_string(j, "config");

	assert_string_equal(json_get_string(j, "kind"), "cniCacheV1");
	assert_string_equal(json_get_string(j, "containerId"), "a1");
	assert_string_equal(json_get_string(j, "ifName"), "eth0");
	assert_string_equal(json_get_string(j, "networkName"), "net");
	assert_string_equal(json_get_string(j, "netns"), f->path);
	assert_int_equal(base64_decode(encoded, strlen(encoded), &list), 0);
	assert_contains(list.data, "\"type\":\"one\"");
	assert_string_equal(
		json_string(json_array_get(json_array_get(json_get(j, "cniArgs"), 0), 0)),
		"IgnoreUnknown");
	assert_int_equal(json_array_len(json_get(json_get(j, "result"), "ips")), 3);
	/* A broken one does not keep a pod from being detached. */
	write_file(f, "cni/results/net-a1-eth0", "{\"kind\":", 0600);
	remove_file(f, "log");
	assert_int_equal(detach_as(f, "a1", f->path, NULL), 0);
	assert_log(f, "two DEL a1\none DEL a1\n");
}

static void test_detach_always(void **state)
{
	struct fixture *f = *state;
	autoerror struct error err = ERROR_INIT;
	CLEANUP(cni_result_done) struct cni_result result = { 0 };
	const struct cni_request gone = { .id = "x2", .netns = "/run/netns/gone" };

	start(f);
	/* Nothing was ever configured, so nothing was attached. */
	assert_int_equal(detach_as(f, "x1", NULL, &err), 0);
	assert_log(f, "");
	start_list(f, LIST("1.0.0"));
	assert_int_equal(detach_as(f, "x1", NULL, &err), 0);
	assert_log(f, "two DEL x1\none DEL x1\n");
	autofree char *env = read_text(f, "one.DEL.env");

	assert_contains(env, "CNI_NETNS=\n");
	/* A file where a namespace was before a reboot. */
	autofree char *stale = path_join(f->dir, "log", NULL);

	assert_int_equal(detach_as(f, "x1", stale, &err), 0);
	remove_file(f, "log");
	assert_int_equal(cni_attach(f->cni, &gone, &result, &err), -1);
	assert_int_equal(err.code, ERROR_NOT_FOUND);
	assert_log(f, "");
	assert_int_equal(detach_as(f, "../x", NULL, &err), -1);
	assert_int_equal(err.code, ERROR_INVALID_ARGUMENT);
}

static void test_failed_add(void **state)
{
	static const struct {
		const char *script, *message;
		enum error_code code;
	} cases[] = {
		{ "echo '{\"code\":11,\"msg\":\"busy\",\"details\":\"later\"}'; exit 1",
		  "plugin type=\"two\" name=\"net\" failed (add): busy; later", ERROR_UNAVAILABLE },
		{ "echo '{\"code\":100,\"msg\":\"bad\"}'; exit 1", "failed (add): bad",
		  ERROR_UNKNOWN },
		{ "echo what; exit 3", "exit status 3, and no error in its output: 'what'",
		  ERROR_UNKNOWN },
		{ "echo why >&2; exit 4", "exit status 4: 'why'", ERROR_UNKNOWN },
		{ "exit 5", "exit status 5 without an error message", ERROR_UNKNOWN },
		{ "kill -9 $$", "killed by signal 9", ERROR_UNKNOWN },
		{ "echo '{'; exit 0", "its result is not JSON", ERROR_UNKNOWN },
		{ "exit 0", "its result is not JSON", ERROR_UNKNOWN },
		{ "echo '[]'; exit 0", "expected an object", ERROR_UNKNOWN },
		{ "echo '{\"cniVersion\":\"9.9.9\"}'; exit 0", "cniVersion: unknown '9.9.9'",
		  ERROR_INVALID_ARGUMENT },
		{ "echo '{\"cniVersion\":\"1.0.0\",\"ips\":[{\"address\":\"1.2.3/4\"}]}'; exit 0",
		  "ips[0].address: invalid '1.2.3/4'", ERROR_INVALID_ARGUMENT },
		{ "head -c 100000000 /dev/zero; exit 0", "its result exceeds 1048576 bytes",
		  ERROR_RESOURCE_EXHAUSTED },
		{ "head -c 100000000 /dev/zero >&2; exit 1", "exit status 1", ERROR_UNKNOWN },
	};
	struct fixture *f = *state;

	start_list(f, LIST("1.0.0"));
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		autoerror struct error err = ERROR_INIT;

		write_file(f, "two.ADD", cases[i].script, 0644);
		assert_int_equal(attach_as(f, "a1", &err), -1);
		assert_contains(err.msg, cases[i].message);
		assert_int_equal(err.code, cases[i].code);
		assert_log(f, "one ADD a1\ntwo ADD a1\ntwo DEL a1\none DEL a1\n");
		assert_int_equal(access("cni/results/net-a1-eth0", F_OK), -1);
	}
}

static bool process_is_gone(int64_t pid)
{
	for (int i = 0; i < 500; i++) {
		if (kill((pid_t)pid, 0) < 0)
			return true;
		usleep(10000);
	}
	return false;
}

/* It and its children are killed; the undo has time of its own. */
static void test_hanging_plugin(void **state)
{
	struct fixture *f = *state;
	autostrv struct strv bin = STRV_INIT;
	autoerror struct error err = ERROR_INIT;
	struct cni_config c = config(f, &bin);
	int64_t begin = time_monotonic(), pid;

	write_file(f, "net.d/10-net.conflist", LIST("1.0.0"), 0644);
	c.attach_timeout_ms = 500;
	assert_int_equal(cni_new(&c, &f->cni, NULL), 0);
	write_file(f, "one.ADD", "sleep 300 & echo $! > $d/pid; wait", 0644);
	assert_int_equal(attach_as(f, "a1", &err), -1);
	assert_int_equal(err.code, ERROR_DEADLINE_EXCEEDED);
	assert_contains(err.msg, "type=\"one\" name=\"net\" failed (add): did not end in time");
	assert_log(f, "one ADD a1\ntwo DEL a1\none DEL a1\n");
	assert_true(time_monotonic() - begin < 20 * NSEC_PER_SEC);
	autofree char *text = read_text(f, "pid");

	text[strcspn(text, "\n")] = '\0';
	assert_int_equal(parse_int64(text, &pid), 0);
	/* Orphans are init's, or whoever reaps here; a zombie still has a number. */
	autofree char *stat = xasprintf("/proc/%s/stat", text);
	autobuf struct buf b = BUF_INIT(4096);

	if (!process_is_gone(0 + pid) && fs_read(AT_FDCWD, stat, &b) == 0)
		assert_contains(b.data, ") Z ");
}

static void test_detach_retries(void **state)
{
	struct fixture *f = *state;
	autoerror struct error err = ERROR_INIT;

	start_list(f, LIST("1.0.0"));
	assert_int_equal(attach_as(f, "a1", NULL), 0);
	remove_file(f, "log");
	write_file(f, "two.DEL", "[ -e $d/failed ] || { touch $d/failed; exit 1; }", 0644);
	assert_int_equal(detach_as(f, "a1", f->path, &err), 0);
	assert_log(f, "two DEL a1\ntwo DEL a1\none DEL a1\n");
	/* For good: the record stays for the next attempt. */
	assert_int_equal(attach_as(f, "a2", NULL), 0);
	remove_file(f, "log");
	write_file(f, "two.DEL", "echo '{\"code\":7,\"msg\":\"never\"}'; exit 1", 0644);
	assert_int_equal(detach_as(f, "a2", f->path, &err), -1);
	assert_contains(err.msg, "plugin type=\"two\" name=\"net\" failed (delete): never");
	assert_log(f, "two DEL a2\ntwo DEL a2\ntwo DEL a2\n");
	/* An undo that fails is told. */
	write_file(f, "two.ADD", "exit 1", 0644);
	assert_int_equal(attach_as(f, "a3", &err), -1);
	assert_contains(err.msg, "and it could not be undone: plugin type=\"two\"");
	remove_file(f, "two.DEL");
	remove_file(f, "log");
	assert_int_equal(detach_as(f, "a2", f->path, &err), 0);
	assert_int_equal(detach_as(f, "a3", f->path, &err), 0);
	assert_log(f, "two DEL a2\none DEL a2\ntwo DEL a3\none DEL a3\n");
}

static void fill(struct fixture *f)
{
	autofree char *path = path_join(f->dir, "cni/fill", NULL);
	autoclose int fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
	static const char page[4096];

	assert_true(fd >= 0);
	while (write(fd, page, sizeof(page)) > 0)
		;
	assert_int_equal(errno, ENOSPC);
}

static void test_full_disk(void **state)
{
	struct fixture *f = *state;
	autoerror struct error err = ERROR_INIT;
	autofree char *cache = path_join(f->dir, "cni", NULL);

	start_list(f, LIST("1.0.0"));
	assert_int_equal(fs_mkdir_p(cache, 0700), 0);
	assert_int_equal(mount("tmpfs", cache, "tmpfs", 0, "size=64k"), 0);
	/* The second record does not fit any more. */
	write_file(f, "two.ADD", "cat /dev/zero > $d/cni/fill 2>/dev/null", 0644);
	assert_int_equal(attach_as(f, "a1", &err), -1);
	assert_int_equal(err.code, ERROR_RESOURCE_EXHAUSTED);
	assert_log(f, "one ADD a1\ntwo ADD a1\ntwo DEL a1\none DEL a1\n");
	/* The first one: nothing was begun. */
	fill(f);
	assert_int_equal(attach_as(f, "a2", &err), -1);
	assert_int_equal(err.code, ERROR_RESOURCE_EXHAUSTED);
	assert_contains(err.msg, "cni/results/net-a2-eth0");
	assert_log(f, "");
	umount2(cache, MNT_DETACH);
}

static void test_versions(void **state)
{
	struct fixture *f = *state;
	autoerror struct error err = ERROR_INIT;
	const struct cni_request r = { .id = "a1", .netns = f->path };

	start_list(f, LIST("0.3.1"));
	write_file(f, "two.ADD",
		   "echo '{\"cniVersion\":\"0.3.1\",\"ips\":[{\"version\":\"4\","
		   "\"address\":\"10.1.0.2/16\"}]}'; exit 0",
		   0644);
	assert_int_equal(attach_as(f, "a1", &err), 0);
	assert_int_equal(cni_check(f->cni, &r, &err), -1);
	assert_int_equal(err.code, ERROR_FAILED_PRECONDITION);
	assert_int_equal(detach_as(f, "a1", f->path, &err), 0);
	autojson struct json *del = read_json(f, "one.DEL.stdin");

	assert_null(json_get(del, "prevResult"));
	start_list(f, LIST("0.4.0"));
	assert_int_equal(attach_as(f, "a1", &err), 0);
	remove_file(f, "log");
	assert_int_equal(cni_check(f->cni, &r, &err), 0);
	assert_log(f, "one CHECK a1\ntwo CHECK a1\n");
	write_file(f, "two.CHECK", "echo '{\"code\":99,\"msg\":\"gone\"}'; exit 1", 0644);
	assert_int_equal(cni_check(f->cni, &r, &err), -1);
	assert_contains(err.msg, "failed (check): gone");
}

static void test_gc(void **state)
{
	struct fixture *f = *state;
	autostrv struct strv valid = STRV_INIT;
	autoerror struct error err = ERROR_INIT;

	start_list(f, LIST("1.1.0"));
	assert_int_equal(attach_as(f, "keep", &err), 0);
	assert_int_equal(attach_as(f, "stale", &err), 0);
	/* What containerd left there is not ours to judge. */
	write_file(f, "cni/results/net-foreign-eth0",
		   "{\"kind\":\"cniCacheV1\",\"containerId\":\"foreign\",\"config\":\"e30=\","
		   "\"ifName\":\"eth0\",\"networkName\":\"net\"}",
		   0600);
	strv_push(&valid, "keep");
	remove_file(f, "log");
	/* What this process attached is as good as valid. */
	assert_int_equal(cni_gc(f->cni, &valid, &err), 0);
	assert_log(f, "one GC \ntwo GC \n");
	start(f);
	remove_file(f, "log");
	assert_int_equal(cni_gc(f->cni, &valid, &err), 0);
	assert_log(f, "two DEL stale\none DEL stale\none GC \ntwo GC \n");
	autojson struct json *gc = read_json(f, "one.GC.stdin");
	autofree char *list = json_format(json_get(gc, "cni.dev/valid-attachments"), false);

	assert_string_equal(list, "[{\"containerID\":\"foreign\",\"ifname\":\"eth0\"},"
				  "{\"containerID\":\"keep\",\"ifname\":\"eth0\"}]");
	assert_non_null(json_get(gc, "cni.dev/attachments"));
	write_file(f, "one.GC", "exit 1", 0644);
	assert_int_equal(cni_gc(f->cni, &valid, &err), -1);
	assert_contains(err.msg, "plugin type=\"one\" name=\"net\" failed (gc)");
}

static void assert_status(struct fixture *f, bool ready, const char *reason)
{
	CLEANUP(cni_status_done) struct cni_status s = { 0 };

	cni_status(f->cni, &s);
	if (s.reason && reason)
		assert_contains(s.reason, reason);
	assert_int_equal(s.ready, ready);
}

static void test_status(void **state)
{
	struct fixture *f = *state;
	autoerror struct error err = ERROR_INIT;
	CLEANUP(cni_status_done) struct cni_status s = { 0 };

	start(f);
	assert_status(f, false, "no network configuration found in ");
	assert_int_equal(attach_as(f, "a1", &err), -1);
	assert_int_equal(err.code, ERROR_UNAVAILABLE);
	write_file(f, "net.d/00-bad.conflist", "{\"name\":\"x\",", 0644);
	write_file(f, "net.d/01-bad.conf", "{\"name\":\"x\",\"cniVersion\":\"7.0.0\"}", 0644);
	cni_reload(f->cni);
	assert_status(f, false, "00-bad.conflist: ");
	assert_status(f, false, "01-bad.conf: cniVersion: '7.0.0' is not supported");
	/* Of one plugin, in a file of its own. */
	write_file(f, "net.d/20-net.conf",
		   "{\"name\":\"single\",\"cniVersion\":\"1.0.0\",\"type\":\"one\"}", 0644);
	assert_int_equal(attach_as(f, "a1", &err), 0);
	assert_log(f, "one ADD a1\n");
	cni_status(f->cni, &s);
	assert_true(s.ready);
	assert_string_equal(s.network, "single");
	assert_contains(s.file, "20-net.conf");
	assert_contains(s.load_error, "00-bad.conflist");
	autojson struct json *j = cni_describe(f->cni);
	autofree char *text = json_format(j, false);

	assert_contains(text, "\"Name\":\"single\"");

	write_file(f, "net.d/10-net.conflist",
		   "{\"name\":\"n\",\"cniVersion\":\"1.0.0\",\"plugins\":[{\"type\":\"three\"}]}",
		   0644);
	cni_reload(f->cni);
	assert_status(f, false, "network 'n': plugin 'three' is not in ");
	remove_file(f, "net.d/10-net.conflist");
	write_file(f, "one.VERSION",
		   "echo '{\"cniVersion\":\"1.0.0\",\"supportedVersions\":["
		   "\"0.3.1\",\"0.4.0\"]}'; exit 0",
		   0644);
	cni_reload(f->cni);
	assert_status(f, false, "plugin 'one' does not support version 1.0.0, only 0.3.1, 0.4.0");
}

/* STATUS counts at once when it is the first answer, else when it was heard several times. */
static void test_status_command(void **state)
{
	struct fixture *f = *state;

	write_file(f, "two.STATUS", "echo '{\"code\":50,\"msg\":\"no backend\"}'; exit 1", 0644);
	start_list(f, LIST("1.1.0"));
	assert_status(f, false, "network 'net': plugin 'two': no backend");
	remove_file(f, "two.STATUS");
	cni_reload(f->cni);
	assert_status(f, true, NULL);
	write_file(f, "two.STATUS", "exit 1", 0644);
	cni_reload(f->cni);
	assert_status(f, true, NULL);
	cni_reload(f->cni);
	assert_status(f, true, NULL);
	cni_reload(f->cni);
	assert_status(f, false, "plugin 'two'");
	remove_file(f, "two.STATUS");
	cni_reload(f->cni);
	assert_status(f, true, NULL);
}

/* By name, plugins in files of their own, newest version of those that the file offers. */
static void test_choice(void **state)
{
	struct fixture *f = *state;
	autostrv struct strv bin = STRV_INIT;
	struct cni_config c = config(f, &bin);
	autofree char *sub = path_join(f->conf, "second", NULL);
	autoerror struct error err = ERROR_INIT;

	assert_int_equal(fs_mkdir_p(sub, 0755), 0);
	write_file(f, "net.d/10-a.conflist", LIST("1.0.0"), 0644);
	write_file(f, "net.d/20-b.conflist",
		   "{\"cniVersions\":[\"0.4.0\",\"1.1.0\",\"3.0.0\"],\"name\":\"second\"}", 0644);
	write_file(f, "net.d/second/1.conf", "{\"type\":\"two\"}", 0644);
	write_file(f, "net.d/second/2.conf", "{\"type\":\"one\"}", 0644);
	c.network = "second";
	assert_int_equal(cni_new(&c, &f->cni, NULL), 0);
	assert_status(f, true, NULL);
	remove_file(f, "log");
	assert_int_equal(attach_as(f, "a1", &err), 0);
	assert_log(f, "two ADD a1\none ADD a1\n");
	autojson struct json *j = read_json(f, "one.ADD.stdin");

	assert_string_equal(json_get_string(j, "cniVersion"), "1.1.0");
}

struct watcher {
	struct fixture *f;
	struct loop *loop;
	struct jobs *jobs;
	int step;
	int64_t deadline;
};

static void watch_step(void *arg)
{
	struct watcher *w = arg;
	CLEANUP(cni_status_done) struct cni_status s = { 0 };

	cni_status(w->f->cni, &s);
	if (w->step == 0 && s.ready) {
		remove_file(w->f, "net.d/10-net.conflist");
		w->step = 1;
	} else if (w->step == 1 && !s.ready) {
		w->step = 2;
	}
	if (w->step == 2 || time_monotonic() > w->deadline) {
		cni_free(w->f->cni);
		w->f->cni = NULL;
		loop_stop(w->loop);
		return;
	}
	loop_timer_start(w->loop, 10, watch_step, w);
}

static void watch_begin(void *arg)
{
	struct watcher *w = arg;

	write_file(w->f, "net.d/10-net.conflist", LIST("1.0.0"), 0644);
	watch_step(w);
}

static void test_watch(void **state)
{
	struct fixture *f = *state;
	autostrv struct strv bin = STRV_INIT;
	struct cni_config c = config(f, &bin);
	struct watcher w = { .f = f, .deadline = time_monotonic() + 30 * NSEC_PER_SEC };

	w.loop = loop_new(NULL);
	w.jobs = jobs_new(w.loop);
	c.loop = w.loop;
	c.jobs = w.jobs;
	assert_int_equal(cni_new(&c, &f->cni, NULL), 0);
	assert_status(f, false, NULL);
	loop_timer_start(w.loop, 1, watch_begin, &w);
	loop_run(w.loop);
	jobs_free(w.jobs);
	loop_free(w.loop);
	assert_int_equal(w.step, 2);
}

/* The loop does not wait for plugins: until they have been asked there is no network. */
static void test_watch_asks(void **state)
{
	struct fixture *f = *state;
	autostrv struct strv bin = STRV_INIT;
	struct cni_config c = config(f, &bin);
	struct watcher w = { .f = f, .deadline = time_monotonic() + 30 * NSEC_PER_SEC };

	write_file(f, "net.d/10-net.conflist", LIST("1.1.0"), 0644);
	w.loop = loop_new(NULL);
	w.jobs = jobs_new(w.loop);
	c.loop = w.loop;
	c.jobs = w.jobs;
	assert_int_equal(cni_new(&c, &f->cni, NULL), 0);
	assert_log(f, "");
	assert_status(f, false, "its plugins have not been asked yet");
	loop_timer_start(w.loop, 1, watch_step, &w);
	loop_run(w.loop);
	jobs_free(w.jobs);
	loop_free(w.loop);
	assert_int_equal(w.step, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_requests, setup, teardown),
		cmocka_unit_test_setup_teardown(test_record, setup, teardown),
		cmocka_unit_test_setup_teardown(test_detach_always, setup, teardown),
		cmocka_unit_test_setup_teardown(test_failed_add, setup, teardown),
		cmocka_unit_test_setup_teardown(test_hanging_plugin, setup, teardown),
		cmocka_unit_test_setup_teardown(test_detach_retries, setup, teardown),
		cmocka_unit_test_setup_teardown(test_full_disk, setup, teardown),
		cmocka_unit_test_setup_teardown(test_versions, setup, teardown),
		cmocka_unit_test_setup_teardown(test_gc, setup, teardown),
		cmocka_unit_test_setup_teardown(test_status, setup, teardown),
		cmocka_unit_test_setup_teardown(test_status_command, setup, teardown),
		cmocka_unit_test_setup_teardown(test_choice, setup, teardown),
		cmocka_unit_test_setup_teardown(test_watch, setup, teardown),
		cmocka_unit_test_setup_teardown(test_watch_asks, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
