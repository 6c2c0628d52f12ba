/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Containers and networks. What a container asks for is its configuration's list of endpoints,
 * which connect and disconnect change; what it has while it runs is the list of endpoints in its
 * state.
 */

#include "base/log.h"
#include "base/mem.h"
#include "base/parse.h"
#include "engine/internal.h"

#include <fcntl.h>
#include <string.h>

#define DEFAULT_NETWORK "bridge"
#define INVALID(err, ...) error_set(err, ERROR_INVALID_ARGUMENT, __VA_ARGS__)

static bool has_networks(const char *mode)
{
	return !str_equal(mode, "host") && !str_equal(mode, "none") &&
	       !(mode && str_has_prefix(mode, "container:"));
}

/* A network's real name; what there is none of keeps the one that it has been given. */
static char *canonical(struct engine *e, const char *name)
{
	CLEANUP(network_view_done) struct network_view v = { 0 };

	if (network_get(e->config.network, name, &v, NULL) < 0)
		return xstrdup(name);
	return xstrdup(v.spec.name);
}

static int check_endpoint(const struct endpoint_spec *s, struct error *err)
{
	if (!str_equal(s->network, DEFAULT_NETWORK))
		return 0;
	if (!str_empty(s->ip) || !str_empty(s->ip6))
		return INVALID(err, "user specified IP address is supported on user defined "
				    "networks only");
	if (s->aliases.n > 0)
		return INVALID(err, "network-scoped alias is supported only for containers in user "
				    "defined networks");
	return 0;
}

/* Which networks a mode lets a container have beside it: none of its own, for three of them. */
static int check_mode(const char *mode, struct error *err)
{
	if (str_equal(mode, "host"))
		return INVALID(err, "container cannot be disconnected from host network or "
				    "connected to host network");
	if (str_equal(mode, "none"))
		return INVALID(err, "container cannot be connected to multiple networks with one "
				    "of the networks in private (none) mode");
	if (mode && str_has_prefix(mode, "container:"))
		return INVALID(err, "container sharing network namespace with another container or "
				    "host cannot be connected to any other network");
	return 0;
}

static int by_name(const void *a, const void *b)
{
	const struct endpoint_spec *x = a, *y = b;

	return strcmp(x->network, y->network);
}

/* The mode's first, the others by name: the order of eth0, eth1 ... */
static int sort_endpoints(struct engine *e, struct container_config *k, struct error *err)
{
	autofree char *first = canonical(e, k->network_mode);
	struct endpoint_spec moved;

	for (size_t i = 0; i < k->endpoints.n; i++) {
		struct endpoint_spec *s = &k->endpoints.v[i];
		char *name = canonical(e, s->network);

		free(s->network);
		s->network = name;
		for (size_t j = 0; j < i; j++) {
			if (str_equal(k->endpoints.v[j].network, name))
				return INVALID(err, "duplicate network endpoint: %s", name);
		}
	}
	container_config_endpoint(k, first);
	qsort(k->endpoints.v, k->endpoints.n, sizeof(*k->endpoints.v), by_name);
	for (size_t i = 1; i < k->endpoints.n; i++) {
		if (!str_equal(k->endpoints.v[i].network, first))
			continue;
		moved = k->endpoints.v[i];
		memmove(k->endpoints.v + 1, k->endpoints.v, i * sizeof(moved));
		k->endpoints.v[0] = moved;
	}
	return 0;
}

static int check_links(struct engine *e, const char *ns, const struct strv *links,
		       struct error *err)
{
	for (size_t i = 0; i < links->n; i++) {
		autofree char *name = xstrndup(links->v[i], strcspn(links->v[i], ":"));
		autoerror struct error why = ERROR_INIT;
		CLEANUP(container_unrefp) struct container *c = container_find(e, ns, name, &why);

		/* Not "not found": clients would take the image for what is missing. */
		if (!c)
			return INVALID(err, "could not get container for %s: %s", name,
				       error_msg(&why));
	}
	return 0;
}

int network_prepare_create(struct engine *e, const char *ns, struct container_config *k,
			   struct error *err)
{
	if (!str_empty(k->sandbox_id))
		return 0;
	if (str_empty(k->network_mode) || str_equal(k->network_mode, "default"))
		str_replace(&k->network_mode, DEFAULT_NETWORK);
	if (!has_networks(k->network_mode)) {
		/* Clients name the mode itself as an endpoint. */
		container_config_drop_endpoint(k, k->network_mode);
		return k->endpoints.n > 0 ? check_mode(k->network_mode, err) : 0;
	}
	if (sort_endpoints(e, k, err) < 0 || check_links(e, ns, &k->links, err) < 0)
		return -1;
	for (size_t i = 0; i < k->endpoints.n; i++) {
		if (check_endpoint(&k->endpoints.v[i], err) < 0 ||
		    check_links(e, ns, &k->endpoints.v[i].links, err) < 0)
			return -1;
		if (i > 0 && (str_equal(k->endpoints.v[i].network, "host") ||
			      str_equal(k->endpoints.v[i].network, "none")))
			return check_mode(k->endpoints.v[i].network, err);
	}
	return 0;
}

