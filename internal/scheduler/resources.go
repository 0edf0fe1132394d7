package scheduler

import (
	"math"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// scoredDefaults are what scores assume for a container that requests nothing.
var scoredDefaults = corev1.ResourceList{
	corev1.ResourceCPU:    *resource.NewMilliQuantity(defaultScoredCPU, resource.DecimalSI),
	corev1.ResourceMemory: *resource.NewQuantity(defaultScoredMem, resource.BinarySI),
}

// resources keeps the sum of requests on a node within what is allocatable, and prefers the node with the most left.
type resources struct{}

func (resources) name() string { return "NodeResourcesFit" }

func (resources) compile(p *podInfo, c *cluster) *rule {
	want, cpu, mem := p.requests, p.scoredCPU, p.scoredMem
	return &rule{
		weight: 1,
		wait:   nodeAdded | nodeAllocatable | podRemoved,
		filter: func(slot int) *refusal { return c.fit(want, slot) },
		score: func(slot int) int64 {
			var sum, n int64
			for _, r := range [2][2]int64{
				{c.scoredCPU[slot] + cpu, c.allocatable[cpuColumn][slot]},
				{c.scoredMem[slot] + mem, c.allocatable[memoryColumn][slot]},
			} {
				if r[1] == 0 {
					continue
				}
				n++
				if r[0] <= r[1] {
					sum += (r[1] - r[0]) * maxScore / r[1]
				}
			}
			if n == 0 {
				return 0
			}
			return sum / n
		},
	}
}

// fit names every resource that the node lacks.
func (c *cluster) fit(want []amount, slot int) *refusal {
	var no *refusal
	for _, a := range want {
		if c.requested[a.column][slot]+a.value <= c.allocatable[a.column][slot] {
			continue
		}
		if a.column > podsColumn && c.allocatable[a.column][slot] == 0 && c.devices.Backs(c.columnNames[a.column]) != nil {
			continue // DynamicResources sees to it.
		}
		if no == nil {
			no = &refusal{}
		}
		// A node too small for the pod alone stays so, whatever is removed from it.
		if a.value > c.allocatable[a.column][slot] {
			no.unresolvable = true
		}
		no.reasons = append(no.reasons, shortage(a.column, c.columnNames[a.column]))
	}
	return no
}

func shortage(column int, name corev1.ResourceName) string {
	if column == podsColumn {
		return "Too many pods"
	}
	return "Insufficient " + string(name)
}

// balance prefers nodes whose use of CPU and memory a pod makes more even.
type balance struct{}

func (balance) name() string { return "NodeResourcesBalancedAllocation" }

func (balance) compile(p *podInfo, c *cluster) *rule {
	var cpu, mem int64
	for _, a := range p.requests {
		switch a.column {
		case cpuColumn:
			cpu = a.value
		case memoryColumn:
			mem = a.value
		}
	}
	if cpu == 0 && mem == 0 {
		return nil // Best effort: nothing to balance.
	}
	return &rule{
		weight: 1,
		score: func(slot int) int64 {
			with := evenness(c.requested[cpuColumn][slot]+cpu, c.allocatable[cpuColumn][slot], c.requested[memoryColumn][slot]+mem, c.allocatable[memoryColumn][slot])
			without := evenness(c.requested[cpuColumn][slot], c.allocatable[cpuColumn][slot], c.requested[memoryColumn][slot], c.allocatable[memoryColumn][slot])
			return maxScore/2 + (maxScore/2+with-without)/2
		},
	}
}

// evenness is 100 where both resources are used to the same fraction, and less by the standard deviation of the two.
func evenness(cpu, cpuOf, mem, memOf int64) int64 {
	if cpuOf == 0 || memOf == 0 {
		return maxScore
	}
	a, b := min(1, float64(cpu)/float64(cpuOf)), min(1, float64(mem)/float64(memOf))
	return int64((1 - math.Abs(a-b)/2) * maxScore)
}

// images prefers nodes that have the pod's images, by their size and by how many nodes have them. A score is of the time
// when the node last changed.
type images struct{}

// imageState is an image and on how many nodes it is.
type imageState struct {
	size  int64 // bytes
	nodes int64
}

const (
	leastImageBytes = 23 << 20
	mostImageBytes  = 1000 << 20 // for each container
)

func (images) name() string { return "ImageLocality" }

func (images) compile(p *podInfo, c *cluster) *rule {
	var names []string
	spec := &p.pod.Spec
	for _, list := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range list {
			names = append(names, normalImageName(list[i].Image))
		}
	}
	most := int64(mostImageBytes * len(names))
	for _, v := range spec.Volumes {
		if v.Image != nil {
			names = append(names, normalImageName(v.Image.Reference))
		}
	}
	return &rule{
		weight: 1,
		score: func(slot int) int64 {
			var sum int64
			have := c.nodes[slot].images
			for _, name := range names {
				if have[name] {
					state := c.images[name]
					sum += state.size * state.nodes / int64(c.count)
				}
			}
			sum = min(max(sum, leastImageBytes), most)
			return maxScore * (sum - leastImageBytes) / (most - leastImageBytes)
		},
	}
}

// updateImages counts a node's images; after is nil when the node goes.
func (c *cluster) updateImages(n *node, after *corev1.Node) {
	for name := range n.images {
		if state := c.images[name]; state.nodes > 1 {
			state.nodes--
		} else {
			delete(c.images, name)
		}
	}
	n.images = nil
	if after == nil || len(after.Status.Images) == 0 {
		return
	}
	n.images = map[string]bool{}
	for _, image := range after.Status.Images {
		for _, name := range image.Names {
			if n.images[name] {
				continue
			}
			n.images[name] = true
			state := c.images[name]
			if state == nil {
				state = &imageState{}
				c.images[name] = state
			}
			state.size, state.nodes = image.SizeBytes, state.nodes+1
		}
	}
}

// normalImageName adds the tag that a name without one means.
func normalImageName(name string) string {
	if strings.LastIndex(name, ":") <= strings.LastIndex(name, "/") {
		name += ":latest"
	}
	return name
}
