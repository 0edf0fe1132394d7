package store

import "sort"

// changeLog is a table's latest changes in revision order, from which a watch resumes and older states are made.
// It holds everything after its start.
type changeLog struct {
	start int64 // every change after this revision is here
	ring  []*change
	head  int // index of the oldest
	size  int64
}

func (l *changeLog) len() int { return len(l.ring) - l.head }

// all is the log's content. It may be read only under the table's lock.
func (l *changeLog) all() []*change { return l.ring[l.head:] }

func (l *changeLog) append(c *change) {
	l.ring = append(l.ring, c)
	l.size += c.size()
}

// after returns the changes after a revision, which the log must reach back to.
func (l *changeLog) after(revision int64) []*change {
	all := l.all()
	return all[sort.Search(len(all), func(i int) bool { return all[i].revision > revision }):]
}

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
		l.head = 0
	}
	return freed
}

// prepend puts older changes before the log's start.
func (l *changeLog) prepend(start int64, older []*change) int64 {
	var added int64
	for _, c := range older {
		added += c.size()
	}
	l.ring = append(append(make([]*change, 0, len(older)+l.len()), older...), l.all()...)
	l.head = 0
	l.start = start
	l.size += added
	return added
}

// reset empties the log, which from now on begins at a revision.
func (l *changeLog) reset(start int64) int64 {
	freed := l.size
	*l = changeLog{start: start}
	return freed
}
