#include "fs/publish/publisher.h"

#include "client/clock.h"
#include "client/log.h"
#include "client/map.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/eventfd.h>

#define MISSES_MAX 3 /* a step whose place isn't found is looked at again so often */
/* a directory that something is mounted on is tried again so often */
#define BUSY_NS	     NSEC_PER_SEC
#define ANSWER_NS    (NSEC_PER_SEC / 4) /* from a reply to the inode that the kernel makes of it */
#define LOOK_NS	     (100 * NSEC_PER_MSEC) /* how often a caller that waits is looked at */
#define BEFORE_MOUNT 256 /* keys of the first lists that the thread is woken for at once */
#define AGE_NS	     (3600 * NSEC_PER_SEC) /* old scratch is looked for so often */
#define FORGET_NS    NSEC_PER_SEC	   /* a thread that can't be made is tried again so often */

struct entry {
	struct entry *next;
	bool again; /* the rest of what was received long ago: publish_wait waits for it */
	char key[];
};

/* A change on its way: its steps go to the announcer, or are shown silently, in their order. */
struct transition {
	struct transition *next, **link; /* what points at it */
	struct transition *next_heard;
	bool heard; /* it is in that list */
	struct change *change;
	size_t at;			/* the next step */
	unsigned under_way;		/* at the announcer */
	char directory[ANNOUNCER_PATH]; /* of those */
	int64_t not_before;		/* monotonic ns; 0: now */
	/* place of one hidden name that comes back, of which shown knows nothing; or 0 */
	uint64_t returns;
	uint64_t leaves; /* st_ino of one that was begun and never saved; or 0 */
	bool names;	 /* it makes or removes names that the announcer tells of */
	bool ordered;	 /* it waits for its turn among those of its key */
	unsigned turn;
};

/* A key that can't be shown now. */
struct busy {
	unsigned transitions, holds;
	unsigned names; /* of the transitions: those that make or remove names */
	unsigned turns; /* given to transitions; what one removes the next may make again */
	unsigned turn;	/* whose it is */
	bool again;	/* something newer has come */
	char key[];
};

struct sent {
	struct transition *transition;
	size_t step;
};

struct publisher {
	struct publish_parts parts;
	struct store *store;
	pthread_t thread;
	int wake_fd;

	pthread_mutex_t work; /* outermost: by the publish thread but while it sleeps */
	/* work: */
	struct transition *transitions, **last_transition;
	struct transition *heard; /* those that an ack came for */
	bool again;		  /* there is more to do before it sleeps */
	bool full; /* every worker is busy: only directories already in flight accept steps */
	struct idmap sent; /* id -> struct sent */
	uint64_t last_id;
	int64_t wake_at; /* monotonic ns; when the thread wakes by itself */

	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct entry *first, **last;		  /* lock; the line */
	struct map queued;			  /* lock; what stands in it */
	struct map busy;			  /* lock; key -> struct busy */
	struct transition *handed, **last_handed; /* lock; begun by another thread */
	uint64_t added, done;			  /* lock */
	uint64_t moving;			  /* lock; transitions on their way */
	uint64_t rest;				  /* lock; entries that are there again */
	struct publish_counts counts;		  /* lock */
	bool started, stop;			  /* lock */
};

struct publisher *publish_new(const struct publish_parts *parts)
{
	struct publisher *p = xcalloc(1, sizeof(*p));

	p->parts = *parts;
	p->last = &p->first;
	p->last_transition = &p->transitions;
	p->last_handed = &p->handed;
	p->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (p->wake_fd < 0)
		abort();
	pthread_mutex_init(&p->work, NULL);
	pthread_mutex_init(&p->lock, NULL);
	cond_init(&p->changed);
	return p;
}

static void transition_free(struct transition *t)
{
	change_unref(t->change);
	free(t);
}

static void transitions_free(struct transition *t)
{
	while (t) {
		struct transition *next = t->next;

		transition_free(t);
		t = next;
	}
}

void publish_free(struct publisher *p)
{
	if (!p)
		return;
	while (p->first) {
		struct entry *e = p->first;

		p->first = e->next;
		free(e);
	}
	transitions_free(p->transitions);
	transitions_free(p->handed);
	idmap_foreach(&p->sent, e)
		free(e->value);
	idmap_release(&p->sent);
	map_foreach(&p->busy, e)
		free(e->value);
	map_release(&p->busy);
	map_release(&p->queued);
	close(p->wake_fd);
	pthread_cond_destroy(&p->changed);
	pthread_mutex_destroy(&p->lock);
	pthread_mutex_destroy(&p->work);
	free(p);
}

