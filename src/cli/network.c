/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/commands.h"
#include "cli/format.h"
#include "cli/prune.h"

#include "base/mem.h"
#include "base/parse.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

static struct {
	bool attachable, force, internal, ipv6, no_trunc, quiet;
	int ipv4;
	const char *driver, *format, *ip, *ip6, *ipam_driver, *scope;
	int64_t gw_priority;
	struct strv aliases, auxiliary, driver_opts, filters, gateways, ip_ranges, ipam_opts,
		labels, links, link_local, options, subnets;
} opts = { .driver = "bridge", .ipam_driver = "default", .ipv4 = -1 };

static const struct column columns[] = {
	{ "ID", "NETWORK ID" },
	{ "Name", "NAME" },
	{ "Driver", "DRIVER" },
	{ "Scope", "SCOPE" },
	{ "IPv4", "IPV4" },
	{ "IPv6", "IPV6" },
	{ "Internal", "INTERNAL" },
	{ "Labels", "LABELS" },
	{ "CreatedAt", "CREATED AT" },
	{ NULL, NULL },
};

/* Whether the address (with or without a prefix length) lies in the subnet "address/length". */
static bool subnet_has(const char *subnet, const char *address)
{
	size_t n = strcspn(subnet, "/");
	autofree char *base = xstrndup(subnet, n);
	autofree char *ip = xstrndup(address, strcspn(address, "/"));
	int family = strchr(base, ':') ? AF_INET6 : AF_INET;
	uint8_t a[16], b[16];
	uint64_t bits;

	if (!subnet[n] || parse_uint64(subnet + n + 1, &bits) < 0 || bits > 128 ||
	    inet_pton(family, base, a) != 1 || inet_pton(family, ip, b) != 1)
		return false;
	for (size_t i = 0; i < bits; i++)
		if ((a[i / 8] ^ b[i / 8]) & (0x80 >> (i % 8)))
			return false;
	return true;
}

/* The configuration of the subnet that the address is in; what is the option's name for errors. */
static struct json *config_of(struct json *config, const char *address, const char *what,
			      struct error *err)
{
	for (size_t i = 0; i < json_array_len(config); i++) {
		struct json *c = json_array_get(config, i);

		if (subnet_has(json_get_string(c, "Subnet"), address))
			return c;
	}
	error_set(err, ERROR_INVALID_ARGUMENT, "no matching subnet for %s %s", what, address);
	return NULL;
}

static int add_to_subnets(struct json *config, const struct strv *values, const char *key,
			  const char *what, struct error *err)
{
	for (size_t i = 0; i < values->n; i++) {
		struct json *c = config_of(config, values->v[i], what, err);

		if (!c)
			return -1;
		if (json_get(c, key))
			return error_set(
				err, ERROR_INVALID_ARGUMENT,
				"cannot configure multiple %ss (%s, %s) on the same subnet "
				"(%s)",
				what, values->v[i], json_get_string(c, key),
				json_get_string(c, "Subnet"));
		json_set_string(c, key, values->v[i]);
	}
	return 0;
}

static int add_auxiliary(struct json *config, struct error *err)
{
	for (size_t i = 0; i < opts.auxiliary.n; i++) {
		const char *eq = strchr(opts.auxiliary.v[i], '=');
		autofree char *name =
			xstrndup(opts.auxiliary.v[i], strcspn(opts.auxiliary.v[i], "="));
		struct json *c = config_of(config, eq ? eq + 1 : "", "aux-address", err);

		if (!c)
			return -1;
		if (!json_get(c, "AuxiliaryAddresses"))
			json_set(c, "AuxiliaryAddresses", json_new_object());
		json_set_string(json_get(c, "AuxiliaryAddresses"), name, eq + 1);
	}
	return 0;
}

/* Gateways, ranges and addresses go to the subnet that they are in. */
static struct json *ipam_config(struct error *err)
{
	autojson struct json *ipam = json_new_object();
	struct json *config = json_new_array();

