/* SPDX-License-Identifier: Apache-2.0 */
/* kistld: the daemon of Kistl. */
#include "daemon/daemon.h"

#include "base/log.h"
#include "base/mem.h"

#include <malloc.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define NOFILE_MAX 65536

/* One for each of dozens of threads would keep many times the memory that is in use. */
#define MALLOC_ARENAS 2

/* What is larger goes back at its end. By itself the C library learns from the first large message
 * to keep such memory. */
#define MALLOC_LARGE (1 << 20)

static void prepare_process(void)
{
	struct rlimit files;

	mallopt(M_ARENA_MAX, MALLOC_ARENAS);
	mallopt(M_MMAP_THRESHOLD, MALLOC_LARGE);
	umask(022);
	if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < NOFILE_MAX) {
		files.rlim_cur = MIN(files.rlim_max, (rlim_t)NOFILE_MAX);
		setrlimit(RLIMIT_NOFILE, &files);
	}
}

static int setup_log(const struct config *c, struct error *err)
{
	enum log_format format = LOG_FORMAT_AUTO;
	int level;

	if (daemon_log_level(c, &level, err) < 0)
		return -1;
	if (str_equal(c->log_format, "json"))
		format = LOG_FORMAT_JSON;
	else if (c->log_format && strcmp(c->log_format, "text") != 0)
		return error_set(err, ERROR_INVALID_ARGUMENT, "unknown log format '%s'",
				 c->log_format);
	log_setup("kistld", (enum log_level)level, format);
	return 0;
}

static void warn_of_unknown_keys(const struct config *c)
{
	if (c->unknown.n == 0)
		return;
	autofree char *names = strv_join(&c->unknown, ", ");
	log_warn("keys of the configuration that mean nothing here: %s", names);
}

static int run(const struct options *o, struct error *err)
{
	autoconfig struct config config = { 0 };

	if (config_load(&config, o->config_path, err) < 0)
		return -1;
	options_apply(o, &config);
	if (setup_log(&config, err) < 0 || config_defaults(&config, err) < 0)
		return -1;
	warn_of_unknown_keys(&config);
	return daemon_run(o, &config, err);
}

int main(int argc, char **argv)
{
	autoerror struct error err = ERROR_INIT;
	autooptions struct options o = OPTIONS_INIT;

	prepare_process();
	log_setup("kistld", LOG_INFO, LOG_FORMAT_AUTO);
	if (options_parse(argc, (const char *const *)argv, &o, &err) < 0) {
		fprintf(stderr, "kistld: %s\nTry 'kistld --help'.\n", error_msg(&err));
		return 2;
	}
	if (o.help) {
		autofree char *text = options_help();

		fputs(text, stdout);
		return 0;
	}
	if (o.version) {
		puts("kistld version " KISTL_VERSION);
		return 0;
	}
	if (run(&o, &err) < 0) {
		log_err("%s", error_msg(&err));
		return 1;
	}
	return 0;
}
