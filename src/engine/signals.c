/* SPDX-License-Identifier: Apache-2.0 */
#include "base/macros.h"
#include "base/parse.h"
#include "engine/spec.h"

#include <signal.h>
#include <string.h>

static const struct {
	const char *name;
	int number;
} signals[] = {
	{ "HUP", SIGHUP },   { "INT", SIGINT },	    { "QUIT", SIGQUIT }, { "ILL", SIGILL },
	{ "TRAP", SIGTRAP }, { "ABRT", SIGABRT },   { "IOT", SIGIOT },	 { "BUS", SIGBUS },
	{ "FPE", SIGFPE },   { "KILL", SIGKILL },   { "USR1", SIGUSR1 }, { "SEGV", SIGSEGV },
	{ "USR2", SIGUSR2 }, { "PIPE", SIGPIPE },   { "ALRM", SIGALRM }, { "TERM", SIGTERM },
	{ "STKFLT", 16 },    { "CHLD", SIGCHLD },   { "CLD", SIGCHLD },	 { "CONT", SIGCONT },
	{ "STOP", SIGSTOP }, { "TSTP", SIGTSTP },   { "TTIN", SIGTTIN }, { "TTOU", SIGTTOU },
	{ "URG", SIGURG },   { "XCPU", SIGXCPU },   { "XFSZ", SIGXFSZ }, { "VTALRM", SIGVTALRM },
	{ "PROF", SIGPROF }, { "WINCH", SIGWINCH }, { "IO", SIGIO },	 { "POLL", SIGIO },
	{ "PWR", SIGPWR },   { "SYS", SIGSYS },
};

/* The container's libc reserves the same real-time signals as ours: 34 to 64. */
static int realtime_parse(const char *s)
{
	int64_t offset = 0;

	if (strncmp(s, "RTMIN", 5) == 0) {
		if (s[5] != '\0' && (s[5] != '+' || parse_int64(s + 6, &offset) < 0))
			return -1;
		return offset >= 0 && offset <= 30 ? 34 + (int)offset : -1;
	}
	if (strncmp(s, "RTMAX", 5) == 0) {
		if (s[5] != '\0' && (s[5] != '-' || parse_int64(s + 6, &offset) < 0))
			return -1;
		return offset >= 0 && offset <= 30 ? 64 - (int)offset : -1;
	}
	return -1;
}

int signal_parse(const char *s)
{
	int64_t n;

	if (parse_int64(s, &n) == 0)
		return n >= 1 && n <= 64 ? (int)n : -1;
	char upper[16];
	size_t len = strlen(s);
	if (len >= sizeof(upper))
		return -1;
	for (size_t i = 0; i <= len; i++)
		upper[i] = s[i] >= 'a' && s[i] <= 'z' ? (char)(s[i] - 32) : s[i];
	const char *name = strncmp(upper, "SIG", 3) == 0 ? upper + 3 : upper;
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
		if (strcmp(signals[i].name, name) == 0)
			return signals[i].number;
	}
	return realtime_parse(name);
}
