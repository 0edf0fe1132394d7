package kubelet

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// maxLinkName is the longest name that upstream gives a link, with its suffix.
const maxLinkName = 255

// logLinks are the links by which collectors of logs know Kubernetes' containers: <pod>_<namespace>_<container>-<id>.log in one folder.
type logLinks struct {
	dir    string // "" makes none
	target string // the folder that logs lie in: links that lead elsewhere are others'
	logger *slog.Logger
}

// linkName is a container's; its beginning is cut if it gets too long.
func linkName(pod *corev1.Pod, container, id string) string {
	const suffix = ".log"
	prefix := fmt.Sprintf("%s_%s_%s-%s", pod.Name, pod.Namespace, container, id)
	if len(prefix) > maxLinkName-len(suffix) {
		prefix = prefix[:maxLinkName-len(suffix)]
	}
	return prefix + suffix
}

// add links to the log of a container that has been started.
func (l *logLinks) add(pod *corev1.Pod, container, id, log string) {
	if l.dir == "" {
		return
	}
	if _, err := os.Stat(log); err != nil {
		return // a runtime that keeps its logs elsewhere
	}
	link := filepath.Join(l.dir, linkName(pod, container, id))
	if err := os.Symlink(log, link); err != nil && !errors.Is(err, os.ErrExist) {
		l.logger.Error("failed to create legacy symbolic link", "link", link, "log", log, "error", err)
	}
}

// sweep removes the links to logs that are gone.
func (l *logLinks) sweep() {
	l.each(func(link, log string) {
		if _, err := os.Stat(log); errors.Is(err, os.ErrNotExist) {
			l.remove(link)
		}
	})
}

// drop removes the links to a container's log.
func (l *logLinks) drop(id string) {
	if l.dir == "" {
		return
	}
	links, err := filepath.Glob(filepath.Join(l.dir, "*-"+id+".log"))
	if err != nil {
		return // an ID that is no pattern has been given by nobody
	}
	for _, link := range links {
		if log, err := os.Readlink(link); err == nil && within(log, l.target) {
			l.remove(link)
		}
	}
}

// dropUnder removes the links to the logs in a folder.
func (l *logLinks) dropUnder(dir string) {
	l.each(func(link, log string) {
		if within(log, dir) {
			l.remove(link)
		}
	})
}

// each calls fn for every link of this kubelet.
func (l *logLinks) each(fn func(link, log string)) {
	if l.dir == "" {
		return
	}
	entries, err := os.ReadDir(l.dir)
	if err != nil {
		l.logger.Warn("links to logs not read", "error", err)
		return
	}
	for _, e := range entries {
		link := filepath.Join(l.dir, e.Name())
		if log, err := os.Readlink(link); err == nil && within(log, l.target) {
			fn(link, log)
		}
	}
}

func (l *logLinks) remove(link string) {
	if err := os.Remove(link); err != nil && !errors.Is(err, os.ErrNotExist) {
		l.logger.Warn("link to a log not removed", "link", link, "error", err)
	}
}

func within(path, dir string) bool { return strings.HasPrefix(path, dir+string(filepath.Separator)) }
