/* SPDX-License-Identifier: Apache-2.0 */
/*
 * host-local: one file for each address in use, <dataDir>/<network>/<address>, with the owner's id
 * and interface on a line each (CRLF between), and last_reserved_ip.<set> to go on from. That and
 * the lock are the binary's, so both may hand out addresses of the same network.
 */
#include "base/fs.h"
#include "base/mem.h"
#include "base/time.h"
#include "network/cni-internal.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#define DATA_DIR "/var/lib/cni/networks"
#define LAST_PREFIX "last_reserved_ip."
#define RANGES_MAX 64
#define OWNER_MAX 512

struct range {
	struct cni_net subnet;
	struct ip first, last, gateway;
	unsigned set;
};

struct host_local {
	struct range ranges[RANGES_MAX];
	size_t n;
	unsigned sets;
	char *dir;
	int dir_fd, lock_fd;
	struct ip wanted[RANGES_MAX];
	size_t n_wanted;
	struct cni_info routes;
};

#define HOST_LOCAL_INIT ((struct host_local){ .dir_fd = -EBADF, .lock_fd = -EBADF })

static void host_local_done(struct host_local *h)
{
	closep(&h->dir_fd);
	closep(&h->lock_fd);
	cni_info_done(&h->routes);
	free(h->dir);
}

static bool within(const struct range *r, const struct ip *a)
{
	return a->len == r->first.len && ip_compare(a, &r->first) >= 0 &&
	       ip_compare(a, &r->last) <= 0;
}

static int optional(const struct json *j, const char *key, struct ip *ret, struct error *err)
{
	const char *s = json_get_string(j, key);

	if (!str_empty(s) && ip_parse(s, ret) < 0)
		return error_set(err, ERROR_FAILED_PRECONDITION, "ipam: %s: invalid address '%s'",
				 key, s);
	return 0;
}

/* Broadcast addresses are not for hosts. */
static struct ip last_usable(const struct cni_net *n)
{
	struct ip a = cni_net_last(n);

	if (a.len == 4)
		a.b[3]--;
	return a;
}

static int range_parse(const struct json *j, unsigned set, struct range *ret, struct error *err)
{
	const char *subnet = json_get_string(j, "subnet");
	struct range r = { .set = set };
	struct ip base;

	if (cni_net_parse(subnet, &r.subnet) < 0)
		return error_set(err, ERROR_FAILED_PRECONDITION, "ipam: invalid subnet '%s'",
				 subnet ? subnet : "");
	base = cni_net_base(&r.subnet);
	if (r.subnet.prefix + 2 > r.subnet.addr.len * 8U)
		return error_set(err, ERROR_FAILED_PRECONDITION,
				 "ipam: network %s is too small to allocate from", subnet);
	if (ip_compare(&base, &r.subnet.addr) != 0)
		return error_set(err, ERROR_FAILED_PRECONDITION,
				 "ipam: network %s has host bits set", subnet);
	r.gateway = r.first = cni_net_next(&base);
	r.last = last_usable(&r.subnet);
	if (optional(j, "gateway", &r.gateway, err) < 0 ||
	    optional(j, "rangeStart", &r.first, err) < 0 ||
	    optional(j, "rangeEnd", &r.last, err) < 0)
		return -1;
	if (!cni_net_contains(&r.subnet, &r.first) || !cni_net_contains(&r.subnet, &r.last) ||
	    ip_compare(&r.first, &r.last) > 0)
		return error_set(err, ERROR_FAILED_PRECONDITION,
				 "ipam: rangeStart and rangeEnd are no range in %s", subnet);
	*ret = r;
	return 0;
}

static int add_range(struct host_local *h, const struct json *j, unsigned set, struct error *err)
{
	struct range r;

	if (h->n >= RANGES_MAX)
		return error_set(err, ERROR_FAILED_PRECONDITION, "ipam: more than %d ranges",
				 RANGES_MAX);
	if (range_parse(j, set, &r, err) < 0)
		return -1;
	for (size_t i = 0; i < h->n; i++) {
		const struct range *o = &h->ranges[i];

		if (o->set == set && o->first.len != r.first.len)
			return error_set(err, ERROR_FAILED_PRECONDITION,
					 "ipam: range set %u mixes address families", set);
		if (within(o, &r.first) || within(o, &r.last) || within(&r, &o->first))
			return error_set(err, ERROR_FAILED_PRECONDITION,
					 "ipam: ranges %zu and %zu overlap", i, h->n);
	}
	h->ranges[h->n++] = r;
	return 0;
}

