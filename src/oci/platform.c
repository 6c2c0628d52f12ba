/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/platform.h"
#include "base/fs.h"
#include "base/mem.h"

#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

#define SPECIFIER_MAX 255
#define RANK_BEST 1000

static const char *const known_os[] = {
	"aix",	   "android", "darwin",	 "dragonfly", "freebsd", "hurd",    "illumos",
	"ios",	   "js",      "linux",	 "nacl",      "netbsd",	 "openbsd", "plan9",
	"solaris", "wasip1",  "windows", "zos",	      "macos",
};

static const char *const known_arch[] = {
	"386",	     "amd64",	    "amd64p32", "arm",	  "armbe",   "arm64",
	"arm64be",   "loong64",	    "mips",	"mipsle", "mips64",  "mips64le",
	"mips64p32", "mips64p32le", "ppc",	"ppc64",  "ppc64le", "riscv",
	"riscv64",   "s390",	    "s390x",	"sparc",  "sparc64", "wasm",
};

/* Spellings of an architecture, and the variants of it that are the default under another name. */
static const struct {
	const char *arch, *variant; /* NULL: any */
	const char *to_arch, *to_variant;
} aliases[] = {
	{ "x86_64", NULL, "amd64", NULL },  { "x86-64", NULL, "amd64", NULL },
	{ "i386", NULL, "386", NULL },	    { "i686", NULL, "386", NULL },
	{ "aarch64", NULL, "arm64", NULL }, { "armhf", NULL, "arm", "v7" },
	{ "armel", NULL, "arm", "v6" },	    { "armv7l", NULL, "arm", "v7" },
	{ "armv6l", NULL, "arm", "v6" },    { "armv5l", NULL, "arm", "v5" },
	{ "amd64", "v1", "amd64", "" },	    { "arm64", "8", "arm64", "" },
	{ "arm64", "v8", "arm64", "" },	    { "arm64", "v8.0", "arm64", "" },
	{ "arm64", "9", "arm64", "v9" },    { "arm64", "9.0", "arm64", "v9" },
	{ "arm64", "v9.0", "arm64", "v9" }, { "arm", "", "arm", "v7" },
	{ "arm", "5", "arm", "v5" },	    { "arm", "6", "arm", "v6" },
	{ "arm", "7", "arm", "v7" },	    { "arm", "8", "arm", "v8" },
};

void platform_done(struct platform *p)
{
	free(p->os);
	free(p->architecture);
	free(p->variant);
	free(p->os_version);
	*p = PLATFORM_INIT;
}

void platform_copy(struct platform *dst, const struct platform *src)
{
	if (dst == src)
		return;
	platform_done(dst);
	*dst = (struct platform){ .os = xstrdup(src->os),
				  .architecture = xstrdup(src->architecture),
				  .variant = xstrdup(src->variant),
				  .os_version = xstrdup(src->os_version) };
}

static void lower(char *s)
{
	for (; s && *s; s++)
		if (*s >= 'A' && *s <= 'Z')
			*s |= 0x20;
}

static void drop_empty(char **s)
{
	if (*s && !**s)
		str_replace(s, NULL);
}

void platform_normalize(struct platform *p)
{
	lower(p->os);
	lower(p->architecture);
	lower(p->variant);
	if (str_equal(p->os, "macos"))
		str_replace(&p->os, "darwin");
	for (size_t i = 0; i < ARRAY_SIZE(aliases); i++) {
		const char *variant = p->variant ? p->variant : "";

		if (!str_equal(p->architecture, aliases[i].arch) ||
		    (aliases[i].variant && strcmp(aliases[i].variant, variant) != 0))
			continue;
		str_replace(&p->architecture, aliases[i].to_arch);
		if (aliases[i].to_variant)
			str_replace(&p->variant, aliases[i].to_variant);
	}
	drop_empty(&p->variant);
	drop_empty(&p->os_version);
}

static bool contains(const char *const *words, size_t n, const char *word)
{
	for (size_t i = 0; i < n; i++)
		if (strcasecmp(words[i], word) == 0)
			return true;
	return false;
}

