/* SPDX-License-Identifier: Apache-2.0 */
/* The files of a network: /etc/hosts and /etc/resolv.conf. Sans-IO but for resolv_conf_host(). */

#include "network/network.h"

#include "base/buf.h"
#include "base/fs.h"
#include "base/mem.h"

#include <fcntl.h>
#include <string.h>

#define RESOLV_MAX (64 << 10)

/* "name:ip" or "name=ip"; the address may be IPv6, in brackets or not. */
static void extra_line(struct buf *b, const char *extra, const char *gateway)
{
	const char *at = strpbrk(extra, ":=");

	if (!at)
		return;
	autofree char *name = xstrndup(extra, (size_t)(at - extra));
	const char *address = str_equal(at + 1, "host-gateway") ? gateway : at + 1;
	size_t n = address ? strlen(address) : 0;
	if (n > 2 && address[0] == '[' && address[n - 1] == ']')
		buf_printf(b, "%.*s\t%s\n", (int)n - 2, address + 1, name);
	else if (n > 0)
		buf_printf(b, "%s\t%s\n", address, name);
}

char *hosts_format(const char *base, const struct strv *extra_hosts, const char *gateway,
		   const struct host_entry *entries, size_t n)
{
	static const char usual[] = "127.0.0.1\tlocalhost\n"
				    "::1\tlocalhost ip6-localhost ip6-loopback\n"
				    "fe00::0\tip6-localnet\n"
				    "ff00::0\tip6-mcastprefix\n"
				    "ff02::1\tip6-allnodes\n"
				    "ff02::2\tip6-allrouters\n";
	struct buf b = BUF_INIT(BUF_NO_LIMIT);

	buf_puts(&b, base ? base : usual);
	if (b.len > 0 && b.data[b.len - 1] != '\n')
		buf_putc(&b, '\n');
	for (size_t i = 0; extra_hosts && i < extra_hosts->n; i++)
		extra_line(&b, extra_hosts->v[i], gateway);
	for (size_t i = 0; i < n; i++) {
		if (!str_empty(entries[i].ip) && !str_empty(entries[i].names))
			buf_printf(&b, "%s\t%s\n", entries[i].ip, entries[i].names);
	}
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

static bool has_ndots(const struct strv *lines, const struct strv *options)
{
	for (size_t i = 0; options && i < options->n; i++) {
		if (str_has_prefix(options->v[i], "ndots:"))
			return true;
	}
	for (size_t i = 0; (!options || options->n == 0) && i < lines->n; i++) {
		const char *value = keyword(lines->v[i], "options");

		if (value && strstr(value, "ndots:"))
			return true;
	}
	return false;
}

/* What the name server asks is told as a comment: people look for it. */
static void own_comment(struct buf *b, const struct strv *lines, const struct strv *dns)
{
	autostrv struct strv servers = STRV_INIT;

	if (dns && dns->n > 0)
		strv_copy(&servers, dns);
	for (size_t i = 0; (!dns || dns->n == 0) && i < lines->n; i++) {
		const char *value = keyword(lines->v[i], "nameserver");

		if (value)
			strv_push_printf(&servers, "host(%s)", value);
	}
	autofree char *text = strv_join(&servers, " ");
	buf_printf(b, "\n# Names of this network, else asked from: [%s]\n", text);
}

char *resolv_conf_format(const char *host_text, const struct strv *dns, const struct strv *search,
			 const struct strv *options, enum resolv_mode mode)
{
	struct buf b = BUF_INIT(BUF_NO_LIMIT);
	autostrv struct strv lines = STRV_INIT;
	bool no_search = search && search->n == 1 && str_equal(search->v[0], ".");
	bool bridge = mode == RESOLV_BRIDGE;

	strv_split(&lines, host_text ? host_text : "", "\n");
	if (mode == RESOLV_OWN)
		buf_puts(&b, "nameserver 127.0.0.11\n");
	else if (section(&b, &lines, "nameserver", dns, true, bridge) == 0 && bridge)
		buf_puts(&b, "nameserver 8.8.8.8\nnameserver 8.8.4.4\n");
	if (!no_search)
		section(&b, &lines, "search", search, false, false);
	section(&b, &lines, "options", options, false, false);
	if (mode == RESOLV_OWN && !has_ndots(&lines, options))
		buf_puts(&b, "options ndots:0\n");
	if (mode == RESOLV_OWN)
		own_comment(&b, &lines, dns);
	return buf_steal(&b, NULL);
}

void resolv_conf_servers(const char *text, struct strv *ret)
{
	autostrv struct strv lines = STRV_INIT;

	strv_split(&lines, text, "\n");
	for (size_t i = 0; i < lines.n; i++) {
		const char *value = keyword(lines.v[i], "nameserver");

		if (value && value[0] != '\0')
			strv_take(ret, xstrndup(value, strcspn(value, " \t#;")));
	}
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
