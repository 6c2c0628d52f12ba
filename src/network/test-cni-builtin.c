/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pods' networks for real, in a network namespace of the test's own: what the built-in plugins make
 * of a configuration is what the binaries make of it, and packets get where they should.
 */
#include "base/fs.h"
#include "base/mem.h"
#include "base/process.h"
#include "network/cni-internal.h"
#include "network/cni-link.h"
#include "network/cni-nft.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>

#define BIN_DIR "/usr/lib/cni"

struct fixture {
	char dir[64];
	char *conf, *data;
	int own_netns;
	bool binaries;
	struct cni *cni;
};

struct pod {
	int netns;
	char path[64];
	struct cni_result result;
};

static const char list[] = "{\"cniVersion\":\"%s\",\"name\":\"pods\",\"plugins\":["
			   "{\"type\":\"bridge\",\"bridge\":\"cnitest0\",\"isDefaultGateway\":true,"
			   "\"ipMasq\":true,\"hairpinMode\":true,\"mtu\":1400,\"ipam\":{"
			   "\"type\":\"host-local\",\"dataDir\":\"%s\",\"ranges\":["
			   "[{\"subnet\":\"10.88.0.0/24\",\"rangeStart\":\"10.88.0.10\"}],"
			   "[{\"subnet\":\"fd00:88::/64\"}]],"
			   "\"routes\":[{\"dst\":\"192.0.2.0/24\",\"gw\":\"10.88.0.1\"}]}},"
			   "{\"type\":\"portmap\",\"capabilities\":{\"portMappings\":true}},"
			   "{\"type\":\"firewall\",\"backend\":\"iptables\"}]}";

static void run(const char *script)
{
	char *const argv[] = { (char *)"sh", (char *)"-ec", (char *)script, NULL };
	const struct process_spec spec = { .path = "sh", .argv = argv };
	autobuf struct buf out = BUF_INIT(4096);
	int status;

	assert_int_equal(process_run(&spec, NULL, 0, &out, &out, 30000, &status, NULL), 0);
	if (status != 0)
		fail_msg("%s: %s", script, out.data);
}

static char *output(const char *script)
{
	char *const argv[] = { (char *)"sh", (char *)"-c", (char *)script, NULL };
	const struct process_spec spec = { .path = "sh", .argv = argv };
	autobuf struct buf out = BUF_INIT(1 << 20), errout = BUF_INIT(4096);
	int status;

	assert_int_equal(process_run(&spec, NULL, 0, &out, &errout, 30000, &status, NULL), 0);
	return buf_steal(&out, NULL);
}

static void write_list(struct fixture *f, const char *text)
{
	autofree char *path = path_join(f->conf, "10-pods.conflist", NULL);

	assert_int_equal(fs_write_atomic(AT_FDCWD, path, text, strlen(text), 0644, false), 0);
}

static void start(struct fixture *f, const char *text, bool binaries)
{
	autostrv struct strv bin = STRV_INIT;
	const struct cni_config c = {
		.conf_dir = f->conf, .bin_dirs = &bin, .root = f->dir, .binaries_only = binaries
	};
	CLEANUP(cni_status_done) struct cni_status s = { 0 };

	strv_push(&bin, BIN_DIR);
	f->binaries = binaries;
	write_list(f, text);
	cni_free(f->cni);
	assert_int_equal(cni_new(&c, &f->cni, NULL), 0);
	cni_status(f->cni, &s);
	if (!s.ready)
		fail_msg("%s", s.reason);
}

static void start_list(struct fixture *f, const char *version, bool binaries)
{
	autofree char *text = NULL;

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	text = xasprintf(list, version, f->data);
#pragma GCC diagnostic pop
	start(f, text, binaries);
}

