package kubelet

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"

	"clipper.dev/clipper/internal/durable"
)

// defaultIDsPerPod is how many user IDs a pod with a user namespace gets, and the first ID of the first pod.
const defaultIDsPerPod = 65536

// usersFile notes a pod's range in its directory, so that it's the same after a restart.
const usersFile = "userns"

// users gives pods with a user namespace ranges of the node's user IDs.
type users struct {
	dir     func(types.UID) string
	max     int
	idsEach uint32

	mu    sync.Mutex
	taken map[int]types.UID
	read  bool
}

func newUsers(dir func(types.UID) string, maxPods int, c *kubeletconfig.UserNamespaces) (*users, error) {
	ids := int64(defaultIDsPerPod)
	if c != nil && c.IDsPerPod != nil {
		ids = *c.IDsPerPod
	}
	if ids < defaultIDsPerPod || ids%defaultIDsPerPod != 0 || ids*int64(maxPods+1) > 1<<32-1 {
		return nil, fmt.Errorf("userNamespaces.idsPerPod %d: use a multiple of %d, of which %d pods leave room in 32 bits", ids, defaultIDsPerPod, maxPods)
	}
	return &users{dir: dir, max: maxPods, idsEach: uint32(ids), taken: map[int]types.UID{}}, nil
}

// mappings returns how the pod's user IDs map to the node's; nil for a pod that shares the node's.
func (u *users) mappings(pod *corev1.Pod) (*runtimeapi.UserNamespace, error) {
	if pod.Spec.HostUsers == nil || *pod.Spec.HostUsers {
		return nil, nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	slot, err := u.slot(pod.UID)
	if err != nil {
		return nil, fmt.Errorf("user namespace of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	ids := []*runtimeapi.IDMapping{{ContainerId: 0, HostId: uint32(slot+1) * u.idsEach, Length: u.idsEach}}
	return &runtimeapi.UserNamespace{Mode: runtimeapi.NamespaceMode_POD, Uids: ids, Gids: ids}, nil
}

func (u *users) slot(uid types.UID) (int, error) {
	if err := u.readAll(); err != nil {
		return 0, err
	}
	for slot, owner := range u.taken {
		if owner == uid {
			return slot, nil
		}
	}
	for slot := range u.max {
		if _, used := u.taken[slot]; used {
			continue
		}
		path := filepath.Join(u.dir(uid), usersFile)
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			return 0, err
		}
		if err := durable.WriteFile(path, []byte(strconv.Itoa(slot)), 0o600); err != nil {
			return 0, err
		}
		u.taken[slot] = uid
		return slot, nil
	}
	return 0, errors.New("all ranges of user IDs are in use")
}

// readAll finds the ranges that pods had before a restart.
func (u *users) readAll() error {
	if u.read {
		return nil
	}
	files, err := filepath.Glob(filepath.Join(u.dir("*"), usersFile))
	if err != nil {
		return err
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			return err
		}
		slot, err := strconv.Atoi(strings.TrimSpace(string(data)))
		if err != nil {
			return fmt.Errorf("%s: %w", f, err)
		}
		u.taken[slot] = types.UID(filepath.Base(filepath.Dir(f)))
	}
	u.read = true
	return nil
}

// release gives a pod's range back.
func (u *users) release(uid types.UID) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for slot, owner := range u.taken {
		if owner == uid {
			delete(u.taken, slot)
		}
	}
}
