package images

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/distribution/reference"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"clipper.dev/clipper/internal/durable"
)

// Records remember with whose credentials images were pulled, so that a pod without any doesn't get an image from the node that its registry
// would refuse it. They are files in Kubernetes' own form, below image_manager: pulling/ holds the pulls that have begun, pulled/ what came of
// them. An image that nothing is recorded of was there before the kubelet.
type Records struct {
	pulling, pulled string // folders
	verify          Policy
	logger          *slog.Logger

	mu        sync.Mutex
	under     map[string]int // pulls under way, by image
	recovered bool           // pulls that an earlier kubelet had begun have been looked at
}

const (
	recordVersion = "kubelet.config.k8s.io/v1beta1"
	// mostSecrets is how many secrets a record takes in that were met while it was only read.
	mostSecrets = 100
)

type pullIntent struct {
	metav1.TypeMeta `json:",inline"`
	Image           string `json:"image"`
}

type pulledRecord struct {
	metav1.TypeMeta   `json:",inline"`
	LastUpdatedTime   metav1.Time           `json:"lastUpdatedTime"`
	ImageRef          string                `json:"imageRef"`
	CredentialMapping map[string]pulledWith `json:"credentialMapping,omitempty"`
}

// pulledWith is what an image was pulled with: some secrets, or nothing that a pod must have.
type pulledWith struct {
	KubernetesSecrets  []pullSecret `json:"kubernetesSecrets,omitempty"`
	NodePodsAccessible bool         `json:"nodePodsAccessible,omitempty"`
}

type pullSecret struct {
	UID            string `json:"uid"`
	Namespace      string `json:"namespace"`
	Name           string `json:"name"`
	CredentialHash string `json:"credentialHash"`
}

func (s pullSecret) same(other pullSecret) bool {
	return s.UID == other.UID && s.Namespace == other.Namespace && s.Name == other.Name
}

// OpenRecords opens the records below a kubelet's directory.
func OpenRecords(dir string, verify Policy, logger *slog.Logger) (*Records, error) {
	r := &Records{
		pulling: filepath.Join(dir, "image_manager", "pulling"), pulled: filepath.Join(dir, "image_manager", "pulled"), verify: verify, logger: logger, under: map[string]int{},
	}
	for _, d := range []string{r.pulling, r.pulled} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, fmt.Errorf("make the records of pulled images: %w", err)
		}
	}
	return r, nil
}

// begin notes that a pull begins.
func (r *Records) begin(image string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := write(r.pulling, image, pullIntent{metav1.TypeMeta{Kind: "ImagePullIntent", APIVersion: recordVersion}, image}); err != nil {
		return err
	}
	r.under[image]++
	return nil
}

// failed notes that a pull has come to nothing.
func (r *Records) failed(image string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.end(image)
}

// done notes that an image was pulled, and with what. Where that can't be kept, the pull counts as under way: whoever wants the image has to pull it.
func (r *Records) done(image, ref string, with *pulledWith) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.note(image, ref, with); err != nil {
		r.logger.Error("failed to write image pulled record", "imageRef", ref, "error", err)
		return
	}
	r.end(image)
}

func (r *Records) end(image string) {
	if r.under[image]--; r.under[image] > 0 {
		return
	}
	delete(r.under, image)
	if err := remove(r.pulling, image); err != nil {
		r.logger.Error("failed to remove image pull intent", "image", image, "error", err)
	}
}

// note adds to an image's record; nil makes it known without anybody's credentials.
func (r *Records) note(image, ref string, with *pulledWith) error {
	name, err := bare(image)
	if err != nil {
		return err
	}
	record := &pulledRecord{}
	if known, err := read(r.pulled, ref, record); err != nil || !known {
		if err != nil {
			r.logger.Info("failed to retrieve an ImagePulledRecord", "image", image, "error", err)
		}
		record = &pulledRecord{ImageRef: ref}
	} else if with == nil {
		return nil
	}
	if with != nil {
		if record.CredentialMapping == nil {
			record.CredentialMapping = map[string]pulledWith{}
		}
		merged, changed := record.CredentialMapping[name].merge(*with)
		if !changed {
			return nil
		}
		record.CredentialMapping[name] = merged
	}
	record.TypeMeta = metav1.TypeMeta{Kind: "ImagePulledRecord", APIVersion: recordVersion}
	record.LastUpdatedTime = metav1.Now()
	return write(r.pulled, ref, record)
}

// merge adds what an image was pulled with. What every pod may use needs no secrets any more.
func (w pulledWith) merge(more pulledWith) (pulledWith, bool) {
	switch {
	case w.NodePodsAccessible:
		return w, false
	case more.NodePodsAccessible:
		return pulledWith{NodePodsAccessible: true}, true
	}
	changed := false
	w.KubernetesSecrets = slices.Clone(w.KubernetesSecrets)
	for _, s := range more.KubernetesSecrets {
		i := slices.IndexFunc(w.KubernetesSecrets, s.same)
		switch {
		case i < 0:
			w.KubernetesSecrets, changed = append(w.KubernetesSecrets, s), true
		case w.KubernetesSecrets[i] != s:
			w.KubernetesSecrets[i], changed = s, true
		}
	}
	return w, changed
}

