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

static void attach(struct fixture *f, int netns, const char *id, const char *network,
		   struct endpoint *e)
{
	autoerror struct error err = ERROR_INIT;
	struct endpoint_request r = { .container_id = id, .network = network };

	if (network_attach(f->s, netns, &r, e, &err) < 0)
		fail_msg("%s", err.msg);
}

static int listen_in(struct fixture *f, int netns, unsigned port)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	int fd;

	assert_int_equal(setns(netns, CLONE_NEWNET), 0);
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	assert_int_equal(listen(fd, 4), 0);
	assert_int_equal(setns(f->own_netns, CLONE_NEWNET), 0);
	return fd;
}

static int connect_from(struct fixture *f, int netns, const char *ip, unsigned port)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	struct timeval limit = { .tv_sec = 3 };
	int fd, r;

	assert_int_equal(inet_pton(AF_INET, ip, &sa.sin_addr), 1);
	assert_int_equal(setns(netns, CLONE_NEWNET), 0);
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	r = connect(fd, (struct sockaddr *)&sa, sizeof(sa));
	close(fd);
	assert_int_equal(setns(f->own_netns, CLONE_NEWNET), 0);
	return r;
}

static void test_two_containers(void **state)
{
	struct fixture *f = *state;
	CLEANUP(endpoint_done) struct endpoint a = { 0 }, b = { 0 };
	autoclose int na = netns_create(NULL), nb = netns_create(NULL);

	assert_true(na >= 0 && nb >= 0);
	attach(f, na, "aaaa", "bridge", &a);
	attach(f, nb, "bbbb", "bridge", &b);
	assert_string_not_equal(a.ip, b.ip);
	autoclose int server = listen_in(f, nb, 8080);
	assert_int_equal(connect_from(f, na, b.ip, 8080), 0);
	assert_int_equal(connect_from(f, f->own_netns, b.ip, 8080), 0);
	assert_true(server >= 0);
	assert_int_equal(network_detach(f->s, "aaaa", NULL), 0);
	assert_int_equal(network_detach(f->s, "aaaa", NULL), 0);
	assert_int_equal(network_detach(f->s, "bbbb", NULL), 0);
	assert_int_equal(if_nametoindex(a.host_ifname), 0);
}

static void test_published_port(void **state)
{
	struct fixture *f = *state;
	CLEANUP(endpoint_done) struct endpoint e = { 0 }, again = { 0 };
	autoclose int ns = netns_create(NULL), other = netns_create(NULL);
	autoerror struct error err = ERROR_INIT;
	char tcp[] = "tcp";
	struct port_mapping ports[] = {
		{ .protocol = tcp, .host_port = 18080, .container_port = 80 },
		{ .protocol = tcp, .container_port = 80 }
	};
	struct endpoint_request r = {
		.container_id = "pppp", .network = "bridge", .ports = ports, .n_ports = 2
	};

	assert_int_equal(network_attach(f->s, ns, &r, &e, &err), 0);
	assert_int_equal(e.ports.v[0].host_port, 18080);
	assert_true(e.ports.v[1].host_port > 0);
	autoclose int server = listen_in(f, ns, 80);
	assert_true(server >= 0);
	assert_int_equal(connect_from(f, f->own_netns, "127.0.0.1", 18080), 0);
	assert_int_equal(connect_from(f, f->own_netns, e.gateway, 18080), 0);
	assert_int_equal(connect_from(f, f->own_netns, "127.0.0.1", e.ports.v[1].host_port), 0);
	/* Hairpin: the container reaches itself through the host's address. */
	assert_int_equal(connect_from(f, ns, e.gateway, 18080), 0);
	r.container_id = "qqqq";
	r.n_ports = 1;
	assert_int_equal(network_attach(f->s, other, &r, &again, &err), -1);
	assert_string_equal(err.msg, "Bind for 0.0.0.0:18080 failed: port is already allocated");
	assert_int_equal(network_detach(f->s, "pppp", NULL), 0);
	assert_int_equal(connect_from(f, f->own_netns, "127.0.0.1", 18080), -1);
}

/* A new daemon knows the addresses of the old one, and releases those of containers that are gone.
 */
static void test_restart(void **state)
{
	struct fixture *f = *state;
	CLEANUP(endpoint_done) struct endpoint a = { 0 }, b = { 0 };
	CLEANUP(network_view_done) struct network_view v = { 0 };
	autoclose int na = netns_create(NULL), nb = netns_create(NULL);
	autostrv struct strv alive = STRV_INIT;
	struct network_service_config c = config(f);
	struct network_service *second;

	attach(f, na, "keep", "bridge", &a);
	attach(f, nb, "lost", "bridge", &b);
	assert_int_equal(network_service_new(&c, &second, NULL), 0);
	strv_push(&alive, "keep");
	assert_int_equal(network_reconcile(second, &alive, NULL), 0);
	assert_int_equal(network_get(second, "bridge", &v, NULL), 0);
	assert_int_equal(v.endpoints.n, 1);
	assert_string_equal(v.endpoints.v[0].ip, a.ip);
	assert_int_equal(if_nametoindex(b.host_ifname), 0);
	network_service_free(f->s);
	f->s = second;
	assert_int_equal(network_detach(second, "keep", NULL), 0);
}

static void test_user_network(void **state)
{
	struct fixture *f = *state;
	CLEANUP(endpoint_done) struct endpoint e = { 0 };
	autoclose int ns = netns_create(NULL);
	autoerror struct error err = ERROR_INIT;
	char id[65];

	assert_int_equal(
		network_create(f->s, "mine", "10.77.0.0/24", NULL, false, NULL, NULL, id, &err), 0);
	assert_int_equal(network_create(f->s, "mine", NULL, NULL, false, NULL, NULL, id, &err), -1);
	assert_int_equal(err.code, ERROR_ALREADY_EXISTS);
	assert_int_equal(network_create(f->s, "overlap", "10.77.0.128/25", NULL, false, NULL, NULL,
					id, &err),
			 -1);
	attach(f, ns, "cccc", "mine", &e);
	assert_string_equal(e.ip, "10.77.0.2");
	assert_int_equal(network_remove(f->s, "mine", &err), -1);
	assert_int_equal(network_detach(f->s, "cccc", NULL), 0);
	assert_int_equal(network_remove(f->s, "mine", NULL), 0);
	assert_int_equal(network_remove(f->s, "bridge", &err), -1);
}

static void test_subnets(void **state)
{
	static const char *const bad[] = { "",	   "10.0.0.0",	  "10.0.0.1/24", "10.0.0.0/31",
					   "x/24", "10.0.0.0/-1", "10.0.0.0/24x" };
	struct subnet s, t;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(subnet_parse(bad[i], &s, NULL), -1);
	assert_int_equal(subnet_parse("10.0.0.0/8", &s, NULL), 0);
	assert_int_equal(subnet_parse("10.200.0.0/16", &t, NULL), 0);
	assert_true(subnet_overlaps(&s, &t));
	assert_int_equal(subnet_parse("11.0.0.0/16", &t, NULL), 0);
	assert_false(subnet_overlaps(&s, &t));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_two_containers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_published_port, setup, teardown),
		cmocka_unit_test_setup_teardown(test_restart, setup, teardown),
		cmocka_unit_test_setup_teardown(test_user_network, setup, teardown),
		cmocka_unit_test(test_subnets),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