	json_set_string(ipam, "Driver", opts.ipam_driver);
	json_set(ipam, "Options", cli_map_option(&opts.ipam_opts));
	json_set(ipam, "Config", config);
	if (opts.gateways.n > opts.subnets.n || opts.ip_ranges.n > opts.subnets.n) {
		error_set(err, ERROR_INVALID_ARGUMENT,
			  "every ip-range or gateway must have a corresponding subnet");
		return NULL;
	}
	for (size_t i = 0; i < opts.subnets.n; i++) {
		struct json *c = json_new_object();

		json_set_string(c, "Subnet", opts.subnets.v[i]);
		json_add(config, c);
	}
	if (add_to_subnets(config, &opts.ip_ranges, "IPRange", "range", err) < 0 ||
	    add_to_subnets(config, &opts.gateways, "Gateway", "gateway", err) < 0 ||
	    add_auxiliary(config, err) < 0)
		return NULL;
	return TAKE_PTR(ipam);
}

static int run_create(struct cli *cli, int argc, char **argv, struct error *err)
{
	autojson struct json *body = json_new_object();
	autojson struct json *reply = NULL;
	struct json *ipam = ipam_config(err);
	const char *id, *warning;

	if (!ipam)
		return -1;
	json_set_string(body, "Name", argv[0]);
	json_set_string(body, "Driver", opts.driver);
	json_set(body, "IPAM", ipam);
	json_set_bool(body, "Internal", opts.internal);
	json_set_bool(body, "Attachable", opts.attachable);
	if (opts.scope)
		json_set_string(body, "Scope", opts.scope);
	if (opts.ipv4 >= 0)
		json_set_bool(body, "EnableIPv4", opts.ipv4);
	json_set_bool(body, "EnableIPv6", opts.ipv6);
	json_set(body, "Options", cli_map_option(&opts.options));
	json_set(body, "Labels", cli_map_option(&opts.labels));
	if (client_call(&cli->client, "POST", "/networks/create", body, &reply, err) < 0)
		return -1;
	warning = json_get_string(reply, "Warning");
	if (!str_empty(warning))
		fprintf(stderr, "WARNING: %s\n", warning);
	id = json_get_string(reply, "Id");
	cli_print("%s\n", id ? id : "");
	return 0;
}

static int join_pair(const char *key, struct json *value, void *arg)
{
	struct buf *b = arg;
	const char *s = json_string(value);

	buf_printf(b, "%s%s=%s", b->len ? "," : "", key, s ? s : "");
	return 0;
}

static struct json *make_row(const struct json *n)
{
	static const char *const strings[] = { "Name", "Driver", "Scope" };
	autobuf struct buf labels = BUF_INIT(BUF_NO_LIMIT);
	const char *id = json_get_string(n, "Id");
	autofree char *shown =
		opts.no_trunc ? xstrdup(id ? id : "") : format_short_id(id ? id : "");
	autofree char *created = format_time(format_parse_time(json_get_string(n, "Created")));
	struct json *row = json_new_object();

	for (size_t i = 0; i < ARRAY_SIZE(strings); i++) {
		const char *s = json_get_string(n, strings[i]);

		json_set_string(row, strings[i], s ? s : "");
	}
	json_object_each(json_get(n, "Labels"), join_pair, &labels);
	json_set_string(row, "ID", shown);
	json_set_string(row, "Labels", labels.data);
	json_set_string(row, "CreatedAt", created);
	json_set_string(row, "IPv4", json_get_bool(n, "EnableIPv4", true) ? "true" : "false");
	json_set_string(row, "IPv6", json_get_bool(n, "EnableIPv6", false) ? "true" : "false");
	json_set_string(row, "Internal", json_get_bool(n, "Internal", false) ? "true" : "false");
	return row;
}

static int by_name(const void *a, const void *b)
{
	const char *x = json_get_string(*(struct json *const *)a, "Name");
	const char *y = json_get_string(*(struct json *const *)b, "Name");

	return strcmp(x ? x : "", y ? y : "");
}

static int run_ls(struct cli *cli, int argc, char **argv, struct error *err)
{
	autobuf struct buf url = BUF_INIT(BUF_NO_LIMIT);
	autofree char *filters = cli_filters(&opts.filters);
	autojson struct json *list = NULL;
	autofree struct json **sorted = NULL;
	autolisting struct listing l = { 0 };

	buf_puts(&url, "/networks");
	url_query(&url, "filters", filters);
	if (listing_init(&l, opts.format,
			 opts.quiet ? "{{.ID}}"
				    : "table {{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}",
			 columns, err) < 0 ||
	    client_get(&cli->client, url.data, &list, err) < 0)
		return -1;
	sorted = xnew_array(struct json *, json_array_len(list) + 1);
	for (size_t i = 0; i < json_array_len(list); i++)
		sorted[i] = json_array_get(list, i);
	qsort(sorted, json_array_len(list), sizeof(*sorted), by_name);
	for (size_t i = 0; i < json_array_len(list); i++) {
		struct json *labels = json_get(sorted[i], "Labels");
		autojson struct json *extra = json_new_object();

		json_set(extra, "Label", labels ? json_ref(labels) : json_new_object());
		if (listing_add(&l, make_row(sorted[i]), extra, err) < 0)
			return -1;
	}
	return listing_print(&l, err);
}