void publish_set_store(struct publisher *p, struct store *store)
{
	p->store = store;
}

void publish_wake(struct publisher *p)
{
	uint64_t one = 1;

	if (write(p->wake_fd, &one, sizeof(one)) < 0 && errno != EAGAIN)
		abort();
}

/* p->lock held. True when the thread has to be woken. */
static bool enqueue(struct publisher *p, const char *key)
{
	struct entry *e;

	if (map_get(&p->queued, key))
		return false;
	e = xcalloc(1, sizeof(*e) + strlen(key) + 1);
	strcpy(e->key, key);
	map_set(&p->queued, e->key, e);
	*p->last = e;
	p->last = &e->next;
	p->added++;
	return true;
}

/* p->lock held. */
static void enqueue_again(struct publisher *p, const char *key)
{
	struct entry *e;

	enqueue(p, key);
	e = map_get(&p->queued, key);
	p->rest += !e->again;
	e->again = true;
}

/* ---- keys that wait; p->lock held ---- */

static struct busy *busy_get(struct publisher *p, const char *key)
{
	struct busy *b = map_get(&p->busy, key);

	if (!b) {
		b = xcalloc(1, sizeof(*b) + strlen(key) + 1);
		strcpy(b->key, key);
		map_set(&p->busy, b->key, b);
	}
	return b;
}

static void busy_drop_unused(struct publisher *p, struct busy *b)
{
	if (b->transitions || b->holds)
		return;
	if (b->again)
		enqueue_again(p, b->key);
	map_del(&p->busy, b->key);
	free(b);
}

void publish_hold(struct publisher *p, const char *key)
{
	pthread_mutex_lock(&p->lock);
	busy_get(p, key)->holds++;
	pthread_mutex_unlock(&p->lock);
}

void publish_release(struct publisher *p, const char *key)
{
	struct busy *b;

	pthread_mutex_lock(&p->lock);
	b = map_get(&p->busy, key);
	b->holds--;
	busy_drop_unused(p, b);
	pthread_mutex_unlock(&p->lock);
	publish_wake(p);
}

/* ---- telling the kernel ---- */

/* The node that stands for the place, 0 where the kernel has none. */
static uint64_t node_at(struct publisher *p, uint64_t place)
{
	return inode_id_at(p->parts.inodes, place);
}

static void inval_place(struct publisher *p, uint64_t place)
{
	uint64_t id = node_at(p, place);
	int r = kernel_inval(p->parts.kernel, id);
	int64_t until = now_monotonic() + ANSWER_NS;

	/*
	 * Without an open nothing but this drops what the kernel keeps of the file, and an answer
	 * with the old size may be on its way to an inode that isn't there yet: it is, within
	 * moments.
	 */
	while (p->parts.noopen && r == -ENOENT && node_at(p, place) == id &&
		now_monotonic() < until) {
		sched_yield();
		r = kernel_inval(p->parts.kernel, id);
	}
}

static void count(struct publisher *p, uint64_t *counter)
{
	pthread_mutex_lock(&p->lock);
	++*counter;
	pthread_mutex_unlock(&p->lock);
}

/* ---- steps ---- */

/* The end of the path with the name added. */
static char *add_name(char *path, char *end, const char *name)
{
	if (end != path)
		*end++ = '/';
	return stpcpy(end, name);
}

/* Below the mountpoint: the directory, and the whole path. */
static void place_text(
	const struct place *path, char directory[ANNOUNCER_PATH], char text[ANNOUNCER_PATH])
{
	char *end = directory;

	*end = '\0';
	if (path->kind >= KIND_STREAM)
		end = add_name(directory, end, path->ns);
	if (path->kind > KIND_STREAM)
		end = add_name(directory, end, path->stream);
	if (path->kind >= KIND_TAG)
		end = add_name(directory, end, "tags");
	if (path->kind > KIND_TAG)
		add_name(directory, end, path->tag);
	add_name(text, stpcpy(text, directory), layout_name(path));
}

/* Of one name that people made or hid, and of which shown knows nothing. */
static bool is_lone(const struct transition *t)
{
	return t->returns || t->leaves;
}

/*
 * The place shows the new version; handles follow. 0 where it did already. With `made` only while
 * no more things than that became known: else -EAGAIN.
 */
static int flip_unknown(
	struct publisher *p, struct transition *t, const struct step *step, const uint64_t *made)
{
	struct place path;
	int r;

