package store

import (
	"hash/maphash"
	"sort"
)

// changeLog is a table's latest changes in revision order, from which a watch resumes and older states are made.
// It holds everything after its start.
type changeLog struct {
	start int64 // every change after this revision is here
	ring  []*change
	names []uint32 // hashes of the changed objects' names, beside ring: who follows one object passes by the others' changes
	head  int      // index of the oldest
	size  int64
}

func (l *changeLog) len() int { return len(l.ring) - l.head }

// all is the log's content. It may be read only under the table's lock.
func (l *changeLog) all() []*change { return l.ring[l.head:] }

func (l *changeLog) append(c *change) {
	l.ring = append(l.ring, c)
	l.names = append(l.names, nameHash(c.either().record.Name))
	l.size += c.size()
}

// after returns the changes after a revision, which the log must reach back to.
func (l *changeLog) after(revision int64) []*change { return l.ring[l.place(revision):] }

// place is where the changes after a revision begin.
func (l *changeLog) place(revision int64) int {
	all := l.all()
	return l.head + sort.Search(len(all), func(i int) bool { return all[i].revision > revision })
}

// afterOf calls fn with the changes after a revision that may be of objects of a name; "" is any.
func (l *changeLog) afterOf(name string, revision int64, fn func(*change)) {
	from := l.place(revision)
	if name == "" {
		for _, c := range l.ring[from:] {
			fn(c)
		}
		return
	}
	wanted := nameHash(name)
	for i, hash := range l.names[from:] {
		if hash == wanted {
			fn(l.ring[from+i])
		}
	}
}

var nameSeed = maphash.MakeSeed()

func nameHash(name string) uint32 { return uint32(maphash.String(nameSeed, name)) }

// drop lets go of the oldest n changes, and of those that share the last one's revision, and returns the bytes freed.
func (l *changeLog) drop(n int) int64 {
	var freed int64
	for ; l.head < len(l.ring) && (n > 0 || l.ring[l.head].revision == l.start); n-- {
		c := l.ring[l.head]
		freed += c.size()
		l.start = c.revision
		l.ring[l.head] = nil
		l.head++
	}
	l.size -= freed
	if l.head > 64 && l.head > len(l.ring)/2 {
		l.ring = append(l.ring[:0:0], l.ring[l.head:]...)
		l.names = append(l.names[:0:0], l.names[l.head:]...)
		l.head = 0
	}
	return freed
}

// prepend puts older changes before the log's start.
func (l *changeLog) prepend(start int64, older []*change) int64 {
	newer := *l
	*l = changeLog{ring: make([]*change, 0, len(older)+newer.len()), names: make([]uint32, 0, len(older)+newer.len())}
	for _, c := range older {
		l.append(c)
	}
	added := l.size
	l.ring, l.names = append(l.ring, newer.all()...), append(l.names, newer.names[newer.head:]...)
	l.start, l.size = start, newer.size+added
	return added
}

// reset empties the log, which from now on begins at a revision.
func (l *changeLog) reset(start int64) int64 {
	freed := l.size
	*l = changeLog{start: start}
	return freed
}
