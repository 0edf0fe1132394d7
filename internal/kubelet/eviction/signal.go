package eviction

import (
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Signal names what is measured.
type Signal string

// The signals.
const (
	MemoryAvailable   Signal = "memory.available"
	NodeFSAvailable   Signal = "nodefs.available"
	NodeFSInodesFree  Signal = "nodefs.inodesFree"
	ImageFSAvailable  Signal = "imagefs.available"
	ImageFSInodesFree Signal = "imagefs.inodesFree"
	PIDAvailable      Signal = "pid.available"
)

// Value is a threshold: a quantity, or a part of the capacity.
type Value struct {
	Quantity   *resource.Quantity
	Percentage float64 // 0.1 is 10%
}

// ParseValue reads "100Mi" or "10%".
func ParseValue(s string) (Value, error) {
	if p, ok := strings.CutSuffix(s, "%"); ok {
		f, err := strconv.ParseFloat(p, 64)
		if err != nil || f < 0 || f > 100 {
			return Value{}, fmt.Errorf("eviction threshold %q: not a percentage", s)
		}
		return Value{Percentage: f / 100}, nil
	}
	q, err := resource.ParseQuantity(s)
	if err != nil {
		return Value{}, fmt.Errorf("eviction threshold %q: %w", s, err)
	}
	return Value{Quantity: &q}, nil
}

// Of returns the threshold for a capacity.
func (v Value) Of(capacity int64) int64 {
	if v.Quantity != nil {
		return v.Quantity.Value()
	}
	return int64(v.Percentage * float64(capacity))
}

// ParseThresholds reads "memory.available<100Mi", one for each signal.
func ParseThresholds(all []string) (map[Signal]Value, error) {
	out := map[Signal]Value{}
	for _, text := range all {
		name, value, ok := strings.Cut(text, "<")
		signal := Signal(name)
		switch signal {
		case MemoryAvailable, NodeFSAvailable, NodeFSInodesFree, ImageFSAvailable, ImageFSInodesFree, PIDAvailable:
		default:
			return nil, fmt.Errorf("eviction threshold %q: there is no signal %q", text, name)
		}
		if !ok {
			return nil, fmt.Errorf("eviction threshold %q: write signal<value", text)
		}
		var err error
		if out[signal], err = ParseValue(value); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// DefaultHard returns upstream's thresholds.
func DefaultHard() map[Signal]Value {
	memory := resource.MustParse("100Mi")
	return map[Signal]Value{
		MemoryAvailable:   {Quantity: &memory},
		NodeFSAvailable:   {Percentage: 0.1},
		NodeFSInodesFree:  {Percentage: 0.05},
		ImageFSAvailable:  {Percentage: 0.15},
		ImageFSInodesFree: {Percentage: 0.05},
	}
}

// Reservation returns what thresholds keep from pods of a capacity.
func Reservation(hard map[Signal]Value, capacity corev1.ResourceList) corev1.ResourceList {
	out := corev1.ResourceList{}
	for signal, name := range map[Signal]corev1.ResourceName{MemoryAvailable: corev1.ResourceMemory, NodeFSAvailable: corev1.ResourceEphemeralStorage} {
		v, ok := hard[signal]
		c, known := capacity[name]
		if ok && known {
			out[name] = *resource.NewQuantity(v.Of(c.Value()), resource.BinarySI)
		}
	}
	return out
}
