/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The files that tell a container who it is and whom it can ask: hostname, hosts, resolv.conf. They
 * are written in place: the bind mounts of this container, and of those that have its network, see
 * what changes.
 */

#include "base/fs.h"
#include "base/mem.h"
#include "engine/internal.h"

#include <ctype.h>
#include <fcntl.h>
#include <string.h>

#define HOSTS_MAX (1 << 20)

static int write_file(struct container *c, const char *name, const char *text, char **ret_path,
		      struct error *err)
{
	autofree char *path = path_join(c->dir, name, NULL);
	autoclose int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);

	if (fd < 0)
		return error_errno(err, errno, "open '%s'", path);
	int r = fs_write_all(fd, text, strlen(text));
	if (r < 0)
		return error_errno(err, -r, "write '%s'", path);
	if (ret_path)
		*ret_path = TAKE_PTR(path);
	return 0;
}

/* A container in another's network has that one's files, and its name. */
static bool borrow_files(struct container *c, char **ret_hosts, char **ret_resolv_conf,
			 char **ret_hostname)
{
	const char *mode = c->config.network_mode;

	if (!mode || !str_has_prefix(mode, "container:"))
		return false;
	CLEANUP(container_unrefp)
	struct container *other = container_find(c->e, c->ns, mode + strlen("container:"), NULL);
	if (!other)
		return false;
	*ret_hosts = path_join(other->dir, "hosts", NULL);
	*ret_resolv_conf = path_join(other->dir, "resolv.conf", NULL);
	*ret_hostname = path_join(other->dir, "hostname", NULL);
	pthread_mutex_lock(&c->e->lock);
	str_replace(&c->config.hostname, other->config.hostname);
	container_config_changed(c);
	pthread_mutex_unlock(&c->e->lock);
	return true;
}

/* A container that a link names, and its endpoint on the default network. */
struct linked {
	struct container *c; /* referenced */
	char *alias, *ip, *name;
	struct strv env, ports;
};

static void linked_done(struct linked *l)
{
	container_unref(l->c);
	free(l->alias);
	free(l->ip);
	free(l->name);
	strv_done(&l->env);
	strv_done(&l->ports);
}

static int find_linked(struct container *c, const char *link, struct linked *ret, struct error *err)
{
	const char *colon = strchr(link, ':');
	autofree char *name = xstrndup(link, strcspn(link, ":"));

	ret->c = container_find(c->e, c->ns, name, err);
	if (!ret->c)
		return error_wrap(err, "could not get container for %s", name);
	ret->alias = xstrdup(colon ? colon + 1 : name[0] == '/' ? name + 1 : name);
	pthread_mutex_lock(&c->e->lock);
	ret->name = xstrdup(ret->c->name);
	strv_copy(&ret->env, &ret->c->config.env);
	strv_copy(&ret->ports, &ret->c->config.exposed_ports);
	for (size_t i = 0; i < ret->c->s.endpoints.n; i++) {
		const struct endpoint *e = &ret->c->s.endpoints.v[i];

		if (str_equal(e->network, "bridge"))
			str_replace(&ret->ip, e->ip);
	}
	pthread_mutex_unlock(&c->e->lock);
	return ret->ip ? 0
		       : error_set(err, ERROR_FAILED_PRECONDITION,
				   "Cannot link to a non running container: /%s AS /%s/%s",
				   ret->name, c->name, ret->alias);
}

static bool links_by_hosts(const struct container *c)
{
	return c->config.links.n > 0 && str_equal(c->config.network_mode, "bridge");
}

static void add_entry(struct strv *ips, struct strv *names, const char *ip, char *text)
{
	strv_push(ips, ip);
	strv_take(names, text);
}

/* `running`: a linked container that does not run is an error now, later it is just not there. */
static int linked_entries(struct container *c, bool starting, struct strv *ips, struct strv *names,
			  struct error *err)
{
	for (size_t i = 0; links_by_hosts(c) && i < c->config.links.n; i++) {
		CLEANUP(linked_done) struct linked l = { 0 };

		if (find_linked(c, c->config.links.v[i], &l, starting ? err : NULL) == 0)
			add_entry(ips, names, l.ip,
				  xasprintf("%s %.12s %s", l.alias, l.c->id, l.name));
		else if (starting)
			return -1;
	}
	return 0;
}

static char *own_names(const char *hostname, const char *domain)
{
	if (str_empty(domain) || strchr(hostname, '.'))
		return xstrdup(hostname);
	return xasprintf("%s.%s %s", hostname, domain, hostname);
}

static const char *gateway_of(const struct endpoints *eps)
{
	for (size_t i = 0; i < eps->n; i++) {
		if (eps->v[i].gateway)
			return eps->v[i].gateway;
	}
	return NULL;
}

static int write_hosts(struct container *c, const struct endpoints *eps, const char *hostname,
		       bool starting, char **ret_path, struct error *err)
{
	const struct container_config *k = &c->config;
	autostrv struct strv ips = STRV_INIT, names = STRV_INIT;
	autobuf struct buf host = BUF_INIT(HOSTS_MAX);
	const char *base = NULL;

	for (size_t i = 0; i < eps->n; i++) {
		const char *both[] = { eps->v[i].ip, eps->v[i].ip6 };

		for (size_t f = 0; f < ARRAY_SIZE(both); f++) {
			if (both[f])
				add_entry(&ips, &names, both[f],
					  own_names(hostname, k->domainname));
		}
	}
	if (linked_entries(c, starting, &ips, &names, err) < 0)
		return -1;
	if (str_equal(k->network_mode, "host") && fs_read(AT_FDCWD, "/etc/hosts", &host) == 0)
		base = host.data;
	autofree struct host_entry *entries = xnew_array(struct host_entry, ips.n + 1);
	for (size_t i = 0; i < ips.n; i++)
		entries[i] = (struct host_entry){ ips.v[i], names.v[i] };
	autofree char *text = hosts_format(base, &k->extra_hosts, gateway_of(eps), entries, ips.n);
	return write_file(c, "hosts", text, ret_path, err);
}

