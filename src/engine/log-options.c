/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/log-options.h"

#include "base/mem.h"
#include "base/parse.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <netdb.h>
#include <regex.h>
#include <string.h>

#define INVALID(err, ...) error_set(err, ERROR_INVALID_ARGUMENT, __VA_ARGS__)
#define ATTRS_TEXT_MAX ((size_t)40 << 10)

/* Drivers that keep no file of their own get one that big for `logs`. */
#define CACHE_SIZE "20m"
#define CACHE_FILES "5"

static const struct driver {
	const char *name;
	const char *options[16];
} drivers[] = {
	{ "json-file",
	  { "max-file", "max-size", "compress", "labels", "labels-regex", "env", "env-regex",
	    "tag" } },
	{ "local", { "max-file", "max-size", "compress" } },
	{ "journald", { "labels", "labels-regex", "env", "env-regex", "tag" } },
	{ "syslog",
	  { "env", "env-regex", "labels", "labels-regex", "syslog-address", "syslog-facility",
	    "syslog-format", "syslog-tls-ca-cert", "syslog-tls-cert", "syslog-tls-key",
	    "syslog-tls-skip-verify", "tag" } },
	{ "none", { NULL } },
};

static const char *const facilities[] = {
	"kern",	  "user",   "mail",	"daemon", "auth",   "syslog", "lpr",	"news",
	"uucp",	  "cron",   "authpriv", "ftp",	  NULL,	    NULL,     NULL,	NULL,
	"local0", "local1", "local2",	"local3", "local4", "local5", "local6", "local7",
};

static const struct driver *find_driver(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(drivers); i++)
		if (str_equal(drivers[i].name, name))
			return &drivers[i];
	return NULL;
}

bool log_driver_known(const char *driver)
{
	return find_driver(driver) != NULL;
}

static bool listed(const char *const *list, size_t n, const char *word)
{
	for (size_t i = 0; i < n; i++)
		if (str_equal(list[i], word))
			return true;
	return false;
}

static int check_name(const struct driver *d, const char *name, struct error *err)
{
	static const char *const common[] = {
		"mode",		  "max-buffer-size", "cache-disabled",
		"cache-max-file", "cache-max-size",  "cache-compress"
	};

	if (listed(d->options, ARRAY_SIZE(d->options), name) ||
	    listed(common, ARRAY_SIZE(common), name))
		return 0;
	if (str_equal(d->name, "local"))
		return INVALID(err, "unknown log opt '%s' for log driver local", name);
	return INVALID(err, "unknown log opt '%s' for %s log driver", name, d->name);
}

static int check_regex(const struct kvs *options, const char *key, struct error *err)
{
	const char *text = kvs_get(options, key);
	regex_t re;

	if (!text)
		return 0;
	if (regcomp(&re, text, REG_EXTENDED | REG_NOSUB) != 0)
		return INVALID(err, "error parsing regexp for %s: '%s'", key, text);
	regfree(&re);
	return 0;
}

static int check_sizes(const struct kvs *o, const char *size_key, const char *file_key,
		       struct error *err)
{
	const char *size = kvs_get(o, size_key), *files = kvs_get(o, file_key);
	int64_t n;

	if (size && !str_equal(size, "-1") && (parse_size(size, &n) < 0 || n <= 0))
		return INVALID(err, "invalid size: '%s'", size);
	if (files && (parse_int64(files, &n) < 0 || n < 1 || n > 1000))
		return INVALID(err, "%s cannot be less than 1, or more than 1000", file_key);
	return 0;
}

static int check_mode(const struct kvs *o, struct error *err)
{
	const char *mode = kvs_get(o, "mode"), *size = kvs_get(o, "max-buffer-size");
	int64_t n;

	if (!str_empty(mode) && !str_equal(mode, "blocking") && !str_equal(mode, "non-blocking"))
		return INVALID(err, "logger: logging mode not supported: %s", mode);
	if (size && !str_equal(mode, "non-blocking"))
		return INVALID(err, "logger: max-buffer-size option is only supported with "
				    "'mode=non-blocking'");
	if (size && parse_size(size, &n) < 0)
		return INVALID(err, "error parsing option max-buffer-size: invalid size: '%s'",
			       size);
	return 0;
}

static int check_bool(const struct kvs *o, const char *key, struct error *err)
{
	const char *text = kvs_get(o, key);
	bool value;

	return text && parse_bool(text, &value) < 0
		       ? INVALID(err, "invalid value for log opt '%s': '%s'", key, text)
		       : 0;
}

static int facility_number(const char *text)
{
	int64_t n;

	for (size_t i = 0; i < ARRAY_SIZE(facilities); i++)
		if (facilities[i] && str_equal(facilities[i], text))
			return (int)i;
	return parse_int64(text, &n) == 0 && n >= 0 && n <= 23 ? (int)n : -1;
}