	if (step->op == STEP_ATTRIB)
		return 0;
	if (t->returns)
		inode_return(p->parts.inodes, t->returns);
	if (t->leaves)
		inode_leave(p->parts.inodes, t->leaves);
	if (is_lone(t))
		return 1;
	if (p->parts.noopen && step->op == STEP_DELETE && !layout_is_directory(step->kind) &&
		t->change->old)
		inode_keep(p->parts.inodes, step->place, t->change->old);
	r = shown_flip_unknown(p->parts.shown, t->change->key, step,
		made ? inode_known(p->parts.inodes) : NULL, made ? *made : 0);
	if (r <= 0)
		return r;
	step_place(t->change->key, step, &path);
	if (t->change->next)
		handle_follow(p->parts.inodes, &path, t->change->next);
	return 1;
}

static bool flip(struct publisher *p, struct transition *t, const struct step *step)
{
	return flip_unknown(p, t, step, NULL);
}

/* What the kernel keeps of what the step changed, and of the directory, is dropped. */
static void drop_place(struct publisher *p, struct transition *t, const struct step *step)
{
	struct place path;

	inval_place(p, step->place);
	if (step_keeps_name(step) || !kernel_is_told(p->parts.kernel))
		return;
	step_place(t->change->key, step, &path);
	kernel_inval(p->parts.kernel, kernel_directory(p->parts.kernel, &path));
}

/* Shows the step without the announcer. */
static void show(struct publisher *p, struct transition *t, const struct step *step)
{
	flip(p, t, step);
	drop_place(p, t, step);
}

/* Shows the step without the announcer, and what the kernel keeps of its name is dropped. */
static void show_name(struct publisher *p, struct transition *t, const struct step *step)
{
	struct place path;

	show(p, t, step);
	if (step_keeps_name(step))
		return;
	step_place(t->change->key, step, &path);
	kernel_forget_name(p->parts.kernel, &path);
}

static void show_lost(struct publisher *p, struct transition *t, const struct step *step)
{
	log_info("an event is lost: %s", t->change->key);
	count(p, &p->counts.lost);
	show_name(p, t, step);
}

/* Whether a process could see the step. */
static bool is_visible(struct publisher *p, struct transition *t, const struct step *step)
{
	struct place path;
	struct layout_attr attr;
	bool hidden;

	if (!kernel_is_told(p->parts.kernel))
		return false; /* there is no mount yet */
	if (step->op == STEP_ATTRIB)
		return inode_id(p->parts.inodes, step->place);
	step_place(t->change->key, step, &path);
	inode_at(p->parts.inodes, step->place, &hidden);
	if (hidden && !is_lone(t))
		return false;
	/* What stands there is another one, which a user's own call made meanwhile. */
	if (step->op == STEP_DELETE && shown_attr(p->parts.shown, &path, &attr) == 0 &&
		attr.ino != step->place)
		return false;
	/* A directory's watch sees its files too, also one that nobody has looked at. */
	if (step->op == STEP_WRITE && node_at(p, step->place))
		return true;
	/* Whoever asks for a namespace that isn't listed yet waits for all of it. */
	if (step->kind == KIND_STREAM && step->op == STEP_CREATE &&
		!shown_is_ready(p->parts.shown, path.ns))
		return false;
	return kernel_directory(p->parts.kernel, &path);
}

static enum announcer_op announcer_op(const struct step *step)
{
	bool directory = layout_is_directory(step->kind);

	switch (step->op) {
	case STEP_CREATE:
		return directory ? ANNOUNCER_MKDIR : ANNOUNCER_CREATE;
	case STEP_DELETE:
		return directory ? ANNOUNCER_RMDIR : ANNOUNCER_UNLINK;
	case STEP_ATTRIB:
		return ANNOUNCER_ATTRIB;
	default:
		return ANNOUNCER_WRITE;
	}
}

/* Sends the step. 0; -EAGAIN: later; else it can't be announced. */
static int announce(struct publisher *p, struct transition *t, size_t i)
{
	struct step *step = &t->change->steps[i];
	char directory[ANNOUNCER_PATH], text[ANNOUNCER_PATH];
	struct place path;
	struct sent *sent;
	uint64_t id = p->last_id + 1;
	int r;

	step_place(t->change->key, step, &path);
	place_text(&path, directory, text);
	if (t->under_way && !streq(directory, t->directory))
		return -EAGAIN; /* in order: what is under way elsewhere first */
	if (p->parts.noopen && step->op == STEP_WRITE) {
		flip(p, t, step);
		inval_place(p, step->place);
	}
	r = announce_send(p->parts.announce, announcer_op(step), id, directory, text);
	if (r < 0)
		return r;
	p->last_id = id;
	strcpy(t->directory, directory);
	step->id = id;
	t->under_way++;
	sent = xcalloc(1, sizeof(*sent));
	*sent = (struct sent){t, i};
	idmap_set(&p->sent, id, sent);
	return 0;
}