static void add_name(struct strv *names, const char *name)
{
	if (!str_empty(name) && !strv_contains(names, name))
		strv_push(names, name);
}

void container_dns_names(const char *name, const char *id, const char *hostname,
			 const struct endpoint_spec *s, struct strv *ret)
{
	autofree char *short_id = xstrndup(id, 12);

	add_name(ret, name);
	for (size_t i = 0; i < s->aliases.n; i++)
		add_name(ret, s->aliases.v[i]);
	add_name(ret, short_id);
	add_name(ret, hostname);
}

/* What the network service is asked for; `names` and `links` live as long as it. */
static struct endpoint_request request_of(const struct container *c, const struct endpoint_spec *s,
					  bool first, struct strv *names, struct strv *links)
{
	bool own = !str_equal(s->network, DEFAULT_NETWORK);

	if (own)
		container_dns_names(c->name, c->id, c->config.hostname, s, names);
	strv_extend(links, &s->links);
	if (own && first)
		strv_extend(links, &c->config.links);
	return (struct endpoint_request){
		.network = s->network,
		.ip = s->ip,
		.ip6 = s->ip6,
		.mac = str_empty(s->mac) && first ? c->config.mac_address : s->mac,
		.ifname = kvs_get(&s->driver_opts, "com.docker.network.endpoint.ifname"),
		.dns_names = names,
		.links = links,
		.gw_priority = s->gw_priority,
	};
}

static bool has_port(const struct port_mappings *ports, const struct port_mapping *p)
{
	for (size_t i = 0; i < ports->n; i++) {
		if (ports->v[i].container_port == p->container_port &&
		    str_equal(ports->v[i].protocol, p->protocol))
			return true;
	}
	return false;
}

/* "80/tcp", "8000-8010/udp": each that has no host port gets one. */
static void publish_exposed(struct port_mappings *ports, const char *exposed)
{
	static char tcp[] = "tcp", udp[] = "udp", sctp[] = "sctp";
	static char *const protocols[] = { tcp, udp, sctp };
	const char *slash = strchr(exposed, '/');
	autofree char *first = xstrndup(exposed, strcspn(exposed, "-/"));
	autofree char *last = xstrndup(exposed, strcspn(exposed, "/"));
	char *dash = strchr(last, '-');
	int64_t from, to;

	if (parse_int64(first, &from) < 0 || parse_int64(dash ? dash + 1 : first, &to) < 0 ||
	    from < 1 || to > 65535)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(protocols); i++) {
		for (int64_t port = from; port <= to; port++) {
			struct port_mapping p = { .protocol = protocols[i],
						  .container_port = (unsigned)port };

			if (!str_equal(slash ? slash + 1 : "tcp", p.protocol) ||
			    has_port(ports, &p))
				continue;
			ports->v = xreallocarray(ports->v, ports->n + 1, sizeof(*ports->v));
			ports->v[ports->n++] = p;
		}
	}
}

/* Only the array is the caller's. */
static void requested_ports(const struct container_config *k, struct port_mappings *ret)
{
	*ret = (struct port_mappings){ .v = xnew_array(struct port_mapping, k->ports.n + 1) };
	for (; ret->n < k->ports.n; ret->n++) {
		const struct port_spec *p = &k->ports.v[ret->n];

		ret->v[ret->n] = (struct port_mapping){
			.protocol = p->protocol,
			.host_ip = p->host_ip,
			.host_port = (unsigned)p->host_port,
			.host_port_end = (unsigned)p->host_port_end,
			.container_port = (unsigned)p->container_port,
		};
	}
	for (size_t i = 0; k->publish_all && i < k->exposed_ports.n; i++)
		publish_exposed(ret, k->exposed_ports.v[i]);
}

int container_join_networks(struct container *c, int netns, struct endpoints *ret,
			    struct error *err)
{
	struct container_config *k = &c->config;
	const struct strv *daemon_dns = c->e->config.dns;
	struct port_mappings ports;