static int setup(void **state)
{
	struct fixture *f = xnew(struct fixture);
	struct ifreq lo = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	int sock;

	memcpy(f->dir, "/tmp/kistl-cni-XXXXXX", sizeof("/tmp/kistl-cni-XXXXXX"));
	assert_int_equal(unshare(CLONE_NEWNET | CLONE_NEWNS), 0);
	assert_int_equal(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
	sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_int_equal(ioctl(sock, SIOCSIFFLAGS, &lo), 0);
	close(sock);
	assert_non_null(mkdtemp(f->dir));
	f->conf = path_join(f->dir, "net.d", NULL);
	f->data = path_join(f->dir, "data", NULL);
	assert_int_equal(fs_mkdir_p(f->conf, 0755), 0);
	f->own_netns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	cni_free(f->cni);
	fs_remove_tree(AT_FDCWD, f->dir);
	close(f->own_netns);
	free(f->conf);
	free(f->data);
	free(f);
	return 0;
}

static void pod_open(struct pod *p)
{
	*p = (struct pod){ .netns = netns_create(NULL) };
	assert_true(p->netns >= 0);
	snprintf(p->path, sizeof(p->path), "/proc/%d/fd/%d", getpid(), p->netns);
}

static void pod_done(struct pod *p)
{
	closep(&p->netns);
	cni_result_done(&p->result);
}

static struct cni_request request(const struct pod *p, const char *id,
				  const struct port_mapping *ports, size_t n)
{
	return (struct cni_request){ .id = id,
				     .netns = p->netns >= 0 ? p->path : NULL,
				     .pod_name = "pod",
				     .pod_namespace = "ns",
				     .pod_uid = "uid",
				     .ports = ports,
				     .n_ports = n };
}

static void attach(struct fixture *f, struct pod *p, const char *id,
		   const struct port_mapping *ports, size_t n)
{
	const struct cni_request r = request(p, id, ports, n);
	autoerror struct error err = ERROR_INIT;

	if (cni_attach(f->cni, &r, &p->result, &err) < 0)
		fail_msg("%s", err.msg);
}

static void detach(struct fixture *f, struct pod *p, const char *id)
{
	const struct cni_request r = request(p, id, NULL, 0);
	autoerror struct error err = ERROR_INIT;

	if (cni_detach(f->cni, &r, &err) < 0)
		fail_msg("%s", err.msg);
}

static int socket_in(struct fixture *f, int netns, int family, int type)
{
	int fd;

	assert_int_equal(setns(netns, CLONE_NEWNET), 0);
	fd = socket(family, type | SOCK_CLOEXEC, 0);
	assert_int_equal(setns(f->own_netns, CLONE_NEWNET), 0);
	assert_true(fd >= 0);
	return fd;
}

static socklen_t sockaddr_of(const char *ip, unsigned port, struct sockaddr_storage *ret)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)ret;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)ret;

	memset(ret, 0, sizeof(*ret));
	if (inet_pton(AF_INET, ip, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons((uint16_t)port);
		return sizeof(*v4);
	}
	assert_int_equal(inet_pton(AF_INET6, ip, &v6->sin6_addr), 1);
	v6->sin6_family = AF_INET6;
	v6->sin6_port = htons((uint16_t)port);
	return sizeof(*v6);
}

static int listen_in(struct fixture *f, int netns, const char *ip, unsigned port, int type)
{
	struct sockaddr_storage sa;
	socklen_t len = sockaddr_of(ip, port, &sa);
	int fd = socket_in(f, netns, sa.ss_family, type);

	assert_int_equal(bind(fd, (struct sockaddr *)&sa, len), 0);
	if (type == SOCK_STREAM)
		assert_int_equal(listen(fd, 16), 0);
	return fd;
}

static int connect_within(struct fixture *f, int netns, const char *ip, unsigned port, int ms)
{
	const struct timeval limit = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };
	struct sockaddr_storage sa;
	socklen_t len = sockaddr_of(ip, port, &sa);
	autoclose int fd = socket_in(f, netns, sa.ss_family, SOCK_STREAM);

	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	return connect(fd, (struct sockaddr *)&sa, len);
}

static int connect_from(struct fixture *f, int netns, const char *ip, unsigned port)
{
	return connect_within(f, netns, ip, port, 5000);
}

/* Refused or without an answer. */
static bool unreachable_from(struct fixture *f, int netns, const char *ip, unsigned port)
{
	return connect_within(f, netns, ip, port, 300) < 0;
}