static bool is_its_turn(struct publisher *p, const struct transition *t)
{
	const struct busy *b;
	bool yes;

	if (!t->ordered)
		return true;
	pthread_mutex_lock(&p->lock);
	b = map_get(&p->busy, t->change->key);
	yes = b->turn == t->turn;
	pthread_mutex_unlock(&p->lock);
	return yes;
}

/* Does what can be done of the transition now. True when nothing is left. */
static bool advance(struct publisher *p, struct transition *t)
{
	if (!is_its_turn(p, t))
		return false;
	if (t->not_before > now_monotonic()) {
		if (t->not_before < p->wake_at)
			p->wake_at = t->not_before;
		return false;
	}
	while (t->at < t->change->nsteps) {
		const struct step *step = &t->change->steps[t->at];
		uint64_t made = atomic_load(inode_known(p->parts.inodes));
		int r = 0;

		if (step->done) {
			t->at++;
			continue;
		}
		if (!is_visible(p, t, step)) {
			if (t->under_way)
				return false; /* in order */
			if (flip_unknown(p, t, step, &made) == -EAGAIN)
				continue; /* the kernel came to know of it meanwhile, maybe */
			drop_place(p, t, step);
			count(p, &p->counts.silent);
		} else if (!p->parts.announce) {
			show(p, t, step);
		} else if (announce_is_lost(p->parts.announce)) {
			show_lost(p, t, step);
		} else if (!announce_is_ready(p->parts.announce)) {
			p->full = true;
			return false;
		} else {
			r = announce(p, t, t->at);
			if (r == -EAGAIN || r == -EPIPE) {
				p->full = announce_is_full(p->parts.announce);
				return false;
			}
			if (r < 0)
				show_lost(p, t, step);
		}
		t->at++;
	}
	return t->under_way == 0;
}

/* ---- transitions ---- */

/* Takes the reference over. */
static struct transition *transition_new(struct change *change)
{
	struct transition *t = xcalloc(1, sizeof(*t));

	t->change = change;
	return t;
}

/* The name isn't missing any more; or the directory is, in which names are. */
static void note_name(struct publisher *p, const char *key, const struct step *step)
{
	struct place path;

	step_place(key, step, &path);
	if (step->op == STEP_CREATE)
		kernel_name_came(p->parts.kernel, &path);
	else if (step->op == STEP_DELETE && step->kind == KIND_NAMESPACE)
		kernel_namespace_went(p->parts.kernel, path.ns);
}

/*
 * Of a step that is shown. A place that is gone never comes back: what people did to its name, or
 * made in it, is over.
 */
static void settle_place(struct publisher *p, const char *key, const struct step *step)
{
	if (step->kind <= KIND_STREAM)
		note_name(p, key, step);
	if (step->op != STEP_DELETE)
		return;
	inode_drop(p->parts.inodes, step->place);
}

/* The namespace may have to be shown or hidden now. */
static void check_namespace(struct publisher *p, const char *key)
{
	_cleanup_free_ char *ns = object_key_namespace(key);
	struct step step;

	if (!shown_namespace_step(p->parts.shown, ns, &step))
		return;
	pthread_mutex_lock(&p->lock);
	enqueue_again(p, ns);
	pthread_mutex_unlock(&p->lock);
	p->again = true;
}

static void finish(struct publisher *p, struct transition *t)
{
	struct busy *b;

	bool stream = strchr(t->change->key, '/');

	if (stream && !is_lone(t))
		shown_end(p->parts.shown, t->change);
	for (size_t i = 0; i < t->change->nsteps; i++)
		if (!t->change->steps[i].own && !t->leaves)
			settle_place(p, t->change->key, &t->change->steps[i]);
	if (stream)
		check_namespace(p, t->change->key);
	pthread_mutex_lock(&p->lock);
	p->counts.shown++;
	b = map_get(&p->busy, t->change->key);
	b->transitions--;
	p->moving--;
	b->turn += t->ordered;
	b->names -= t->names;
	pthread_cond_broadcast(&p->changed);
	if (t->change->again)
		b->again = true;
	busy_drop_unused(p, b);
	pthread_mutex_unlock(&p->lock);
	p->again = true; /* what waited for it */
	transition_free(t);
}