	/* All have been disconnected: it gets back the one that it was made for. */
	if (k->endpoints.n == 0) {
		autofree char *name = canonical(c->e, k->network_mode);

		pthread_mutex_lock(&c->e->lock);
		container_config_endpoint(k, name);
		container_config_changed(c);
		pthread_mutex_unlock(&c->e->lock);
	}
	size_t n = k->endpoints.n;
	autofree struct endpoint_request *requests = xnew_array(struct endpoint_request, n);
	autofree struct strv *lists = xnew_array(struct strv, 2 * n);
	requested_ports(k, &ports);
	autofree struct port_mapping *free_later UNUSED = ports.v;
	const struct netspace_request r = {
		.container_id = c->id,
		.name = c->name,
		.endpoints = requests,
		.n_endpoints = n,
		.ports = ports.v,
		.n_ports = ports.n,
		.dns = k->dns.n == 0 && daemon_dns ? daemon_dns : &k->dns,
	};

	for (size_t i = 0; i < n; i++)
		requests[i] =
			request_of(c, &k->endpoints.v[i], i == 0, &lists[2 * i], &lists[2 * i + 1]);
	int result = network_attach(c->e->config.network, netns, &r, ret, err);
	for (size_t i = 0; i < 2 * n; i++)
		strv_done(&lists[i]);
	return result < 0 ? error_wrap(err, "failed to set up container networking") : 0;
}

void networks_emit(struct container *c, const struct endpoints *eps, const char *action)
{
	for (size_t i = 0; i < eps->n; i++) {
		struct engine_event event = {
			.ns = c->ns,
			.type = "network",
			.action = action,
			.id = eps->v[i].network_id,
		};

		kvs_set(&event.attributes, "container", c->id);
		kvs_set(&event.attributes, "name", eps->v[i].network);
		kvs_set(&event.attributes, "type", eps->v[i].driver ? eps->v[i].driver : "bridge");
		engine_emit(c->e, &event);
		kvs_done(&event.attributes);
	}
}

void container_leave_networks(struct container *c)
{
	CLEANUP(endpoints_done) struct endpoints eps = { 0 };
	autoerror struct error err = ERROR_INIT;

	pthread_mutex_lock(&c->e->lock);
	eps = c->s.endpoints;
	c->s.endpoints = (struct endpoints){ 0 };
	container_note_change(c);
	pthread_mutex_unlock(&c->e->lock);
	if (eps.n > 0 && network_detach(c->e->config.network, c->id, &err) < 0)
		log_warn("take container '%s' off its networks: %s, ignoring", c->id,
			 error_msg(&err));
	networks_emit(c, &eps, "disconnect");
}

void container_rename_endpoints(struct container *c)
{
	for (size_t i = 0; i < c->config.endpoints.n; i++) {
		const struct endpoint_spec *s = &c->config.endpoints.v[i];
		autostrv struct strv names = STRV_INIT;

		if (str_equal(s->network, DEFAULT_NETWORK))
			continue;
		container_dns_names(c->name, c->id, c->config.hostname, s, &names);
		if (network_rename(c->e->config.network, c->id, s->network, &names, NULL) < 0)
			log_warn("new names of container '%s' on network '%s' will be forgotten",
				 c->id, s->network);
	}
}

static bool is_running(const struct container *c)
{
	return c->s.status == CONTAINER_RUNNING || c->s.status == CONTAINER_PAUSED;
}

