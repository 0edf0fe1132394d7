package fairness

import (
	"math"
	"net/url"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"clipper.dev/clipper/internal/apiserver/request"
)

// An estimate is how much of the server a request takes: seats while it executes and, for writes, while its watchers are served.
type estimate struct {
	initial, final int
	lingers        time.Duration // how long the final seats are taken
}

// seats are those that are held all the time.
func (e estimate) seats() int { return max(e.initial, e.final) }

// total is the work in seat-seconds.
func (e estimate) total() float64 {
	return float64(e.initial)*serviceTime + float64(e.final)*e.lingers.Seconds()
}

// fit makes final work narrower, and longer, if the level has fewer seats.
func (e *estimate) fit(limit int) {
	if e.final > limit && limit > 0 {
		e.lingers = time.Duration(float64(e.lingers) * float64(e.final) / float64(limit))
		e.final = limit
	}
}

const (
	bytesPerSeat     = 100_000
	cachedListBytes  = 1_000_000 // a list from the cache holds no more than this at once
	maxListSeats     = 100
	maxMutatingSeats = 10
	watchersPerSeat  = 10
	eventTime        = 5 * time.Millisecond // a seat's time for the watchers it is for
)

// estimate says how much work a request is. Of the seats it takes no more than maxSeats.
func (c *Controller) estimate(r *Request, s *schema) estimate {
	switch r.Info.Verb {
	case "list", "watch":
		return estimate{initial: c.listSeats(r, limitSeats(s.maxSeats, maxListSeats))}
	case "create", "update", "patch", "delete":
		return c.writeWork(r.Info, s, limitSeats(s.maxSeats, maxMutatingSeats))
	}
	return estimate{initial: 1}
}

func limitSeats(seats, bound int) int {
	if seats == 0 || seats > bound {
		return bound
	}
	return seats
}

// A listing is what the query of a list or watch says of its size.
type listing struct {
	limit                   int64
	version, match, from    string
	narrowed, initialEvents bool
}

func readListing(query string) listing {
	values, _ := url.ParseQuery(query) // what can't be read is refused later
	limit, _ := strconv.ParseInt(values.Get("limit"), 10, 64)
	events, _ := strconv.ParseBool(values.Get("sendInitialEvents"))
	return listing{
		limit: limit, version: values.Get("resourceVersion"), match: values.Get("resourceVersionMatch"), from: values.Get("continue"),
		narrowed: values.Get("fieldSelector") != "" || values.Get("labelSelector") != "", initialEvents: events,
	}
}

// former tells whether a list is of a state that may have to be read from the database.
func (l listing) former() bool {
	if l.match != "" {
		return l.match != string(metav1.ResourceVersionMatchNotOlderThan)
	}
	return l.from != "" || l.limit > 0 && l.version != "" && l.version != "0"
}

// listSeats is how many seats a list's memory is worth.
func (c *Controller) listSeats(r *Request, most int) int {
	watch := r.Info.Verb == "watch"
	var l listing
	if r.Query != "" {
		l = readListing(r.Query)
	}
	if watch && !l.initialEvents && l.version != "" && l.version != "0" {
		return 1
	}
	if c.cfg.Objects == nil {
		return 1
	}
	count, size := c.cfg.Objects(r.Info)
	loaded := count
	if l.limit > 0 {
		loaded = min(loaded, l.limit)
	}
	former := !watch && l.former()
	switch {
	case r.Info.Name != "":
		loaded = 1
	case former && l.narrowed:
		loaded = max(loaded, count/2)
	}
	bytes := loaded * size
	if !former {
		bytes = min(bytes, cachedListBytes)
	}
	return int(min(max((bytes+bytesPerSeat-1)/bytesPerSeat, 1), int64(most)))
}

// writeWork counts the watchers that a write's event goes to.
func (c *Controller) writeWork(info *request.Info, s *schema, most int) estimate {
	if info.Resource == "serviceaccounts" && info.Subresource == "token" {
		return estimate{initial: 1} // makes no event
	}
	watchers := c.watches.interested(info)
	s.stats.noteWatchers(watchers)
	if watchers < watchersPerSeat {
		return estimate{initial: 1}
	}
	e := estimate{initial: 1, final: int(math.Ceil(float64(watchers) / watchersPerSeat)), lingers: eventTime}
	e.fit(most)
	return e
}