/* From here on its key waits for it. p->lock held. */
static void count_in(struct publisher *p, struct transition *t)
{
	struct busy *b = busy_get(p, t->change->key);

	for (size_t i = 0; i < t->change->nsteps && !is_lone(t); i++)
		t->names = t->names ||
			   (t->change->steps[i].waits && !step_keeps_name(&t->change->steps[i]));
	t->ordered = !is_lone(t) && t->change->nsteps && t->change->steps[0].op != STEP_ATTRIB;
	t->turn = b->turns;
	b->turns += t->ordered;
	b->transitions++;
	p->moving++;
	b->names += t->names;
}

static void run_transition(struct publisher *p, struct transition *t)
{
	if (advance(p, t)) {
		finish(p, t);
	} else { /* those of one key stay in their order */
		t->next = NULL;
		t->link = p->last_transition;
		*t->link = t;
		p->last_transition = &t->next;
	}
}

static void start(struct publisher *p, struct transition *t)
{
	pthread_mutex_lock(&p->lock);
	count_in(p, t);
	pthread_mutex_unlock(&p->lock);
	run_transition(p, t);
}

static void advance_and_finish(struct publisher *p, struct transition *t)
{
	if (!advance(p, t))
		return;
	*t->link = t->next;
	if (t->next)
		t->next->link = t->link;
	else
		p->last_transition = t->link;
	finish(p, t);
}

/* Those that the announcer did something of, then those that wait for it, until it is full. */
static void advance_all(struct publisher *p)
{
	struct transition *next;

	while (p->heard) {
		struct transition *t = p->heard;

		p->heard = t->next_heard;
		t->heard = false;
		advance_and_finish(p, t);
	}
	p->full = false;
	for (struct transition *t = p->transitions; t && !p->full; t = next) {
		next = t->next;
		if (!t->under_way)
			advance_and_finish(p, t);
	}
}

/* What the caller's own call changed is shown already; the events of the rest are still to come. */
static void settle_own(struct publisher *p, const struct change_own *own, struct change *c)
{
	for (size_t i = 0; i < c->nsteps; i++) {
		struct step *step = &c->steps[i];
		struct place path;

		step->done = step->own;
		if (step->waits)
			continue;
		if (step->op == STEP_WRITE) {
			step_place(c->key, step, &path);
			if (!step->own || !own->renamed)
				handle_follow(p->parts.inodes, &path, c->next);
			inval_place(p, step->place);
			continue;
		}
		/* A removed directory takes its files along without a word to the kernel, which
		 * would go on showing their link count to who has them open. */
		if (step->op == STEP_DELETE && !layout_is_directory(step->kind))
			inval_place(p, step->place);
		settle_place(p, c->key, step);
	}
}

static void tell_version(struct publisher *p, const struct change *c)
{
	if (p->parts.on_version && c->next)
		p->parts.on_version(p->parts.arg, c->old ? c->old->object : NULL, c->next->object);
}

static void publish_stream(struct publisher *p, const char *key)
{
	_cleanup_object_ struct object *object = store_get(p->store, key);
	struct change *c = shown_begin(p->parts.shown, key, object, NULL);

	if (!c)
		return;
	tell_version(p, c);
	start(p, transition_new(c));
}

static void publish_namespace(struct publisher *p, const char *name)
{
	struct store_namespace ns;
	struct change *c;
	struct step step;

	shown_begin_namespace(
		p->parts.shown, name, store_get_namespace(p->store, name, &ns) ? &ns : NULL);
	if (!shown_namespace_step(p->parts.shown, name, &step))
		return;
	c = change_new(name);
	change_add(c, step.op, step.kind, "", step.place);
	c->again = step.op == STEP_DELETE && store_get_namespace(p->store, name, &ns);
	start(p, transition_new(c));
}

/* A hidden name comes back, or a file that was begun goes: whoever watches sees it. */
static void start_due(struct publisher *p, const struct inode_due *due)
{
	char key[2 * NAME_SIZE];
	struct transition *t;
	struct change *c;

	snprintf(key, sizeof(key), "%s/%s", due->path.ns, due->path.stream);
	c = change_new(key);
	change_add(c, due->first ? STEP_CREATE : STEP_DELETE, due->path.kind, due->path.tag,
		due->first ? due->first : due->begun);
	t = transition_new(c);
	t->returns = due->first;
	t->leaves = due->begun;
	start(p, t);
}

