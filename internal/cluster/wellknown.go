package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// wellKnownDir is where device plugins and agents that ask for pods' resources look for a kubelet: manifests have it in their text.
const wellKnownDir = "/var/lib/kubelet"

// wellKnownFolders are the folders that they look for.
var wellKnownFolders = []string{"device-plugins", "pod-resources"}

// Where collectors look for containers' logs, and for links to them by pod, namespace and container. A machine has each once.
const (
	wellKnownLogs     = "/var/log/pods"
	wellKnownLogLinks = "/var/log/containers"
)

// podLogs is where containers' logs lie if nobody says: a default node's at the well-known place, unless others' are there.
func (l Layout) podLogs(wellKnown string) string {
	if l.isDefault() && vacant(wellKnown, l.DataDir) {
		return wellKnown
	}
	return l.PodLogDir()
}

// vacant tells whether a folder has nothing in it, or belongs to the node with a data directory.
func vacant(dir, dataDir string) bool {
	if owner, err := os.ReadFile(filepath.Join(dir, ownerFile)); err == nil {
		return string(owner) == dataDir+"\n"
	}
	entries, err := os.ReadDir(dir)
	return len(entries) == 0 && (err == nil || errors.Is(err, os.ErrNotExist))
}

// logLinks is the folder of the links to the logs in another one: who has the well-known place for its logs has that for the links too.
func (l Layout) logLinks(podLogs string) string {
	if l.isDefault() || podLogs == wellKnownLogs {
		return wellKnownLogLinks
	}
	return filepath.Join(l.LogDir, "containers")
}

// removeLogLinks removes the links to a node's logs from a folder that others may use too, and the folder if nobody does.
func removeLogLinks(dir, podLogs string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, e := range entries {
		link := filepath.Join(dir, e.Name())
		if log, err := os.Readlink(link); err == nil && strings.HasPrefix(log, podLogs+"/") {
			errs = append(errs, os.Remove(link))
		}
	}
	if err := os.Remove(dir); !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.EEXIST) && !errors.Is(err, unix.EBUSY) {
		errs = append(errs, err) // neither in use nor a mount point
	}
	return errors.Join(errs...)
}

// offerFolders lets plugins find a kubelet at the well-known place, unless another kubelet is there: that one keeps it.
func offerFolders(kubeletDir, at string) error {
	if kubeletDir == at {
		return nil
	}
	if err := os.MkdirAll(at, 0o750); err != nil {
		return fmt.Errorf("offer the kubelet's folders: %w", err)
	}
	for _, name := range wellKnownFolders {
		own, link := filepath.Join(kubeletDir, name), filepath.Join(at, name)
		if err := os.MkdirAll(own, 0o750); err != nil {
			return fmt.Errorf("offer the kubelet's folders: %w", err)
		}
		err := os.Symlink(own, link)
		if errors.Is(err, os.ErrExist) {
			if err = replaceDangling(own, link); err == nil {
				continue
			}
		}
		if err != nil {
			return fmt.Errorf("offer the kubelet's folders: %w", err)
		}
	}
	return nil
}

// replaceDangling makes a link to a folder that has gone lead to another one. What isn't such a link stays.
func replaceDangling(to, link string) error {
	if _, err := os.Readlink(link); err != nil {
		return nil // a folder
	}
	if _, err := os.Stat(link); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return errors.Join(os.Remove(link), os.Symlink(to, link))
}

// withdrawFolders removes links that lead below a folder.
func withdrawFolders(dataDir, at string) error {
	var errs []error
	for _, name := range wellKnownFolders {
		link := filepath.Join(at, name)
		if to, err := os.Readlink(link); err == nil && strings.HasPrefix(to, dataDir+"/") {
			errs = append(errs, os.Remove(link))
		}
	}
	if len(errs) == 0 {
		return nil
	}
	if entries, err := os.ReadDir(at); err == nil && len(entries) == 0 {
		errs = append(errs, os.Remove(at))
	}
	return errors.Join(errs...)
}
