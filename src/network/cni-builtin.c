/* SPDX-License-Identifier: Apache-2.0 */
/* What all built-in plugins share, and the smallest one: loopback. */
#include "base/mem.h"
#include "network/cni-internal.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/vfs.h>

#ifndef NSFS_MAGIC
#define NSFS_MAGIC 0x6e736673
#endif

static const struct cni_builtin *const builtins[] = {
	&cni_loopback, &cni_bridge, &cni_host_local, &cni_portmap, &cni_firewall,
};

const struct cni_builtin *cni_builtin_find(const char *type)
{
	for (size_t i = 0; i < ARRAY_SIZE(builtins); i++) {
		if (str_equal(builtins[i]->type, type))
			return builtins[i];
	}
	return NULL;
}

/* Later plugins of a type may not share an earlier one's luck: a record only knows types. */
static void consider(const char *type, const struct json *config, struct strv *good,
		     struct strv *bad)
{
	const struct cni_builtin *b = str_empty(type) ? NULL : cni_builtin_find(type);

	if (!b)
		return;
	if (!b->supports(config))
		strv_push(bad, type);
	else if (!strv_contains(good, type))
		strv_push(good, type);
}

void cni_builtin_types(const struct cni *c, const struct cni_list *l, struct strv *ret)
{
	autostrv struct strv good = STRV_INIT, bad = STRV_INIT;

	if (c->binaries_only || l->version < CNI_0_3_0)
		return;
	for (size_t i = 0; i < l->n; i++) {
		const struct json *ipam = json_get(l->v[i].config, "ipam");

		consider(l->v[i].type, l->v[i].config, &good, &bad);
		consider(json_get_string(ipam, "type"), l->v[i].config, &good, &bad);
	}
	for (size_t i = 0; i < good.n; i++) {
		if (!strv_contains(&bad, good.v[i]))
			strv_push(ret, good.v[i]);
	}
}

static int on_key(const char *key, struct json *value UNUSED, void *arg)
{
	for (const char *const *k = arg; *k; k++) {
		if (str_equal(*k, key))
			return 0;
	}
	return 1;
}

bool cni_keys_known(const struct json *obj, const char *const *keys)
{
	return json_type(obj) == JSON_OBJECT && json_object_each(obj, on_key, (void *)keys) == 0;
}

int cni_prev_result(const struct json *config, struct cni_info *ret, struct error *err)
{
	const struct json *prev = json_get(config, "prevResult");

	if (json_type(prev) != JSON_OBJECT)
		return error_set(err, ERROR_FAILED_PRECONDITION, "required prevResult is missing");
	return cni_info_parse(prev, ret, err) < 0 ? error_wrap(err, "prevResult") : 0;
}

/* A path of a namespace that is no more may be a plain file: its mount went with a reboot. */
int cni_netns_open(const char *path, struct error *err)
{
	autoclose int fd = -EBADF;
	struct statfs s;

	if (str_empty(path))
		return error_set(err, ERROR_NOT_FOUND, "no network namespace");
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return error_errno(err, errno, "open network namespace '%s'", path);
	if (fstatfs(fd, &s) < 0)
		return error_errno(err, errno, "look at network namespace '%s'", path);
	if (s.f_type != NSFS_MAGIC)
		return error_set(err, ERROR_NOT_FOUND, "'%s' is not a network namespace", path);
	return TAKE_FD(fd);
}

int cni_netns_do(int netns_fd, int (*fn)(void *arg, struct error *err), void *arg,
		 struct error *err)
{
	autoclose int own = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	int r;

	if (own < 0)
		return error_errno(err, errno, "open the network namespace of this thread");
	if (setns(netns_fd, CLONE_NEWNET) < 0)
		return error_errno(err, errno, "enter the network namespace");
	r = fn(arg, err);
	/* A thread that cannot come back must not go on. */
	if (setns(own, CLONE_NEWNET) < 0)
		abort();
	return r;
}

