#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compiler helpers and scope cleanup.
 *
 * A cleanup variable is always initialised where it is declared; ownership leaves it only through
 * TAKE_PTR() or TAKE_FD(). The empty file descriptor is any negative number (-EBADF by habit).
 */

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define CONTAINER_OF(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))
#define PASTE_(a, b) a##b
#define PASTE(a, b) PASTE_(a, b)

/* Names of their own at each use, so that one may stand in another's argument. */
#define MIN(a, b) PICK_(a, <, b, __COUNTER__)
#define MAX(a, b) PICK_(a, >, b, __COUNTER__)
#define PICK_(a, op, b, n)                                                  \
	({                                                                  \
		__typeof__(a) PASTE(a_, n) = (a);                           \
		__typeof__(b) PASTE(b_, n) = (b);                           \
		PASTE(a_, n) op PASTE(b_, n) ? PASTE(a_, n) : PASTE(b_, n); \
	})

#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))
#define UNUSED __attribute__((unused))
#define NORETURN __attribute__((noreturn))
#define MUST_CHECK __attribute__((warn_unused_result))

#define CLEANUP(fn) __attribute__((cleanup(fn)))

/* Defines fn##p() for CLEANUP(): calls fn on the variable when it is not NULL. */
#define DEFINE_CLEANUP(type, fn)          \
	static inline void fn##p(type *p) \
	{                                 \
		if (*p)                   \
			fn(*p);           \
	}

static inline void freep(void *p)
{
	free(*(void **)p);
}

/* Closes *fd if it is open; errno is kept. */
static inline void closep(int *fd)
{
	if (*fd >= 0) {
		int saved = errno;

		close(*fd);
		errno = saved;
	}
}

#define autofree CLEANUP(freep)
#define autoclose CLEANUP(closep)

#define TAKE_PTR(p)                     \
	({                              \
		__typeof__(p) p_ = (p); \
		(p) = NULL;             \
		p_;                     \
	})
#define TAKE_FD(fd)             \
	({                      \
		int fd_ = (fd); \
		(fd) = -EBADF;  \
		fd_;            \
	})
