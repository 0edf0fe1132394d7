package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// wellKnownDir is where device plugins and agents that ask for pods' resources look for a kubelet: manifests have it in their text.
const wellKnownDir = "/var/lib/kubelet"

// wellKnownFolders are the folders that they look for.
var wellKnownFolders = []string{"device-plugins", "pod-resources"}

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