static int check_syslog(const struct kvs *o, struct error *err)
{
	static const char *const formats[] = { "", "rfc3164", "rfc5424", "rfc5424micro" };
	static const char *const schemes[] = { "unix://", "unixgram://", "udp://", "tcp://" };
	const char *address = kvs_get(o, "syslog-address");
	const char *facility = kvs_get(o, "syslog-facility");
	const char *format = kvs_get(o, "syslog-format");
	bool known = str_empty(address);

	for (size_t i = 0; i < ARRAY_SIZE(schemes) && !known; i++)
		known = str_has_prefix(address, schemes[i]);
	if (!known && str_has_prefix(address, "tcp+tls://"))
		return error_set(err, ERROR_UNIMPLEMENTED,
				 "syslog over TLS is not supported by Kistl: '%s'", address);
	if (!known)
		return INVALID(err, "unsupported scheme: '%.*s'", (int)strcspn(address, ":"),
			       address);
	if (!str_empty(facility) && facility_number(facility) < 0)
		return INVALID(err, "invalid syslog facility");
	if (format && !listed(formats, ARRAY_SIZE(formats), format))
		return INVALID(err, "Invalid syslog format");
	return 0;
}

/* {{.ID}} and its like; what else Go's templates can do is refused. */
static const struct {
	const char *text;
	int what;
} tag_words[] = { { "{{.ID}}", 0 },	   { "{{.FullID}}", 1 },	{ "{{.Name}}", 2 },
		  { "{{.FullName}}", 3 },  { "{{.ImageID}}", 4 },	{ "{{.ImageFullID}}", 5 },
		  { "{{.ImageName}}", 6 }, { "{{.ImageFullName}}", 6 }, { "{{.DaemonName}}", 7 } };

static void tag_value(const struct log_subject *s, int what, struct buf *out)
{
	const char *image = s->config->image_id ? s->config->image_id : "";
	const char *colon = strchr(image, ':');

	switch (what) {
	case 0:
		buf_printf(out, "%.12s", s->id);
		break;
	case 1:
		buf_puts(out, s->id);
		break;
	case 2:
		buf_puts(out, s->name);
		break;
	case 3:
		buf_printf(out, "/%s", s->name);
		break;
	case 4:
		buf_printf(out, "%.12s", colon ? colon + 1 : image);
		break;
	case 5:
		buf_puts(out, image);
		break;
	case 6:
		buf_puts(out, s->config->image ? s->config->image : "");
		break;
	default:
		buf_puts(out, "kistld");
	}
}

/* s NULL: only looks whether it can be done. */
static int expand_tag(const struct log_subject *s, const char *tag, struct buf *out,
		      struct error *err)
{
	while (*tag) {
		bool found = false;

		if (strncmp(tag, "{{", 2) != 0) {
			buf_putc(out, *tag++);
			continue;
		}
		for (size_t i = 0; i < ARRAY_SIZE(tag_words) && !found; i++) {
			if (!str_has_prefix(tag, tag_words[i].text))
				continue;
			found = true;
			tag += strlen(tag_words[i].text);
			if (s)
				tag_value(s, tag_words[i].what, out);
		}
		if (!found)
			return INVALID(err,
				       "log tag '%s': only {{.ID}}, {{.FullID}}, {{.Name}}, "
				       "{{.ImageName}}, {{.ImageID}} and their likes can be "
				       "used",
				       tag);
	}
	return 0;
}

int log_options_check(const char *driver, const struct kvs *options, struct error *err)
{
	static const char *const bools[] = { "compress", "cache-disabled", "cache-compress" };
	const struct driver *d = find_driver(str_empty(driver) ? "json-file" : driver);
	autobuf struct buf tag = BUF_INIT(BUF_NO_LIMIT);
	const char *text = kvs_get(options, "tag");

	if (!d)
		return INVALID(err, "error looking up logging plugin %s: plugin \"%s\" not found",
			       driver, driver);
	if (str_equal(d->name, "none"))
		return 0;
	if (check_mode(options, err) < 0)
		return -1;
	for (size_t i = 0; i < options->n; i++)
		if (check_name(d, options->v[i].key, err) < 0)
			return -1;
	for (size_t i = 0; i < ARRAY_SIZE(bools); i++)
		if (check_bool(options, bools[i], err) < 0)
			return -1;
	if (check_sizes(options, "max-size", "max-file", err) < 0 ||
	    check_sizes(options, "cache-max-size", "cache-max-file", err) < 0 ||
	    check_regex(options, "labels-regex", err) < 0 ||
	    check_regex(options, "env-regex", err) < 0 ||
	    (text && expand_tag(NULL, text, &tag, err) < 0))
		return -1;
	if (str_equal(d->name, "json-file") && !kvs_get(options, "max-size") &&
	    kvs_get(options, "max-file") && !str_equal(kvs_get(options, "max-file"), "1"))
		return 0; /* without a size there is no rotation: Docker lets it be */
	return str_equal(d->name, "syslog") ? check_syslog(options, err) : 0;
}

