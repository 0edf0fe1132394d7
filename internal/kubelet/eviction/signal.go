package eviction

import (
	"fmt"
	"strconv"
	"strings"
	"time"

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
	// AllocatableMemoryAvailable is what is left of the memory that pods may have together. Its threshold is that of MemoryAvailable.
	AllocatableMemoryAvailable Signal = "allocatableMemory.available"
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

// ParseThresholds reads thresholds, as "100Mi" or "10%" for a signal. One of 0% or 100% is none.
func ParseThresholds(all map[string]string) (map[Signal]Value, error) {
	out := map[Signal]Value{}
	for name, text := range all {
		if text == "0%" || text == "100%" {
			continue
		}
		value, err := ParseValue(text)
		switch {
		case !Signal(name).settable():
			return nil, unsupported(name)
		case err != nil:
			return nil, err
		case value.Quantity != nil && value.Quantity.Sign() <= 0:
			return nil, fmt.Errorf("eviction threshold %v must be positive: %s", name, value.Quantity)
		}
		out[Signal(name)] = value
	}
	return out, nil
}

// ParseReclaims reads how much more than a threshold shall be free again.
func ParseReclaims(all map[string]string) (map[Signal]Value, error) {
	out := map[Signal]Value{}
	for name, text := range all {
		value, err := ParseValue(text)
		switch {
		case !Signal(name).settable():
			return nil, unsupported(name)
		case err != nil:
			return nil, err
		case value.Quantity != nil && value.Quantity.Sign() < 0:
			return nil, fmt.Errorf("negative eviction minimum reclaim specified for %v", name)
		}
		out[Signal(name)] = value
	}
	return out, nil
}

// ParseGraces reads how long soft thresholds may be crossed.
func ParseGraces(all map[string]string) (map[Signal]time.Duration, error) {
	out := map[Signal]time.Duration{}
	for name, text := range all {
		grace, err := time.ParseDuration(text)
		switch {
		case !Signal(name).settable():
			return nil, unsupported(name)
		case err != nil:
			return nil, err
		case grace < 0:
			return nil, fmt.Errorf("invalid eviction grace period specified: %v, must be a positive value", text)
		}
		out[Signal(name)] = grace
	}
	return out, nil
}

func unsupported(name string) error {
	return fmt.Errorf("unsupported eviction signal %v", name)
}

// settable tells whether a threshold can be set for the signal.
func (s Signal) settable() bool {
	switch s {
	case MemoryAvailable, NodeFSAvailable, NodeFSInodesFree, ImageFSAvailable, ImageFSInodesFree, PIDAvailable:
		return true
	}
	return false
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