// checkResult is what a look at the records says, in upstream's words.
type checkResult string

const (
	allowedByPolicy  checkResult = "credentialPolicyAllowed"
	recordFound      checkResult = "credentialRecordFound"
	mustAuthenticate checkResult = "mustAuthenticate"
	checkFailed      checkResult = "error"
)

// usable tells whether a pod may use the image without asking its registry.
func (c checkResult) usable() bool { return c == allowedByPolicy || c == recordFound }

// check finds out whether a pod that has these secrets may use an image that is on the node.
func (r *Records) check(image, ref string, offered []pullSecret) checkResult {
	r.mu.Lock()
	defer r.mu.Unlock()
	record := &pulledRecord{}
	known, err := read(r.pulled, ref, record)
	if err != nil {
		r.logger.Error("Unable to access cache records about image pulls", "image", image, "error", err)
		return checkFailed
	}
	_, err = os.Stat(filepath.Join(r.pulling, fileName(image)))
	switch {
	case !r.verify(image, known || r.under[image] > 0 || !errors.Is(err, os.ErrNotExist)):
		return allowedByPolicy
	case !known:
		return mustAuthenticate
	}
	name, err := bare(image)
	if err != nil {
		return checkFailed
	}
	with, ok := record.CredentialMapping[name]
	switch {
	case !ok:
		return mustAuthenticate
	case with.NodePodsAccessible:
		return recordFound
	}
	for _, mine := range offered {
		for _, theirs := range with.KubernetesSecrets {
			same, equal := mine.same(theirs), mine.CredentialHash == theirs.CredentialHash && theirs.CredentialHash != ""
			if !same && !equal {
				continue
			}
			if same != equal && len(with.KubernetesSecrets) < mostSecrets {
				if err := r.note(image, ref, &pulledWith{KubernetesSecrets: []pullSecret{mine}}); err != nil {
					r.logger.Error("failed to write an image pulled record", "image", image, "imageRef", ref, "error", err)
				}
			}
			return recordFound
		}
	}
	return mustAuthenticate
}

// recover looks at pulls that an earlier kubelet had begun: what of them is there was pulled with nobody knows what. It is done once.
func (r *Records) recover(images func() ([]*runtimeapi.Image, error)) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.recovered {
		return nil
	}
	entries, err := os.ReadDir(r.pulling)
	if err != nil {
		return fmt.Errorf("read the pulls that had begun: %w", err)
	}
	var there []*runtimeapi.Image
	if len(entries) > 0 {
		if there, err = images(); err != nil {
			return fmt.Errorf("list images: %w", err)
		}
	}
	for _, e := range entries {
		intent := &pullIntent{}
		if err := readFile(filepath.Join(r.pulling, e.Name()), intent); err != nil || r.under[intent.Image] > 0 {
			continue
		}
		for _, i := range there {
			if slices.Contains(i.RepoTags, intent.Image) || slices.Contains(i.RepoDigests, intent.Image) {
				if err := r.note(intent.Image, i.Id, nil); err != nil {
					return err
				}
				if err := remove(r.pulling, intent.Image); err != nil {
					return err
				}
			}
		}
	}
	r.recovered = true
	return nil
}

// prune forgets the images that are not there any more, but those that were pulled after a time.
func (r *Records) prune(there []string, after time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	entries, err := os.ReadDir(r.pulled)
	if err != nil {
		return fmt.Errorf("read the records of pulled images: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue // a write that a kill interrupted
		}
		record := &pulledRecord{}
		if err := readFile(filepath.Join(r.pulled, e.Name()), record); err != nil {
			errs = append(errs, err)
			continue
		}
		if record.LastUpdatedTime.Time.Before(after) && !slices.Contains(there, record.ImageRef) {
			errs = append(errs, remove(r.pulled, record.ImageRef))
		}
	}
	return errors.Join(errs...)
}

// bare is an image's name without tag and digest.
func bare(image string) (string, error) {
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return "", fmt.Errorf("invalid image name %q: %w", image, err)
	}
	return reference.TrimNamed(named).Name(), nil
}

// fileName is that of a record of an image or a reference.
func fileName(of string) string { return fmt.Sprintf("sha256-%x", sha256.Sum256([]byte(of))) }

func read(dir, of string, into any) (bool, error) {
	err := readFile(filepath.Join(dir, fileName(of)), into)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

func readFile(path string, into any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}

// write replaces a record at once.
func write(dir, of string, record any) error {
	data, err := json.Marshal(record)
	if err != nil {
		return fmt.Errorf("write a record of %s: %w", of, err)
	}
	if err := durable.WriteFile(filepath.Join(dir, fileName(of)), data, 0o600); err != nil {
		return fmt.Errorf("write a record of %s: %w", of, err)
	}
	return nil
}

func remove(dir, of string) error {
	if err := os.Remove(filepath.Join(dir, fileName(of))); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove a record of %s: %w", of, err)
	}
	return nil
}
