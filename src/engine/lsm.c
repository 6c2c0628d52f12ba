/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/lsm.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/process.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#define PROFILES "/sys/kernel/security/apparmor/profiles"
#define PROFILES_MAX ((size_t)16 << 20)
#define PARSER_MS 30000
#define DEFAULT_PROFILE "kistl-default"
#define SELINUX_DIR "/sys/fs/selinux"
#define DEPTH_MAX 256

/* --- AppArmor --- */

/* What dockerd's and containerd's default profiles forbid: writing to the host's knobs in /proc and
 * /sys, mounting, tracing others. */
static const char default_profile[] =
	"#include <tunables/global>\n"
	"profile " DEFAULT_PROFILE " flags=(attach_disconnected,mediate_deleted) {\n"
	"  #include <abstractions/base>\n"
	"  network,\n"
	"  capability,\n"
	"  file,\n"
	"  umount,\n"
	"  signal (receive) peer=unconfined,\n"
	"  signal (receive) peer=runc,\n"
	"  signal (receive) peer=crun,\n"
	"  signal (send,receive) peer=" DEFAULT_PROFILE ",\n"
	"  ptrace (trace,read,tracedby,readby) peer=" DEFAULT_PROFILE ",\n"
	"  deny @{PROC}/* w,\n"
	"  deny @{PROC}/{[^1-9],[^1-9][^0-9],[^1-9s][^0-9y][^0-9s],[^1-9][^0-9][^0-9][^0-9]*}/** "
	"w,\n"
	"  deny @{PROC}/sys/[^k]** w,\n"
	"  deny @{PROC}/sys/kernel/{?,??,[^s][^h][^m]**} w,\n"
	"  deny @{PROC}/sysrq-trigger rwklx,\n"
	"  deny @{PROC}/mem rwklx,\n"
	"  deny @{PROC}/kmem rwklx,\n"
	"  deny @{PROC}/kcore rwklx,\n"
	"  deny mount,\n"
	"  deny /sys/[^f]*/** wklx,\n"
	"  deny /sys/f[^s]*/** wklx,\n"
	"  deny /sys/fs/[^c]*/** wklx,\n"
	"  deny /sys/fs/c[^g]*/** wklx,\n"
	"  deny /sys/fs/cg[^r]*/** wklx,\n"
	"  deny /sys/firmware/** rwklx,\n"
	"  deny /sys/devices/virtual/powercap/** rwklx,\n"
	"  deny /sys/kernel/security/** rwklx,\n"
	"}\n";

bool apparmor_enabled(void)
{
	autobuf struct buf text = BUF_INIT(64);

	return access(PROFILES, R_OK) == 0 &&
	       fs_read(AT_FDCWD, "/sys/module/apparmor/parameters/enabled", &text) == 0 &&
	       text.data[0] == 'Y';
}

bool apparmor_lists(const char *profiles, const char *name)
{
	size_t len = strlen(name);

	for (const char *line = profiles; *line;) {
		size_t n = strcspn(line, "\n");

		if (n > len + 1 && strncmp(line, name, len) == 0 && line[len] == ' ' &&
		    line[len + 1] == '(')
			return true;
		line += n + (line[n] == '\n');
	}
	return false;
}

bool apparmor_is_loaded(const char *profile)
{
	autobuf struct buf text = BUF_INIT(PROFILES_MAX);

	return fs_read(AT_FDCWD, PROFILES, &text) == 0 && apparmor_lists(text.data, profile);
}

static int load_default(struct error *err)
{
	const char *const argv[] = { "apparmor_parser", "-Kr", NULL };
	const struct process_spec spec = { .path = argv[0], .argv = (char *const *)argv };
	autobuf struct buf out = BUF_INIT(4096);
	autobuf struct buf errout = BUF_INIT(4096);
	int status = 0;

	if (process_run(&spec, default_profile, sizeof(default_profile) - 1, &out, &errout,
			PARSER_MS, &status, err) < 0)
		return -1;
	if (status != 0)
		return error_set(err, ERROR_FAILED_PRECONDITION,
				 "load AppArmor profile " DEFAULT_PROFILE ": %s",
				 errout.len > 0 ? errout.data : "apparmor_parser failed");
	return 0;
}

const char *apparmor_default(struct error *err)
{
	static pthread_mutex_t once = PTHREAD_MUTEX_INITIALIZER;
	static bool without;
	autoerror struct error why = ERROR_INIT;
	const char *name = NULL;

	pthread_mutex_lock(&once);
	if (!without && apparmor_enabled()) {
		if (apparmor_is_loaded(DEFAULT_PROFILE) || load_default(&why) == 0)
			name = DEFAULT_PROFILE;
		else if (error_is(&why, ERROR_NOT_FOUND))
			without = true;
		else
			error_move(err, &why);
	}
	if (without && !name && error_msg(&why)[0])
		log_warn("%s: containers have no AppArmor profile", error_msg(&why));
	pthread_mutex_unlock(&once);
	return name;
}

/* --- SELinux --- */

bool selinux_enabled(void)
{
	return access(SELINUX_DIR "/enforce", F_OK) == 0;
}

