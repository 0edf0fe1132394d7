package apiserver

import (
	"context"
	"errors"
	"regexp"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"clipper.dev/clipper/internal/apiserver/request"
	"clipper.dev/clipper/internal/store"
)

// A storageOperation is a sort of transaction.
type storageOperation int

const (
	storedCreate storageOperation = iota
	storedUpdate
	storedDelete
	storageOperations
)

func (o storageOperation) String() string {
	return [storageOperations]string{"create", "update", "delete"}[o]
}

// storageSeries are where one kind's transactions of a sort are counted.
type storageSeries struct {
	count prometheus.Counter
	times prometheus.Observer
}

// storage counts a transaction that a request has made.
func (m *metrics) storage(ctx context.Context, v *version, operation storageOperation, began time.Time, err error) {
	took := time.Since(began)
	callOf(ctx).spent.add(inStorage, took)
	series := v.transactions[operation].get(func() storageSeries {
		group, name, resource := v.gvr.Group, operation.String(), v.gvr.Resource
		return storageSeries{m.stored.WithLabelValues(group, name, resource), m.storeTimes.WithLabelValues(group, name, resource)}
	})
	series.count.Inc()
	series.times.Observe(took.Seconds())
	if err != nil && !errors.Is(err, store.ErrConflict) && !errors.Is(err, store.ErrExists) && !errors.Is(err, store.ErrNotFound) { // what etcd answers is no failure of it
		m.failures.WithLabelValues(v.gvr.Group, operation.String(), v.gvr.Resource).Inc()
	}
}

var (
	objectsDesc = prometheus.NewDesc("apiserver_resource_objects",
		"Number of stored objects at the time of last check split by kind. In case of a fetching error, the value will be -1.", []string{"group", "resource"}, nil)
	bytesDesc = prometheus.NewDesc("apiserver_resource_size_estimate_bytes",
		"Estimated size of stored objects in database. Estimate is based on sum of last observed sizes of serialized objects. In case of a fetching error, the value will be -1.",
		[]string{"group", "resource"}, nil)
	objectsByNameDesc = prometheus.NewDesc("apiserver_storage_objects",
		"(Deprecated since 1.34.0) [DEPRECATED, consider using apiserver_resource_objects instead] Number of stored objects at the time of last check split by kind. In case of a fetching error, the value will be -1.",
		[]string{"resource"}, nil)
	sizeDesc = prometheus.NewDesc("apiserver_storage_size_bytes", "Size of the storage database file physically allocated in bytes.", []string{"storage_cluster_id"}, nil)
)

// statusTimeout is how long the collection of metrics waits for etcd.
const statusTimeout = 2 * time.Second

// extents tell, when they are asked for, how much is stored of each kind.
type extents struct{ s *Server }

// Describe implements prometheus.Collector.
func (e extents) Describe(ch chan<- *prometheus.Desc) {
	ch <- objectsDesc
	ch <- bytesDesc
	ch <- objectsByNameDesc
	ch <- sizeDesc
	for _, d := range tableDescs {
		ch <- d.desc
	}
}

// Collect implements prometheus.Collector.
func (e extents) Collect(ch chan<- prometheus.Metric) {
	c := e.s.catalog.Load()
	if c == nil {
		return
	}
	for _, r := range c.resources {
		if r.row.Prefix == "" || len(r.row.Versions) == 0 {
			continue
		}
		count, mean := e.s.extent(&request.Info{Group: r.row.Group, Version: r.row.Versions[0].Version, Resource: r.row.Name})
		ch <- prometheus.MustNewConstMetric(objectsDesc, prometheus.GaugeValue, float64(count), r.row.Group, r.row.Name)
		ch <- prometheus.MustNewConstMetric(bytesDesc, prometheus.GaugeValue, float64(count*mean), r.row.Group, r.row.Name)
		ch <- prometheus.MustNewConstMetric(objectsByNameDesc, prometheus.GaugeValue, float64(count), r.gr().String())
		activity := r.table.Activity()
		for _, d := range tableDescs {
			ch <- prometheus.MustNewConstMetric(d.desc, d.kind, float64(d.of(&activity)), r.row.Group, r.row.Name)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), statusTimeout)
	defer cancel()
	if status, err := e.s.cfg.Store.Status(ctx); err == nil {
		ch <- prometheus.MustNewConstMetric(sizeDesc, prometheus.GaugeValue, float64(status.SizeBytes), "etcd-0")
	}
}

// tableDescs are what is told of each kind's table, which is what upstream calls a watch cache.
var tableDescs = []tableDesc{
	tableCounter("apiserver_watch_cache_events_received_total", "Counter of events received in watch cache broken by resource type.", func(a *store.Activity) int64 { return a.Received }),
	tableCounter("apiserver_storage_events_received_total", "Number of etcd events received split by kind.", func(a *store.Activity) int64 { return a.Received }),
	tableCounter("apiserver_watch_cache_events_dispatched_total", "Counter of events dispatched in watch cache broken by resource type.", func(a *store.Activity) int64 { return a.Dispatched }),
	tableCounter("apiserver_watch_cache_initializations_total", "Counter of watch cache initializations broken by resource type.", func(a *store.Activity) int64 { return a.Loads }),
	tableCounter("apiserver_storage_decode_errors_total", "Number of stored object decode errors split by object type", func(a *store.Activity) int64 { return a.Unreadable }),
	tableGauge("apiserver_watch_cache_resource_version", "Current resource version of watch cache broken by resource type. This is truncated to the 15 least significant digits.",
		func(a *store.Activity) int64 { return a.Revision % 1e15 }),
	tableGauge("watch_cache_capacity", "Total capacity of watch cache broken by resource type.", func(a *store.Activity) int64 { return a.Capacity }),
}

type tableDesc struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	of   func(*store.Activity) int64
}

func tableCounter(name, help string, of func(*store.Activity) int64) tableDesc {
	return tableDesc{prometheus.NewDesc(name, help, []string{"group", "resource"}, nil), prometheus.CounterValue, of}
}

func tableGauge(name, help string, of func(*store.Activity) int64) tableDesc {
	return tableDesc{prometheus.NewDesc(name, help, []string{"group", "resource"}, nil), prometheus.GaugeValue, of}
}

var lastRelease = regexp.MustCompile(`unavailable in v(\d+\.\d+)`)

// removedRelease is the release that a deprecation's text says to be the last without a version; "" if it names none.
func removedRelease(text string) string {
	if m := lastRelease.FindStringSubmatch(text); m != nil {
		return m[1]
	}
	return ""
}
