package device

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	pluginapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"clipper.dev/clipper/internal/kubelet/resources/checkpoint"
)

// stateFile is what upstream's kubelet calls the file.
const stateFile = "kubelet_internal_checkpoint"

// nowhere stands for the NUMA node of devices that have none.
const nowhere = -1

// perNUMA are devices by NUMA node. One that's near several nodes is listed with each.
type perNUMA map[int64][]string

func (p perNUMA) ids() sets.Set[string] {
	out := sets.New[string]()
	for _, ids := range p {
		out.Insert(ids...)
	}
	return out
}

// entry is what a container has of a resource.
type entry struct {
	PodUID        string
	ContainerName string
	ResourceName  string
	DeviceIDs     perNUMA
	AllocResp     []byte
}

// contents are what the file tells.
type contents struct {
	PodDeviceEntries  []entry
	RegisteredDevices map[string][]string
}

// document is the file.
type document struct {
	Data     contents
	Checksum checkpoint.Checksum
}

func (c contents) sum() checkpoint.Checksum {
	return checkpoint.Sum(c, "device.contents", "checkpoint.checkpointData", "device.entry", "checkpoint.PodDevicesEntry", "device.perNUMA", "checkpoint.DevicesPerNUMA")
}

// owner is a container of a pod.
type owner struct {
	uid       types.UID
	container string
}

// grant is what a container was given of a resource.
type grant struct {
	devices perNUMA
	answer  *pluginapi.ContainerAllocateResponse
}

// grants are by container and resource.
type grants map[owner]map[string]grant

// used returns the devices of a resource that somebody has.
func (g grants) used(resource string) sets.Set[string] {
	out := sets.New[string]()
	for _, by := range g {
		out = out.Union(by[resource].devices.ids())
	}
	return out
}

// has tells whether anybody has devices of a resource.
func (g grants) has(resource string) bool {
	for _, by := range g {
		if _, ok := by[resource]; ok {
			return true
		}
	}
	return false
}

// load reads the file; absent tells that there is none.
func load(path string) (g grants, registered []string, absent bool, err error) {
	g = grants{}
	var d document
	err = checkpoint.Load(path, &d)
	if errors.Is(err, fs.ErrNotExist) {
		return g, nil, true, nil
	}
	if err == nil {
		err = checkpoint.Verify(d.Checksum, d.Data.sum())
	}
	if err != nil {
		return g, nil, false, err
	}
	for _, e := range d.Data.PodDeviceEntries {
		answer := &pluginapi.ContainerAllocateResponse{}
		if err := proto.Unmarshal(e.AllocResp, answer); err != nil {
			return g, nil, false, fmt.Errorf("read what container %s of pod %s was given: %w", e.ContainerName, e.PodUID, err)
		}
		g.set(owner{types.UID(e.PodUID), e.ContainerName}, e.ResourceName, grant{e.DeviceIDs, answer})
	}
	return g, slices.Collect(maps.Keys(d.Data.RegisteredDevices)), false, nil
}

func (g grants) set(o owner, resource string, given grant) {
	if g[o] == nil {
		g[o] = map[string]grant{}
	}
	g[o][resource] = given
}

// save writes the file.
func save(path string, g grants, registered map[string][]string) error {
	d := document{Data: contents{RegisteredDevices: registered}}
	for o, by := range g {
		for resource, given := range by {
			answer, err := proto.Marshal(given.answer)
			if err != nil {
				return fmt.Errorf("write what container %s of pod %s was given: %w", o.container, o.uid, err)
			}
			d.Data.PodDeviceEntries = append(d.Data.PodDeviceEntries, entry{string(o.uid), o.container, resource, given.devices, answer})
		}
	}
	d.Checksum = d.Data.sum()
	return checkpoint.Save(path, &d)
}