/* What a datagram from there leads to: true when the server has it. */
static bool send_from(struct fixture *f, int netns, int client, const char *ip, unsigned port,
		      int server)
{
	autoclose int fd = client < 0 ? socket_in(f, netns, AF_INET, SOCK_DGRAM) : -1;
	struct pollfd p = { .fd = server, .events = POLLIN };
	struct sockaddr_storage sa;
	socklen_t len = sockaddr_of(ip, port, &sa);
	char byte = 'x';

	for (int i = 0; i < 10; i++) {
		sendto(client < 0 ? fd : client, &byte, 1, 0, (struct sockaddr *)&sa, len);
		if (poll(&p, 1, 200) > 0)
			return recv(server, &byte, 1, 0) == 1;
	}
	return false;
}

/* The pod's and the bridge's addresses and routes, as ip(8) has them, without what is random. */
static char *describe(struct fixture *f, const struct pod *p)
{
	autofree char *text = NULL;
	autofree char *script =
		xasprintf("ip -o addr show dev cnitest0 scope global | sed 's/^[0-9]*: //; s/ "
			  "nodad//; s/\\\\.*//';"
			  "ip -o link show dev cnitest0 | grep -o 'mtu [0-9]*';"
			  "bridge -d link show | grep -o 'hairpin [a-z]*';"
			  "nsenter --net=%s sh -c '"
			  "ip -o link show dev eth0 | grep -o \"mtu [0-9]*\";"
			  "ip -o addr show dev eth0 scope global | sed \"s/^[0-9]*: //; s/ "
			  "nodad//; s/\\\\\\\\.*//\";"
			  "ip route | sort; ip -6 route show dev eth0 | grep -v fe80 | sort'",
			  p->path);

	text = output(script);
	(void)f;
	return TAKE_PTR(text);
}

/* The result without names and MACs that are random. */
static char *normal_result(const struct pod *p)
{
	autojson struct json *j = json_copy(p->result.json);
	struct json *interfaces = json_get(j, "interfaces");
	autofree char *sorted = NULL;

	for (size_t i = 0; i < json_array_len(interfaces); i++) {
		struct json *f = json_array_get(interfaces, i);

		assert_non_null(json_get_string(f, "mac"));
		json_set_string(f, "mac", "m");
		if (str_has_prefix(json_get_string(f, "name"), "veth"))
			json_set_string(f, "name", "v");
		if (json_get_string(f, "sandbox"))
			json_set_string(f, "sandbox", "s");
	}
	autofree char *text = json_format(j, false);
	autofree char *script = xasprintf("python3 -c 'import json,sys; "
					  "print(json.dumps(json.loads(sys.argv[1]),sort_keys=1))' "
					  "'%s'",
					  text);

	sorted = output(script);
	return TAKE_PTR(sorted);
}

/* A world beyond the host, which knows nothing of pods. */
static int outside(void)
{
	int ns = netns_create(NULL);
	autofree char *script =
		xasprintf("ip link add out0 type veth peer name out1 netns /proc/%d/fd/%d\n"
			  "ip addr add 192.0.2.1/24 dev out0; ip link set out0 up\n"
			  "ip addr add fd00:2::1/64 dev out0 nodad\n"
			  "nsenter --net=/proc/%d/fd/%d sh -ec 'ip addr add 192.0.2.2/24 dev out1;"
			  "ip addr add fd00:2::2/64 dev out1 nodad; ip link set out1 up'",
			  getpid(), ns, getpid(), ns);

	assert_true(ns >= 0);
	run(script);
	return ns;
}

static char tcp[] = "tcp", udp[] = "UDP", host_ip[] = "192.0.2.1";