static int open_netns(const struct container *c, struct error *err)
{
	autofree char *path = xasprintf("/proc/%d/ns/net", c->s.pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	return fd < 0 ? error_errno(err, errno, "open '%s'", path) : fd;
}

static void take_endpoints(struct container *c, struct endpoints *now)
{
	autoerror struct error err = ERROR_INIT;

	pthread_mutex_lock(&c->e->lock);
	endpoints_done(&c->s.endpoints);
	c->s.endpoints = *now;
	container_note_change(c);
	pthread_mutex_unlock(&c->e->lock);
	*now = (struct endpoints){ 0 };
	container_save(c);
	if (container_rewrite_files(c, &err) < 0)
		log_warn("container '%s': %s, ignoring", c->id, error_msg(&err));
}

/* One endpoint of those that it has. */
static void emit_one(struct container *c, const char *network, const char *action)
{
	for (size_t i = 0; i < c->s.endpoints.n; i++) {
		const struct endpoints one = { .v = &c->s.endpoints.v[i], .n = 1 };

		if (str_equal(one.v->network, network))
			networks_emit(c, &one, action);
	}
}

static int connect_running(struct container *c, const struct endpoint_spec *s, struct error *err)
{
	CLEANUP(endpoints_done) struct endpoints now = { 0 };
	autostrv struct strv names = STRV_INIT, links = STRV_INIT;
	const struct endpoint_request r =
		request_of(c, s, /* first= */ c->s.endpoints.n == 0, &names, &links);
	autoclose int netns = open_netns(c, err);

	if (netns < 0 || network_connect(c->e->config.network, netns, c->id, &r, &now, err) < 0)
		return -1;
	take_endpoints(c, &now);
	emit_one(c, s->network, "connect");
	return 0;
}

static int disconnect_running(struct container *c, const char *network, struct error *err)
{
	CLEANUP(endpoints_done) struct endpoints now = { 0 };
	autoclose int netns = open_netns(c, err);

	if (netns < 0 ||
	    network_disconnect(c->e->config.network, netns, c->id, network, &now, err) < 0)
		return -1;
	emit_one(c, network, "disconnect");
	take_endpoints(c, &now);
	return 0;
}

/* s: with the network's real name. Locked. */
static int connect_container(struct container *c, struct endpoint_spec *s, struct error *err)
{
	if (c->s.status == CONTAINER_REMOVING || c->s.status == CONTAINER_DEAD)
		return error_set(err, ERROR_FAILED_PRECONDITION,
				 "container is marked for removal and cannot be connected or "
				 "disconnected to the network %s",
				 s->network);
	for (size_t i = 0; i < c->config.endpoints.n; i++) {
		if (str_equal(c->config.endpoints.v[i].network, s->network))
			return error_set(err, ERROR_PERMISSION_DENIED,
					 "endpoint with name %s already exists in network %s",
					 c->name, s->network);
	}
	if (is_running(c) && connect_running(c, s, err) < 0)
		return -1;
	pthread_mutex_lock(&c->e->lock);
	autofree char *name = xstrdup(s->network);
	struct endpoint_spec *mine = container_config_endpoint(&c->config, name);
	endpoint_spec_done(mine);
	*mine = *s;
	*s = (struct endpoint_spec){ 0 };
	container_config_changed(c);
	pthread_mutex_unlock(&c->e->lock);
	if (container_record_write(c, /* create= */ false, err) == 0)
		return 0;
	if (is_running(c))
		disconnect_running(c, name, NULL);
	pthread_mutex_lock(&c->e->lock);
	container_config_drop_endpoint(&c->config, name);
	container_config_changed(c);
	pthread_mutex_unlock(&c->e->lock);
	return -1;
}

static int do_connect(struct engine *e, const char *ns, const char *network, const char *id,
		      struct endpoint_spec *s, struct error *err)
{
	CLEANUP(network_view_done) struct network_view v = { 0 };
	CLEANUP(container_releasep) struct container *c = container_acquire(e, ns, id, err);

	if (!c || network_get(e->config.network, network, &v, err) < 0)
		return -1;
	if (!str_empty(c->config.sandbox_id))
		return check_mode("container:", err);
	str_replace(&s->network, v.spec.name);
	if (check_mode(c->config.network_mode, err) < 0 || check_mode(s->network, err) < 0 ||
	    check_endpoint(s, err) < 0 || check_links(e, ns, &s->links, err) < 0)
		return -1;
	return connect_container(c, s, err);
}

int engine_network_connect(struct engine *e, const char *ns, const char *network, const char *id,
			   struct endpoint_spec *spec, struct error *err)
{
	int r = do_connect(e, ns, network, id, spec, err);

	endpoint_spec_done(spec);
	return r;
}

static bool has_endpoint(const struct container_config *k, const char *network)
{
	for (size_t i = 0; i < k->endpoints.n; i++) {
		if (str_equal(k->endpoints.v[i].network, network))
			return true;
	}
	return false;
}

int engine_network_disconnect(struct engine *e, const char *ns, const char *network, const char *id,
			      bool force, struct error *err)
{
	CLEANUP(network_view_done) struct network_view v = { 0 };
	autoerror struct error why = ERROR_INIT;
	CLEANUP(container_releasep) struct container *c = container_acquire(e, ns, id, &why);

	if (network_get(e->config.network, network, &v, err) < 0)
		return -1;
	if (!c)
		return force && error_is(&why, ERROR_NOT_FOUND) ? 0 : error_move(err, &why);
	if (str_equal(c->config.network_mode, "host") || str_equal(v.spec.name, "host"))
		return check_mode("host", err);
	if (!has_endpoint(&c->config, v.spec.name))
		return error_set(err, ERROR_PERMISSION_DENIED,
				 "container %s is not connected to network %s", c->id, v.spec.name);
	if (is_running(c) && disconnect_running(c, v.spec.name, err) < 0)
		return -1;
	pthread_mutex_lock(&c->e->lock);
	container_config_drop_endpoint(&c->config, v.spec.name);
	container_config_changed(c);
	pthread_mutex_unlock(&c->e->lock);
	return container_record_write(c, /* create= */ false, err);
}
