package kubelet

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"clipper.dev/clipper/internal/kubelet/server"
	"clipper.dev/clipper/internal/kubelet/volumes"
)

// volumeStats returns the numbers of a pod's volumes, as far as they have any: what the driver or the file system tells of those behind claims, what the
// kubelet has written of others. EmptyDirs are counted with the pod's own storage.
func (k *Kubelet) volumeStats(ctx context.Context, uid types.UID) []stats.VolumeStats {
	return k.statsOf(ctx, uid, func(*volumes.Placed) bool { return true })
}

func (k *Kubelet) statsOf(ctx context.Context, uid types.UID, wanted func(*volumes.Placed) bool) []stats.VolumeStats {
	var out []stats.VolumeStats
	for _, p := range k.volumes.Placed(uid) {
		if !wanted(&p) {
			continue
		}
		one := stats.VolumeStats{Name: p.Volume}
		if p.Claim != nil {
			one.PVCRef = &stats.PVCReference{Namespace: p.Claim.Namespace, Name: p.Claim.Name}
		}
		if fs, ok := k.volumeNumbers(ctx, &p); ok {
			one.FsStats = fs
			out = append(out, one)
		}
	}
	return out
}

func (k *Kubelet) volumeNumbers(ctx context.Context, p *volumes.Placed) (stats.FsStats, bool) {
	switch {
	case p.Plugin == k.csi.Name():
		defer k.measureVolume("csi", time.Now())
		s, ok := k.csi.Stats(ctx, p.Dir)
		return stats.FsStats{
			Time: metav1.Now(), AvailableBytes: &s.Available, CapacityBytes: &s.Capacity, UsedBytes: &s.Used,
			InodesFree: &s.InodesFree, Inodes: &s.Inodes, InodesUsed: &s.InodesUsed,
		}, ok
	case p.Path == "", p.Device != "", p.Claim == nil && !p.Managed:
		return stats.FsStats{}, false
	}
	source := "statfs"
	if p.Managed {
		source = "du"
	}
	defer k.measureVolume(source, time.Now())
	fs := server.FileSystem(p.Path, time.Now())
	if fs == nil {
		return stats.FsStats{}, false
	}
	if p.Managed {
		used, inodes := volumes.Usage(p.Path)
		fs.UsedBytes, fs.InodesUsed = &used, &inodes
	}
	return *fs, true
}

// measureVolume notes how long it took to find out about a volume.
func (k *Kubelet) measureVolume(source string, began time.Time) {
	k.metrics.volumeStats.WithLabelValues(source).Observe(time.Since(began).Seconds())
}

// volumeCollector shows the numbers of volumes behind claims.
type volumeCollector struct{ k *Kubelet }

func volumeDesc(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("kubelet_volume_stats_"+name, help, []string{"namespace", "persistentvolumeclaim"}, nil)
}

var volumeDescs = []*prometheus.Desc{
	volumeDesc("capacity_bytes", "Capacity in bytes of the volume"),
	volumeDesc("available_bytes", "Number of available bytes in the volume"),
	volumeDesc("used_bytes", "Number of used bytes in the volume"),
	volumeDesc("inodes", "Maximum number of inodes in the volume"),
	volumeDesc("inodes_free", "Number of free inodes in the volume"),
	volumeDesc("inodes_used", "Number of used inodes in the volume"),
}

// Describe implements prometheus.Collector.
func (c *volumeCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range volumeDescs {
		out <- d
	}
}

// collectPatience bounds how long the numbers of all volumes may take.
const collectPatience = 10 * time.Second

// Collect implements prometheus.Collector. A claim that several pods use is shown once.
func (c *volumeCollector) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(c.k.pods.ctx, collectPatience)
	defer cancel()
	seen := map[stats.PVCReference]bool{}
	for _, pod := range c.k.pods.list() {
		claimed := func(p *volumes.Placed) bool {
			return p.Claim != nil && !seen[stats.PVCReference{Namespace: p.Claim.Namespace, Name: p.Claim.Name}]
		}
		for _, v := range c.k.statsOf(ctx, pod.Pod.UID, claimed) {
			seen[*v.PVCRef] = true
			values := []*uint64{v.CapacityBytes, v.AvailableBytes, v.UsedBytes, v.Inodes, v.InodesFree, v.InodesUsed}
			for i, value := range values {
				out <- prometheus.MustNewConstMetric(volumeDescs[i], prometheus.GaugeValue, float64(*value), v.PVCRef.Namespace, v.PVCRef.Name)
			}
		}
	}
}