static int rm_one(struct cli *cli, const char *name, struct error *err)
{
	autofree char *path = url_format("/networks/{}", name);

	if (client_call(&cli->client, "DELETE", path, NULL, NULL, err) < 0) {
		if (opts.force && err->code == ERROR_NOT_FOUND) {
			cli_report(err);
			return 0;
		}
		return -1;
	}
	cli_print("%s\n", name);
	return 0;
}

static int run_rm(struct cli *cli, int argc, char **argv, struct error *err)
{
	return cli_for_each(cli, argc, argv, rm_one);
}

static int run_connect(struct cli *cli, int argc, char **argv, struct error *err)
{
	autofree char *path = url_format("/networks/{}/connect", argv[0]);
	autojson struct json *body = json_new_object();
	struct json *endpoint = json_new_object(), *ipam;

	json_set_string(body, "Container", argv[1]);
	json_set(body, "EndpointConfig", endpoint);
	if (opts.aliases.n)
		json_set(endpoint, "Aliases", json_new_strv(&opts.aliases));
	if (opts.links.n)
		json_set(endpoint, "Links", json_new_strv(&opts.links));
	if (opts.driver_opts.n)
		json_set(endpoint, "DriverOpts", cli_map_option(&opts.driver_opts));
	if (opts.gw_priority)
		json_set_int(endpoint, "GwPriority", opts.gw_priority);
	if (opts.ip || opts.ip6 || opts.link_local.n) {
		ipam = json_new_object();
		if (opts.ip)
			json_set_string(ipam, "IPv4Address", opts.ip);
		if (opts.ip6)
			json_set_string(ipam, "IPv6Address", opts.ip6);
		if (opts.link_local.n)
			json_set(ipam, "LinkLocalIPs", json_new_strv(&opts.link_local));
		json_set(endpoint, "IPAMConfig", ipam);
	}
	return client_post(&cli->client, path, body, err);
}

static int run_disconnect(struct cli *cli, int argc, char **argv, struct error *err)
{
	autofree char *path = url_format("/networks/{}/disconnect", argv[0]);
	autojson struct json *body = json_new_object();

	json_set_string(body, "Container", argv[1]);
	json_set_bool(body, "Force", opts.force);
	return client_post(&cli->client, path, body, err);
}

static int run_prune(struct cli *cli, int argc, char **argv, struct error *err)
{
	if (!opts.force && !cli_confirm("WARNING! This will remove all custom networks not used by "
					"at least one container.\nAre you sure you want to "
					"continue?"))
		return error_set(err, ERROR_CANCELLED, "network prune has been cancelled");
	return prune_networks(cli, &opts.filters, err);
}

static const struct option create_options[] = {
	{ OPTION_BOOL, 0, "attachable", &opts.attachable, "Enable manual container attachment" },
	{ OPTION_LIST, 0, "aux-address", &opts.auxiliary,
	  "Auxiliary IPv4 or IPv6 addresses used by Network driver", "map", "map[]" },
	{ OPTION_STRING, 'd', "driver", &opts.driver, "Driver to manage the Network",
	  .fallback = "\"bridge\"" },
	{ OPTION_CSV, 0, "gateway", &opts.gateways, "IPv4 or IPv6 Gateway for the master subnet" },
	{ OPTION_BOOL, 0, "internal", &opts.internal, "Restrict external access to the network" },
	{ OPTION_CSV, 0, "ip-range", &opts.ip_ranges, "Allocate container ip from a sub-range" },
	{ OPTION_STRING, 0, "ipam-driver", &opts.ipam_driver, "IP Address Management Driver",
	  .fallback = "\"default\"" },
	{ OPTION_LIST, 0, "ipam-opt", &opts.ipam_opts, "Set IPAM driver specific options", "map",
	  "map[]" },
	{ OPTION_TRISTATE, 0, "ipv4", &opts.ipv4, "Enable or disable IPv4 address assignment",
	  .fallback = "true" },
	{ OPTION_BOOL, 0, "ipv6", &opts.ipv6, "Enable or disable IPv6 address assignment" },
	{ OPTION_LIST, 0, "label", &opts.labels, "Set metadata on a network" },
	{ OPTION_LIST, 'o', "opt", &opts.options, "Set driver specific options", "map", "map[]" },
	{ OPTION_STRING, 0, "scope", &opts.scope, "Control the network's scope" },
	{ OPTION_CSV, 0, "subnet", &opts.subnets,
	  "Subnet in CIDR format that represents a network segment" },
	{ OPTION_END },
};

