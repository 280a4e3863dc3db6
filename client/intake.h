/*
 * intake: pages of lists, single objects and watch events, as the server sent them, on their way
 * into the store. What can't be taken in is left out, alone: the rest stands.
 */
#ifndef CLIENT_INTAKE_H
#define CLIENT_INTAKE_H

#include "client/api.h"
#include "client/list.h"
#include "client/store.h"

enum intake_kind { INTAKE_STREAMS, INTAKE_NAMESPACES };

/* Everything is borrowed. */
struct intake {
	struct api *api;
	struct store *store;
	enum intake_kind kind;
	uint64_t list; /* the store's number of the list; 0: an event or a single object */
	/* Asked between some thousand items of a page: a negative errno ends it. */
	int (*check)(void *arg);
	void *arg;
};

/* What an answer or event brought. */
struct taken {
	char *more;	    /* of a page: its continue token; NULL: it is the last one */
	char *version;	    /* resourceVersion of the list, object or bookmark; NULL: none */
	char *name;	    /* of a namespace that came or was DELETED */
	size_t items, news; /* of a page: how many, and how many keys the list didn't have yet */
	size_t left_out;    /* of the items */
	size_t unnamed;	    /* of those: nobody can tell which object they are */
	struct list list;   /* of a page: its items, borrowed from its text */
	bool mangled;	    /* one is no JSON, so the page as a whole isn't, either */
	char *why; /* of the first that was left out, or why all of it is broken; or NULL */
};

void taken_release(struct taken *t);
#define _cleanup_taken_ _cleanup_(taken_release)

/*
 * A page of a list. First, so that the next page can be asked for meanwhile: is it a list, and what
 * does its metadata say (`more`, `version`). 0, or -EBADMSG and why.
 */
int intake_page_head(const char *body, size_t len, struct taken *ret);
/*
 * Then its items (page->list), once, as long as the text lives; also one that isn't a list any more
 * at its end. 0, or what check said.
 */
int intake_page(const struct intake *in, struct taken *page);

/* One object by itself. 0; -EBADMSG, -EFBIG, -EINVAL, -EEXIST and why. */
int intake_object(const struct intake *in, const char *text, size_t len, struct taken *ret);

enum intake_event { INTAKE_OBJECT, INTAKE_DELETED, INTAKE_BOOKMARK, INTAKE_ERROR };

/* What a watch event says, beside what it brings. */
struct event {
	enum intake_event type;
	struct taken taken;
	struct status status; /* of an ERROR */
};

void event_release(struct event *e);
#define _cleanup_event_ _cleanup_(event_release)

/*
 * One line of a watch. A stream that was DELETED is taken out of the store; of a namespace that is
 * left to the caller. 0 also where the object was left out (taken.why); -EBADMSG: it is no watch
 * event.
 */
int intake_event(const struct intake *in, const char *text, size_t len, struct event *ret);

#endif