static bool part_valid(const char *s)
{
	static const char chars[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				    "0123456789_.-";

	return *s && !s[strspn(s, chars)];
}

/* Moves the version of "windows(10.0.17763)" out of the first part. */
static bool take_os_version(char *os, struct platform *p)
{
	char *open = strchr(os, '(');

	if (!open)
		return true;
	size_t n = strlen(open);

	if (open[n - 1] != ')')
		return false;
	open[n - 1] = '\0';
	*open = '\0';
	p->os_version = xstrdup(open + 1);
	return part_valid(p->os_version);
}

/* One word is an operating system or an architecture of this one. */
static bool fill_single(struct platform *p, const char *word)
{
	autoplatform struct platform host = PLATFORM_INIT,
				     tried = { .architecture = xstrdup(word) };

	platform_host(&host);
	if (contains(known_os, ARRAY_SIZE(known_os), word)) {
		p->os = xstrdup(word);
		p->architecture = xstrdup(host.architecture);
		p->variant = xstrdup(host.variant);
		return true;
	}
	platform_normalize(&tried);
	if (!contains(known_arch, ARRAY_SIZE(known_arch), tried.architecture))
		return false;
	p->os = xstrdup(host.os);
	p->architecture = xstrdup(word);
	return true;
}

static bool fill(struct platform *p, char *text)
{
	char *parts[4] = { NULL };
	size_t n = 0;

	for (char *s = text; s;) {
		if (n == 3)
			return false;
		parts[n++] = s;
		s = strchr(s, '/');
		if (s)
			*s++ = '\0';
	}
	if (!take_os_version(parts[0], p))
		return false;
	for (size_t i = 0; i < n; i++)
		if (!part_valid(parts[i]))
			return false;
	if (n == 1)
		return fill_single(p, parts[0]);
	p->os = xstrdup(parts[0]);
	p->architecture = xstrdup(parts[1]);
	p->variant = xstrdup(parts[2]);
	return true;
}

int platform_parse(const char *s, struct platform *ret, struct error *err)
{
	autoplatform struct platform p = PLATFORM_INIT;
	autofree char *text = xstrndup(s, SPECIFIER_MAX + 1);

	if (strlen(text) > SPECIFIER_MAX || !fill(&p, text))
		return error_set(err, ERROR_INVALID_ARGUMENT, "invalid platform '%s'", text);
	platform_normalize(&p);
	*ret = p;
	p = PLATFORM_INIT;
	return 0;
}

/* "CPU architecture: 7" of the first processor. */
static void arm_variant(struct platform *p)
{
	autobuf struct buf b = BUF_INIT(256 << 10);
	int version;

	if (fs_read(AT_FDCWD, "/proc/cpuinfo", &b) < 0)
		return;
	const char *line = strstr(b.data, "CPU architecture:");

	if (line && sscanf(line, "CPU architecture: %d", &version) == 1 && version >= 5 &&
	    version <= 8) {
		free(p->variant);
		p->variant = xasprintf("v%d", version);
	}
}

void platform_host(struct platform *ret)
{
	struct utsname u;
	int r = uname(&u);

	assert(r == 0);
	*ret = (struct platform){ .os = xstrdup("linux"), .architecture = xstrdup(u.machine) };
	if (str_has_prefix(u.machine, "armv8"))
		str_replace(&ret->architecture, "arm");
	platform_normalize(ret);
	if (strcmp(ret->architecture, "arm") == 0)
		arm_variant(ret);
}

char *platform_string(const struct platform *p)
{
	return xasprintf("%s/%s%s%s", p->os ? p->os : "", p->architecture ? p->architecture : "",
			 str_empty(p->variant) ? "" : "/", p->variant ? p->variant : "");
}

/* "v8.3" -> 8, 3. NULL is the fallback's major version. */
static bool read_variant(const char *variant, int fallback, int *ret_major, int *ret_minor)
{
	char end;

	*ret_minor = 0;
	*ret_major = fallback;
	if (!variant)
		return true;
	return sscanf(variant, "v%1d%c", ret_major, &end) == 1 ||
	       sscanf(variant, "v%1d.%1d%c", ret_major, ret_minor, &end) == 2;
}

/* What runs an x86-64 level runs all below, and 32-bit code after that. */
static int amd64_distance(const struct platform *want, const struct platform *have)
{
	int level, other, minor;

	if (!read_variant(want->variant, 1, &level, &minor))
		return -1;
	if (strcmp(have->architecture, "386") == 0)
		return level;
	if (strcmp(have->architecture, "amd64") != 0 ||
	    !read_variant(have->variant, 1, &other, &minor))
		return -1;
	return level - other;
}

static int arm_distance(const struct platform *want, const struct platform *have)
{
	int version, other, minor;

	if (strcmp(have->architecture, "arm") != 0 ||
	    !read_variant(want->variant, 7, &version, &minor) ||
	    !read_variant(have->variant, 7, &other, &minor) || other < 5)
		return -1;
	return version - other;
}

/* v9.x contains v8.(x+5); 32-bit code comes last. */
static int arm64_distance(const struct platform *want, const struct platform *have)
{
	int major, minor, other, other_minor;

	if (!read_variant(want->variant, 8, &major, &minor) || major < 8)
		return -1;
	int top_of_8 = major == 9 ? minor + 5 : minor;
	int first_8 = major == 9 ? minor + 1 : 0;

	if (strcmp(have->architecture, "arm") == 0) {
		if (!read_variant(have->variant, 7, &other, &other_minor) || other < 5 || other > 8)
			return -1;
		return first_8 + top_of_8 + 1 + 8 - other;
	}
	if (strcmp(have->architecture, "arm64") != 0 ||
	    !read_variant(have->variant, 8, &other, &other_minor))
		return -1;
	if (other == 9)
		return major == 9 ? minor - other_minor : -1;
	return other == 8 && other_minor <= top_of_8 ? first_8 + top_of_8 - other_minor : -1;
}

unsigned platform_rank(const struct platform *want, const struct platform *have)
{
	static const struct {
		const char *arch;
		int (*distance)(const struct platform *want, const struct platform *have);
	} families[] = {
		{ "amd64", amd64_distance },
		{ "arm", arm_distance },
		{ "arm64", arm64_distance },
	};

	if (str_empty(want->os) || str_empty(want->architecture) || !have->architecture ||
	    !str_equal(want->os, have->os))
		return 0;
	if (str_equal(want->architecture, have->architecture) &&
	    str_equal(want->variant, have->variant))
		return RANK_BEST;
	for (size_t i = 0; i < ARRAY_SIZE(families); i++) {
		if (strcmp(want->architecture, families[i].arch) != 0)
			continue;
		int distance = families[i].distance(want, have);

		return distance < 0 ? 0 : (unsigned)(RANK_BEST - distance);
	}
	return 0;
}
