#include "fs/tree/order.h"

void order_release(struct order *o)
{
	free(o->places);
	*o = (struct order){0};
}

static void make_room(struct order *o)
{
	if (o->count < o->size)
		return;
	o->size = o->size ? o->size * 2 : 8;
	o->places = xrealloc(o->places, o->size * sizeof(*o->places));
}

uint64_t order_add(struct order *o, void *child)
{
	make_room(o);
	o->places[o->count++] = (struct order_place){++o->counter, child};
	return o->counter;
}

void order_put(struct order *o, uint64_t cookie, void *child)
{
	size_t at = order_after(o, cookie);

	make_room(o);
	memmove(&o->places[at + 1], &o->places[at], (o->count - at) * sizeof(*o->places));
	o->places[at] = (struct order_place){cookie, child};
	o->count++;
	if (o->counter < cookie)
		o->counter = cookie;
}

size_t order_search(const void *items, size_t count, order_cookie_fn *cookie_at, uint64_t cookie)
{
	size_t low = 0, high = count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (cookie_at(items, middle) <= cookie)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static uint64_t place_cookie(const void *places, size_t i)
{
	return ((const struct order_place *)places)[i].cookie;
}

size_t order_after(const struct order *o, uint64_t cookie)
{
	return order_search(o->places, o->count, place_cookie, cookie);
}

/* Where the child stands; o->count where it doesn't. Several may be at one cookie. */
static size_t find(const struct order *o, uint64_t cookie, const void *child)
{
	size_t i = cookie ? order_after(o, cookie - 1) : 0;

	while (i < o->count && o->places[i].cookie == cookie && o->places[i].child != child)
		i++;
	return i < o->count && o->places[i].cookie == cookie ? i : o->count;
}

void order_del(struct order *o, uint64_t cookie, const void *child)
{
	size_t n = 0, at = find(o, cookie, child);

	if (at == o->count)
		return;
	o->places[at].child = NULL;
	if (++o->gone * 2 < o->count)
		return;
	for (size_t i = 0; i < o->count; i++)
		if (o->places[i].child)
			o->places[n++] = o->places[i];
	o->count = n;
	o->gone = 0;
}