static int add_sets(struct host_local *h, const struct json *sets, struct error *err)
{
	for (size_t i = 0; i < json_array_len(sets); i++) {
		const struct json *set = json_array_get(sets, i);

		if (json_array_len(set) == 0)
			return error_set(err, ERROR_FAILED_PRECONDITION, "ipam: empty range set");
		for (size_t k = 0; k < json_array_len(set); k++) {
			if (add_range(h, json_array_get(set, k), h->sets, err) < 0)
				return -1;
		}
		h->sets++;
	}
	return 0;
}

/* The addresses that the runtime asks for: as a capability, or "IP=" among CNI_ARGS. */
static int add_wanted(struct host_local *h, const struct cni_call *call, const struct json *config,
		      struct error *err)
{
	const struct json *ips = json_get(json_get(config, "runtimeConfig"), "ips");
	autostrv struct strv args = STRV_INIT, texts = STRV_INIT;
	const char *one;

	strv_split(&args, call->args ? call->args : "", ";");
	one = strv_env_get(&args, "IP");
	if (!str_empty(one))
		strv_push(&texts, one);
	for (size_t i = 0; i < json_array_len(ips); i++)
		strv_push(&texts, json_string(json_array_get(ips, i)) ?: "");
	for (size_t i = 0; i < texts.n; i++) {
		struct cni_net n;

		if (h->n_wanted >= RANGES_MAX)
			return error_set(err, ERROR_INVALID_ARGUMENT, "too many addresses asked");
		if (ip_parse(texts.v[i], &h->wanted[h->n_wanted]) < 0) {
			if (cni_net_parse(texts.v[i], &n) < 0)
				return error_set(err, ERROR_INVALID_ARGUMENT,
						 "invalid address '%s' asked", texts.v[i]);
			h->wanted[h->n_wanted] = n.addr;
		}
		h->n_wanted++;
	}
	return 0;
}

