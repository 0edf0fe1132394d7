package dra

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"

	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"

	"clipper.dev/clipper/internal/durable"
)

// Claim is a claim that is prepared here, or is to be. Its fields are as they are stored.
type Claim struct {
	ClaimUID    types.UID
	ClaimName   string
	Namespace   string
	PodUIDs     sets.Set[string]
	DriverState map[string]DriverState

	prepared bool // by this process
}

// DriverState is what a driver said of a claim.
type DriverState struct {
	Devices []Device
}

// Device is a device as its driver describes it.
type Device struct {
	PoolName     string
	DeviceName   string
	ShareID      *types.UID
	RequestNames []string // none is all
	CDIDeviceIDs []string
}

// serves tells whether a device was allocated for a request; "" is any.
func (d *Device) serves(request string) bool {
	return request == "" || len(d.RequestNames) == 0 || slices.Contains(d.RequestNames, request)
}

// of returns what is known of a claim before its drivers were asked.
func of(claim *resourcev1.ResourceClaim) (*Claim, error) {
	if claim.Status.Allocation == nil {
		return nil, errors.New("not allocated")
	}
	c := &Claim{ClaimUID: claim.UID, ClaimName: claim.Name, Namespace: claim.Namespace, PodUIDs: sets.New[string](), DriverState: map[string]DriverState{}}
	for _, result := range claim.Status.Allocation.Devices.Results {
		c.DriverState[result.Driver] = DriverState{}
	}
	return c, nil
}

// key is how claims are found.
func key(namespace, name string) string { return namespace + "/" + name }

// claims are those of the node, in memory and on disk.
type claims struct {
	path string

	mu  sync.Mutex
	all map[string]*Claim // by key
}

// What the file is.
const (
	stateFile       = "dra_manager_state"
	stateKind       = "DRACheckpoint"
	stateAPIVersion = "checkpoint.dra.kubelet.k8s.io/v1"
)

// state is the file: JSON in JSON, with its checksum.
type state struct {
	Data     string
	Checksum uint32
}

type stateData struct {
	metav1.TypeMeta
	ClaimInfoStateList []*Claim
}

func openClaims(dir string) (*claims, error) {
	c := &claims{path: filepath.Join(dir, stateFile), all: map[string]*Claim{}}
	raw, err := os.ReadFile(c.path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the claims of this node: %w", err)
	}
	var s state
	var data stateData
	if err := json.Unmarshal(raw, &s); err != nil {
		return nil, fmt.Errorf("read the claims in %s: %w", c.path, err)
	}
	if sum := crc32.ChecksumIEEE([]byte(s.Data)); sum != s.Checksum {
		return nil, fmt.Errorf("read the claims in %s: checksum is %d, want %d", c.path, sum, s.Checksum)
	}
	if err := json.Unmarshal([]byte(s.Data), &data); err != nil {
		return nil, fmt.Errorf("read the claims in %s: %w", c.path, err)
	}
	for _, claim := range data.ClaimInfoStateList {
		if claim.PodUIDs == nil {
			claim.PodUIDs = sets.New[string]()
		}
		if claim.DriverState == nil {
			claim.DriverState = map[string]DriverState{}
		}
		c.all[key(claim.Namespace, claim.ClaimName)] = claim
	}
	return c, nil
}

// update changes the claims and stores them. The change counts only if it returns no error and is stored: it must not change claims otherwise.
func (c *claims) update(change func(all map[string]*Claim) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := change(c.all); err != nil {
		return err
	}
	return c.store()
}

// read looks at the claims.
func (c *claims) read(look func(all map[string]*Claim)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	look(c.all)
}

func (c *claims) store() error {
	data := stateData{TypeMeta: metav1.TypeMeta{Kind: stateKind, APIVersion: stateAPIVersion}, ClaimInfoStateList: []*Claim{}}
	for _, k := range slices.Sorted(maps.Keys(c.all)) {
		data.ClaimInfoStateList = append(data.ClaimInfoStateList, c.all[k])
	}
	text, err := json.Marshal(data)
	if err != nil {
		return fmt.Errorf("checkpoint ResourceClaim state: %w", err)
	}
	raw, err := json.Marshal(state{Data: string(text), Checksum: crc32.ChecksumIEEE(text)})
	if err != nil {
		return fmt.Errorf("checkpoint ResourceClaim state: %w", err)
	}
	if err := durable.WriteFile(c.path, raw, 0o600); err != nil {
		return fmt.Errorf("checkpoint ResourceClaim state: %w", err)
	}
	return nil
}