static void check_ports(struct fixture *f, const struct pod *a, const struct pod *b, int out)
{
	autoclose int server = listen_in(f, a->netns, "0.0.0.0", 80, SOCK_STREAM);
	autoclose int server6 = listen_in(f, a->netns, "fd00:88::2", 80, SOCK_STREAM);
	autoclose int datagrams = listen_in(f, a->netns, "0.0.0.0", 53, SOCK_DGRAM);

	assert_true(server >= 0 && server6 >= 0);
	assert_int_equal(connect_from(f, f->own_netns, "127.0.0.1", 18080), 0);
	assert_int_equal(connect_from(f, f->own_netns, "10.88.0.1", 18080), 0);
	assert_int_equal(connect_from(f, out, "192.0.2.1", 18080), 0);
	assert_int_equal(connect_from(f, out, "fd00:2::1", 18080), 0);
	assert_int_equal(connect_from(f, out, "192.0.2.1", 18081), 0);
	/* Only for that address of the host. */
	assert_true(unreachable_from(f, f->own_netns, "127.0.0.1", 18081));
	/* Another pod, and the pod itself. */
	assert_int_equal(connect_from(f, b->netns, "10.88.0.1", 18080), 0);
	assert_int_equal(connect_from(f, a->netns, "10.88.0.1", 18080), 0);
	assert_true(send_from(f, out, -1, "192.0.2.1", 18053, datagrams));
	assert_true(send_from(f, f->own_netns, -1, "127.0.0.1", 18053, datagrams));
}

/* A published port opens 127/8 of the host's end of the network: not for pods. */
static void check_localnet(struct fixture *f, const struct pod *p)
{
	autoclose int server = listen_in(f, f->own_netns, "127.0.0.1", 9999, SOCK_STREAM);
	autofree char *script = xasprintf("nsenter --net=%s sh -ec '"
					  "echo 1 > /proc/sys/net/ipv4/conf/eth0/route_localnet;"
					  "ip addr del 127.0.0.1/8 dev lo;"
					  "ip route add 127.0.0.1 via 10.88.0.1 src 10.88.0.10'",
					  p->path);

	run(script);
	assert_true(server >= 0);
	assert_true(unreachable_from(f, p->netns, "127.0.0.1", 9999));
}

static char *descriptions[2], *results[2];

static void check_network(struct fixture *f, const char *version, bool binaries)
{
	CLEANUP(pod_done) struct pod a, b;
	autoclose int out = outside();
	struct port_mapping ports[] = {
		{ .protocol = tcp, .host_port = 18080, .container_port = 80 },
		{ .protocol = tcp, .host_ip = host_ip, .host_port = 18081, .container_port = 80 },
		{ .protocol = udp, .host_port = 18053, .container_port = 53 },
		{ .protocol = tcp, .host_port = 0, .container_port = 99 },
	};

	/* Nothing is forwarded but what the firewall plugin lets through. */
	run("iptables -P FORWARD DROP; ip6tables -P FORWARD DROP");
	start_list(f, version, binaries);
	pod_open(&a);
	pod_open(&b);
	attach(f, &a, "aaaa", ports, ARRAY_SIZE(ports));
	attach(f, &b, "bbbb", NULL, 0);
	assert_string_equal(a.result.ip, "10.88.0.10");
	assert_int_equal(a.result.prefix, 24);
	assert_string_equal(a.result.gateway, "10.88.0.1");
	assert_int_equal(a.result.additional_ips.n, 1);
	assert_string_equal(a.result.additional_ips.v[0], "fd00:88::2");
	assert_string_equal(b.result.ip, "10.88.0.11");
	assert_non_null(a.result.mac);

	autoclose int inside = listen_in(f, b.netns, "0.0.0.0", 8080, SOCK_STREAM);
	autoclose int inside6 = listen_in(f, b.netns, "fd00:88::3", 8080, SOCK_STREAM);
	autoclose int beyond = listen_in(f, out, "0.0.0.0", 8080, SOCK_STREAM);
	autoclose int beyond6 = listen_in(f, out, "fd00:2::2", 8080, SOCK_STREAM);

	assert_true(inside >= 0 && inside6 >= 0 && beyond >= 0 && beyond6 >= 0);
	assert_int_equal(connect_from(f, a.netns, "10.88.0.11", 8080), 0);
	assert_int_equal(connect_from(f, a.netns, "fd00:88::3", 8080), 0);
	assert_int_equal(connect_from(f, f->own_netns, "10.88.0.11", 8080), 0);
	/* Masqueraded: the world beyond knows no way back to pods. */
	assert_int_equal(connect_from(f, a.netns, "192.0.2.2", 8080), 0);
	assert_int_equal(connect_from(f, a.netns, "fd00:2::2", 8080), 0);
	assert_true(unreachable_from(f, out, "192.0.2.1", 18080));
	run("iptables -P FORWARD ACCEPT; ip6tables -P FORWARD ACCEPT");
	check_ports(f, &a, &b, out);

	free(descriptions[binaries]);
	free(results[binaries]);
	descriptions[binaries] = describe(f, &a);
	results[binaries] = normal_result(&a);

	const struct cni_request ra = request(&a, "aaaa", NULL, 0);
	autoerror struct error err = ERROR_INIT;

	/* The binary of portmap does not find its own IPv6 rules. */
	if (!binaries && cni_check(f->cni, &ra, &err) < 0)
		fail_msg("%s", err.msg);
	if (!binaries)
		check_localnet(f, &a);
	detach(f, &a, "aaaa");
	assert_true(unreachable_from(f, f->own_netns, "127.0.0.1", 18080));
	detach(f, &a, "aaaa");
	closep(&b.netns);
	b.netns = -1;
	detach(f, &b, "bbbb");
}

