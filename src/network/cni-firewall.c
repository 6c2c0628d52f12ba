/* SPDX-License-Identifier: Apache-2.0 */
/*
 * firewall: pods' packets pass the host's iptables. A chain of another table could not see to that,
 * as what one table accepts another may still drop; so the rules go where the binary's go, into
 * iptables' own table in nftables, and look the same. Where something else is in charge of the
 * packet filter (firewalld, iptables of old) the binary does it.
 */
#include "base/buf.h"
#include "base/fs.h"
#include "base/mem.h"
#include "network/cni-internal.h"
#include "network/cni-nft.h"

#include <fcntl.h>
#include <string.h>

#define ADMIN "CNI-ADMIN"
#define CHAIN_NAME_MAX 28 /* iptables' */

static bool others_in_charge(const char *backend)
{
	static const char *const legacy[] = { "/proc/net/ip_tables_names",
					      "/proc/net/ip6_tables_names" };
	static const char *const firewalld[] = { "/usr/sbin/firewalld", "/usr/bin/firewalld" };

	for (size_t i = 0; i < ARRAY_SIZE(legacy); i++) {
		autobuf struct buf b = BUF_INIT(4096);

		if (fs_read(AT_FDCWD, legacy[i], &b) == 0 && strstr(b.data, "filter"))
			return true;
	}
	for (size_t i = 0; i < ARRAY_SIZE(firewalld); i++) {
		if (str_empty(backend) && access(firewalld[i], F_OK) == 0)
			return true;
	}
	return false;
}

static const char *admin_chain(const struct json *config)
{
	const char *name = json_get_string(config, "iptablesAdminChainName");

	return str_empty(name) ? ADMIN : name;
}

static bool firewall_supports(const struct json *config)
{
	static const char *const keys[] = {
		"type",	   "name",	    "cniVersion",    "capabilities",
		"backend", "firewalldZone", "ingressPolicy", "iptablesAdminChainName",
		NULL
	};
	const char *backend = json_get_string(config, "backend");
	const char *policy = json_get_string(config, "ingressPolicy");
	const char *admin = admin_chain(config);

	return cni_keys_known(config, keys) &&
	       (str_empty(backend) || str_equal(backend, "iptables")) &&
	       (str_empty(policy) || str_equal(policy, "open")) && cni_name_valid(admin) &&
	       strlen(admin) <= CHAIN_NAME_MAX && !others_in_charge(backend) && cni_nft_available();
}

static int firewall_add(const struct cni_call *call UNUSED, const struct json *config,
			struct json **ret_result, struct error *err)
{
	autocniinfo struct cni_info prev = CNI_INFO_INIT;

	if (cni_prev_result(config, &prev, err) < 0)
		return -1;
	for (size_t k = 0; k < prev.ips.n; k++) {
		if (cni_nft_accept(&prev.ips.v[k].address.addr, admin_chain(config), err) < 0)
			return -1;
	}
	*ret_result = json_copy(json_get(config, "prevResult"));
	return 0;
}

/* Without a result nobody knows the address, and there was no rule. */
static int firewall_del(const struct cni_call *call UNUSED, const struct json *config,
			struct error *err)
{
	autocniinfo struct cni_info prev = CNI_INFO_INIT;

	if (cni_prev_result(config, &prev, NULL) < 0)
		return 0;
	for (size_t k = 0; k < prev.ips.n; k++) {
		if (cni_nft_unaccept(&prev.ips.v[k].address.addr, err) < 0)
			return -1;
	}
	return 0;
}

static int firewall_check(const struct cni_call *call UNUSED, const struct json *config,
			  struct error *err)
{
	autocniinfo struct cni_info prev = CNI_INFO_INIT;

	if (cni_prev_result(config, &prev, err) < 0)
		return -1;
	for (size_t k = 0; k < prev.ips.n; k++) {
		char text[CNI_NET_STRING_MAX];
		size_t n;

		ip_format(&prev.ips.v[k].address.addr, text);
		if (cni_nft_accepted(&prev.ips.v[k].address.addr, &n, err) < 0)
			return -1;
		if (n < 2)
			return error_set(err, ERROR_UNKNOWN, "rules for %s are missing", text);
	}
	return 0;
}

const struct cni_builtin cni_firewall = {
	.type = "firewall",
	.supports = firewall_supports,
	.add = firewall_add,
	.del = firewall_del,
	.check = firewall_check,
};
