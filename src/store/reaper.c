/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store's background thread. Whatever takes long and nobody waits for happens here: trees are
 * removed, the database log is checkpointed, garbage is collected.
 *
 * A tree is removed only after its record's deletion is durable (one sync a batch): otherwise a
 * power failure could bring back a record whose directory is half gone.
 */

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/time.h"
#include "store/gc.h"
#include "store/internal.h"

#include <stdio.h>
#include <time.h>

#define COLLECT_DELAY (100 * NSEC_PER_MSEC)
#define COLLECT_RETRY (10 * NSEC_PER_SEC)
#define COLLECT_SHARE 50 /* at most one part in so many of the time goes into collections */

char *trash_path(struct store *s)
{
	return xasprintf(TRASH_DIR "/%llu",
			 (unsigned long long)atomic_fetch_add(&s->trash_counter, 1));
}

int trash_move(struct store *s, const char *path, char **ret)
{
	autofree char *to = trash_path(s);

	if (renameat(s->root_fd, path, s->root_fd, to) < 0)
		return -errno;
	*ret = TAKE_PTR(to);
	return 0;
}

static void remove_batch(struct store *s, struct strv *paths)
{
	autoerror struct error err = ERROR_INIT;

	if (db_sync(s->db, &err) < 0) {
		log_warn("leave %zu removed objects on disk: %s", paths->n, error_msg(&err));
		return;
	}
	for (size_t i = 0; i < paths->n; i++) {
		int r = fs_remove_tree(s->root_fd, paths->v[i]);
		bool stop;

		if (r < 0)
			log_warn("remove '%s/%s': error %d, ignoring", s->root, paths->v[i], -r);
		pthread_mutex_lock(&s->reaper.lock);
		stop = s->reaper.stop;
		pthread_mutex_unlock(&s->reaper.lock);
		if (stop)
			return; /* recovery finds the rest */
	}
}

/* What to do next; lock held. Sets *until when there is nothing to do yet (0: no limit). */
static bool collect_due(struct reaper *r, int64_t *until)
{
	int64_t now = time_monotonic(), real = time_realtime();

	*until = 0;
	if (r->collect_expiry) {
		int64_t in = r->collect_expiry - real;

		if (in <= 0 && !r->collect) {
			r->collect = true;
			if (r->collect_at < now)
				r->collect_at = now;
		}
		*until = now + MAX(in, 0);
	}
	if (!r->collect)
		return false;
	*until = r->collect_at;
	return r->collect_at <= now;
}

static void wait_for_work(struct reaper *r, int64_t until)
{
	struct timespec ts = { .tv_sec = until / NSEC_PER_SEC, .tv_nsec = until % NSEC_PER_SEC };

	if (until)
		pthread_cond_timedwait(&r->wake, &r->lock, &ts);
	else
		pthread_cond_wait(&r->wake, &r->lock);
}

static void collect(struct store *s)
{
	autoerror struct error err = ERROR_INIT;
	struct reaper *r = &s->reaper;

	if (gc_run(s, NULL, &err) == 0)
		return;
	log_warn("collect garbage: %s", error_msg(&err));
	pthread_mutex_lock(&r->lock);
	r->collect = true;
	r->collect_expiry = 0;
	r->collect_at = time_monotonic() + COLLECT_RETRY;
	pthread_mutex_unlock(&r->lock);
}

static void *reaper_main(void *arg)
{
	struct store *s = arg;
	struct reaper *r = &s->reaper;
	int64_t until;

	pthread_mutex_lock(&r->lock);
	while (!r->stop) {
		autostrv struct strv batch = r->removals;
		bool checkpoint = r->checkpoint;
		bool due = collect_due(r, &until);

		r->removals = STRV_INIT;
		r->checkpoint = false;
		if (due)
			r->collect = false;
		if (batch.n == 0 && !checkpoint && !due) {
			wait_for_work(r, until);
			continue;
		}
		pthread_mutex_unlock(&r->lock);
		if (batch.n)
			remove_batch(s, &batch);
		if (checkpoint)
			db_checkpoint(s->db);
		if (due)
			collect(s);
		pthread_mutex_lock(&r->lock);
	}
	pthread_mutex_unlock(&r->lock);
	return NULL;
}

static void on_log_full(void *arg)
{
	struct reaper *r = &((struct store *)arg)->reaper;

	pthread_mutex_lock(&r->lock);
	r->checkpoint = true;
	pthread_cond_signal(&r->wake);
	pthread_mutex_unlock(&r->lock);
}

int reaper_start(struct store *s, struct error *err)
{
	int r;

	db_on_log_full(s->db, on_log_full, s);
	r = pthread_create(&s->reaper.thread, NULL, reaper_main, s);
	if (r)
		return error_errno(err, r, "start the store's thread");
	s->reaper.running = true;
	return 0;
}

void reaper_stop(struct store *s)
{
	if (!s->reaper.running)
		return;
	pthread_mutex_lock(&s->reaper.lock);
	s->reaper.stop = true;
	pthread_cond_signal(&s->reaper.wake);
	pthread_mutex_unlock(&s->reaper.lock);
	pthread_join(s->reaper.thread, NULL);
	s->reaper.running = false;
}

void reaper_remove(struct store *s, char *path)
{
	pthread_mutex_lock(&s->reaper.lock);
	strv_take(&s->reaper.removals, path);
	pthread_cond_signal(&s->reaper.wake);
	pthread_mutex_unlock(&s->reaper.lock);
}

void reaper_collect(struct store *s)
{
	struct reaper *r = &s->reaper;

	pthread_mutex_lock(&r->lock);
	if (!r->collect) {
		r->collect = true;
		r->collect_at = MAX(r->collect_at, time_monotonic() + COLLECT_DELAY);
		pthread_cond_signal(&r->wake);
	}
	pthread_mutex_unlock(&r->lock);
}

void reaper_collected(struct store *s, int64_t next_expiry, int64_t duration)
{
	struct reaper *r = &s->reaper;

	pthread_mutex_lock(&r->lock);
	r->collect_expiry = next_expiry;
	r->collect_at = time_monotonic() + duration * COLLECT_SHARE;
	pthread_cond_signal(&r->wake);
	pthread_mutex_unlock(&r->lock);
}

void gc_schedule(struct store *s)
{
	reaper_collect(s);
}