/* When the next one is due (monotonic ns). */
static int64_t look_at_inodes(struct publisher *p)
{
	struct inode_due due;
	int64_t next;

	while (inode_next_due(p->parts.inodes, &due, &next)) {
		if (due.first || due.begun)
			start_due(p, &due);
		else /* old scratch: the listing is another one */
			kernel_inval_ino(p->parts.kernel, due.dir);
	}
	return next;
}

/* ---- the announcer ---- */

/* The step is to be done again. */
static void take_back(struct transition *t, size_t at)
{
	t->change->steps[at].done = false;
	if (t->at > at)
		t->at = at;
}

static void take_ack(struct publisher *p, const struct announcer_ack *ack)
{
	struct sent *sent = idmap_del(&p->sent, ack->id);
	struct transition *t;
	struct place path;
	struct step *step;
	size_t sent_step;

	if (!sent)
		return;
	t = sent->transition;
	sent_step = sent->step;
	step = &t->change->steps[sent_step];
	step->id = 0;
	step->done = true;
	t->under_way--;
	free(sent);
	if (!t->heard) {
		t->heard = true;
		t->next_heard = p->heard;
		p->heard = t;
	}
	if (ack->error == 0) {
		count(p, &p->counts.announced);
		if (flip(p, t, step) && !is_lone(t))
			inval_place(p, step->place); /* it arrived without having been known */
		return;
	}
	/*
	 * A directory above was removed meanwhile, and may be there again: then the step can be
	 * seen, or needn't.
	 */
	if (ack->error == ENOENT && step->misses++ < MISSES_MAX) {
		take_back(t, sent_step);
		return;
	}
	if ((ack->error == EEXIST && step->op == STEP_CREATE) ||
		(ack->error == ENOENT && step->op == STEP_DELETE)) {
		if (flip(p, t, step))
			log_info("an event never was: %s", t->change->key);
		inval_place(p, step->place); /* below a hidden tags/ its links are still counted */
		/* It knew of the name before it was told: its listings may be older. */
		step_place(t->change->key, step, &path);
		kernel_forget_listing(p->parts.kernel, &path);
		return;
	}
	if (ack->error == EBUSY && step->op == STEP_DELETE) {
		/* Something is mounted there, and goes on standing there. */
		take_back(t, sent_step);
		t->not_before = now_monotonic() + BUSY_NS;
		return;
	}
	log_debug("announcing %s: %s", t->change->key, strerror(ack->error));
	if (ack->error == ENOENT) {
		/* People have removed its name, or a directory above: nothing is to be seen. */
		count(p, &p->counts.silent);
		show_name(p, t, step);
	} else {
		show_lost(p, t, step);
	}
}

/* What was under way is sent again: every step may be done twice. */
static void forget_sent(struct publisher *p)
{
	idmap_foreach(&p->sent, e)
		free(e->value);
	idmap_release(&p->sent);
	for (struct transition *t = p->transitions; t; t = t->next) {
		t->under_way = 0;
		t->at = 0;
		for (size_t i = 0; i < t->change->nsteps; i++)
			t->change->steps[i].id = 0;
	}
}

static void hear_announcer(struct publisher *p)
{
	struct announcer_ack ack;
	int r;

	if (!announce_is_running(p->parts.announce))
		return;
	while ((r = announce_receive(p->parts.announce, &ack)) > 0)
		take_ack(p, &ack);
	if (r < 0) {
		log_notice(
			"the announcer has ended (%s); it is started again", announce_reason(-r));
		forget_sent(p);
		announce_fail(p->parts.announce, r);
	}
}

/* It runs as soon as there is a mount; *next is when to look again. */
static void keep_announcer(struct publisher *p, int64_t *next)
{
	int64_t again = INT64_MAX;

	if (kernel_is_told(p->parts.kernel))
		again = announce_keep(p->parts.announce);
	if (!kernel_keep_forgetting(p->parts.kernel) && again > now_monotonic() + FORGET_NS)
		again = now_monotonic() + FORGET_NS;
	if (again < *next)
		*next = again;
}

/* What processes made and removed is remembered for a while; *next is when to look again. */
static void look_at_acts(struct publisher *p, int64_t *next)
{
	int64_t again = p->parts.acts ? acts_look(p->parts.acts) : INT64_MAX;

	if (again < *next)
		*next = again;
}

