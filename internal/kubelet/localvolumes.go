package kubelet

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/kubelet/volumes"
	"clipper.dev/clipper/internal/localpath"
)

// localRetry is how soon a volume that couldn't be removed is tried again.
const localRetry = 10 * time.Second

// localVolumes removes the volumes of the built-in provisioner that the node is asked to remove: internal/localpath tells how.
type localVolumes struct {
	client client.Client
	node   string
	folder string
	logger *slog.Logger
	wake   chan struct{}

	mu  sync.Mutex
	due []string
}

func newLocalVolumes(cfg Config) *localVolumes {
	return &localVolumes{client: cfg.Client, node: cfg.NodeName, folder: cfg.LocalVolumeDir, logger: cfg.Logger, wake: make(chan struct{}, 1)}
}

// annotations announce the folder on the Node object.
func (l *localVolumes) annotations() map[string]string {
	if l.folder == "" {
		return nil
	}
	return map[string]string{localpath.Directory: l.folder}
}

// changed takes in the Node object.
func (l *localVolumes) changed(node *corev1.Node) {
	due := localpath.Reclaimed(node)
	l.mu.Lock()
	l.due = due
	l.mu.Unlock()
	if len(due) == 0 || l.folder == "" {
		return
	}
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// run removes what is due until ctx ends.
func (l *localVolumes) run(ctx context.Context) {
	retry := time.NewTimer(localRetry)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.wake:
		case <-retry.C:
		}
		l.mu.Lock()
		due := l.due
		l.mu.Unlock()
		retry.Stop()
		if err := l.remove(ctx, due); err != nil && ctx.Err() == nil {
			l.logger.Warn("local volumes not removed", "error", err)
			retry.Reset(localRetry)
		}
	}
}

// remove removes the directories of volumes and says so on the Node object.
func (l *localVolumes) remove(ctx context.Context, due []string) (err error) {
	var gone []string
	for _, name := range due {
		if rerr := volumes.RemoveLocal(l.folder, name); rerr != nil {
			err = fmt.Errorf("remove local volume %s: %w", name, rerr)
			continue
		}
		gone = append(gone, name)
	}
	if len(gone) == 0 {
		return err
	}
	if serr := l.say(ctx, gone); serr != nil {
		return serr
	}
	return err
}

// say takes volumes off the list of those to remove.
func (l *localVolumes) say(ctx context.Context, gone []string) error {
	for {
		node, err := client.Nodes.Get(ctx, l.client, "", l.node)
		if err != nil {
			return fmt.Errorf("read node %s: %w", l.node, err)
		}
		rest := slices.DeleteFunc(localpath.Reclaimed(node), func(name string) bool { return slices.Contains(gone, name) })
		changed := node.DeepCopy()
		localpath.SetReclaimed(changed, rest)
		if changed.Annotations[localpath.Reclaim] == node.Annotations[localpath.Reclaim] {
			return nil
		}
		_, err = client.Nodes.Update(ctx, l.client, changed)
		if apierrors.IsConflict(err) && ctx.Err() == nil {
			continue
		}
		if err != nil {
			return fmt.Errorf("say on node %s that volumes are gone: %w", l.node, err)
		}
		return nil
	}
}