static const struct option ls_options[] = {
	{ OPTION_LIST, 'f', "filter", &opts.filters,
	  "Provide filter values (e.g. \"driver=bridge\")", "filter",
	  .check = option_check_filter },
	{ OPTION_STRING, 0, "format", &opts.format, OPTION_HELP_FORMAT },
	{ OPTION_BOOL, 0, "no-trunc", &opts.no_trunc, "Do not truncate the output" },
	{ OPTION_BOOL, 'q', "quiet", &opts.quiet, "Only display network IDs" },
	{ OPTION_END },
};

static const struct option rm_options[] = {
	{ OPTION_BOOL, 'f', "force", &opts.force, "Do not error if the network does not exist" },
	{ OPTION_END },
};

static const struct option connect_options[] = {
	{ OPTION_CSV, 0, "alias", &opts.aliases, "Add network-scoped alias for the container" },
	{ OPTION_CSV, 0, "driver-opt", &opts.driver_opts, "Driver options for the network" },
	{ OPTION_INT, 0, "gw-priority", &opts.gw_priority,
	  "Highest gw-priority provides the default gateway. Accepts positive and negative "
	  "values." },
	{ OPTION_STRING, 0, "ip", &opts.ip, "IPv4 address (e.g., \"172.30.100.104\")" },
	{ OPTION_STRING, 0, "ip6", &opts.ip6, "IPv6 address (e.g., \"2001:db8::33\")" },
	{ OPTION_LIST, 0, "link", &opts.links, "Add link to another container" },
	{ OPTION_CSV, 0, "link-local-ip", &opts.link_local,
	  "Add a link-local address for the container" },
	{ OPTION_END },
};

static const struct option disconnect_options[] = {
	{ OPTION_BOOL, 'f', "force", &opts.force,
	  "Force the container to disconnect from a network" },
	{ OPTION_END },
};

static const struct option prune_options[] = {
	{ OPTION_LIST, 0, "filter", &opts.filters,
	  "Provide filter values (e.g. \"until=<timestamp>\")", "filter",
	  .check = option_check_filter },
	{ OPTION_BOOL, 'f', "force", &opts.force, "Do not prompt for confirmation" },
	{ OPTION_END },
};

const struct command command_network_create = {
	.paths = "network create",
	.args = "[OPTIONS] NETWORK",
	.summary = "Create a network",
	.min_args = 1,
	.max_args = 1,
	.options = create_options,
	.run = run_create,
};

const struct command command_network_ls = {
	.paths = "network ls|network list",
	.args = "[OPTIONS]",
	.summary = "List networks",
	.options = ls_options,
	.run = run_ls,
};

const struct command command_network_rm = {
	.paths = "network rm|network remove",
	.args = "NETWORK [NETWORK...]",
	.summary = "Remove one or more networks",
	.min_args = 1,
	.max_args = -1,
	.complete = COMPLETE_NETWORKS,
	.options = rm_options,
	.run = run_rm,
};

const struct command command_network_connect = {
	.paths = "network connect",
	.args = "[OPTIONS] NETWORK CONTAINER",
	.summary = "Connect a container to a network",
	.min_args = 2,
	.max_args = 2,
	.complete = COMPLETE_NETWORK_CONTAINER,
	.options = connect_options,
	.run = run_connect,
};

const struct command command_network_disconnect = {
	.paths = "network disconnect",
	.args = "[OPTIONS] NETWORK CONTAINER",
	.summary = "Disconnect a container from a network",
	.min_args = 2,
	.max_args = 2,
	.complete = COMPLETE_NETWORK_CONTAINER,
	.options = disconnect_options,
	.run = run_disconnect,
};

const struct command command_network_prune = {
	.paths = "network prune",
	.args = "[OPTIONS]",
	.summary = "Remove all unused networks",
	.options = prune_options,
	.run = run_prune,
};
