package fairness

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	apischema "k8s.io/apimachinery/pkg/runtime/schema"
)

// dumpPath is where the state can be seen.
const dumpPath = "/debug/api_priority_and_fairness/"

// Dumps serves what upstream serves for a look at levels, queues and requests, in its columns.
func (c *Controller) Dumps() (path string, h http.Handler) {
	mux := http.NewServeMux()
	mux.HandleFunc(dumpPath+"dump_priority_levels", c.dumpLevels)
	mux.HandleFunc(dumpPath+"dump_queues", c.dumpQueues)
	mux.HandleFunc(dumpPath+"dump_requests", c.dumpRequests)
	return dumpPath, mux
}

// A dump is a table of values with commas.
type dump struct{ w *tabwriter.Writer }

func newDump(w io.Writer, columns ...string) dump {
	d := dump{tabwriter.NewWriter(w, 8, 0, 1, ' ', 0)}
	d.row(columns...)
	return d
}

// row and flush leave errors to the client, who has gone.
func (d dump) row(values ...string) { _, _ = fmt.Fprintln(d.w, strings.Join(values, ",\t")) }
func (d dump) flush()               { _ = d.w.Flush() }

// states lists the levels by name. The list is the caller's.
func (c *Controller) states() []*levelState {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.SortedFunc(maps.Values(c.levels), func(a, b *levelState) int { return strings.Compare(a.name, b.name) })
}

func (c *Controller) retiring(s *levelState) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return s.retiring
}

func (c *Controller) dumpLevels(w http.ResponseWriter, _ *http.Request) {
	d := newDump(w, "PriorityLevelName", "ActiveQueues", "IsIdle", "IsQuiescing", "WaitingRequests", "ExecutingRequests", "DispatchedRequests", "RejectedRequests", "TimedoutRequests", "CancelledRequests")
	defer d.flush()
	for _, l := range c.states() {
		quiescing := c.retiring(l)
		l.mu.Lock()
		n := []int{l.waiting, l.executing, l.dispatched, l.rejected, 0, l.cancelled}
		row := []string{l.name, strconv.Itoa(len(l.backlog)), strconv.FormatBool(l.waiting == 0 && l.executing == 0), strconv.FormatBool(quiescing)}
		l.mu.Unlock()
		for _, v := range n {
			row = append(row, strconv.Itoa(v))
		}
		d.row(row...)
	}
}

func (c *Controller) dumpQueues(w http.ResponseWriter, _ *http.Request) {
	d := newDump(w, "PriorityLevelName", "Index", "PendingRequests", "ExecutingRequests", "SeatsInUse", "NextDispatchR", "InitialSeatsSum", "MaxSeatsSum", "TotalWorkSum")
	defer d.flush()
	for _, l := range c.states() {
		queues, last := l.copyQueues()
		for index := range last + 1 {
			q := queues[index]
			d.row(
				l.name, strconv.Itoa(index), strconv.Itoa(q.waiting.length), strconv.Itoa(q.executing), strconv.Itoa(q.seats), work(q.next),
				strconv.Itoa(q.waitingInitial), strconv.Itoa(q.waitingSeats), work(q.waitingWork),
			)
		}
	}
}

// copyQueues returns what the queues with requests look like now, and the number of the last queue: of the deck, or one beyond it that
// is not empty yet.
func (l *level) copyQueues() (queues map[int]queue, last int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	queues, last = map[int]queue{}, l.deck-1
	for index, q := range l.queues {
		queues[index] = *q
		last = max(last, index)
	}
	return queues, last
}

func work(seatSeconds float64) string { return strconv.FormatFloat(seatSeconds, 'f', 8, 64) + "ss" }

func (c *Controller) dumpRequests(w http.ResponseWriter, r *http.Request) {
	columns := []string{"PriorityLevelName", "FlowSchemaName", "QueueIndex", "RequestIndexInQueue", "FlowDistingsher", "ArriveTime", "InitialSeats", "FinalSeats", "AdditionalLatency", "StartTime"}
	details := r.URL.Query().Get("includeRequestDetails") != ""
	if details {
		columns = append(columns, "UserName", "Verb", "APIPath", "Namespace", "Name", "APIVersion", "Resource", "SubResource")
	}
	d := newDump(w, columns...)
	defer d.flush()
	for _, l := range c.states() {
		for _, row := range l.requestRows(details) {
			d.row(row...)
		}
	}
}

// requestRows describes the requests that wait, queue by queue, and then those that execute.
func (l *level) requestRows(details bool) [][]string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var rows [][]string
	for _, index := range slices.Sorted(maps.Keys(l.queues)) {
		i := 0
		for t := l.queues[index].waiting.head; t != nil; t = t.next {
			rows = append(rows, t.row(i, details))
			i++
		}
	}
	for t := l.seated.head; t != nil; t = t.next {
		rows = append(rows, t.row(-1, details))
	}
	return rows
}

// row describes a request; index is its place in the queue, -1 if it executes. The level's lock is held.
func (t *Ticket) row(index int, details bool) []string {
	queue := -1
	if t.queue != nil {
		queue = t.queue.index
	}
	at := func(now int64) string { return t.c.began.Add(time.Duration(now)).UTC().Format(time.RFC3339Nano) }
	started := time.Time{}.Format(time.RFC3339Nano)
	if index < 0 {
		started = at(t.startedAt)
	}
	row := []string{
		t.schema.level.name, t.schema.object.Name, strconv.Itoa(queue), strconv.Itoa(index), t.flow, at(t.arrivedAt),
		strconv.Itoa(t.work.initial), strconv.Itoa(t.work.final), t.work.lingers.String(), started,
	}
	if details {
		i := t.info
		row = append(row, t.user, i.Verb, i.Path, i.Namespace, i.Name, apischema.GroupVersion{Group: i.Group, Version: i.Version}.String(), i.Resource, i.Subresource)
	}
	return row
}
