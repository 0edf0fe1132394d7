package memory

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"clipper.dev/clipper/internal/kubelet/resources/machine"
)

// Reservation is what the node keeps of one NUMA node's memory.
type Reservation struct {
	Node   int
	Limits corev1.ResourceList
}

// ParseReservation reads "0:memory=1Gi,hugepages-2Mi=64Mi".
func ParseReservation(text string) (Reservation, error) {
	number, list, ok := strings.Cut(text, ":")
	node, err := strconv.Atoi(number)
	if !ok || err != nil || node < 0 {
		return Reservation{}, fmt.Errorf("reserved memory %q: write a NUMA node's number and resources, as 0:memory=1Gi", text)
	}
	r := Reservation{Node: node, Limits: corev1.ResourceList{}}
	for _, part := range strings.Split(list, ",") {
		name, value, _ := strings.Cut(part, "=")
		q, err := resource.ParseQuantity(value)
		if err != nil || !isMemory(corev1.ResourceName(name)) {
			return Reservation{}, fmt.Errorf("reserved memory %q: write memory=<amount> or hugepages-<size>=<amount>", text)
		}
		r.Limits[corev1.ResourceName(name)] = q
	}
	return r, nil
}

// byNode checks reservations against what the node keeps in all, and returns them in bytes.
func byNode(nodes []machine.Node, reserved corev1.ResourceList, by []Reservation) (map[int]request, error) {
	out := map[int]request{}
	for i := range nodes {
		out[nodes[i].ID] = request{}
	}
	sums := map[corev1.ResourceName]resource.Quantity{}
	for _, r := range by {
		if out[r.Node] == nil {
			return nil, fmt.Errorf("the reserved memory configuration references a NUMA node %d that does not exist on this machine", r.Node)
		}
		for kind, q := range r.Limits {
			bytes, ok := q.AsInt64()
			if !ok {
				return nil, errors.New("could not covert a variable of type Quantity to int64") // upstream's text
			}
			out[r.Node][kind] = uint64(bytes)
			sum := sums[kind]
			sum.Add(q)
			sums[kind] = sum
		}
	}
	for kind := range reserved {
		if _, ok := sums[kind]; isMemory(kind) && !ok {
			sums[kind] = *resource.NewQuantity(0, resource.DecimalSI)
		}
	}
	for kind, sum := range sums {
		if whole := reserved[kind]; whole.Cmp(sum) != 0 {
			return nil, fmt.Errorf("the total amount %q of type %q is not equal to the value %q determined by Node Allocatable feature", sum.String(), kind, whole.String())
		}
	}
	if total := sums[corev1.ResourceMemory]; total.Sign() <= 0 {
		return nil, errors.New("[memorymanager] you should specify the system reserved memory")
	}
	return out, nil
}