/* ---- the thread ---- */

static void publish_entry(struct publisher *p, const char *key)
{
	struct busy *b;
	bool waits;

	pthread_mutex_lock(&p->lock);
	b = map_get(&p->busy, key);
	waits = b;
	if (b)
		b->again = true;
	pthread_mutex_unlock(&p->lock);
	if (waits)
		return;
	if (strchr(key, '/'))
		publish_stream(p, key);
	else
		publish_namespace(p, key);
}

static void end_entry(struct publisher *p, bool again)
{
	pthread_mutex_lock(&p->lock);
	p->done++;
	p->rest -= again;
	pthread_cond_broadcast(&p->changed);
	pthread_mutex_unlock(&p->lock);
}

static struct entry *take(struct publisher *p)
{
	struct entry *e;

	pthread_mutex_lock(&p->lock);
	e = p->stop ? NULL : p->first;
	if (e) {
		p->first = e->next;
		if (!p->first)
			p->last = &p->first;
		map_del(&p->queued, e->key);
	}
	pthread_mutex_unlock(&p->lock);
	return e;
}

static void serve_handed(struct publisher *p)
{
	struct transition *t, *next;

	pthread_mutex_lock(&p->lock);
	t = p->stop ? NULL : p->handed;
	if (t) {
		p->handed = NULL;
		p->last_handed = &p->handed;
	}
	pthread_mutex_unlock(&p->lock);
	for (; t; t = next) {
		next = t->next;
		run_transition(p, t);
	}
}

static void serve_line(struct publisher *p)
{
	struct entry *e;

	while ((e = take(p))) {
		bool again = e->again;

		publish_entry(p, e->key);
		free(e);
		end_entry(p, again);
		serve_handed(p); /* whoever waits comes first */
		if (p->parts.announce)
			hear_announcer(p);
		if (p->heard)
			advance_all(p);
	}
}

static bool is_stopped(struct publisher *p)
{
	bool stop;

	pthread_mutex_lock(&p->lock);
	stop = p->stop;
	pthread_mutex_unlock(&p->lock);
	return stop;
}

static void wait_for_something(struct publisher *p, int64_t until)
{
	struct pollfd fds[2] = {{.fd = p->wake_fd, .events = POLLIN},
		{.fd = p->parts.announce ? announce_fd(p->parts.announce) : -1, .events = POLLIN}};
	uint64_t counter;

	pthread_mutex_unlock(&p->work);
	poll(fds, ARRAY_SIZE(fds), until == INT64_MAX ? -1 : (int)ms_until(until));
	pthread_mutex_lock(&p->work);
	if (fds[0].revents && read(p->wake_fd, &counter, sizeof(counter)) < 0 && errno != EAGAIN)
		abort();
}

static void *run(void *arg)
{
	struct publisher *p = arg;

	pthread_mutex_lock(&p->work);
	while (!is_stopped(p)) {
		int64_t next;

		p->again = false;
		serve_handed(p);
		serve_line(p);
		if (p->parts.announce)
			hear_announcer(p);
		next = look_at_inodes(p);
		/* Scratch that is made meanwhile wakes nobody. */
		if (next > now_monotonic() + AGE_NS)
			next = now_monotonic() + AGE_NS;
		if (p->parts.announce)
			keep_announcer(p, &next);
		look_at_acts(p, &next);
		p->wake_at = next;
		advance_all(p);
		if (!p->again)
			wait_for_something(p, p->wake_at);
	}
	pthread_mutex_unlock(&p->work);
	return NULL;
}

int publish_start(struct publisher *p)
{
	int r;

	pthread_mutex_lock(&p->lock);
	r = -pthread_create(&p->thread, NULL, run, p);
	p->started = r == 0;
	pthread_mutex_unlock(&p->lock);
	return r;
}

void publish_stop(struct publisher *p)
{
	bool started;

	pthread_mutex_lock(&p->lock);
	p->stop = true;
	started = p->started;
	p->started = false;
	pthread_cond_broadcast(&p->changed);
	pthread_mutex_unlock(&p->lock);
	publish_wake(p);
	if (started)
		pthread_join(p->thread, NULL);
	kernel_stop(p->parts.kernel);
	if (p->parts.announce)
		announce_stop(p->parts.announce);
}

/* What it leaves to the thread. True when a process may wait for it. */
static bool hand_over(struct publisher *p, struct transition *t)
{
	bool names;

	pthread_mutex_lock(&p->lock);
	count_in(p, t);
	names = t->names;
	t->next = NULL;
	*p->last_handed = t;
	p->last_handed = &t->next;
	pthread_mutex_unlock(&p->lock);
	return names;
}