/* --- what goes with each line --- */

static void add_matching(const char *regex, const char *key, const char *value, struct kvs *ret)
{
	regex_t re;

	if (str_empty(regex) || regcomp(&re, regex, REG_EXTENDED | REG_NOSUB) != 0)
		return;
	if (regexec(&re, key, 0, NULL, 0) == 0)
		kvs_set(ret, key, value);
	regfree(&re);
}

static void extra_attributes(const struct container_config *c, struct kvs *ret)
{
	const struct kvs *o = &c->log_options;
	autostrv struct strv labels = STRV_INIT, env = STRV_INIT;

	if (kvs_get(o, "labels"))
		strv_split(&labels, kvs_get(o, "labels"), ",");
	if (kvs_get(o, "env"))
		strv_split(&env, kvs_get(o, "env"), ",");
	for (size_t i = 0; i < c->labels.n; i++) {
		if (strv_contains(&labels, c->labels.v[i].key))
			kvs_set(ret, c->labels.v[i].key, c->labels.v[i].value);
		add_matching(kvs_get(o, "labels-regex"), c->labels.v[i].key, c->labels.v[i].value,
			     ret);
	}
	for (size_t i = 0; i < c->env.n; i++) {
		const char *eq = strchr(c->env.v[i], '=');

		if (!eq)
			continue;
		autofree char *key = xstrndup(c->env.v[i], (size_t)(eq - c->env.v[i]));
		if (strv_contains(&env, key))
			kvs_set(ret, key, eq + 1);
		add_matching(kvs_get(o, "env-regex"), key, eq + 1, ret);
	}
}

static void put_escaped(struct buf *b, const char *s)
{
	for (; *s; s++) {
		bool plain = isalnum((unsigned char)*s) || strchr("-._/", *s);

		buf_printf(b, plain ? "%c" : "%%%02x", (unsigned char)*s);
	}
}

static void put_option(struct buf *b, const char *key, const char *value)
{
	buf_putc(b, '&');
	put_escaped(b, key);
	buf_putc(b, '=');
	put_escaped(b, value);
}

static void put_if(struct buf *b, const char *key, const char *value)
{
	if (!str_empty(value))
		put_option(b, key, value);
}

/* The journal's names: upper case, digits, underscores, none of those in front. */
static void put_field(struct buf *b, const char *name, const char *value)
{
	autobuf struct buf key = BUF_INIT(BUF_NO_LIMIT);

	buf_puts(&key, "field.");
	for (const char *p = name; *p; p++) {
		int ch = toupper((unsigned char)*p);

		if (!isalnum(ch))
			ch = '_';
		if (ch != '_' || key.len > strlen("field."))
			buf_putc(&key, (char)ch);
	}
	if (key.len > strlen("field.") && !isdigit((unsigned char)key.data[strlen("field.")]))
		put_option(b, key.data, value);
}

static int resolve(const char *address, struct buf *out, struct error *err)
{
	const char *host = strstr(address, "://") + 3, *colon = strrchr(host, ':');
	const char *bracket = strrchr(host, ']');
	char text[INET6_ADDRSTRLEN];
	struct addrinfo *list = NULL;

	if (colon && bracket && colon < bracket)
		colon = NULL;
	autofree char *name = colon ? xstrndup(host, (size_t)(colon - host)) : xstrdup(host);
	size_t n = strlen(name);
	bool bare = n >= 2 && name[0] == '[' && name[n - 1] == ']';
	if (bare)
		name[n - 1] = '\0';
	int r = getaddrinfo(*name ? name + bare : "localhost", NULL, NULL, &list);
	if (r != 0)
		return error_set(err, ERROR_UNAVAILABLE,
				 "failed to initialize logging driver: dial %s: %s", address,
				 gai_strerror(r));
	bool v6 = list->ai_family == AF_INET6;
	const void *raw =
		v6 ? (const void *)&((struct sockaddr_in6 *)(void *)list->ai_addr)->sin6_addr
		   : (const void *)&((struct sockaddr_in *)(void *)list->ai_addr)->sin_addr;
	inet_ntop(list->ai_family, raw, text, sizeof(text));
	freeaddrinfo(list);
	buf_printf(out, v6 ? "%.6s[%s]%s" : "%.6s%s%s", address, text, colon ? colon : ":514");
	return 0;
}

