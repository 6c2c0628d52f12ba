/* SPDX-License-Identifier: Apache-2.0 */
/* The bridge driver for real, in a network namespace of the test's own. */
#include "base/fs.h"
#include "base/mem.h"
#include "network/internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>

struct fixture {
	char dir[64];
	char *root, *state;
	struct store *store;
	struct network_service *s;
	int own_netns;
};

static struct network_service_config config(struct fixture *f)
{
	return (struct network_service_config){ .store = f->store, .state = f->state };
}

static int setup(void **state)
{
	struct fixture *f = xnew(struct fixture);
	struct ifreq lo = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	int sock;

	memcpy(f->dir, "/tmp/kistl-network-XXXXXX", sizeof("/tmp/kistl-network-XXXXXX"));
	assert_int_equal(unshare(CLONE_NEWNET | CLONE_NEWNS), 0);
	assert_int_equal(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
	/* /proc/sys/net shows the namespace of the reader, but may be read-only here and there. */
	sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_int_equal(ioctl(sock, SIOCSIFFLAGS, &lo), 0);
	close(sock);
	assert_non_null(mkdtemp(f->dir));
	f->root = path_join(f->dir, "root", NULL);
	f->state = path_join(f->dir, "state", NULL);
	struct store_config c = { .root = f->root, .snapshotter = "native" };
	assert_int_equal(store_open(&c, &f->store, NULL), 0);
	struct network_service_config nc = config(f);
	assert_int_equal(network_service_new(&nc, &f->s, NULL), 0);
	f->own_netns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	network_service_free(f->s);
	store_close(f->store);
	fs_remove_tree(AT_FDCWD, f->dir);
	close(f->own_netns);
	free(f->root);
	free(f->state);
	free(f);
	return 0;
}

static int try_attach(struct fixture *f, int netns, const char *id,
		      const struct endpoint_request *e, size_t n, const struct port_mapping *ports,
		      size_t n_ports, struct endpoints *ret, struct error *err)
{
	const struct netspace_request r = {
		.container_id = id,
		.name = id,
		.endpoints = e,
		.n_endpoints = n,
		.ports = ports,
		.n_ports = n_ports,
	};

	return network_attach(f->s, netns, &r, ret, err);
}

static void attach(struct fixture *f, int netns, const char *id, const char *network,
		   struct endpoints *ret)
{
	autoerror struct error err = ERROR_INIT;
	struct endpoint_request r = { .network = network };

	if (try_attach(f, netns, id, &r, 1, NULL, 0, ret, &err) < 0)
		fail_msg("%s", err.msg);
}

static void create(struct fixture *f, struct network_spec *spec, const char *subnet,
		   const char *second)
{
	autoerror struct error err = ERROR_INIT;
	struct pool_spec pools[2] = { { .subnet = (char *)subnet }, { .subnet = (char *)second } };
	char driver[] = "bridge", id[65];

	spec->driver = driver;
	spec->pools.v = pools;
	spec->pools.n = second ? 2 : subnet ? 1 : 0;
	if (network_create(f->s, spec, id, &err) < 0)
		fail_msg("%s", err.msg);
}

static int listen_in(struct fixture *f, int netns, unsigned port)
{
	struct sockaddr_in6 sa = { .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port) };
	int fd;

	assert_int_equal(setns(netns, CLONE_NEWNET), 0);
	fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	assert_int_equal(listen(fd, 4), 0);
	assert_int_equal(setns(f->own_netns, CLONE_NEWNET), 0);
	return fd;
}