static enum resolv_mode resolv_mode_of(const struct container *c, const struct endpoints *eps)
{
	if (str_equal(c->config.network_mode, "host"))
		return RESOLV_HOST;
	for (size_t i = 0; i < eps->n; i++) {
		if (!str_equal(eps->v[i].network, "bridge"))
			return RESOLV_OWN;
	}
	return RESOLV_BRIDGE;
}

static int write_resolv_conf(struct container *c, const struct endpoints *eps, char **ret_path,
			     struct error *err)
{
	const struct container_config *k = &c->config;
	const struct strv *dns = c->e->config.dns;
	enum resolv_mode mode = resolv_mode_of(c, eps);
	autofree char *host = resolv_conf_host();
	autofree char *text = resolv_conf_format(
		host, k->dns.n == 0 && dns && mode != RESOLV_HOST ? dns : &k->dns, &k->dns_search,
		&k->dns_options, mode);

	return write_file(c, "resolv.conf", text, ret_path, err);
}

int container_write_files(struct container *c, const struct endpoints *eps, char **ret_hosts,
			  char **ret_resolv_conf, char **ret_hostname, struct error *err)
{
	char host_name[256] = "";

	if (borrow_files(c, ret_hosts, ret_resolv_conf, ret_hostname))
		return 0;
	gethostname(host_name, sizeof(host_name) - 1);
	const char *hostname = str_empty(c->config.hostname) ? host_name : c->config.hostname;
	autofree char *line = xasprintf("%s\n", hostname);
	if (write_file(c, "hostname", line, ret_hostname, err) < 0 ||
	    write_hosts(c, eps, hostname, /* starting= */ true, ret_hosts, err) < 0)
		return -1;
	return write_resolv_conf(c, eps, ret_resolv_conf, err);
}

int container_rewrite_files(struct container *c, struct error *err)
{
	const char *hostname = c->config.hostname ? c->config.hostname : "";

	if (write_hosts(c, &c->s.endpoints, hostname, /* starting= */ false, NULL, err) < 0)
		return -1;
	return write_resolv_conf(c, &c->s.endpoints, NULL, err);
}

/* "db-1" to "DB_1". */
static char *env_prefix(const char *alias)
{
	char *s = xstrdup(alias);

	for (char *p = s; *p; p++)
		*p = isalnum((unsigned char)*p) ? (char)toupper((unsigned char)*p) : '_';
	return s;
}

static void link_env(const struct container *c, const struct linked *l, struct strv *ret)
{
	autofree char *prefix = env_prefix(l->alias);

	strv_push_printf(ret, "%s_NAME=/%s/%s", prefix, c->name, l->alias);
	for (size_t i = 0; i < l->ports.n; i++) {
		const char *slash = strchr(l->ports.v[i], '/');
		const char *protocol = slash ? slash + 1 : "tcp";
		autofree char *port = xstrndup(l->ports.v[i], strcspn(l->ports.v[i], "/"));
		autofree char *upper = env_prefix(protocol);
		autofree char *key = xasprintf("%s_PORT_%s_%s", prefix, port, upper);

		if (i == 0)
			strv_push_printf(ret, "%s_PORT=%s://%s:%s", prefix, protocol, l->ip, port);
		strv_push_printf(ret, "%s=%s://%s:%s", key, protocol, l->ip, port);
		strv_push_printf(ret, "%s_ADDR=%s", key, l->ip);
		strv_push_printf(ret, "%s_PORT=%s", key, port);
		strv_push_printf(ret, "%s_PROTO=%s", key, protocol);
	}
	for (size_t i = 0; i < l->env.n; i++) {
		if (!str_has_prefix(l->env.v[i], "PATH=") && !str_has_prefix(l->env.v[i], "HOME="))
			strv_push_printf(ret, "%s_ENV_%s", prefix, l->env.v[i]);
	}
}

int container_link_env(struct container *c, struct strv *ret, struct error *err)
{
	for (size_t i = 0; links_by_hosts(c) && i < c->config.links.n; i++) {
		CLEANUP(linked_done) struct linked l = { 0 };

		if (find_linked(c, c->config.links.v[i], &l, err) < 0)
			return -1;
		link_env(c, &l, ret);
	}
	return 0;
}

static void relink_work(void *arg)
{
	struct container *c = arg;

	container_lock(c);
	if (!c->gone && c->s.status == CONTAINER_RUNNING)
		container_rewrite_files(c, NULL);
	container_release(c);
}

void container_relink(struct container *c)
{
	pthread_mutex_lock(&c->e->lock);
	MAP_FOREACH (item, &c->e->containers) {
		struct container *other = map_value(item);

		if (other != c && other->config.links.n > 0 && str_equal(other->ns, c->ns) &&
		    other->s.status == CONTAINER_RUNNING)
			job_submit(c->e->config.jobs, JOB_OPS, relink_work, NULL,
				   container_ref(other));
	}
	pthread_mutex_unlock(&c->e->lock);
}
