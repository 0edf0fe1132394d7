package allocation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"time"

	corev1 "k8s.io/api/core/v1"
)

var (
	errPortsFull     = errors.New("range is full")
	errPortAllocated = errors.New("provided port is already allocated")
)

// portBook gives out node ports.
type portBook struct {
	first, last int32
	record      *record
	log         *slog.Logger
	metrics     *metrics
	leaks       map[int32]int // ports that no Service has, and how many more rounds they stay taken; repair's own
}

// roundsBeforeLeak is how many rounds of repair see a port without a Service before it is given back: its Service may be about to be stored.
const roundsBeforeLeak = 3

// take reserves a port.
func (b *portBook) take(ctx context.Context, port int32) error {
	err := b.inRange(port)
	if err == nil {
		err = b.record.update(ctx, func(bits *big.Int) error { return b.set(bits, port) })
	}
	b.metrics.port(static, err)
	return err
}

// taken tells whether somebody has a port; nobody has one outside the range.
func (b *portBook) taken(ctx context.Context, port int32) bool {
	if b.inRange(port) != nil {
		return false
	}
	err := b.record.look(ctx, func(bits *big.Int) error { return b.set(new(big.Int).Set(bits), port) })
	return errors.Is(err, errPortAllocated)
}

// takeAny reserves some port.
func (b *portBook) takeAny(ctx context.Context) (port int32, err error) {
	err = b.record.update(ctx, func(bits *big.Int) error {
		port, err = b.setAny(bits)
		return err
	})
	b.metrics.port(dynamic, err)
	return port, err
}

func (b *portBook) inRange(port int32) error {
	if port < b.first || port > b.last {
		return fmt.Errorf("provided port is not in the valid range. The range of valid ports is %d-%d", b.first, b.last)
	}
	return nil
}

func (b *portBook) set(bits *big.Int, port int32) error {
	if bits.Bit(int(port-b.first)) == 1 {
		return errPortAllocated
	}
	bits.SetBit(bits, int(port-b.first), 1)
	return nil
}

// setAny takes a port, from the upper part of the range if it can: the lower is for ports that are asked for (KEP-3668).
func (b *portBook) setAny(bits *big.Int) (int32, error) {
	size := int(b.last-b.first) + 1
	static := 0
	if size > 32 {
		static = min(max(size/32, 16), 128)
	}
	for offset := range upperFirst(uint64(size), uint64(static)) {
		port := b.first + int32(offset)
		if b.set(bits, port) == nil {
			return port, nil
		}
	}
	return 0, errPortsFull
}

// free gives ports back. What can't be given back now, repair does.
func (b *portBook) free(ctx context.Context, ports ...int32) {
	if len(ports) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	err := b.record.update(ctx, func(bits *big.Int) error {
		for _, p := range ports {
			if b.inRange(p) == nil {
				bits.SetBit(bits, int(p-b.first), 0)
			}
		}
		return nil
	})
	if err != nil {
		b.log.Warn("giving node ports back failed; it is tried again later", "ports", ports, "error", err)
	}
}

// repair makes the record what the Services say, leaks aside that are young. services are read after the record is.
func (b *portBook) repair(ctx context.Context, services func(context.Context) ([]*corev1.Service, error)) error {
	var leaks map[int32]int
	err := b.record.rebuild(ctx, func(stored *big.Int) (*big.Int, error) {
		all, err := services(ctx)
		if err != nil {
			return nil, err
		}
		var next *big.Int
		next, leaks = b.repaired(stored, all)
		return next, nil
	})
	if err != nil {
		return fmt.Errorf("repair the record of node ports: %w", err)
	}
	b.leaks = leaks
	return nil
}

// repaired is the record that the Services make, with the leaks that are to be looked at again.
func (b *portBook) repaired(stored *big.Int, services []*corev1.Service) (*big.Int, map[int32]int) {
	next, leaks := new(big.Int), map[int32]int{}
	for i := range services {
		for _, p := range nodePorts(services[i]) {
			if b.inRange(p) == nil {
				next.SetBit(next, int(p-b.first), 1)
			}
		}
	}
	for p := b.first; p <= b.last; p++ {
		i := int(p - b.first)
		if stored.Bit(i) == 0 || next.Bit(i) == 1 {
			continue
		}
		left, seen := b.leaks[p]
		if !seen {
			left = roundsBeforeLeak - 1
		}
		if left > 0 {
			leaks[p] = left - 1
			next.SetBit(next, i, 1)
			continue
		}
		b.metrics.portFaults.WithLabelValues("leak").Inc()
		b.log.Info("a node port that no Service has is given back", "port", p)
	}
	return next, leaks
}