static int lock_dir(struct host_local *h, const struct cni_call *call, struct error *err)
{
	const struct timespec pause = { .tv_nsec = NSEC_PER_MSEC };
	int r = fs_mkdir_p(h->dir, 0755);

	if (r < 0)
		return error_errno(err, -r, "make '%s'", h->dir);
	h->dir_fd = open(h->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (h->dir_fd >= 0)
		h->lock_fd = openat(h->dir_fd, "lock", O_RDONLY | O_CREAT | O_CLOEXEC, 0750);
	if (h->lock_fd < 0)
		return error_errno(err, errno, "open '%s/lock'", h->dir);
	/* A binary that hangs with the lock must not hang us past our deadline. */
	while (flock(h->lock_fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return error_errno(err, errno, "lock '%s'", h->dir);
		if (cni_call_left(call) == 0)
			return error_set(err, ERROR_DEADLINE_EXCEEDED,
					 "'%s' stayed locked by another process", h->dir);
		nanosleep(&pause, NULL);
	}
	return 0;
}

static int host_local_open(struct host_local *h, const struct cni_call *call,
			   const struct json *config, struct error *err)
{
	const char *dir = json_get_string(json_get(config, "ipam"), "dataDir");

	h->dir = path_join(str_empty(dir) ? DATA_DIR : dir, json_get_string(config, "name"), NULL);
	return lock_dir(h, call, err);
}

/* What only giving out addresses needs: a range that is wrong must not keep any. */
static int read_ranges(struct host_local *h, const struct cni_call *call, const struct json *config,
		       struct error *err)
{
	const struct json *ipam = json_get(config, "ipam");

	if (add_sets(h, json_get(json_get(config, "runtimeConfig"), "ipRanges"), err) < 0)
		return -1;
	if (json_get_string(ipam, "subnet") && add_range(h, ipam, h->sets++, err) < 0)
		return -1;
	if (add_sets(h, json_get(ipam, "ranges"), err) < 0)
		return -1;
	if (h->n == 0)
		return error_set(err, ERROR_FAILED_PRECONDITION, "ipam: no IP ranges specified");
	if (cni_routes_parse(json_get(ipam, "routes"), &h->routes, /* strict= */ false, err) < 0)
		return -1;
	return add_wanted(h, call, config, err);
}

static size_t owner_text(const struct cni_call *call, char out[OWNER_MAX])
{
	return (size_t)snprintf(out, OWNER_MAX, "%s\r\n%s", call->id, call->ifname);
}

/* Which of the files is somebody's; "" when it cannot be read. Spaces around do not count. */
static void read_owner(const struct host_local *h, const char *name, char out[OWNER_MAX])
{
	autoclose int fd = openat(h->dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	ssize_t n = fd < 0 ? -1 : read(fd, out, OWNER_MAX - 1);

	out[n > 0 ? n : 0] = '\0';
	for (size_t len = strlen(out); len > 0 && strchr(" \t\r\n", out[len - 1]); len--)
		out[len - 1] = '\0';
}

/* Calls fn for each address file with its owner until it returns non-zero. */
static int each_address(const struct host_local *h,
			int (*fn)(const struct host_local *h, const char *name, const char *owner,
				  void *arg),
			void *arg)
{
	int fd = fcntl(h->dir_fd, F_DUPFD_CLOEXEC, 3);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;
	int r = 0;

	if (!d) {
		closep(&fd);
		return 0;
	}
	rewinddir(d);
	while (r == 0 && (e = readdir(d))) {
		char owner[OWNER_MAX];
		struct ip a;

		if (ip_parse(e->d_name, &a) < 0)
			continue;
		read_owner(h, e->d_name, owner);
		r = fn(h, e->d_name, owner, arg);
	}
	closedir(d);
	return r;
}

struct search {
	const char *key, *old_key; /* old versions wrote no interface */
};

static int on_mine(const struct host_local *h UNUSED, const char *name UNUSED, const char *owner,
		   void *arg)
{
	const struct search *s = arg;

	return str_equal(owner, s->key) || str_equal(owner, s->old_key);
}

static int on_release(const struct host_local *h, const char *name, const char *owner, void *arg)
{
	const struct search *s = arg;

	if (str_equal(owner, s->key) || str_equal(owner, s->old_key))
		unlinkat(h->dir_fd, name, 0);
	return 0;
}

/* With its owner in it from the first moment, so that whoever dies here leaves nothing that nobody
 * can release. -EEXIST. */
static int reserve_file(const struct host_local *h, const char *name, const char *owner, size_t len)
{
	autoclose int fd = openat(h->dir_fd, ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
	bool unnamed = fd >= 0;
	char path[64];

	/* Not every file system has that. */
	if (!unnamed)
		fd = openat(h->dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	int r = fs_write_all(fd, owner, len);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (r == 0 && unnamed && linkat(AT_FDCWD, path, h->dir_fd, name, AT_SYMLINK_FOLLOW) < 0)
		r = -errno;
	if (r < 0 && !unnamed)
		unlinkat(h->dir_fd, name, 0);
	return r;
}

/* 1: taken by another. */
static int reserve(const struct host_local *h, const struct ip *a, unsigned set, const char *owner,
		   size_t owner_len, struct error *err)
{
	char name[CNI_NET_STRING_MAX], last[64];

	ip_format(a, name);
	int r = reserve_file(h, name, owner, owner_len);
	if (r < 0)
		return r == -EEXIST ? 1 : error_errno(err, -r, "reserve '%s/%s'", h->dir, name);
	snprintf(last, sizeof(last), LAST_PREFIX "%u", set);
	autoclose int last_fd =
		openat(h->dir_fd, last, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	r = last_fd < 0 ? -errno : fs_write_all(last_fd, name, strlen(name));
	if (r < 0) {
		unlinkat(h->dir_fd, name, 0);
		return error_errno(err, -r, "write '%s/%s'", h->dir, last);
	}
	return 0;
}

static const struct range *range_of(const struct host_local *h, const struct ip *a, unsigned set)
{
	for (size_t i = 0; i < h->n; i++) {
		if (h->ranges[i].set == set && within(&h->ranges[i], a))
			return &h->ranges[i];
	}
	return NULL;
}

static const struct range *first_range(const struct host_local *h, unsigned set)
{
	for (size_t i = 0; i < h->n; i++) {
		if (h->ranges[i].set == set)
			return &h->ranges[i];
	}
	return NULL;
}

/* The one behind it in its set, round about. */
static const struct range *next_range(const struct host_local *h, const struct range *r)
{
	const struct range *next = r + 1;

	return next < h->ranges + h->n && next->set == r->set ? next : first_range(h, r->set);
}

/* Where the last one was given out, so that an address rests as long as possible. */
static bool last_reserved(const struct host_local *h, unsigned set, struct ip *ret)
{
	char name[64], text[OWNER_MAX];
	struct ip a;

	snprintf(name, sizeof(name), LAST_PREFIX "%u", set);
	read_owner(h, name, text);
	/* The ranges may have changed since. */
	if (ip_parse(text, &a) < 0 || !range_of(h, &a, set))
		return false;
	*ret = a;
	return true;
}

static int allocate_any(const struct host_local *h, unsigned set, const char *owner,
			size_t owner_len, struct cni_ip *ret, struct error *err)
{
	const struct range *r = first_range(h, set);
	struct ip at = r->first, start;

	if (last_reserved(h, set, &at)) {
		r = range_of(h, &at, set);
		if (ip_compare(&at, &r->last) == 0) {
			r = next_range(h, r);
			at = r->first;
		} else {
			at = cni_net_next(&at);
		}
	}
	start = at;
	do {
		if (ip_compare(&at, &r->gateway) != 0) {
			int n = reserve(h, &at, set, owner, owner_len, err);

			if (n < 0)
				return -1;
			if (n == 0) {
				ret->address = (struct cni_net){ at, r->subnet.prefix };
				ret->gateway = r->gateway;
				return 0;
			}
		}
		if (ip_compare(&at, &r->last) == 0) {
			r = next_range(h, r);
			at = r->first;
		} else {
			at = cni_net_next(&at);
		}
	} while (ip_compare(&at, &start) != 0);
	return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no IP addresses available in range set %u",
			 set);
}

static int allocate_wanted(const struct host_local *h, unsigned set, const struct ip *a,
			   const char *owner, size_t owner_len, struct cni_ip *ret,
			   struct error *err)
{
	const struct range *r = range_of(h, a, set);
	char text[CNI_NET_STRING_MAX];
	int n;

	ip_format(a, text);
	if (ip_compare(a, &r->gateway) == 0)
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "requested address %s is the gateway's", text);
	n = reserve(h, a, set, owner, owner_len, err);
	if (n > 0)
		return error_set(err, ERROR_ALREADY_EXISTS, "requested address %s is in use", text);
	ret->address = (struct cni_net){ *a, r->subnet.prefix };
	ret->gateway = r->gateway;
	return n;
}

static int allocate(struct host_local *h, unsigned set, const char *owner, size_t owner_len,
		    struct cni_ip *ret, struct error *err)
{
	for (size_t i = 0; i < h->n_wanted; i++) {
		struct ip a = h->wanted[i];

		if (!range_of(h, &a, set))
			continue;
		h->wanted[i] = h->wanted[--h->n_wanted];
		return allocate_wanted(h, set, &a, owner, owner_len, ret, err);
	}
	return allocate_any(h, set, owner, owner_len, ret, err);
}

/* "resolvConf" and "args" are the binary's. */
static bool host_local_supports(const struct json *config)
{
	static const char *const keys[] = { "type",   "subnet", "rangeStart", "rangeEnd", "gateway",
					    "ranges", "routes", "dataDir",    NULL };
	static const char *const range_keys[] = { "subnet", "rangeStart", "rangeEnd", "gateway",
						  NULL };
	const struct json *ipam = json_get(config, "ipam");
	const struct json *ranges = json_get(ipam, "ranges");
	autocniinfo struct cni_info routes = CNI_INFO_INIT;

	if (!cni_keys_known(ipam, keys) || json_get(config, "args"))
		return false;
	for (size_t i = 0; i < json_array_len(ranges); i++) {
		const struct json *set = json_array_get(ranges, i);

		for (size_t k = 0; k < json_array_len(set); k++) {
			if (!cni_keys_known(json_array_get(set, k), range_keys))
				return false;
		}
	}
	return cni_routes_parse(json_get(ipam, "routes"), &routes, /* strict= */ true, NULL) == 0;
}

static int allocate_all(struct host_local *h, const struct cni_call *call, struct cni_info *ret,
			struct error *err)
{
	char owner[OWNER_MAX];
	size_t owner_len = owner_text(call, owner);
	struct search s = { .key = owner, .old_key = call->id };

	/* That this id has no address yet is known: what is left of an earlier attempt goes before
	 * an attach. Looking through all addresses each time would cost more than the rest. */
	for (unsigned set = 0; set < h->sets; set++) {
		struct cni_ip ip = { .interface = -1 };

		if (allocate(h, set, owner, owner_len, &ip, err) < 0) {
			each_address(h, on_release, &s);
			return error_wrap(err, "failed to allocate for range %u", set);
		}
		cni_info_add_ip(ret, &ip);
	}
	if (h->n_wanted == 0)
		return 0;
	each_address(h, on_release, &s);
	return error_set(err, ERROR_INVALID_ARGUMENT,
			 "failed to allocate all requested addresses: %zu are in no range",
			 h->n_wanted);
}

static int host_local_add(const struct cni_call *call, const struct json *config,
			  struct json **ret_result, struct error *err)
{
	CLEANUP(host_local_done) struct host_local h = HOST_LOCAL_INIT;
	autocniinfo struct cni_info i = CNI_INFO_INIT;

	if (read_ranges(&h, call, config, err) < 0 || host_local_open(&h, call, config, err) < 0 ||
	    allocate_all(&h, call, &i, err) < 0)
		return -1;
	i.version = (enum cni_version)cni_version_parse(json_get_string(config, "cniVersion"));
	for (size_t k = 0; k < h.routes.routes.n; k++)
		cni_info_add_route(&i, &h.routes.routes.v[k].dst, &h.routes.routes.v[k].gateway);
	*ret_result = cni_info_encode(&i);
	return 0;
}

/* By the result, which says where to look; true when that was all. */
static bool release_known(const struct host_local *h, const struct json *config,
			  const struct search *s)
{
	autocniinfo struct cni_info prev = CNI_INFO_INIT;
	size_t n = 0;

	if (cni_prev_result(config, &prev, NULL) < 0)
		return false;
	for (size_t k = 0; k < prev.ips.n; k++) {
		char name[CNI_NET_STRING_MAX], owner[OWNER_MAX];

		ip_format(&prev.ips.v[k].address.addr, name);
		read_owner(h, name, owner);
		if (str_equal(owner, s->key) && unlinkat(h->dir_fd, name, 0) == 0)
			n++;
	}
	return n > 0 && n == prev.ips.n;
}

static int host_local_del(const struct cni_call *call, const struct json *config, struct error *err)
{
	CLEANUP(host_local_done) struct host_local h = HOST_LOCAL_INIT;
	char owner[OWNER_MAX];
	const struct search s = { .key = owner, .old_key = call->id };

	if (host_local_open(&h, call, config, err) < 0)
		return -1;
	owner_text(call, owner);
	if (!release_known(&h, config, &s))
		each_address(&h, on_release, (void *)&s);
	return 0;
}

static int host_local_check(const struct cni_call *call, const struct json *config,
			    struct error *err)
{
	CLEANUP(host_local_done) struct host_local h = HOST_LOCAL_INIT;
	char owner[OWNER_MAX];
	const struct search s = { .key = owner, .old_key = call->id };

	if (host_local_open(&h, call, config, err) < 0)
		return -1;
	owner_text(call, owner);
	if (each_address(&h, on_mine, (void *)&s) != 0)
		return 0;
	return error_set(err, ERROR_UNKNOWN, "host-local: no address of %s is reserved", call->id);
}

/* Of nobody who is attached: left over from a crash. */
static int on_stale(const struct host_local *h, const char *name, const char *owner, void *arg)
{
	const struct json *valid = arg;

	for (size_t i = 0; i < json_array_len(valid); i++) {
		const struct json *a = json_array_get(valid, i);
		const char *id = json_get_string(a, "containerID");
		autofree char *key = xasprintf("%s\r\n%s", id, json_get_string(a, "ifname"));

		if (str_equal(owner, key) || str_equal(owner, id))
			return 0;
	}
	unlinkat(h->dir_fd, name, 0);
	return 0;
}

static int host_local_gc(const struct cni_call *call, const struct json *config, struct error *err)
{
	CLEANUP(host_local_done) struct host_local h = HOST_LOCAL_INIT;
	struct json *valid = json_get(config, "cni.dev/valid-attachments");

	if (json_type(valid) != JSON_ARRAY)
		return error_set(err, ERROR_INVALID_ARGUMENT, "no list of valid attachments");
	if (host_local_open(&h, call, config, err) < 0)
		return -1;
	each_address(&h, on_stale, valid);
	return 0;
}

const struct cni_builtin cni_host_local = {
	.type = "host-local",
	.supports = host_local_supports,
	.add = host_local_add,
	.del = host_local_del,
	.check = host_local_check,
	.gc = host_local_gc,
};