static int put_syslog(const struct container_config *c, struct buf *b, struct error *err)
{
	const struct kvs *o = &c->log_options;
	const char *address = kvs_get(o, "syslog-address");
	const char *facility = kvs_get(o, "syslog-facility");
	autobuf struct buf resolved = BUF_INIT(BUF_NO_LIMIT);

	if (!str_empty(address) && !str_has_prefix(address, "unix")) {
		if (resolve(address, &resolved, err) < 0)
			return -1;
		address = resolved.data;
	}
	put_if(b, "address", address);
	put_if(b, "format", kvs_get(o, "syslog-format"));
	if (!str_empty(facility))
		buf_printf(b, "&facility=%d", facility_number(facility));
	return 0;
}

static void put_journal(const struct log_subject *s, const char *tag, const struct kvs *extra,
			struct buf *b)
{
	autofree char *short_id = xstrndup(s->id, 12);

	put_field(b, "CONTAINER_ID", short_id);
	put_field(b, "CONTAINER_ID_FULL", s->id);
	put_field(b, "CONTAINER_NAME", s->name);
	put_field(b, "CONTAINER_TAG", tag);
	put_field(b, "IMAGE_NAME", s->config->image ? s->config->image : "");
	put_field(b, "SYSLOG_IDENTIFIER", tag);
	for (size_t i = 0; i < extra->n; i++)
		put_field(b, extra->v[i].key, extra->v[i].value);
}

static void put_file_options(const struct kvs *o, const char *driver, struct buf *b)
{
	bool file = str_equal(driver, "json-file"), local = str_equal(driver, "local");
	const char *size = kvs_get(o, file || local ? "max-size" : "cache-max-size");
	const char *files = kvs_get(o, file || local ? "max-file" : "cache-max-file");

	put_if(b, "max-size", size ? size : file ? NULL : CACHE_SIZE);
	put_if(b, "max-file", files ? files : file ? NULL : CACHE_FILES);
}

static int by_key(const void *a, const void *b)
{
	return strcmp(((const struct kv *)a)->key, ((const struct kv *)b)->key);
}

static int put_attributes(const struct log_subject *s, const char *driver, struct buf *b,
			  struct error *err)
{
	const char *option = kvs_get(&s->config->log_options, "tag");
	autobuf struct buf tag = BUF_INIT(4096);
	autokvs struct kvs extra = KVS_INIT;
	bool file = str_equal(driver, "json-file");

	if (expand_tag(s, option ? option : file ? "" : "{{.ID}}", &tag, err) < 0)
		return -1;
	extra_attributes(s->config, &extra);
	if (file && tag.len > 0)
		kvs_set(&extra, "tag", tag.data);
	/* In order, as `docker logs --details` has them. */
	if (extra.n > 1)
		qsort(extra.v, extra.n, sizeof(extra.v[0]), by_key);
	if (file && extra.n > 0) {
		autojson struct json *j = json_new_kvs(&extra);
		autofree char *text = json_format(j, /* pretty */ false);

		if (strlen(text) <= ATTRS_TEXT_MAX)
			put_option(b, "attrs", text);
	}
	if (str_equal(driver, "journald"))
		put_journal(s, tag.data, &extra, b);
	if (str_equal(driver, "syslog"))
		put_option(b, "tag", tag.data);
	return 0;
}

int log_uri(const struct log_subject *s, char **ret, struct error *err)
{
	const struct container_config *c = s->config;
	const char *driver = str_empty(c->log_driver) ? s->default_driver : c->log_driver;
	const char *in = !c->open_stdin ? "none" : c->stdin_once ? "once" : "open";
	autobuf struct buf b = BUF_INIT(BUF_NO_LIMIT);

	driver = str_empty(driver) ? "json-file" : driver;
	if (str_equal(driver, "none")) {
		*ret = xasprintf("kistl-log://?driver=none&stdin=%s", in);
		return 0;
	}
	buf_puts(&b, "kistl-log://");
	if (str_equal(driver, "cri")) { /* pods' containers only: no user can name it */
		put_escaped(&b, c->log_path);
		buf_printf(&b, "?driver=cri&stdin=%s", in);
		if (kvs_get(&c->log_options, "max-line"))
			put_option(&b, "max-line", kvs_get(&c->log_options, "max-line"));
		*ret = buf_steal(&b, NULL);
		return 0;
	}
	put_escaped(&b, s->dir);
	buf_printf(&b, "/%s-json.log?driver=json-file&stdin=%s", s->id, in);
	put_file_options(&c->log_options, driver, &b);
	if (str_equal(driver, "journald") || str_equal(driver, "syslog"))
		buf_printf(&b, "&remote=%s", driver);
	if (put_attributes(s, driver, &b, err) < 0 ||
	    (str_equal(driver, "syslog") && put_syslog(c, &b, err) < 0))
		return -1;
	*ret = buf_steal(&b, NULL);
	return 0;
}
