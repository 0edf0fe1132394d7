package persistentvolume

import (
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"

	"clipper.dev/clipper/internal/client"
)

// volumeCollector counts, under upstream's names, volumes and claims as they are when somebody asks, and claims that got their class late.
type volumeCollector struct {
	volumes client.TypedView[*corev1.PersistentVolume]
	claims  client.TypedView[*corev1.PersistentVolumeClaim]

	boundVolumes, unboundVolumes, boundClaims, unboundClaims, allVolumes *prometheus.Desc
	late, lateErrors                                                     prometheus.Counter
	operationErrors, formerOperationErrors                               *prometheus.CounterVec
}

func newVolumeCollector(volumes client.TypedView[*corev1.PersistentVolume], claims client.TypedView[*corev1.PersistentVolumeClaim]) *volumeCollector {
	gauge := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("pv_collector_"+name, help, labels, nil)
	}
	failures := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{"plugin_name", "operation_name"})
	}
	return &volumeCollector{
		volumes: volumes, claims: claims,
		boundVolumes:   gauge("bound_pv_count", "Gauge measuring number of persistent volume currently bound", "storage_class"),
		unboundVolumes: gauge("unbound_pv_count", "Gauge measuring number of persistent volume currently unbound", "storage_class"),
		boundClaims:    gauge("bound_pvc_count", "Gauge measuring number of persistent volume claim currently bound", "namespace", "storage_class", "volume_attributes_class"),
		unboundClaims:  gauge("unbound_pvc_count", "Gauge measuring number of persistent volume claim currently unbound", "namespace", "storage_class", "volume_attributes_class"),
		allVolumes:     gauge("total_pv_count", "Gauge measuring total number of persistent volumes", "plugin_name", "volume_mode"),
		late: prometheus.NewCounter(prometheus.CounterOpts{Name: "retroactive_storageclass_total",
			Help: "Total number of retroactive StorageClass assignments to persistent volume claim"}),
		lateErrors: prometheus.NewCounter(prometheus.CounterOpts{Name: "retroactive_storageclass_errors_total",
			Help: "Total number of failed retroactive StorageClass assignments to persistent volume claim"}),
		operationErrors:       failures("volume_operation_errors_total", "Total volume operation errors"),
		formerOperationErrors: failures("volume_operation_total_errors", "(Deprecated since 1.36.0) Total volume operation errors"),
	}
}

// Describe implements prometheus.Collector.
func (c *volumeCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.boundVolumes, c.unboundVolumes, c.boundClaims, c.unboundClaims, c.allVolumes, c.late.Desc(), c.lateErrors.Desc()} {
		out <- d
	}
	c.operationErrors.Describe(out)
	c.formerOperationErrors.Describe(out)
}

// Collect implements prometheus.Collector.
func (c *volumeCollector) Collect(out chan<- prometheus.Metric) {
	out <- c.late
	out <- c.lateErrors
	c.operationErrors.Collect(out)
	c.formerOperationErrors.Collect(out)
	count := map[series]int{}
	for _, v := range c.volumes.List("", nil) {
		desc := c.unboundVolumes
		if v.Status.Phase == corev1.VolumeBound {
			desc = c.boundVolumes
		}
		count[series{desc, [3]string{v.Spec.StorageClassName}, 1}]++
		count[series{c.allVolumes, [3]string{pluginOf(&v.Spec.PersistentVolumeSource), valueOf(v.Spec.VolumeMode)}, 2}]++
	}
	for _, claim := range c.claims.List("", nil) {
		desc := c.unboundClaims
		if claim.Status.Phase == corev1.ClaimBound {
			desc = c.boundClaims
		}
		count[series{desc, [3]string{claim.Namespace, valueOf(claim.Spec.StorageClassName), valueOf(claim.Spec.VolumeAttributesClassName)}, 3}]++
	}
	for s, n := range count {
		out <- prometheus.MustNewConstMetric(s.desc, prometheus.GaugeValue, float64(n), s.labels[:s.n]...)
	}
}

// A series is a metric with its labels' values, n of them.
type series struct {
	desc   *prometheus.Desc
	labels [3]string
	n      int
}

func valueOf[S ~string](s *S) string {
	if s == nil {
		return ""
	}
	return string(*s)
}

// pluginOf names the plugin that a volume is for.
func pluginOf(v *corev1.PersistentVolumeSource) string {
	switch {
	case v.CSI != nil:
		return "kubernetes.io/csi:" + v.CSI.Driver
	case v.HostPath != nil:
		return "kubernetes.io/host-path"
	case v.Local != nil:
		return "kubernetes.io/local-volume"
	case v.NFS != nil:
		return "kubernetes.io/nfs"
	case v.ISCSI != nil:
		return "kubernetes.io/iscsi"
	case v.FC != nil:
		return "kubernetes.io/fc"
	}
	return "N/A"
}

// assigned counts a claim that got the default class after it was made.
func (c *volumeCollector) assigned(err error) {
	c.late.Inc()
	if err != nil {
		c.lateErrors.Inc()
	}
}

// failedDelete counts that a volume that was released could not be deleted, by the plugin that deletes such volumes.
func (c *volumeCollector) failedDelete(volume *corev1.PersistentVolume) {
	plugin := "N/A"
	if volume.Spec.HostPath != nil {
		plugin = pluginOf(&volume.Spec.PersistentVolumeSource)
	}
	c.operationErrors.WithLabelValues(plugin, "delete").Inc()
	c.formerOperationErrors.WithLabelValues(plugin, "delete").Inc()
}