static void check_nothing_left(struct fixture *f)
{
	autofree char *script =
		xasprintf("ls %s/pods | grep '^[0-9f]'; ls %s/cni/results;"
			  "ip -o link | grep ': veth';"
			  "nft list ruleset 2>/dev/null | grep -e aaaa -e bbbb -e 10.88.0.1[01]"
			  " -e fd00:88::[23]; true",
			  f->data, f->dir);
	autofree char *left = output(script);

	assert_string_equal(left, "");
}

static void test_builtin(void **state)
{
	check_network(*state, "1.0.0", /* binaries= */ false);
	check_nothing_left(*state);
}

/* They leave the rules of a pod whose namespace went first. */
static void test_binaries(void **state)
{
	check_network(*state, "1.0.0", /* binaries= */ true);
}

static void test_same(void **state)
{
	assert_string_equal(descriptions[0], descriptions[1]);
	assert_string_equal(results[0], results[1]);
	for (int i = 0; i < 2; i++) {
		free(descriptions[i]);
		free(results[i]);
	}
}

/* What another pod has taken over meanwhile stays its own; flows that a client keeps sending go to
 * the new one. */
static void test_port_moves(void **state)
{
	struct fixture *f = *state;
	CLEANUP(pod_done) struct pod a, b;
	struct port_mapping port = { .protocol = udp, .host_port = 18053, .container_port = 53 };
	autoclose int out = outside();

	start_list(f, "1.0.0", /* binaries= */ false);
	pod_open(&a);
	pod_open(&b);
	autoclose int client = socket_in(f, out, AF_INET, SOCK_DGRAM);
	autoclose int server_a = listen_in(f, a.netns, "0.0.0.0", 53, SOCK_DGRAM);
	autoclose int server_b = listen_in(f, b.netns, "0.0.0.0", 53, SOCK_DGRAM);

	/* The kernel remembers this flow before anybody listens. */
	assert_false(send_from(f, out, client, "192.0.2.1", 18053, server_a));
	attach(f, &a, "aaaa", &port, 1);
	assert_true(send_from(f, out, client, "192.0.2.1", 18053, server_a));
	attach(f, &b, "bbbb", &port, 1);
	assert_true(send_from(f, out, client, "192.0.2.1", 18053, server_b));
	detach(f, &a, "aaaa");
	assert_true(send_from(f, out, client, "192.0.2.1", 18053, server_b));
	detach(f, &b, "bbbb");
	check_nothing_left(f);
}

