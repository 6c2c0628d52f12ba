/* SPDX-License-Identifier: Apache-2.0 */
/* A sandbox's hostname, hosts and resolv.conf, which its containers mount. */

#include "base/fs.h"
#include "base/mem.h"
#include "engine/sandbox-internal.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#define HOST_FILE_MAX (1 << 20)

static int write_file(const struct sandbox *s, const char *name, const char *text,
		      struct error *err)
{
	autofree char *path = path_join(s->dir, name, NULL);
	autoclose int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);

	if (fd < 0)
		return error_errno(err, errno, "open '%s'", path);
	int r = fs_write_all(fd, text, strlen(text));
	if (r < 0)
		return error_errno(err, -r, "write '%s'", path);
	if (fchmod(fd, 0644) < 0 ||
	    (s->config.userns && fchown(fd, (uid_t)s->config.uid_mappings.v[0].host_id,
					(gid_t)s->config.gid_mappings.v[0].host_id) < 0))
		return error_errno(err, errno, "give '%s' to the pod", path);
	autofree char *label = sandbox_mount_label(s);
	if (label && fsetxattr(fd, "security.selinux", label, strlen(label) + 1, 0) < 0)
		return error_errno(err, errno, "label '%s'", path);
	return 0;
}

static void add_line(struct buf *b, const char *word, const struct strv *values)
{
	if (values->n == 0)
		return;
	buf_puts(b, word);
	for (size_t i = 0; i < values->n; i++) {
		buf_putc(b, ' ');
		buf_puts(b, values->v[i]);
	}
	buf_putc(b, '\n');
}

static char *resolv_conf(const struct sandbox *s)
{
	const struct sandbox_config *c = &s->config;
	struct buf b = BUF_INIT(BUF_NO_LIMIT);

	if (!c->dns_given)
		return resolv_conf_host();
	add_line(&b, "search", &c->dns_searches);
	for (size_t i = 0; i < c->dns_servers.n; i++)
		buf_printf(&b, "nameserver %s\n", c->dns_servers.v[i]);
	add_line(&b, "options", &c->dns_options);
	return b.len > 0 ? buf_steal(&b, NULL) : xstrdup("");
}

static char *hosts(const struct sandbox *s, const char *hostname)
{
	autobuf struct buf b = BUF_INIT(HOST_FILE_MAX);

	if (s->config.network == POD_NS_NODE && fs_read(AT_FDCWD, "/etc/hosts", &b) == 0)
		return buf_steal(&b, NULL);
	const struct host_entry own = { s->ips.n > 0 ? s->ips.v[0] : NULL, hostname };
	return hosts_format(NULL, NULL, NULL, &own, 1);
}

int sandbox_files_write(struct sandbox *s, struct error *err)
{
	char own[256] = "";

	gethostname(own, sizeof(own) - 1);
	bool host = s->config.network == POD_NS_NODE || str_empty(s->config.hostname);
	const char *hostname = host ? own : s->config.hostname;
	autofree char *hostname_text = xasprintf("%s\n", hostname);
	autofree char *hosts_text = hosts(s, hostname);
	autofree char *resolv_text = resolv_conf(s);

	if (write_file(s, "hostname", hostname_text, err) < 0 ||
	    write_file(s, "hosts", hosts_text, err) < 0)
		return -1;
	return write_file(s, "resolv.conf", resolv_text ? resolv_text : "", err);
}
