package csi

import (
	"context"
	"time"

	csipb "github.com/container-storage-interface/spec/lib/go/csi"
)

// Stats are the numbers of a volume, as its driver tells them.
type Stats struct {
	Available, Capacity, Used      uint64 // in bytes
	InodesFree, Inodes, InodesUsed uint64
}

// statsTimeout bounds how long a driver may take to tell its numbers.
const statsTimeout = 10 * time.Second

// Stats asks the driver for the numbers of the volume that is published in a directory; false if it has none to tell.
func (p *Plugin) Stats(ctx context.Context, dir string) (Stats, bool) {
	p.mu.Lock()
	pub := p.done[dir]
	p.mu.Unlock()
	rec, err := readRecord(dir)
	if err != nil || pub == nil {
		return Stats{}, false
	}
	d, err := p.find(rec.Driver)
	if err != nil || !d.can[csipb.NodeServiceCapability_RPC_GET_VOLUME_STATS] {
		return Stats{}, false
	}
	ctx, cancel := context.WithTimeout(ctx, statsTimeout)
	defer cancel()
	resp, err := d.node.NodeGetVolumeStats(ctx, &csipb.NodeGetVolumeStatsRequest{VolumeId: rec.Handle, VolumePath: pub.mounted.Path + pub.mounted.Device})
	if err != nil {
		return Stats{}, false
	}
	var s Stats
	for _, u := range resp.GetUsage() {
		switch u.GetUnit() {
		case csipb.VolumeUsage_BYTES:
			s.Available, s.Capacity, s.Used = count(u.GetAvailable()), count(u.GetTotal()), count(u.GetUsed())
		case csipb.VolumeUsage_INODES:
			s.InodesFree, s.Inodes, s.InodesUsed = count(u.GetAvailable()), count(u.GetTotal()), count(u.GetUsed())
		}
	}
	return s, true
}

func count(n int64) uint64 { return uint64(max(n, 0)) }