/* A daemon that died in the middle: the record has no result, or nobody detached. */
static void test_crash(void **state)
{
	struct fixture *f = *state;
	CLEANUP(pod_done) struct pod a;
	struct port_mapping port = { .protocol = tcp, .host_port = 18080, .container_port = 80 };
	autofree char *path = path_join(f->dir, "cni/results/pods-aaaa-eth0", NULL);
	autobuf struct buf b = BUF_INIT(1 << 20);

	start_list(f, "1.0.0", /* binaries= */ false);
	pod_open(&a);
	attach(f, &a, "aaaa", &port, 1);
	cni_result_done(&a.result);
	attach(f, &a, "aaaa", &port, 1);
	assert_string_equal(a.result.ip, "10.88.0.11");
	assert_int_equal(fs_read(AT_FDCWD, path, &b), 0);
	autojson struct json *j = json_parse(b.data, b.len, 1 << 20, NULL);

	json_del(j, "result");
	autofree char *text = json_format(j, false);

	assert_int_equal(fs_write_atomic(AT_FDCWD, path, text, strlen(text), 0600, false), 0);
	/* Built-in plugins undo their own even when the binaries are to be used from now on. */
	start_list(f, "1.0.0", /* binaries= */ true);
	closep(&a.netns);
	a.netns = -1;
	detach(f, &a, "aaaa");
	autofree char *left = output("nft list ruleset 2>/dev/null | grep -e aaaa");
	autofree char *script = xasprintf("ls %s/pods | grep '^[0-9f]'", f->data);
	autofree char *addresses = output(script);

	assert_string_equal(left, "");
	assert_string_equal(addresses, "");
}

/* Addresses come from one pool, whoever hands them out. */
static void test_mixed(void **state)
{
	struct fixture *f = *state;
	CLEANUP(pod_done) struct pod a, b, c;

	pod_open(&a);
	pod_open(&b);
	pod_open(&c);
	start_list(f, "0.4.0", /* binaries= */ false);
	attach(f, &a, "aaaa", NULL, 0);
	start_list(f, "0.4.0", /* binaries= */ true);
	attach(f, &b, "bbbb", NULL, 0);
	start_list(f, "0.4.0", /* binaries= */ false);
	attach(f, &c, "cccc", NULL, 0);
	assert_string_equal(a.result.ip, "10.88.0.10");
	assert_string_equal(b.result.ip, "10.88.0.11");
	assert_string_equal(c.result.ip, "10.88.0.12");
	autoclose int server = listen_in(f, b.netns, "0.0.0.0", 80, SOCK_STREAM);

	assert_true(server >= 0);
	assert_int_equal(connect_from(f, a.netns, "10.88.0.11", 80), 0);
	detach(f, &c, "cccc");
	detach(f, &b, "bbbb");
	detach(f, &a, "aaaa");
	check_nothing_left(f);
}

static void expect_failure(struct fixture *f, const char *text, const char *message)
{
	CLEANUP(pod_done) struct pod p;
	autoerror struct error err = ERROR_INIT;
	CLEANUP(cni_result_done) struct cni_result result = { 0 };

	start(f, text, /* binaries= */ false);
	pod_open(&p);
	const struct cni_request r = request(&p, "aaaa", NULL, 0);

	assert_int_equal(cni_attach(f->cni, &r, &result, &err), -1);
	if (!strstr(err.msg, message))
		fail_msg("'%s' is not in '%s'", message, err.msg);
	check_nothing_left(f);
}