int cni_sysctl(const char *value, const char *fmt, ...)
{
	char path[256] = "/proc/sys/";
	size_t n = strlen(path);
	autoclose int fd = -EBADF;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(path + n, sizeof(path) - n, fmt, ap);
	va_end(ap);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, value, strlen(value)) < 0)
		return -errno;
	return 0;
}

static int lo_flags(bool set_up, bool down, short *ret, struct error *err)
{
	autoclose int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq r = { .ifr_name = "lo" };

	if (sock < 0 || ioctl(sock, SIOCGIFFLAGS, &r) < 0)
		return error_errno(err, errno, "look at the loopback interface");
	*ret = r.ifr_flags;
	if (set_up && !(r.ifr_flags & IFF_UP))
		r.ifr_flags |= IFF_UP;
	else if (down && r.ifr_flags & IFF_UP)
		r.ifr_flags = (short)(r.ifr_flags & ~IFF_UP);
	else
		return 0;
	if (ioctl(sock, SIOCSIFFLAGS, &r) < 0)
		return error_errno(err, errno, "set the loopback interface %s",
				   set_up ? "up" : "down");
	return 0;
}

static int lo_up(void *arg UNUSED, struct error *err)
{
	short flags;

	return lo_flags(/* set_up= */ true, /* down= */ false, &flags, err);
}

static int lo_down(void *arg UNUSED, struct error *err)
{
	short flags;

	return lo_flags(/* set_up= */ false, /* down= */ true, &flags, err);
}

static int lo_check(void *arg UNUSED, struct error *err)
{
	short flags;

	if (lo_flags(/* set_up= */ false, /* down= */ false, &flags, err) < 0)
		return -1;
	return flags & IFF_UP ? 0 : error_set(err, ERROR_UNKNOWN, "the loopback interface is down");
}

int cni_loopback_up(int netns_fd, struct error *err)
{
	return cni_netns_do(netns_fd, lo_up, NULL, err);
}

static bool loopback_supports(const struct json *config)
{
	static const char *const keys[] = { "type", "name", "cniVersion", NULL };

	return cni_keys_known(config, keys);
}

static int loopback_add(const struct cni_call *call, const struct json *config,
			struct json **ret_result, struct error *err)
{
	autoclose int ns = cni_netns_open(call->netns, err);
	autocniinfo struct cni_info i = CNI_INFO_INIT;
	struct cni_ip ips[] = { { .interface = 0 }, { .interface = 0 } };

	if (ns < 0 || cni_loopback_up(ns, err) < 0)
		return -1;
	if (json_type(json_get(config, "prevResult")) == JSON_OBJECT) {
		*ret_result = json_copy(json_get(config, "prevResult"));
		return 0;
	}
	i.version = (enum cni_version)cni_version_parse(json_get_string(config, "cniVersion"));
	cni_info_add_interface(&i, "lo", "00:00:00:00:00:00", call->netns);
	cni_net_parse("127.0.0.1/8", &ips[0].address);
	cni_net_parse("::1/128", &ips[1].address);
	cni_info_add_ip(&i, &ips[0]);
	/* Some hosts have no IPv6. */
	if (access("/proc/net/if_inet6", F_OK) == 0)
		cni_info_add_ip(&i, &ips[1]);
	*ret_result = cni_info_encode(&i);
	return 0;
}

static int loopback_del(const struct cni_call *call, const struct json *config UNUSED,
			struct error *err)
{
	autoerror struct error e = ERROR_INIT;
	autoclose int ns = cni_netns_open(call->netns, &e);

	if (ns < 0)
		return error_is(&e, ERROR_NOT_FOUND) ? 0 : error_move(err, &e);
	return cni_netns_do(ns, lo_down, NULL, err);
}

static int loopback_check(const struct cni_call *call, const struct json *config UNUSED,
			  struct error *err)
{
	autoclose int ns = cni_netns_open(call->netns, err);

	return ns < 0 ? -1 : cni_netns_do(ns, lo_check, NULL, err);
}

const struct cni_builtin cni_loopback = {
	.type = "loopback",
	.supports = loopback_supports,
	.add = loopback_add,
	.del = loopback_del,
	.check = loopback_check,
};
