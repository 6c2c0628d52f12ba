#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files. Functions return 0 (or a descriptor) or -errno unless they take a struct error.
 * Descriptors are O_CLOEXEC always.
 */

#include "base/buf.h"
#include "base/error.h"

/* malloc'ed "a/b/c"; one slash between parts, the first's leading slash is kept. End with NULL. */
char *path_join(const char *first, ...) __attribute__((sentinel));
/* Last component; borrowed. */
const char *path_base(const char *path);
/* A non-empty single path component: no '/', not "." or "..", no control characters. */
bool path_component_valid(const char *name);

/* mkdir -p with mode for those that it makes. */
int fs_mkdir_p(const char *path, mode_t mode);
int fs_mkdirat_p(int dirfd, const char *path, mode_t mode);
/* Resolves path beneath dirfd by openat2(RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS); symlinks that
 * stay inside are followed. */
int fs_open_beneath(int dirfd, const char *path, int flags, mode_t mode);
/* The same, with dirfd as root directory (RESOLVE_IN_ROOT): absolute symlinks, ".." stay inside. */
int fs_open_in_root(int dirfd, const char *path, int flags, mode_t mode);

/* Whole file into b (bounded by b->max: -ENOBUFS). Fails on anything that is not a regular file,
 * except under /proc and /sys. */
int fs_read(int dirfd, const char *path, struct buf *b);
int fs_read_fd(int fd, struct buf *b);
int fs_write_all(int fd, const void *p, size_t n);
/* Temporary file beside it, optional fsync of file and directory, rename. The mode is exact,
 * whatever the umask. */
int fs_write_atomic(int dirfd, const char *path, const void *p, size_t n, mode_t mode, bool sync);
int fs_sync_dir(int dirfd, const char *path);
/* Removes a tree (or a file) without following symlinks or crossing mounts; absent is success. It
 * goes on after a failure and returns the first one. */
int fs_remove_tree(int dirfd, const char *path);

int fs_set_nonblock(int fd, bool on);
/* For descriptors 3 and up that must not leak into a child. */
int fs_set_cloexec(int fd, bool on);

/* Connects or listens on a unix socket whose path may be longer than sun_path allows (goes through
 * /proc/self/fd). Listening replaces a socket that nobody listens on; else -EADDRINUSE. */
int fs_unix_connect(const char *path);
int fs_unix_listen(const char *path, mode_t mode, int backlog);

/* SOCK_SEQPACKET / SOCK_STREAM messages with descriptors (at most 16). Received ones are
 * O_CLOEXEC. recv: returns bytes read, 0 at EOF; *ret_n_fds in: capacity, out: count. */
ssize_t fs_send_fds(int sock, const void *p, size_t n, const int *fds, size_t n_fds);
ssize_t fs_recv_fds(int sock, void *p, size_t n, int *ret_fds, size_t *ret_n_fds);
