/* SPDX-License-Identifier: Apache-2.0 */
/* The files of a network: /etc/hosts and /etc/resolv.conf. Sans-IO but for resolv_conf_host(). */

#include "network/network.h"

#include "base/buf.h"
#include "base/fs.h"
#include "base/mem.h"

#include <fcntl.h>
#include <string.h>

#define RESOLV_MAX (64 << 10)

static void host_line(struct buf *b, const char *ip, const char *name, const char *domain)
{
	buf_printf(b, "%s\t", ip);
	if (!str_empty(domain) && !strchr(name, '.'))
		buf_printf(b, "%s.%s ", name, domain);
	buf_printf(b, "%s\n", name);
}

char *hosts_format(const struct strv *extra_hosts, const char *gateway, const char *ip,
		   const char *hostname, const char *domainname)
{
	struct buf b = BUF_INIT(BUF_NO_LIMIT);

	buf_puts(&b, "127.0.0.1\tlocalhost\n"
		     "::1\tlocalhost ip6-localhost ip6-loopback\n"
		     "fe00::0\tip6-localnet\n"
		     "ff00::0\tip6-mcastprefix\n"
		     "ff02::1\tip6-allnodes\n"
		     "ff02::2\tip6-allrouters\n");
	for (size_t i = 0; extra_hosts && i < extra_hosts->n; i++) {
		const char *colon = strchr(extra_hosts->v[i], ':');

		if (!colon)
			continue;
		autofree char *name =
			xstrndup(extra_hosts->v[i], (size_t)(colon - extra_hosts->v[i]));
		const char *address = colon + 1;
		if (str_equal(address, "host-gateway"))
			address = gateway;
		if (!str_empty(address))
			buf_printf(&b, "%s\t%s\n", address, name);
	}
	if (!str_empty(ip) && !str_empty(hostname))
		host_line(&b, ip, hostname, domainname);
	return buf_steal(&b, NULL);
}

/* The words after the keyword, or NULL when the line has another one. */
static const char *keyword(const char *line, const char *word)
{
	size_t n = strlen(word);

	line += strspn(line, " \t");
	if (strncmp(line, word, n) != 0 || (line[n] != ' ' && line[n] != '\t'))
		return NULL;
	return line + n + strspn(line + n, " \t");
}

static bool is_loopback(const char *address)
{
	return str_has_prefix(address, "127.") || str_has_prefix(address, "::1");
}

/* One keyword's lines: from the override when it is given, else from the host's text. */
static size_t section(struct buf *b, const struct strv *lines, const char *word,
		      const struct strv *override, bool line_each, bool drop_loopback)
{
	size_t n = 0;

	if (override && override->n > 0) {
		for (size_t i = 0; i < override->n; i++) {
			if (!line_each && i > 0)
				buf_printf(b, " %s", override->v[i]);
			else
				buf_printf(b, "%s %s", word, override->v[i]);
			if (line_each || i + 1 == override->n)
				buf_putc(b, '\n');
		}
		return override->n;
	}
	for (size_t i = 0; i < lines->n; i++) {
		const char *value = keyword(lines->v[i], word);

		if (!value || value[0] == '\0' || (drop_loopback && is_loopback(value)))
			continue;
		buf_printf(b, "%s %s\n", word, value);
		n++;
	}
	return n;
}

char *resolv_conf_format(const char *host_text, const struct strv *dns, const struct strv *search,
			 const struct strv *options, bool host_network)
{
	struct buf b = BUF_INIT(BUF_NO_LIMIT);
	autostrv struct strv lines = STRV_INIT;
	bool no_search = search && search->n == 1 && str_equal(search->v[0], ".");

	strv_split(&lines, host_text ? host_text : "", "\n");
	if (section(&b, &lines, "nameserver", dns, true, !host_network) == 0 && !host_network)
		buf_puts(&b, "nameserver 8.8.8.8\nnameserver 8.8.4.4\n");
	if (!no_search)
		section(&b, &lines, "search", search, false, false);
	section(&b, &lines, "options", options, false, false);
	return buf_steal(&b, NULL);
}

/* systemd-resolved's stub is useless in another namespace; what it forwards to lies beside it. */
char *resolv_conf_host(void)
{
	autobuf struct buf b = BUF_INIT(RESOLV_MAX);

	if (fs_read(AT_FDCWD, "/etc/resolv.conf", &b) < 0)
		return NULL;
	if (strstr(b.data, "127.0.0.53")) {
		autobuf struct buf real = BUF_INIT(RESOLV_MAX);

		if (fs_read(AT_FDCWD, "/run/systemd/resolve/resolv.conf", &real) == 0)
			return buf_steal(&real, NULL);
	}
	return buf_steal(&b, NULL);
}