/* A bridge's new port forwards a moment after it is up: the first packet may be lost. */
static int connect_within(struct fixture *f, int netns, const char *text, unsigned port,
			  int seconds)
{
	struct timeval limit = { .tv_sec = seconds };
	struct sockaddr_storage sa;
	struct ip a;
	int fd, r;

	assert_int_equal(ip_parse(text, &a), 0);
	socklen_t len = ip_sockaddr(&a, (uint16_t)port, &sa);
	assert_int_equal(setns(netns, CLONE_NEWNET), 0);
	fd = socket(sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	r = connect(fd, (struct sockaddr *)&sa, len);
	close(fd);
	assert_int_equal(setns(f->own_netns, CLONE_NEWNET), 0);
	return r;
}

static int connect_from(struct fixture *f, int netns, const char *text, unsigned port)
{
	return connect_within(f, netns, text, port, 5);
}

static bool reaches_not(struct fixture *f, int netns, const char *text, unsigned port)
{
	return connect_within(f, netns, text, port, 1) < 0;
}

static void test_two_containers(void **state)
{
	struct fixture *f = *state;
	CLEANUP(endpoints_done) struct endpoints a = { 0 }, b = { 0 };
	autoclose int na = netns_create(NULL), nb = netns_create(NULL);

	assert_true(na >= 0 && nb >= 0);
	attach(f, na, "aaaa", "bridge", &a);
	attach(f, nb, "bbbb", "bridge", &b);
	assert_string_not_equal(a.v->ip, b.v->ip);
	autoclose int server = listen_in(f, nb, 8080);
	assert_int_equal(connect_from(f, na, b.v->ip, 8080), 0);
	assert_int_equal(connect_from(f, f->own_netns, b.v->ip, 8080), 0);
	assert_true(server >= 0);
	assert_int_equal(network_detach(f->s, "aaaa", NULL), 0);
	assert_int_equal(network_detach(f->s, "aaaa", NULL), 0);
	assert_int_equal(network_detach(f->s, "bbbb", NULL), 0);
	assert_int_equal(if_nametoindex(a.v->host_ifname), 0);
}

static void test_published_port(void **state)
{
	struct fixture *f = *state;
	CLEANUP(endpoints_done) struct endpoints e = { 0 }, again = { 0 };
	autoclose int ns = netns_create(NULL), other = netns_create(NULL);
	autoerror struct error err = ERROR_INIT;
	char tcp[] = "tcp";
	struct port_mapping ports[] = {
		{ .protocol = tcp, .host_port = 18080, .container_port = 80 },
		{ .protocol = tcp, .container_port = 80 },
		{ .protocol = tcp,
		  .host_port = 18080,
		  .host_port_end = 18082,
		  .container_port = 81 },
	};
	const struct endpoint_request r = { .network = "bridge" };

	if (try_attach(f, ns, "pppp", &r, 1, ports, 3, &e, &err) < 0)
		fail_msg("%s", err.msg);
	const struct port_mapping *p = e.v->ports.v;
	assert_int_equal(p[0].host_port, 18080);
	assert_true(p[1].host_port > 0);
	assert_int_equal(p[2].host_port, 18081);
	autoclose int server = listen_in(f, ns, 80);
	assert_true(server >= 0);
	assert_int_equal(connect_from(f, f->own_netns, "127.0.0.1", 18080), 0);
	assert_int_equal(connect_from(f, f->own_netns, e.v->gateway, 18080), 0);
	assert_int_equal(connect_from(f, f->own_netns, "127.0.0.1", p[1].host_port), 0);
	/* Hairpin: the container reaches itself through the host's address. */
	assert_int_equal(connect_from(f, ns, e.v->gateway, 18080), 0);
	assert_int_equal(try_attach(f, other, "qqqq", &r, 1, ports, 1, &again, &err), -1);
	assert_non_null(
		strstr(err.msg, "Bind for 0.0.0.0:18080 failed: port is already allocated"));
	assert_int_equal(network_detach(f->s, "pppp", NULL), 0);
	assert_true(reaches_not(f, f->own_netns, "127.0.0.1", 18080));
	/* Somebody else's port. */
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons(18080) };
	autoclose int foreign = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(foreign, (struct sockaddr *)&sa, sizeof(sa)), 0);
	assert_int_equal(listen(foreign, 1), 0);
	assert_int_equal(try_attach(f, other, "qqqq", &r, 1, ports, 1, &again, &err), -1);
	assert_non_null(strstr(err.msg, "address already in use"));
	assert_int_equal(try_attach(f, other, "qqqq", &r, 1, ports, 0, &again, &err), 0);
	assert_int_equal(network_detach(f->s, "qqqq", NULL), 0);
}

