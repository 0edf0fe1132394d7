package cluster

import (
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/pflag"

	"clipper.dev/clipper/internal/kubelet/shutdown"
)

// ShutdownOptions say how long pods have when the machine goes down.
type ShutdownOptions struct {
	Period, CriticalPeriod time.Duration
	ByPriority             map[string]string
}

func (o *ShutdownOptions) addFlags(f *pflag.FlagSet) {
	f.DurationVar(&o.Period, "shutdown-grace-period", 0, "how long pods delay the machine's shutdown at most, which systemd-logind announces; 0 is not at all")
	f.DurationVar(&o.CriticalPeriod, "shutdown-grace-period-critical-pods", 0, "how much of that time is kept for critical pods, which end last")
	f.StringToStringVar(&o.ByPriority, "shutdown-grace-period-by-pod-priority", nil, "instead: how long pods have from each priority on, the lowest first: 0=60s,10000=20s")
}

// periods returns what each priority has.
func (o *ShutdownOptions) periods() ([]shutdown.Period, error) {
	var out []shutdown.Period
	for priority, text := range o.ByPriority {
		from, err := strconv.ParseInt(priority, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("--shutdown-grace-period-by-pod-priority %s=%s: %q is no priority", priority, text, priority)
		}
		grace, err := time.ParseDuration(text)
		if err != nil || grace < 0 {
			return nil, fmt.Errorf("--shutdown-grace-period-by-pod-priority %s=%s: use a time, as 30s", priority, text)
		}
		out = append(out, shutdown.Period{Priority: int32(from), Grace: grace})
	}
	switch {
	case len(out) > 0 && (o.Period > 0 || o.CriticalPeriod > 0):
		return nil, fmt.Errorf("--shutdown-grace-period-by-pod-priority: use it without --shutdown-grace-period")
	case len(out) > 0:
		return out, nil
	case o.Period < 0 || o.CriticalPeriod < 0 || o.CriticalPeriod > o.Period:
		return nil, fmt.Errorf("--shutdown-grace-period-critical-pods %v: use a part of --shutdown-grace-period", o.CriticalPeriod)
	case o.Period > 0 && o.Period < time.Second:
		return nil, fmt.Errorf("--shutdown-grace-period %v: use 0, or one second at least", o.Period)
	}
	return shutdown.Periods(o.Period, o.CriticalPeriod), nil
}
