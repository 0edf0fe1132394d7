package store

import (
	"maps"
	"slices"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// sharedRecords lets entries share what many of them have in common: strings, and whole sets of labels and fields, as
// the replicas of one template have. What it remembers is bounded; forgetting costs only memory.
type sharedRecords struct {
	mu      sync.Mutex
	strings map[string]string
	sets    map[uint64]map[string]string
	owners  map[string][]metav1.OwnerReference // by the first owner's UID
}

const (
	maxSharedStrings = 32768
	maxSharedSets    = 16384
)

func newSharedRecords() *sharedRecords {
	return &sharedRecords{
		strings: map[string]string{},
		sets:    map[uint64]map[string]string{},
		owners:  map[string][]metav1.OwnerReference{},
	}
}

// share replaces the parts of an entry's record that are known already, before anybody else sees the entry.
func (s *sharedRecords) share(e *Entry) {
	r := &e.record
	if n := len(r.Namespace); n > 0 && len(e.key) == n+1+len(r.Name) && e.key[:n] == r.Namespace && e.key[n+1:] == r.Name {
		r.Namespace, r.Name = e.key[:n], e.key[n+1:]
	} else if r.Name == e.key {
		r.Name = e.key
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r.Labels = s.set(r.Labels)
	r.Fields = s.set(r.Fields)
	r.Owners = s.ownersOf(r.Owners)
}

// ownersOf returns the same owners as another object's, if it has the same. It never changes what the kind returned,
// which may belong to somebody else.
func (s *sharedRecords) ownersOf(owners []metav1.OwnerReference) []metav1.OwnerReference {
	if len(owners) == 0 {
		return nil
	}
	first := string(owners[0].UID)
	if known := s.owners[first]; slices.EqualFunc(known, owners, sameOwner) {
		return known
	}
	if len(s.owners) >= maxSharedSets {
		clear(s.owners)
	}
	own := slices.Clone(owners)
	for i := range own {
		o := &own[i]
		o.APIVersion, o.Kind, o.Name = s.text(o.APIVersion), s.text(o.Kind), s.text(o.Name)
	}
	s.owners[first] = own
	return own
}

// inherit lets a new version of an object share with the former one, which is the best match there is.
func (e *Entry) inherit(former *Entry) {
	e.key = former.key
	r, f := &e.record, &former.record
	if r.Name == f.Name && r.Namespace == f.Namespace {
		r.Name, r.Namespace = f.Name, f.Namespace
	}
	if r.UID == f.UID {
		r.UID = f.UID
	}
	if slices.EqualFunc(r.Owners, f.Owners, sameOwner) {
		r.Owners = f.Owners
	}
}

func (s *sharedRecords) text(v string) string {
	if known, ok := s.strings[v]; ok {
		return known
	}
	if len(s.strings) >= maxSharedStrings {
		clear(s.strings)
	}
	s.strings[v] = v
	return v
}

func (s *sharedRecords) set(m map[string]string) map[string]string {
	if len(m) == 0 {
		return nil
	}
	h := hashSet(m)
	if known, ok := s.sets[h]; ok && maps.Equal(known, m) {
		return known
	}
	if len(s.sets) >= maxSharedSets {
		clear(s.sets)
	}
	own := make(map[string]string, len(m))
	for k, v := range m {
		own[s.text(k)] = s.text(v)
	}
	s.sets[h] = own
	return own
}
