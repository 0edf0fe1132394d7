package managed

import (
	"bytes"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

// A fieldSets keeps decoded sets of fields by their JSON. Objects that are made alike are owned alike: the leases of all
// nodes, the pods of a Deployment. Sets that it returns are shared and read-only. It holds two generations and drops the
// older one when the younger is full.
type fieldSets struct {
	mu           sync.Mutex
	young, old   map[string]*fieldSet
	bytesOfYoung int
}

// A fieldSet is a set with its JSON.
type fieldSet struct {
	set *fieldpath.Set
	raw []byte
	// checked are the types whose schema the set is known to fit.
	mu      sync.Mutex
	checked []*shape
}

const (
	maxGenerationBytes = 128 << 10
	maxSetBytes        = 16 << 10
)

// decode returns the set that JSON describes.
func (f *fieldSets) decode(fields *metav1.FieldsV1) (*fieldSet, error) {
	raw := []byte("{}")
	if fields != nil {
		raw = fields.GetRawBytes()
	}
	if s := f.lookup(raw); s != nil {
		return s, nil
	}
	s := &fieldSet{set: &fieldpath.Set{}, raw: raw}
	if err := s.set.FromJSON(bytes.NewReader(raw)); err != nil {
		return nil, err
	}
	// What a client wrote may be the same set in other words.
	canonical, err := s.set.ToJSON()
	if err != nil {
		return nil, err
	}
	if bytes.Equal(canonical, raw) {
		f.remember(s)
	}
	s.raw = canonical
	return s, nil
}

// encode returns a set with its JSON.
func (f *fieldSets) encode(set *fieldpath.Set) (*fieldSet, error) {
	raw, err := set.ToJSON()
	if err != nil {
		return nil, err
	}
	if s := f.lookup(raw); s != nil {
		return s, nil
	}
	s := &fieldSet{set: set, raw: raw}
	f.remember(s)
	return s, nil
}

func (f *fieldSets) lookup(raw []byte) *fieldSet {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s := f.young[string(raw)]; s != nil {
		return s
	}
	s := f.old[string(raw)]
	if s != nil {
		f.insert(s)
	}
	return s
}

func (f *fieldSets) remember(s *fieldSet) {
	if len(s.raw) > maxSetBytes {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.insert(s)
}

func (f *fieldSets) insert(s *fieldSet) {
	if f.young == nil || f.bytesOfYoung+len(s.raw) > maxGenerationBytes {
		f.old, f.young, f.bytesOfYoung = f.young, map[string]*fieldSet{}, 0
	}
	f.young[string(s.raw)] = s
	f.bytesOfYoung += len(s.raw)
}

// release lets go of all sets.
func (f *fieldSets) release() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.old, f.young, f.bytesOfYoung = nil, nil, 0
}

// fits tells whether the set is known to fit the schema of a type, or lets check find out.
func (s *fieldSet) fits(t *shape, check func() bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, known := range s.checked {
		if known == t {
			return true
		}
	}
	if !check() {
		return false
	}
	s.checked = append(s.checked, t)
	return true
}