static void test_failures(void **state)
{
	struct fixture *f = *state;
	autofree char *small = xasprintf(
		"{\"cniVersion\":\"1.0.0\",\"name\":\"pods\",\"plugins\":[{\"type\":\"bridge\","
		"\"bridge\":\"cnitest0\",\"isGateway\":true,\"ipMasq\":true,\"ipam\":{"
		"\"type\":\"host-local\",\"dataDir\":\"%s\",\"subnet\":\"10.88.0.0/30\"}}]}",
		f->data);
	autofree char *other = xasprintf(
		"{\"cniVersion\":\"1.0.0\",\"name\":\"pods\",\"plugins\":[{\"type\":\"bridge\","
		"\"bridge\":\"cnitest0\",\"isGateway\":true,\"ipam\":{"
		"\"type\":\"host-local\",\"dataDir\":\"%s\",\"subnet\":\"10.99.0.0/24\"}}]}",
		f->data);
	autofree char *forced = xasprintf(
		"{\"cniVersion\":\"1.0.0\",\"name\":\"pods\",\"plugins\":[{\"type\":\"bridge\","
		"\"bridge\":\"cnitest0\",\"isGateway\":true,\"forceAddress\":true,\"ipam\":{"
		"\"type\":\"host-local\",\"dataDir\":\"%s\",\"subnet\":\"10.99.0.0/24\"}}]}",
		f->data);
	CLEANUP(pod_done) struct pod a, b, c;

	start(f, small, /* binaries= */ false);
	pod_open(&a);
	pod_open(&b);
	pod_open(&c);
	attach(f, &a, "bbbb", NULL, 0);
	const struct cni_request r = request(&b, "cccc", NULL, 0);
	autoerror struct error err = ERROR_INIT;

	assert_int_equal(cni_attach(f->cni, &r, &b.result, &err), -1);
	assert_non_null(strstr(err.msg, "no IP addresses available in range set 0"));
	detach(f, &a, "bbbb");
	check_nothing_left(f);
	expect_failure(f, other,
		       "'cnitest0' already has an IP address different from 10.99.0.1/24");
	start(f, forced, /* binaries= */ false);
	attach(f, &c, "dddd", NULL, 0);
	assert_string_equal(c.result.ip, "10.99.0.3");
	detach(f, &c, "dddd");
	expect_failure(f,
		       "{\"cniVersion\":\"1.0.0\",\"name\":\"pods\",\"plugins\":[{\"type\":"
		       "\"bridge\",\"bridge\":\"lo\"}]}",
		       "'lo' already exists but is not a bridge");
	expect_failure(f,
		       "{\"cniVersion\":\"1.0.0\",\"name\":\"pods\",\"plugins\":[{\"type\":"
		       "\"bridge\",\"hairpinMode\":true,\"promiscMode\":true}]}",
		       "cannot set hairpin mode and promiscuous mode");
	expect_failure(f,
		       "{\"cniVersion\":\"1.0.0\",\"name\":\"pods\",\"plugins\":[{\"type\":"
		       "\"portmap\"}]}",
		       "required prevResult is missing");
}

/* What pods ask for themselves, and networks without addresses. */
static void test_wishes(void **state)
{
	static const char text[] =
		"{\"cniVersion\":\"1.1.0\",\"name\":\"pods\",\"plugins\":[{\"type\":\"loopback\"},"
		"{\"type\":\"bridge\",\"bridge\":\"cnitest0\",\"promiscMode\":true,"
		"\"capabilities\":"
		"{\"mac\":true,\"ips\":true,\"ipRanges\":true},\"dns\":{\"nameservers\":[\"1.1.1."
		"1\"]},"
		"\"ipam\":{\"type\":\"host-local\",\"dataDir\":\"/DATA\"}}]}";
	static const char wishes[] = "{\"mac\":\"02:11:22:33:44:55\",\"ips\":[\"10.77.0.9\"],"
				     "\"ipRanges\":[[{\"subnet\":\"10.77.0.0/24\"}]]}";
	struct fixture *f = *state;
	CLEANUP(pod_done) struct pod a, b;
	autojson struct json *j = json_parse(wishes, strlen(wishes), 1000, NULL);
	autofree char *here = xasprintf("%.*s%s%s", (int)(strstr(text, "/DATA") - text), text,
					f->data, strstr(text, "/DATA") + 5);
	autostrv struct strv valid = STRV_INIT;
	autofree char *ghost = path_join(f->data, "pods", "10.77.0.77", NULL);
	autoerror struct error err = ERROR_INIT;

	start(f, here, /* binaries= */ false);
	pod_open(&a);
	pod_open(&b);
	struct cni_request r = request(&a, "aaaa", NULL, 0);

	r.capabilities = j;
	if (cni_attach(f->cni, &r, &a.result, &err) < 0)
		fail_msg("%s", err.msg);
	assert_string_equal(a.result.ip, "10.77.0.9");
	assert_string_equal(a.result.mac, "02:11:22:33:44:55");
	assert_string_equal(a.result.dns_servers.v[0], "1.1.1.1");
	autofree char *promisc = output("ip -o link show cnitest0");

	assert_non_null(strstr(promisc, "PROMISC"));
	r.id = "bbbb";
	r.netns = b.path;
	assert_int_equal(cni_attach(f->cni, &r, &b.result, &err), -1);
	assert_non_null(strstr(err.msg, "requested address 10.77.0.9 is in use"));
	/* Addresses of nobody are given back. */
	assert_int_equal(fs_write_atomic(AT_FDCWD, ghost, "ghost\r\neth0", 11, 0600, false), 0);
	strv_push(&valid, "aaaa");
	assert_int_equal(cni_gc(f->cni, &valid, &err), 0);
	assert_int_equal(access(ghost, F_OK), -1);
	detach(f, &a, "aaaa");
	check_nothing_left(f);

	start(f,
	      "{\"cniVersion\":\"1.0.0\",\"name\":\"pods\",\"plugins\":[{\"type\":\"bridge\","
	      "\"bridge\":\"cnitest0\"}]}",
	      /* binaries= */ false);
	cni_result_done(&a.result);
	attach(f, &a, "aaaa", NULL, 0);
	assert_null(a.result.ip);
	assert_non_null(a.result.mac);
	detach(f, &a, "aaaa");
	check_nothing_left(f);
}