/* A new daemon knows the addresses of the old one, and releases those of containers that are gone.
 * Ports work all the time. */
static void test_restart(void **state)
{
	struct fixture *f = *state;
	CLEANUP(endpoints_done) struct endpoints a = { 0 }, b = { 0 }, c = { 0 };
	CLEANUP(network_view_done) struct network_view v = { 0 };
	autoerror struct error err = ERROR_INIT;
	autoclose int na = netns_create(NULL), nb = netns_create(NULL);
	const struct network_alive alive = { .container_id = "keep", .pid = getpid() };
	struct network_service_config config_ = config(f);
	struct network_service *second;
	char tcp[] = "tcp";
	const struct port_mapping port = { .protocol = tcp,
					   .host_port = 18081,
					   .container_port = 80 };
	const struct endpoint_request r = { .network = "bridge" };

	assert_int_equal(try_attach(f, na, "keep", &r, 1, &port, 1, &a, &err), 0);
	attach(f, nb, "lost", "bridge", &b);
	autoclose int server = listen_in(f, na, 80);
	assert_true(server >= 0);
	assert_int_equal(network_service_new(&config_, &second, NULL), 0);
	assert_int_equal(network_reconcile(second, &alive, 1, NULL), 0);
	assert_int_equal(network_get(second, "bridge", &v, NULL), 0);
	assert_int_equal(v.endpoints.n, 1);
	assert_string_equal(v.endpoints.v[0].ip, a.v->ip);
	assert_int_equal(if_nametoindex(b.v->host_ifname), 0);
	assert_int_equal(connect_from(f, f->own_netns, "127.0.0.1", 18081), 0);
	network_service_free(f->s);
	f->s = second;
	assert_int_equal(try_attach(f, nb, "next", &r, 1, &port, 1, &c, &err), -1);
	assert_int_equal(network_detach(second, "keep", NULL), 0);
	if (try_attach(f, nb, "next", &r, 1, &port, 1, &c, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(network_detach(second, "next", NULL), 0);
}

static int try_create(struct fixture *f, struct network_spec spec, struct pool_spec pool,
		      struct error *err)
{
	char driver[] = "bridge", id[65];

	spec.driver = driver;
	spec.pools.v = &pool;
	spec.pools.n = 1;
	error_done(err);
	return network_create(f->s, &spec, id, err);
}

static void test_user_network(void **state)
{
	struct fixture *f = *state;
	CLEANUP(endpoints_done) struct endpoints e = { 0 };
	autoclose int ns = netns_create(NULL);
	autoerror struct error err = ERROR_INIT;
	struct network_spec mine = { .name = (char *)"mine" }, other = { .name = (char *)"other" };

	create(f, &mine, "10.77.0.0/24", NULL);
	assert_int_equal(try_create(f, mine, (struct pool_spec){ 0 }, &err), -1);
	assert_int_equal(err.code, ERROR_ALREADY_EXISTS);
	assert_int_equal(try_create(f, other,
				    (struct pool_spec){ .subnet = (char *)"10.77.0.128/25" }, &err),
			 -1);
	assert_int_equal(err.code, ERROR_PERMISSION_DENIED);
	attach(f, ns, "cccc", "mine", &e);
	assert_string_equal(e.v->ip, "10.77.0.2");
	assert_int_equal(network_remove(f->s, "mine", &err), -1);
	assert_non_null(strstr(err.msg, "has active endpoints (name:\"cccc\" id:\""));
	assert_int_equal(network_detach(f->s, "cccc", NULL), 0);
	assert_int_equal(network_remove(f->s, "mine", NULL), 0);
	assert_int_equal(network_remove(f->s, "bridge", &err), -1);
}

static const struct {
	struct pool_spec pool;
	const char *words;
} bad_pools[] = {
	{ { .subnet = (char *)"10.0.0.0" }, "invalid CIDR block notation" },
	{ { .subnet = (char *)"10.0.0.1/24" }, "it should be 10.0.0.0/24" },
	{ { .subnet = (char *)"10.0.0.0/31" }, "no room" },
	{ { .subnet = (char *)"10.0.0.0/24", .range = (char *)"10.0.1.0/25" },
	  "doesn't contain ip-range" },
	{ { .subnet = (char *)"10.0.0.0/24", .range = (char *)"10.0.0.0/16" },
	  "bigger than its parent" },
	{ { .subnet = (char *)"10.0.0.0/24", .gateway = (char *)"10.0.1.1" },
	  "doesn't contain this address" },
	{ { .subnet = (char *)"10.0.0.0/24", .gateway = (char *)"fd00::1" }, "IPv4 block" },
	{ { .subnet = (char *)"10.0.0.0/24", .gateway = (char *)"x" }, "invalid address" },
	{ { .gateway = (char *)"10.0.0.1" }, "invalid CIDR block notation" },
};

static void test_bad_pools(void **state)
{
	struct fixture *f = *state;
	autoerror struct error err = ERROR_INIT;

	for (size_t i = 0; i < ARRAY_SIZE(bad_pools); i++) {
		assert_int_equal(try_create(f, (struct network_spec){ .name = (char *)"bad" },
					    bad_pools[i].pool, &err),
				 -1);
		assert_int_equal(err.code, ERROR_INVALID_ARGUMENT);
		if (!strstr(err.msg, bad_pools[i].words))
			fail_msg("'%s' is not in '%s'", bad_pools[i].words, err.msg);
	}
}

static void expect_address(struct fixture *f, const char *id, const char *asked,
			   const char *expected)
{
	CLEANUP(endpoints_done) struct endpoints e = { 0 };
	const struct endpoint_request r = { .network = "pool", .ip = asked };
	autoclose int ns = netns_create(NULL);

	if (try_attach(f, ns, id, &r, 1, NULL, 0, &e, NULL) < 0)
		assert_null(expected);
	else
		assert_string_equal(e.v->ip, expected);
}

static void test_address_management(void **state)
{
	struct fixture *f = *state;
	autoerror struct error err = ERROR_INIT;
	struct pool_spec pool = { .subnet = (char *)"10.78.0.0/24",
				  .range = (char *)"10.78.0.8/30",
				  .gateway = (char *)"10.78.0.9" };

	kvs_set(&pool.aux, "router", "10.78.0.8");
	assert_int_equal(try_create(f, (struct network_spec){ .name = (char *)"pool" }, pool, &err),
			 0);
	kvs_done(&pool.aux);
	expect_address(f, "a", NULL, "10.78.0.10");
	expect_address(f, "b", NULL, "10.78.0.11");
	expect_address(f, "c", NULL, NULL);
	expect_address(f, "c", "10.78.0.200", "10.78.0.200");
	expect_address(f, "d", "10.78.0.200", NULL);
	expect_address(f, "d", "10.78.0.8", NULL);
	expect_address(f, "d", "10.78.0.255", NULL);
	expect_address(f, "d", "10.79.0.2", NULL);
	expect_address(f, "d", "fd00::2", NULL);
	assert_int_equal(network_detach(f->s, "a", NULL), 0);
	expect_address(f, "e", NULL, "10.78.0.10");
	for (const char *p = "bce"; *p; p++)
		assert_int_equal(network_detach(f->s, (char[]){ *p, 0 }, NULL), 0);
	assert_int_equal(network_remove(f->s, "pool", NULL), 0);
}

static void test_ipv6(void **state)
{
	struct fixture *f = *state;
	CLEANUP(endpoints_done) struct endpoints a = { 0 }, b = { 0 };
	CLEANUP(network_view_done) struct network_view v = { 0 };
	autoclose int na = netns_create(NULL), nb = netns_create(NULL);
	struct network_spec six = { .name = (char *)"six", .ipv6 = true };
	autoerror struct error err = ERROR_INIT;
	char tcp[] = "tcp";
	const struct port_mapping port = { .protocol = tcp,
					   .host_port = 18083,
					   .container_port = 80 };
	const struct endpoint_request r = { .network = "six" };

	create(f, &six, NULL, NULL);
	assert_int_equal(network_get(f->s, "six", &v, NULL), 0);
	assert_int_equal(v.spec.pools.n, 2);
	if (try_attach(f, na, "a", &r, 1, &port, 1, &a, &err) < 0)
		fail_msg("%s", err.msg);
	attach(f, nb, "b", "six", &b);
	assert_non_null(a.v->ip6);
	assert_int_equal(a.v->prefix6, 64);
	assert_int_equal(a.v->ports.n, 2);
	autoclose int server = listen_in(f, na, 80);
	assert_true(server >= 0);
	assert_int_equal(connect_from(f, nb, a.v->ip6, 80), 0);
	assert_int_equal(connect_from(f, nb, a.v->ip, 80), 0);
	assert_int_equal(connect_from(f, f->own_netns, a.v->gateway6, 18083), 0);
	assert_int_equal(connect_from(f, f->own_netns, "127.0.0.1", 18083), 0);
	assert_int_equal(network_detach(f->s, "a", NULL), 0);
	assert_int_equal(network_detach(f->s, "b", NULL), 0);
	assert_int_equal(network_remove(f->s, "six", NULL), 0);
}

/* Two networks, live: who reaches whom, and where the default route and the ports go. */
static void test_connect(void **state)
{
	struct fixture *f = *state;
	CLEANUP(endpoints_done) struct endpoints a = { 0 }, b = { 0 }, now = { 0 };
	autoclose int na = netns_create(NULL), nb = netns_create(NULL);
	autoerror struct error err = ERROR_INIT;
	struct network_spec one = { .name = (char *)"one" }, two = { .name = (char *)"two" };
	char tcp[] = "tcp";
	const struct port_mapping port = { .protocol = tcp,
					   .host_port = 18084,
					   .container_port = 80 };
	const struct endpoint_request first = { .network = "one" },
				      second = { .network = "two", .gw_priority = 1 };

	create(f, &one, "10.81.0.0/24", NULL);
	create(f, &two, "10.82.0.0/24", NULL);
	assert_int_equal(try_attach(f, na, "a", &first, 1, &port, 1, &a, &err), 0);
	attach(f, nb, "b", "two", &b);
	autoclose int server = listen_in(f, na, 80), other = listen_in(f, nb, 81);
	assert_true(server >= 0 && other >= 0);
	assert_true(reaches_not(f, na, b.v->ip, 81)); /* isolated */
	assert_int_equal(connect_from(f, nb, a.v->gateway, 18084),
			 0); /* but for what is published */
	assert_int_equal(network_connect(f->s, na, "a", &second, &now, &err), 0);
	assert_int_equal(now.n, 2);
	assert_string_equal(now.v[1].ifname, "eth1");
	assert_int_equal(now.v[0].ports.n, 0);
	assert_int_equal(now.v[1].ports.v[0].host_port, 18084);
	assert_int_equal(connect_from(f, na, b.v->ip, 81), 0);
	assert_int_equal(connect_from(f, f->own_netns, "127.0.0.1", 18084), 0);
	assert_int_equal(network_connect(f->s, na, "a", &second, &now, &err), -1);
	assert_int_equal(err.code, ERROR_PERMISSION_DENIED);
	endpoints_done(&now);
	assert_int_equal(network_disconnect(f->s, na, "a", "two", &now, &err), 0);
	assert_int_equal(now.n, 1);
	assert_int_equal(now.v[0].ports.v[0].host_port, 18084);
	assert_true(reaches_not(f, na, b.v->ip, 81));
	assert_int_equal(connect_from(f, f->own_netns, "127.0.0.1", 18084), 0);
	assert_int_equal(network_disconnect(f->s, na, "a", "two", &now, &err), -1);
	assert_int_equal(network_detach(f->s, "a", NULL), 0);
	assert_int_equal(network_detach(f->s, "b", NULL), 0);
	assert_int_equal(network_remove(f->s, "one", NULL), 0);
	assert_int_equal(network_remove(f->s, "two", NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_two_containers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_published_port, setup, teardown),
		cmocka_unit_test_setup_teardown(test_restart, setup, teardown),
		cmocka_unit_test_setup_teardown(test_user_network, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bad_pools, setup, teardown),
		cmocka_unit_test_setup_teardown(test_address_management, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ipv6, setup, teardown),
		cmocka_unit_test_setup_teardown(test_connect, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