void publish_now(struct publisher *p, const char *key, const struct change_own *own)
{
	static const struct change_own none = {0};
	_cleanup_object_ struct object *object = NULL;
	bool again = true, wake = false;
	struct change *c;
	struct busy *b;

	publish_hold(p, key); /* first: what comes after the look is shown after us */
	object = store_get(p->store, key);
	own = own ? own : &none;
	while (again && (c = shown_begin(p->parts.shown, key, object, own))) {
		again = c->again;
		c->again = false;
		tell_version(p, c);
		settle_own(p, own, c);
		wake = hand_over(p, transition_new(c)) || wake;
	}
	pthread_mutex_lock(&p->lock);
	b = map_get(&p->busy, key);
	wake = --b->holds == 0 || wake; /* else the events come when the call is answered */
	busy_drop_unused(p, b);
	pthread_mutex_unlock(&p->lock);
	if (wake)
		publish_wake(p);
}

void publish_attributes(struct publisher *p, struct change *change)
{
	hand_over(p, transition_new(change));
	publish_wake(p);
}

/* ---- what was received ---- */

/* The next key would be: there is a mount, and nothing waits before it. */
static bool begin_here(struct publisher *p)
{
	bool idle;

	pthread_mutex_lock(&p->lock);
	idle = p->started && !p->stop && !p->first && !p->handed;
	p->counts.received += idle;
	p->added += idle;
	pthread_mutex_unlock(&p->lock);
	return idle;
}

/*
 * An event that comes alone is on its way to the announcer before the publish thread would have woken
 * up. False where that one is at work, or has more to do.
 */
static bool publish_here(struct publisher *p, const char *key)
{
	int64_t wake_at;
	bool done;

	if (!kernel_is_told(p->parts.kernel) || pthread_mutex_trylock(&p->work) != 0)
		return false;
	wake_at = p->wake_at;
	done = begin_here(p);
	if (done) {
		publish_entry(p, key);
		end_entry(p, false);
	}
	if (p->again || p->wake_at < wake_at)
		publish_wake(p);
	pthread_mutex_unlock(&p->work);
	return done;
}

void publish_key(void *arg, const char *key)
{
	struct publisher *p = arg;
	bool was_empty, wake;

	if (publish_here(p, key))
		return;
	pthread_mutex_lock(&p->lock);
	was_empty = !p->first;
	p->counts.received++;
	wake = enqueue(p, key) && was_empty;
	if (!kernel_is_told(p->parts.kernel)) /* nobody looks yet: many at once */
		wake = p->added % BEFORE_MOUNT == 0;
	pthread_mutex_unlock(&p->lock);
	if (wake)
		publish_wake(p);
}

/* ---- waiting ---- */

/* p->lock held. `target`: how many keys had been put in line. */
static bool is_reached(
	struct publisher *p, const char *key, enum publish_until until, uint64_t target)
{
	const struct busy *b = key ? map_get(&p->busy, key) : NULL;

	if (key && until == PUBLISH_SHOWN)
		return !b || !b->names;
	if (p->done < target || p->rest)
		return false; /* what is taken from the line isn't under way yet */
	if (until == PUBLISH_SHOWN)
		return true;
	return key ? !b || !b->transitions : !p->moving;
}

int publish_wait(struct publisher *p, const char *key, enum publish_until until,
	const struct http_check *check, int64_t deadline)
{
	uint64_t target;
	int r = 0;

	pthread_mutex_lock(&p->lock);
	target = p->added;
	if (!is_reached(p, key, until, target))
		publish_wake(p);
	while (r == 0 && !p->stop && !is_reached(p, key, until, target)) {
		int64_t now = now_monotonic(),
			look = deadline < now + LOOK_NS ? deadline : now + LOOK_NS;

		cond_wait_until(&p->changed, &p->lock, look);
		pthread_mutex_unlock(&p->lock);
		r = now >= deadline ? -ETIMEDOUT : check ? check->fn(check->arg) : 0;
		pthread_mutex_lock(&p->lock);
	}
	pthread_mutex_unlock(&p->lock);
	return r;
}

void publish_get_counts(struct publisher *p, struct publish_counts *ret)
{
	pthread_mutex_lock(&p->lock);
	*ret = p->counts;
	pthread_mutex_unlock(&p->lock);
}