#define THREADS 6
#define PODS_PER_THREAD 6

struct worker {
	struct fixture *f;
	pthread_t thread;
	struct pod pods[PODS_PER_THREAD];
	unsigned number;
	char message[512];
};

/* cmocka's assertions are for the main thread. */
static void *work(void *arg)
{
	struct worker *w = arg;
	autoerror struct error err = ERROR_INIT;

	for (unsigned i = 0; i < PODS_PER_THREAD && !w->message[0]; i++) {
		struct port_mapping port = { .protocol = tcp,
					     .container_port = 80,
					     .host_port = 20000 + w->number * 100 + i };
		char id[32];

		snprintf(id, sizeof(id), "aaaa%u-%u", w->number, i);
		const struct cni_request r = request(&w->pods[i], id, &port, 1);

		if (cni_attach(w->f->cni, &r, &w->pods[i].result, &err) < 0 ||
		    (i % 2 && cni_detach(w->f->cni, &r, &err) < 0))
			snprintf(w->message, sizeof(w->message), "%s", err.msg);
	}
	for (unsigned i = 0; i < PODS_PER_THREAD && !w->message[0]; i += 2) {
		char id[32];

		snprintf(id, sizeof(id), "aaaa%u-%u", w->number, i);
		const struct cni_request r = request(&w->pods[i], id, NULL, 0);

		if (cni_detach(w->f->cni, &r, &err) < 0)
			snprintf(w->message, sizeof(w->message), "%s", err.msg);
	}
	return NULL;
}

static void test_many_at_once(void **state)
{
	struct fixture *f = *state;
	struct worker workers[THREADS] = { 0 };

	start_list(f, "1.0.0", /* binaries= */ false);
	for (unsigned t = 0; t < THREADS; t++) {
		workers[t].f = f;
		workers[t].number = t;
		for (unsigned i = 0; i < PODS_PER_THREAD; i++)
			pod_open(&workers[t].pods[i]);
	}
	for (unsigned t = 0; t < THREADS; t++)
		assert_int_equal(pthread_create(&workers[t].thread, NULL, work, &workers[t]), 0);
	for (unsigned t = 0; t < THREADS; t++)
		pthread_join(workers[t].thread, NULL);
	for (unsigned t = 0; t < THREADS; t++) {
		if (workers[t].message[0])
			fail_msg("%s", workers[t].message);
		for (unsigned i = 0; i < PODS_PER_THREAD; i++)
			pod_done(&workers[t].pods[i]);
	}
	check_nothing_left(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_builtin, setup, teardown),
		cmocka_unit_test_setup_teardown(test_binaries, setup, teardown),
		cmocka_unit_test(test_same),
		cmocka_unit_test_setup_teardown(test_port_moves, setup, teardown),
		cmocka_unit_test_setup_teardown(test_crash, setup, teardown),
		cmocka_unit_test_setup_teardown(test_mixed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_failures, setup, teardown),
		cmocka_unit_test_setup_teardown(test_wishes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_many_at_once, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