/* "s0", "c12", "s0-s15"; *at moves on. */
static bool number_after(const char **at, char letter)
{
	if (**at != letter)
		return false;
	size_t digits = strspn(*at + 1, "0123456789");

	*at += 1 + digits;
	return digits > 0 && digits <= 4;
}

static bool categories(const char **at)
{
	do {
		if (!number_after(at, 'c'))
			return false;
		if (**at == '.' && ((*at)++, !number_after(at, 'c')))
			return false;
	} while (**at == ',' && ((*at)++, true));
	return true;
}

static bool sensitivity(const char **at)
{
	if (!number_after(at, 's'))
		return false;
	return **at != ':' || ((*at)++, categories(at));
}

bool selinux_level_valid(const char *level)
{
	const char *at = level;

	if (!sensitivity(&at))
		return false;
	return *at == '\0' || (*at == '-' && (at++, sensitivity(&at)) && *at == '\0');
}

static bool word_valid(const char *s)
{
	return strlen(s) <= 255 &&
	       strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") ==
		       strlen(s);
}

/* Two categories of the pod's own, by its id: 1,024 * 1,023 / 2 pairs. */
static char *level_of(const char *pod_id)
{
	unsigned a = 0, b = 0;

	sscanf(pod_id, "%5x%5x", &a, &b);
	a %= 1024;
	b %= 1023;
	b += b >= a;
	return xasprintf("s0:c%u,c%u", MIN(a, b), MAX(a, b));
}

static const char *or_default(const char *s, const char *fallback)
{
	return str_empty(s) ? fallback : s;
}

int selinux_labels(const struct selinux_label *wanted, const char *pod_id, char **ret_process,
		   char **ret_mount, struct error *err)
{
	const struct {
		const char *name, *value;
	} words[] = { { "user", wanted->user },
		      { "role", wanted->role },
		      { "type", wanted->type } };
	autofree char *own = level_of(pod_id);
	const char *level = or_default(wanted->level, own);

	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (words[i].value && !word_valid(words[i].value))
			return error_set(err, ERROR_INVALID_ARGUMENT,
					 "selinux_options.%s: '%s' is not valid", words[i].name,
					 words[i].value);
	if (!selinux_level_valid(level))
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "selinux_options.level: '%s' is not valid", level);
	*ret_process = xasprintf("%s:%s:%s:%s", or_default(wanted->user, "system_u"),
				 or_default(wanted->role, "system_r"),
				 or_default(wanted->type, "container_t"), level);
	*ret_mount = xasprintf("system_u:object_r:container_file_t:%s", level);
	return 0;
}

bool selinux_may_relabel(const char *path)
{
	static const char *const never[] = {
		"/",	    "/bin",	   "/boot", "/dev", "/etc",	"/etc/passwd",
		"/etc/pki", "/etc/shadow", "/home", "/lib", "/lib64",	"/media",
		"/opt",	    "/proc",	   "/root", "/run", "/sbin",	"/srv",
		"/sys",	    "/tmp",	   "/usr",  "/var", "/var/lib", "/var/log",
	};

	for (size_t i = 0; i < ARRAY_SIZE(never); i++)
		if (str_equal(path, never[i]))
			return false;
	return true;
}

static int relabel_at(int dirfd, const char *name, const char *label, dev_t dev, unsigned depth,
		      struct error *err);

static int relabel_entries(int fd, const char *label, dev_t dev, unsigned depth, struct error *err)
{
	DIR *d = fdopendir(dup(fd));
	int r = 0;

	if (!d)
		return error_errno(err, errno, "read a directory");
	for (struct dirent *e; r == 0 && (e = readdir(d));)
		if (!str_equal(e->d_name, ".") && !str_equal(e->d_name, ".."))
			r = relabel_at(fd, e->d_name, label, dev, depth + 1, err);
	closedir(d);
	return r;
}

static int relabel_at(int dirfd, const char *name, const char *label, dev_t dev, unsigned depth,
		      struct error *err)
{
	autoclose int fd = openat(dirfd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	char path[64];
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return errno == ENOENT ? 0 : error_errno(err, errno, "open '%s'", name);
	if (st.st_dev != dev || S_ISLNK(st.st_mode))
		return 0;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (setxattr(path, "security.selinux", label, strlen(label) + 1, 0) < 0 &&
	    errno != ENOTSUP && errno != EROFS)
		return error_errno(err, errno, "label '%s'", name);
	if (!S_ISDIR(st.st_mode) || depth >= DEPTH_MAX)
		return 0;
	autoclose int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return dir < 0 ? error_errno(err, errno, "open '%s'", name)
		       : relabel_entries(dir, label, dev, depth, err);
}

int selinux_relabel(const char *path, const char *label, struct error *err)
{
	struct stat st;

	if (!selinux_may_relabel(path))
		return error_set(err, ERROR_INVALID_ARGUMENT, "relabelling of '%s' is not allowed",
				 path);
	if (stat(path, &st) < 0)
		return error_errno(err, errno, "stat '%s'", path);
	return relabel_at(AT_FDCWD, path, label, st.st_dev, 0, err);
}
